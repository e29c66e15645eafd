"""The choice of device, dtype, quantization and attention, on machines that are not here: their answers are patched
in."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AudioFlamingo3ForConditionalGeneration

from helpers import choose_hardware, get_profile, load_model, precision_arguments
from helpers.model import hardware
from helpers.model.hardware import NotEnoughMemory
from helpers.model.memory import GIB

FULL = "nvidia/audio-flamingo-3-hf"
ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def machine(monkeypatch):
    """Pretend to be a machine: ``machine(capability, free in GiB, ...)`` with one entry a GPU."""
    for name in ("LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)

    def pretend(capability=None, free=(), mps=False, flash=False, held=0):
        def number(gpu):
            return torch.device(gpu).index or 0 if isinstance(gpu, str) else gpu or 0

        monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(free))
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda gpu=0: capability)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda gpu=0: (int(free[number(gpu)] * GIB), 80 * GIB))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu=0: held)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda gpu=0: 0)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
        monkeypatch.setattr(hardware, "is_flash_attn_2_available", lambda: flash)

    return pretend


T4, L4, A100, H100 = ((7, 5), [14.5]), ((8, 9), [22]), ((8, 0), [39.4]), ((9, 0), [79])


@pytest.mark.parametrize("gpu, mps, device, dtype, reason", [
    ((None, []), False, "cpu", torch.float32, "no GPU here"),
    (A100, False, "cuda", torch.bfloat16, "computes in bfloat16"),
    (H100, False, "cuda", torch.bfloat16, "computes in bfloat16"),
    (T4, False, "cuda", torch.float32, "no bfloat16 units"),
    ((None, []), True, "mps", torch.float32, "Apple"),
])
def test_the_tiny_model_runs_anywhere_unquantized(machine, gpu, mps, device, dtype, reason):
    machine(*gpu, mps=mps)
    chosen = choose_hardware()
    assert (chosen.device, chosen.dtype, chosen.quantize, chosen.attention) == (device, dtype, False, "sdpa")
    assert reason in chosen.reason and chosen.device_map == {"": 0 if device == "cuda" else device}


@pytest.mark.parametrize("gpu, dtype, quantize", [
    (T4, torch.float32, True),  # 4-bit weights, and float32 for everything else
    (((7, 5), [11]), torch.bfloat16, True),  # no room for float32 beside them: emulated
    (L4, torch.bfloat16, False), (A100, torch.bfloat16, False), (H100, torch.bfloat16, False),
    (((8, 9), [17]), torch.bfloat16, True),  # room for the weights, but not for a training step besides
])
def test_af3_is_quantized_where_training_would_not_fit(machine, gpu, dtype, quantize):
    machine(*gpu)
    chosen = choose_hardware(model=FULL)
    assert (chosen.dtype, chosen.quantize) == (dtype, quantize)
    assert ("4-bit NF4" in chosen.reason) == quantize


def test_a_gpu_that_is_too_small_is_refused_in_one_sentence(machine):
    machine((7, 5), [6])
    with pytest.raises(
        NotEnoughMemory, match=r"Even in 4 bits .*6\.4 GB of the GPU's memory are free: close other programs"
    ):
        choose_hardware(model=FULL)
    assert choose_hardware(model=FULL, quantize=True).quantize, "a learner may try all the same"


def test_without_bitsandbytes_its_installation_is_named(machine, monkeypatch):
    machine(*T4)
    monkeypatch.setattr(hardware.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(NotEnoughMemory, match="pip install bitsandbytes"):
        choose_hardware(model=FULL)


def test_several_gpus_in_one_process_share_the_layers(machine):
    machine((7, 5), [14.5, 14.5])
    chosen = choose_hardware(model=FULL)
    assert (chosen.device, chosen.device_map) == ("cuda:0,1", "auto")
    assert chosen.quantize and chosen.dtype == torch.float32, "33 GB of float32 weights do not fit two"
    machine((7, 5), [14.5, 14.5])
    alone = choose_hardware("cuda:1", model=FULL)
    assert (alone.device, alone.device_map, alone.quantize) == ("cuda:1", {"": 1}, True)


def test_each_process_of_a_launcher_takes_its_own_gpu(machine, monkeypatch):
    machine((8, 0), [39, 12, 39])
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    chosen = choose_hardware(model=FULL)
    assert (chosen.device, chosen.device_map, chosen.quantize) == ("cuda:1", {"": 1}, True)
    monkeypatch.setenv("LOCAL_RANK", "3")
    with pytest.raises(ValueError, match=r"no GPU number 3 here \(3 in all\)"):
        choose_hardware(model=FULL)
    machine()
    assert choose_hardware().device_map == {"": "cpu"}, "two processes on a CPU share it"


def test_only_the_first_process_of_a_launcher_speaks(monkeypatch, capsys):
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, lines in (("1", 0), ("0", 1)):
        monkeypatch.setenv("LOCAL_RANK", rank)
        load_model(device="cpu")
        assert capsys.readouterr().out.count("\n") == lines


def test_every_choice_can_be_overruled(machine):
    machine(*T4)
    chosen = choose_hardware("cpu", torch.bfloat16, model=FULL, quantize=True)
    assert (chosen.device, chosen.dtype, chosen.quantize) == ("cpu", torch.bfloat16, True)
    assert (chosen.attention, chosen.device_map) == ("sdpa", {"": "cpu"})
    assert not choose_hardware(model=FULL, quantize=False).quantize


def test_what_was_chosen_is_what_from_pretrained_is_given(machine, monkeypatch):
    """Up to the call that would need the GPU: a T4 for AF3."""
    machine(*T4)
    given = {}

    def from_pretrained(source, **settings):
        given.update(settings, source=source)
        raise InterruptedError

    monkeypatch.setattr(AudioFlamingo3ForConditionalGeneration, "from_pretrained", from_pretrained)
    with pytest.raises(InterruptedError):
        load_model(FULL)
    assert (given["source"], given["dtype"], given["device_map"]) == (FULL, torch.float32, {"": 0})
    config = given["quantization_config"]
    assert (config.load_in_4bit, config.bnb_4bit_quant_type, config.bnb_4bit_use_double_quant) == (True, "nf4", True)
    assert config.bnb_4bit_compute_dtype == torch.float32


@pytest.mark.parametrize("device, dtype, bf16, fp16", [
    ("cpu", torch.float32, False, False), ("cpu", torch.bfloat16, False, False),
    ("cuda", torch.bfloat16, True, False), ("cuda", torch.float16, False, True),
    ("mps", torch.float32, False, False),
])
def test_training_flags_follow_from_the_model(device, dtype, bf16, fp16):
    loaded = SimpleNamespace(device=torch.device(device), dtype=dtype)
    settings = precision_arguments(loaded)
    assert (settings["bf16"], settings["fp16"], settings["dataloader_pin_memory"]) == (bf16, fp16, device == "cuda")
    assert [value for name, value in settings.items() if "checkpointing" in name] == [False]


def _adapted(dtype, **settings):
    from peft import get_peft_model

    from helpers.training.recipe import lora_config

    return get_peft_model(load_model(dtype=dtype, quiet=True), lora_config(get_profile("tiny")), **settings)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adapters_are_in_float32_on_a_16_bit_model_and_do_not_hide_its_dtype(dtype):
    model = _adapted(dtype)
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}
    assert model.dtype == dtype, "precision_arguments and caption read it"


def _scaled_step(model, batch):
    """One float16 step as the Trainer does it under ``fp16=True``: autocast, scaled loss, gradients scaled back."""
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    optimizer = torch.optim.AdamW(parameter for parameter in model.parameters() if parameter.requires_grad)
    with torch.autocast("cpu", torch.float16):
        loss = model(**batch).loss
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    return loss


def test_float16_trains_through_the_gradient_scaler(processor, test_clips):
    from helpers import AudioFlamingo3DataCollator

    batch = AudioFlamingo3DataCollator(processor)(test_clips[:2])
    model = _adapted(torch.float16)
    before = {name: parameter.clone() for name, parameter in model.named_parameters() if "lora_B" in name}
    assert _scaled_step(model, batch).isfinite()
    after = dict(model.named_parameters())
    assert all((after[name] != value).any() for name, value in before.items())
    with pytest.raises(ValueError, match="Attempting to unscale FP16 gradients"):  # what float32 adapters prevent
        _scaled_step(_adapted(torch.float16, autocast_adapter_dtype=False), batch)


def test_no_notebook_names_a_device_or_a_dtype_to_load_with():
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        if path.stem == "09_scale_up":  # shows 4 bits and counts bytes on the CPU, wherever it runs
            continue
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for call in re.findall(r"(?:load_model|from_pretrained|pipeline)\([^)]*\)", code):
            assert not re.search(r"device|dtype|torch\.", call), f"{path.name}: {call}"
