"""The memory estimate against what really lies in memory: to the byte for what lasts, within 25 % for a step's peak."""

from __future__ import annotations

import pytest
import torch
from peft import get_peft_model
from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration

from helpers import estimate_memory, get_profile, load_model, memory_table, model_bytes, peak_memory
from helpers.model.architecture import count_audio_tokens, count_windows
from helpers.model.memory import GPU_MEMORY
from helpers.model.spare import spare_dropout, spare_work
from helpers.training.recipe import lora_config

TINY = get_profile("tiny")


@pytest.mark.parametrize("dtype, quantize", [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True),
                                             (torch.bfloat16, True)])
def test_weights_are_exact_to_the_byte(dtype, quantize):
    model = load_model(dtype=dtype, quantize=quantize, quiet=True)
    assert estimate_memory(TINY, dtype=dtype, quantize=quantize).weights == model_bytes(model)


@pytest.mark.parametrize("dtype, quantize", [(torch.float32, False), (torch.bfloat16, False), (torch.float32, True)])
def test_adapters_gradients_and_optimizer_are_exact_to_the_byte(dtype, quantize):
    model = get_peft_model(load_model(dtype=dtype, quantize=quantize, quiet=True), lora_config(TINY))
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable)
    for parameter in trainable:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    estimate = estimate_memory(TINY, dtype=dtype, quantize=quantize)
    assert estimate.adapters == sum(parameter.nbytes for parameter in trainable)
    assert estimate.gradients == sum(parameter.grad.nbytes for parameter in trainable)
    assert estimate.optimizer == sum(value.nbytes for state in optimizer.state.values() for value in state.values())


# A mid-size AF3: wide enough that activations outweigh the odd small tensor, small enough for two cores.
VOCABULARY, WINDOW = 8_000, 4


def _middle(intermediate: int = 1024) -> AudioFlamingo3Config:
    return AudioFlamingo3Config(
        audio_token_id=VOCABULARY - 1,
        audio_config={
            "model_type": "audioflamingo3_encoder",
            "num_mel_bins": 64,
            "hidden_size": 256,
            "intermediate_size": 1024,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "max_source_positions": WINDOW * 50,
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": VOCABULARY,
            "hidden_size": 512,
            "intermediate_size": intermediate,
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "tie_word_embeddings": False,
        },
    )


def _batch(
    config, clips: int, seconds: int, prompt: int, answer: int | None, kept: int | None
) -> dict[str, torch.Tensor]:
    """Random tensors of the shapes that the collator gives; the first row padded, as in nearly every real batch."""
    audio = count_audio_tokens(seconds, config)
    windows = count_windows(seconds, config)
    ids = torch.randint(0, VOCABULARY - 2, (clips, audio + prompt + (answer or 0)))
    ids[:, 5 : 5 + audio] = config.audio_token_id
    attention = torch.ones_like(ids)
    attention[0, :3] = 0
    batch = {"input_ids": ids, "attention_mask": attention,
             "input_features": torch.randn(clips * windows, 64, WINDOW * 100),
             "input_features_mask": torch.ones(clips * windows, WINDOW * 100, dtype=torch.long)}
    if answer:
        batch["labels"] = ids[:, -kept:] if kept else ids
        batch |= {"logits_to_keep": kept} if kept else {}
    return batch


@pytest.fixture(scope="module")
def adapted(one_thread):
    """Dtype and width of the feed-forward part -> a mid-size model with an adapter, made once each."""
    made = {}

    def make(dtype, intermediate=1024):
        if (dtype, intermediate) not in made:
            torch.manual_seed(0)
            model = AudioFlamingo3ForConditionalGeneration(_middle(intermediate)).to(dtype)
            spare_work(model)
            made[dtype, intermediate] = spare_dropout(get_peft_model(model, lora_config(TINY)))
        return made[dtype, intermediate]

    return make


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("clips, seconds", [(1, 4), (3, 4), pytest.param(1, 8, marks=pytest.mark.slow),
                                            pytest.param(3, 8, marks=pytest.mark.slow)])
