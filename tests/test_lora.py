"""What an adapter touches, and adapters that must not be put on a model."""

from __future__ import annotations

import json
import math
import re

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from helpers import LANGUAGE_MODEL_TARGETS, AdapterError, check_adapter, load_model, lora_report

SUFFIXES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def test_the_expression_touches_the_language_model_alone(model):
    total = model.num_parameters()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=LANGUAGE_MODEL_TARGETS))
    report = lora_report(adapted)
    layers = model.config.text_config.num_hidden_layers
    assert dict(report.adapters["language model"]) == dict.fromkeys(SUFFIXES, layers)
    assert not any(report.adapters[part] for part in report.adapters if part != "language model")
    assert report.trainable["audio tower"] == 0
    assert report.total_trainable == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert sum(report.parameters.values()) == total


def test_the_guides_suffix_list_reaches_into_the_tower(model):
    report = lora_report(get_peft_model(model, LoraConfig(r=4, target_modules=SUFFIXES)))
    assert set(report.adapters["audio tower"]) == {"q_proj", "k_proj", "v_proj"}
    assert report.trainable["audio tower"] > 0


def test_rank_counts_as_it_should(model):
    rank = 4
    expected = sum(
        rank * (module.in_features + module.out_features)
        for name, module in model.named_modules() if re.fullmatch(LANGUAGE_MODEL_TARGETS, name)
    )
    report = lora_report(get_peft_model(model, LoraConfig(r=rank, target_modules=LANGUAGE_MODEL_TARGETS)))
    assert report.total_trainable == expected


@pytest.fixture
def adapter(model, processor, tmp_path):
    """As peft and transformers save it: no record of this course beside it."""
    folder = tmp_path / "adapter"
    processor.save_pretrained(folder)
    get_peft_model(model, LoraConfig(r=2, target_modules=LANGUAGE_MODEL_TARGETS)).save_pretrained(folder)
    return folder


def test_a_fitting_adapter_is_accepted_and_loads(adapter, base_model):
    assert check_adapter(base_model, adapter) == adapter
    assert lora_report(PeftModel.from_pretrained(load_model(quiet=True), adapter)).adapters["language model"]


def test_no_adapter_at_all(base_model, tmp_path):
    with pytest.raises(AdapterError, match="There is no adapter in"):
        check_adapter(base_model, tmp_path)


def _edit(adapter, **values):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_an_adapter_for_another_base(adapter, base_model):
    _edit(adapter, base_model_name_or_path="nvidia/audio-flamingo-3-hf")
    with pytest.raises(AdapterError, match="trained on nvidia/audio-flamingo-3-hf, not on"):
        check_adapter(base_model, adapter)


def test_the_same_base_in_another_place_is_the_same_base(adapter, base_model):
    _edit(adapter, base_model_name_or_path="somewhere/else/helpers/tiny/weights")
    assert check_adapter(base_model, adapter) == adapter


def test_an_adapter_of_other_shapes(adapter, base_model):
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: value[:, :-1].contiguous() if "lora_A" in name else value for name, value in weights.items()},
              adapter / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"does not fit .* \(at .*_proj: "):
        check_adapter(base_model, adapter)


def _rewrite(adapter, change):
    """Change the dictionary of an adapter's tensors."""
    from safetensors.torch import load_file, save_file

    file = adapter / "adapter_model.safetensors"
    save_file({name: value.contiguous() for name, value in change(load_file(file)).items()}, file)


def _with(weights, value, part="lora_B"):
    name = next(name for name in sorted(weights) if part in name)
    return {**weights, name: torch.full_like(weights[name], value)}


@pytest.mark.parametrize("change, message", [
    (lambda weights: {}, "lacks 56 of 56 tensors"),
    (lambda weights: dict(sorted(weights.items())[::2]), "lacks 28 of 56 tensors"),
    (lambda weights: {name.replace("base_model.model.", "model."): value for name, value in weights.items()},
     "lacks 56 of 56"),
    (lambda weights: {**weights,
                      "base_model.model.model.audio_tower.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 128)},
     r"holds 1 tensors that adapter_config.json does not target \(first .*audio_tower"),
    (lambda weights: {name: torch.cat([value, value], dim=int("lora_B" in name)) for name, value in weights.items()},
     r"\(4, 192\) instead of \(2, 192\)|does not fit"),
    (lambda weights: _with(weights, math.nan), r"holds NaN or infinite numbers \(at .*_proj\)"),
    (lambda weights: _with(weights, -math.inf, "lora_A"), "holds NaN or infinite numbers"),
    (lambda weights: _with(weights, 0.0, "lora_A"), "is all zeros"),
])
def test_adapters_that_would_answer_like_the_base(adapter, base_model, change, message):
    _rewrite(adapter, change)
    with pytest.raises(AdapterError, match=message) as error:
        check_adapter(base_model, adapter)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("values, message", [
    ({"r": 0}, "rank 0"), ({"r": None}, "rank None"), ({"r": "16"}, "rank '16'"), ({"r": 3}, "does not fit"),
    ({"lora_alpha": 0}, "alpha 0"), ({"lora_alpha": None}, "alpha None"), ({"peft_type": "IA3"}, "type 'IA3'"),
    ({"target_modules": None}, "targets no module|cannot be understood"),
    ({"target_modules": "nothing"}, "targets no module"),
    ({"target_modules": "("}, "cannot be understood"), ({"target_modules": ["q_proj"]}, "lacks 8 of 16"),
    ({"layers_to_transform": [0], "target_modules": ["q_proj"]}, "holds|lacks"),
    ({"base_model_name_or_path": None}, "trained on None"), ({"base_model_name_or_path": 3}, "trained on 3"),
])
def test_configurations_that_do_not_fit_the_weights(adapter, base_model, values, message):
    _edit(adapter, **values)
    with pytest.raises(AdapterError, match=message):
        check_adapter(base_model, adapter)


@pytest.mark.parametrize("name", ["adapter_config.json", "processor_config.json", "tokenizer.json",
                                  "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\x00" * 50, b"\xff\xfe", b"3"])
def test_json_that_cannot_be_read_is_named(adapter, base_model, name, content):
    (adapter / name).write_bytes(content)
    with pytest.raises(AdapterError, match=f"{name} of the adapter in 'adapter' (cannot be read|holds a)"):
        check_adapter(base_model, adapter)


@pytest.mark.parametrize("name", ["processor_config.json", "tokenizer.json", "tokenizer_config.json"])
def test_an_adapter_without_its_processor(adapter, base_model, name):
    (adapter / name).unlink()
    with pytest.raises(AdapterError, match=rf"no processor beside it \({name}\)"):
        check_adapter(base_model, adapter)


@pytest.mark.parametrize("keep", [0, 4, 500, -100])
def test_an_adapter_cut_short(adapter, base_model, keep):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(AdapterError, match="is broken"):
        check_adapter(base_model, adapter)
