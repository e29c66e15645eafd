"""float16 that overflows, shown on the CPU: the same function, with larger numbers inside."""

from __future__ import annotations

import pytest
import torch

from helpers import FloatOverflow, caption, load_model
from helpers.captioning.pipeline import AudioTextToTextPipeline


@pytest.fixture(scope="module")
def sounds(test_clips):
    return [clip["audio"]["array"] for clip in test_clips[:2]]


def scaled(dtype: torch.dtype, factor: float = 2.0**14):
    """The base with the inner numbers of each feed-forward part ``factor`` times as large, its outputs as they were.
    A power of two changes exponents alone, so that nothing is rounded."""
    model = load_model(dtype=torch.float32, quiet=True)
    with torch.no_grad():
        for layer in model.model.language_model.layers:
            layer.mlp.up_proj.weight.mul_(factor)
            layer.mlp.down_proj.weight.div_(factor)
    return model.to(dtype)


def test_float16_overflows_and_says_so(processor, sounds):
    model = scaled(torch.float16)
    with pytest.raises(FloatOverflow, match=r"no numbers in 2 of 2 clips: .* too large for float16, .*torch.float32"):
        caption(model, processor, sounds, max_new_tokens=4)
    with pytest.raises(FloatOverflow):
        AudioTextToTextPipeline(model, processor=processor)(sounds, max_new_tokens=4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_float32_and_bfloat16_reach_far_enough(processor, sounds, dtype):
    """The remedies give the very answers of the model that was not scaled."""
    plain = load_model(dtype=dtype, quiet=True)
    expected = caption(plain, processor, sounds, max_new_tokens=4)
    assert caption(scaled(dtype), processor, sounds, max_new_tokens=4) == expected


def test_a_token_that_generate_forbids_is_no_overflow(processor, sounds):
    """Seen on a GPU: ``min_new_tokens`` gives the end a score of minus infinity, which was taken for an overflow."""
    answers = caption(load_model(dtype=torch.bfloat16, quiet=True), processor, sounds, min_new_tokens=6,
                      max_new_tokens=6)
    assert all(answers) and len(answers) == len(sounds)