def test_a_training_steps_peak_in_float32(adapted, checkpointing, clips, seconds):
    _check_step(adapted(torch.float32), torch.float32, clips, seconds, checkpointing, kept=16)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_steps_peak_with_the_logits_of_every_position(adapted, checkpointing):
    _check_step(adapted(torch.float32), torch.float32, 2, 4, checkpointing, kept=None)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_training_steps_peak_with_a_feed_forward_part_as_wide_as_the_8_b_models(adapted, dtype, checkpointing):
    """5.3 times the stream: what is as wide as that part weighs most."""
    _check_step(adapted(dtype, 2720), dtype, 1, 8, checkpointing, kept=16)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_training_steps_peak_under_autocast(adapted, checkpointing):
    # One clip: over several, PyTorch's bfloat16 product on CPUs copies the output head once for each, which no GPU
    # does.
    _check_step(adapted(torch.bfloat16), torch.bfloat16, 1, 8, checkpointing, kept=16)


def _check_step(model, dtype, clips, seconds, checkpointing, kept):
    base, config = model.get_base_model(), model.get_base_model().config
    (base.activation_checkpointing_enable if checkpointing else base.activation_checkpointing_disable)()
    model.train()
    batch = _batch(config, clips, seconds, prompt=40, answer=24, kept=kept)

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            loss = model(**batch).loss
        loss.backward()

    for parameter in model.parameters():  # gradients are there already, as from the second micro-batch on
        if parameter.requires_grad and parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    estimate = estimate_memory(
        config, dtype=dtype, batch_size=clips, clip_seconds=seconds, checkpointing=checkpointing, device="cpu",
        trim_logits=kept is not None, prompt_tokens=40 + 24 - (kept or 24), answer_tokens=kept or 24,
    )
    assert estimate.step == pytest.approx(peak_memory(step), rel=0.25)


@pytest.mark.parametrize("clips, seconds", [(1, 4), (3, 8)])
def test_the_peak_of_captioning(adapted, clips, seconds):
    model = adapted(torch.float32).eval()
    batch = _batch(model.config, clips, seconds, prompt=40, answer=None, kept=None)

    def generate():
        with torch.inference_mode():
            model.generate(**batch, do_sample=False, max_new_tokens=4, min_new_tokens=4, pad_token_id=0)

    estimate = estimate_memory(
        model.config,
        dtype=torch.float32,
        training=False,
        batch_size=clips,
        clip_seconds=seconds,
        prompt_tokens=40,
        new_tokens=4,
        device="cpu",
    )
    assert estimate.step == pytest.approx(peak_memory(generate), rel=0.25)


def test_checkpointing_trimming_and_quantizing_each_save_what_they_are_for():
    full = estimate_memory()
    assert estimate_memory(checkpointing=False).activations > 5 * full.activations
    assert estimate_memory(trim_logits=False).logits > 5 * full.logits
    quantized = estimate_memory(quantize=True)
    assert quantized.weights < full.weights / 2 and quantized.adapters == full.adapters
    assert full.total == full.weights + full.adapters + full.gradients + full.optimizer + full.step


def test_nothing_is_downloaded_and_no_weight_is_made():
    # Sixteen gigabytes of weights would take more than this on any machine that runs the tests.
    assert peak_memory(lambda: estimate_memory(checkpointing=True)) < 50e6


def test_the_table_over_gpus():
    fits = {(fit.gpu, fit.loading): fit for fit in memory_table()}
    assert {gpu for gpu, _ in fits} == set(GPU_MEMORY) and len(fits) == 2 * len(GPU_MEMORY)
    assert not fits["T4 16 GB", "float32"].captions, "33 GB of weights alone"
    assert fits["T4 16 GB", "4-bit"].trains and fits["T4 16 GB", "4-bit"].captions
    assert all(fits[gpu, "bfloat16"].trains for gpu in GPU_MEMORY if gpu != "T4 16 GB")
    row = fits["T4 16 GB", "4-bit"].row()
    assert row["fits"] == "both" and row["captions (GB)"] < row["training (GB)"] < row["usable (GB)"] < 16
    assert fits["T4 16 GB", "float32"].row()["fits"] == "nothing"


def test_senseless_sizes_are_refused():
    with pytest.raises(ValueError, match="0 clips of 10 s holds nothing"):
        estimate_memory(batch_size=0)
