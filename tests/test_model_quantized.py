"""4-bit NF4 on the CPU: what is quantized, gradients in every adapter, and a fine-tuning from start to end."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from peft import PeftModel, get_peft_model

from helpers import (
    AudioFlamingo3DataCollator,
    caption,
    check_adapter,
    get_profile,
    is_quantized,
    load_model,
    make_chat,
    register_pipeline,
)
from helpers.model.loading import quantized_modules
from helpers.model.lora import lora_report
from helpers.training.recipe import lora_config, make_trainer, save_adapter

TINY = get_profile("tiny")


@pytest.fixture(scope="module")
def batch(processor, test_clips):
    return AudioFlamingo3DataCollator(processor)(test_clips[:4])


def _adapted(dtype=torch.float32, quantize=True):
    """A model with an adapter whose B matrices are not zero: otherwise no gradient would reach the A matrices yet."""
    torch.manual_seed(0)
    model = get_peft_model(load_model(dtype=dtype, quantize=quantize, quiet=True), lora_config(TINY))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def _gradients(model, batch) -> dict[str, torch.Tensor]:
    model.train()
    model.zero_grad(set_to_none=True)
    torch.manual_seed(1)  # the same dropout every time
    with torch.autocast("cpu", torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        loss = model(**batch).loss
    loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.requires_grad}


def _checkpoint(model, reentrant: bool = False) -> None:
    """As the Trainer switches it on."""
    model.get_base_model().activation_checkpointing_enable({"use_reentrant": reentrant})


def test_only_the_language_model_is_quantized(model):
    quantized = load_model(quantize=True, quiet=True)
    names = quantized_modules(quantized)
    assert len(names) == 28 and all("language_model.layers" in name for name in names)  # 4 layers x 7 matrices
    assert is_quantized(quantized) and not is_quantized(model)
    assert quantized.num_parameters() == model.num_parameters()


@pytest.mark.parametrize("skip", [
    ["audio_tower", "multi_modal_projector", "lm_head"], ["model.audio_tower", "lm_head", ".*layers.0"],
])
def test_other_skip_lists_are_caught(monkeypatch, skip):
    """The first is the obvious one, which skips nothing under ``model.``; the second skips too much."""
    from helpers.model import loading as models

    monkeypatch.setattr(models, "UNQUANTIZED", skip)
    with pytest.raises(RuntimeError, match="28 should be"):
        load_model(quantize=True, quiet=True)


def test_what_is_not_quantized_keeps_its_dtype_and_the_adapters_are_in_float32():
    model = _adapted(torch.bfloat16)
    plain = {parameter.dtype for name, parameter in model.named_parameters()
             if "lora_" not in name and type(parameter).__name__ != "Params4bit"}
    assert plain == {torch.bfloat16} and model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in model.parameters() if parameter.requires_grad} == {torch.float32}


@pytest.mark.parametrize("quantize", [False, True], ids=["plain", "4-bit"])
@pytest.mark.parametrize("checkpointing", [None, "not reentrant", pytest.param("reentrant", marks=pytest.mark.slow)])
def test_every_adapter_gets_a_gradient_and_checkpointing_changes_none(batch, quantize, checkpointing):
    model = _adapted(quantize=quantize)
    expected = _gradients(model, batch)
    # A and B of 28 matrices
    assert len(expected) == 56 and all(gradient.abs().sum() > 0 for gradient in expected.values())
    if checkpointing:
        _checkpoint(model, checkpointing == "reentrant")
        for name, gradient in _gradients(model, batch).items():
            torch.testing.assert_close(gradient, expected[name], msg=name)


def test_every_adapter_gets_a_gradient_under_autocast(batch):
    model = _adapted(torch.bfloat16)
    _checkpoint(model)
    assert all(gradient.abs().sum() > 0 for gradient in _gradients(model, batch).values())


def test_checkpointing_keeps_the_backward_pass_out_of_the_frozen_tower(batch):
    model = _adapted(quantize=False)
    _checkpoint(model)
    tower, asked = model.get_base_model().model.audio_tower, []
    tower.register_forward_hook(lambda module, inputs, output: asked.append(output.last_hidden_state.requires_grad))
    _gradients(model, batch)
    assert asked == [False]


def test_a_training_step_after_an_evaluation_is_the_same_as_before(batch):
    """On CPUs with bfloat16 units bitsandbytes would have repacked the matrices in between."""
    model = _adapted()
    before = _gradients(model, batch)
    model.eval()
    with torch.no_grad():
        model(**batch)
    for name, gradient in _gradients(model, batch).items():
        torch.testing.assert_close(gradient, before[name], rtol=0, atol=0, msg=name)


@pytest.mark.slow
def test_fine_tuning_in_four_bits_from_start_to_end(processor, test_clips, tmp_path):
    """Trainer with checkpointing and evaluations, adapter saved, put on a fresh 4-bit base, and captions from it."""
    profile = dataclasses.replace(TINY, max_steps=6, batch_size=4, eval_steps=3, logging_steps=1, warmup_steps=0,
                                  gradient_checkpointing=True)
    base = load_model(quantize=True, quiet=True)
    trainer = make_trainer(profile, base, processor, tmp_path, train=test_clips[:12], evaluation=test_clips[12:16],
                           save_strategy="no", disable_tqdm=True)
    report, plain = lora_report(trainer.model), lora_report(load_model(quiet=True))
    assert report.trainable["language model"] == report.total_trainable > 0
    assert report.parameters == plain.parameters, "counted as numbers, not as packed bytes"
    parameters = dict(trainer.model.named_parameters())
    packed = {name: value.clone() for name, value in parameters.items() if type(value).__name__ == "Params4bit"}
    starts = {name: value.detach().clone() for name, value in parameters.items() if value.requires_grad}
    trainer.train()

    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    evaluations = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert len(losses) == 6 and min(losses[3:]) < losses[0] and evaluations[-1] < evaluations[0]
    after = dict(trainer.model.named_parameters())
    assert all((after[name] != start).any() for name, start in starts.items()), "each adapter moved"
    assert packed and all(torch.equal(after[name], codes) for name, codes in packed.items()), "and no 4-bit matrix did"

    adapter = save_adapter(trainer, processor, tmp_path / "adapter")
    fresh = load_model(quantize=True, quiet=True)
    reloaded = PeftModel.from_pretrained(fresh, check_adapter(fresh, adapter)).eval()
    clip = test_clips[0]["audio"]
    answer = caption(reloaded, processor, clip, max_new_tokens=12)
    assert answer and answer == caption(trainer.model, processor, clip, max_new_tokens=12)


def _next_scores(model, processor, clips) -> torch.Tensor:
    inputs = processor.apply_chat_template([make_chat(clip["audio"]["array"]) for clip in clips], tokenize=True,
                                           add_generation_prompt=True, return_dict=True)
    with torch.no_grad():
        return model.eval()(**inputs.to(model.device, model.dtype), logits_to_keep=1).logits


@pytest.mark.slow
def test_a_merge_in_four_bits_rounds_but_works_down_to_the_pipeline(processor, test_clips, tmp_path, capsys):
    from transformers import pipeline

    clips = test_clips[:4]
    plain = _next_scores(load_model(quantize=True, quiet=True), processor, clips)
    adapted = _adapted()
    before = _next_scores(adapted, processor, clips)
    with pytest.warns(UserWarning, match="rounding errors"):
        merged = adapted.merge_and_unload()
    after = _next_scores(merged, processor, clips)
    effect, rounding = (before - plain).abs().mean(), (after - before).abs().mean()
    assert 0 < rounding < effect, "rounded, but what the adapter says is still there"
    assert is_quantized(merged) and len(quantized_modules(merged)) == 28

    merged.save_pretrained(tmp_path / "merged")
    reloaded = load_model(str(tmp_path / "merged"))
    assert "stored in 4 bits" in capsys.readouterr().out
    torch.testing.assert_close(_next_scores(reloaded, processor, clips), after, rtol=1e-4, atol=1e-4)
    register_pipeline()
    pipe = pipeline("audio-text-to-text", model=reloaded, processor=processor)
    (answer,) = pipe(clips[0]["audio"]["array"], max_new_tokens=6)
    assert answer["generated_text"] == caption(reloaded, processor, clips[0]["audio"], max_new_tokens=6)
