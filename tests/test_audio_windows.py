"""Windows cut down to their clips: what the model hears, learns and says stays the same."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from transformers import AudioFlamingo3ForConditionalGeneration

from helpers import accept_trimmed, caption, load_model, make_chat, trim_windows
from helpers.audio.windows import MARGIN, TrimmableEncoder, can_trim, samples_needed
from helpers.captioning.pipeline import AudioTextToTextPipeline
from helpers.chat import AudioFlamingo3DataCollator, encode_chats
from helpers.model.architecture import TINY_FOLDER

WINDOW = 400
"""Frames of the tiny model's window; 16,000 samples make a hundred."""


def clip(frames: int) -> np.ndarray:
    return np.random.default_rng(frames).normal(0, 0.1, frames * 160).astype("float32")


def inputs(processor, *frames: int) -> dict:
    chats = [make_chat(clip(length)) for length in frames]
    return processor.apply_chat_template(chats, tokenize=True, return_dict=True, add_generation_prompt=True)


@pytest.fixture(scope="module")
def exact():
    """The tiny model in float64: differences that remain are rounding, and those of rounding are tiny."""
    return load_model(dtype=torch.float64, quiet=True)


def heard(model, batch) -> torch.Tensor:
    with torch.no_grad():
        return model.get_audio_features(batch["input_features"].double(), batch["input_features_mask"]).pooler_output


@pytest.mark.parametrize("frames", [(1, 2, 3), (10, 11), (99, 100, 101), (200,), (397, 5), (398,), (399,), (400, 30)])
def test_the_encoder_hears_the_same_to_the_last_digits(exact, processor, frames):
    batch = inputs(processor, *frames)
    whole = heard(exact, batch)
    assert batch["input_features"].shape[-1] == WINDOW
    trim_windows(batch)
    kept = {batch[name].shape[-1] for name in ("input_features", "input_features_mask")}
    assert kept == {min(max(frames) + MARGIN, WINDOW)}
    torch.testing.assert_close(heard(exact, batch), whole, rtol=0, atol=2e-15 * float(whole.abs().max().clamp(min=1)))


@pytest.mark.parametrize("lengths", [(160,), (1, 159, 161), (31_999, 32_000, 32_001), (63_680,), (63_839, 400),
                                     (64_000, 100), (64_001, 5)])
def test_features_of_the_clip_alone_are_those_of_the_whole_window(processor, lengths):
    """The spectrogram's padding is not computed; the same at the window's end and in silence too."""
    clips = [clip(-(-length // 160))[:length] for length in lengths] + [np.zeros(300, "float32")]
    chats = [make_chat(sound) for sound in clips]
    short, whole = encode_chats(processor, chats, trim=True), trim_windows(encode_chats(processor, chats))
    assert samples_needed(processor, clips) <= min(160 * max(-(-max(lengths) // 160) + MARGIN + 2, 66), 160 * WINDOW)
    for name in whole:  # on the machine that this was written on they are bit for bit the same
        torch.testing.assert_close(short[name], whole[name], rtol=0, atol=1e-6)


@pytest.mark.parametrize("frames, margin", [(101, 0), (101, 1), (100, 0)])
def test_a_smaller_margin_is_heard(exact, processor, frames, margin):
    """An odd number of frames needs both, an even one the first."""
    batch = inputs(processor, frames)
    cut = {key: batch[key][..., : frames + margin] for key in ("input_features", "input_features_mask")}
    assert (heard(exact, cut) - heard(exact, batch)).abs().max() > 0.01


def test_a_clip_of_several_windows_keeps_a_whole_one(exact, processor):
    batch = inputs(processor, WINDOW + 130, 50)
    whole = heard(exact, batch)
    assert batch["input_features"].shape[0] == 3
    assert torch.equal(heard(exact, trim_windows(batch)), whole) and batch["input_features"].shape[-1] == WINDOW


def test_whole_windows_are_heard_as_by_the_librarys_own_encoder(processor):
    stock = AudioFlamingo3ForConditionalGeneration.from_pretrained(TINY_FOLDER, dtype=torch.float32).eval()
    batch, ours = inputs(processor, 120, 80), load_model(quiet=True)
    with torch.no_grad():
        assert torch.equal(ours(**batch).logits, stock(**batch).logits)
        with pytest.raises(RuntimeError, match="size of tensor"):
            stock(**trim_windows(batch))
        assert accept_trimmed(stock) and accept_trimmed(stock)
        torch.testing.assert_close(stock(**batch).logits, ours(**batch).logits, rtol=0, atol=0)


def test_nothing_else_changes(exact):
    tower = exact.model.audio_tower
    assert isinstance(tower, TrimmableEncoder) and tower.embed_positions.weight.shape[0] == WINDOW // 2
    assert tower.get_submodule("embed_positions") is tower.embed_positions
    twin = copy.deepcopy(exact)
    stock = AudioFlamingo3ForConditionalGeneration.from_pretrained(TINY_FOLDER)
    assert twin.state_dict().keys() == stock.state_dict().keys()
    assert twin.model.audio_tower.embed_positions is not tower.embed_positions
    with pytest.raises(KeyError):
        tower()
    assert tower.embed_positions.weight.shape[0] == WINDOW // 2, "whole again after an error"
    assert not accept_trimmed(torch.nn.Linear(2, 2))


def test_threads_do_not_meet(exact, processor):
    batches = [trim_windows(inputs(processor, frames)) for frames in (40, 110, 390)]
    alone = [heard(exact, batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda batch: heard(exact, batch), batches * 8))
    assert all(torch.equal(one, other) for one, other in zip(together, alone * 8, strict=True))


def test_a_training_step_is_the_same(exact, processor):
    texts = {90: "A frog croaks", 151: "A bell rings twice"}
    examples = [{"audio": clip(frames), "caption": text} for frames, text in texts.items()]
    losses, gradients = [], []
    exact.requires_grad_(False)
    weight = exact.model.language_model.layers[0].self_attn.q_proj.weight.requires_grad_(True)
    for trim in (True, False):
        batch = AudioFlamingo3DataCollator(processor, trim_windows=trim)(examples)
        assert batch["input_features"].shape[-1] == (153 if trim else WINDOW)
        assert batch["input_features"].untyped_storage().nbytes() == batch["input_features"].nbytes, "no slice of more"
        weight.grad = None
        loss = exact(**{**batch, "input_features": batch["input_features"].double()}).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append(weight.grad)
    assert losses[0] == pytest.approx(losses[1], rel=1e-14)
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-14)


def test_captions_and_pipeline_feed_the_encoder_no_more_than_the_clips(base_model, processor, test_clips):
    fed = []
    hook = base_model.model.audio_tower.conv1.register_forward_pre_hook(
        lambda module, args: fed.append(args[0].shape[-1]))
    sounds = [test_clips[0]["audio"]["array"][:32_000], test_clips[1]["audio"]["array"][:40_000]]
    try:
        texts = caption(base_model, processor, sounds)
        pipe = AudioTextToTextPipeline(base_model, processor=processor)
        assert [row["generated_text"] for row in pipe(sounds)] == texts
    finally:
        hook.remove()
    assert fed == [252, 252]


def test_only_encoders_that_mask_their_padding_are_trimmed(processor):
    from transformers import GlmAsrProcessor, Qwen2AudioProcessor

    assert can_trim(processor)
    for other in (GlmAsrProcessor, Qwen2AudioProcessor):
        assert not can_trim(other.__new__(other))
