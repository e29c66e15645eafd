"""Counted operations against a count by hand, and the arithmetic of time and money."""

from __future__ import annotations

import pytest

from helpers import count_clip_flops, estimate_cost
from helpers.profiles import get_profile
from helpers.scale.costs import PEAK_FLOPS
from helpers.training.recipe import lora_config


@pytest.fixture(scope="module")
def adapted():
    from peft import get_peft_model

    from helpers import load_model

    return get_peft_model(load_model(quiet=True), lora_config(get_profile("tiny")))


def _by_hand(model, seconds, text_tokens, answer_tokens):
    """Two operations a weight and position, the two products of attention, the logits of the answer."""
    config = model.config.text_config
    positions = int(seconds * 25) + text_tokens  # 40 ms an audio token
    matrices = sum(parameter.numel() for name, parameter in model.named_parameters()
                   if "language_model.layers" in name and parameter.ndim == 2)  # the adapter's matrices among them
    attention = config.num_hidden_layers * 2 * config.hidden_size * positions**2
    return 2 * (positions * matrices + attention + answer_tokens * config.vocab_size * config.hidden_size)


@pytest.mark.parametrize("seconds, text_tokens, answer_tokens", [(4.0, 40, 16), (1.0, 30, 8)])
def test_the_forward_pass_is_what_one_counts_by_hand(adapted, seconds, text_tokens, answer_tokens):
    flops = count_clip_flops(adapted, seconds=seconds, text_tokens=text_tokens, answer_tokens=answer_tokens)
    assert flops.forward == pytest.approx(_by_hand(adapted, seconds, text_tokens, answer_tokens), rel=1e-3)


def test_frozen_matrices_need_no_gradient_of_their_own(adapted):
    flops = count_clip_flops(adapted, seconds=4.0)
    assert flops.forward < flops.backward < 1.5 * flops.forward
    every = count_clip_flops(_all_trainable(), seconds=4.0)
    assert every.backward == pytest.approx(2 * every.forward, rel=0.05)


def _all_trainable():
    from helpers import load_model

    return load_model(quiet=True).requires_grad_(True)


def test_checkpointing_adds_the_layers_once_more(adapted):
    plain, again = (count_clip_flops(adapted, seconds=2.0, checkpointing=on) for on in (False, True))
    assert plain.recomputed == 0 and 0 < again.recomputed < again.forward
    assert again.total - plain.total == again.recomputed


def test_the_encoder_costs_what_the_clip_is_long_unless_its_window_is_computed_whole(adapted):
    short, long = (count_clip_flops(adapted, seconds=seconds).encoder for seconds in (1.0, 4.0))
    assert 3.5 < long / short < 5, "somewhat more than in proportion: attention grows with the square"
    assert count_clip_flops(adapted, seconds=1.0, trim_windows=False).encoder == long
    with pytest.raises(ValueError, match="5.0 s does not fit into one window of 4 s"):
        count_clip_flops(adapted, seconds=5.0)


def test_time_and_money_are_plain_arithmetic():
    hour = PEAK_FLOPS["A100"] * 3600
    one = estimate_cost(hour, "A100", utilisation=0.5, price_per_hour=3.0)
    assert (one.hours, one.price) == (pytest.approx(2.0), pytest.approx(6.0))
    four = estimate_cost(hour, "A100", utilisation=0.5, price_per_hour=3.0, gpus=4)
    assert (four.hours, four.price) == (pytest.approx(0.5), pytest.approx(6.0))


@pytest.mark.parametrize(
    "gpu, changed, message",
    [
        ("Z80", {}, "no peak on record for the GPU 'Z80'"),
        ("T4", {"utilisation": 1.5}, "utilisation of 1.5 is impossible"),
        ("T4", {"gpus": 0}, "0 GPUs at"),
        ("T4", {"price_per_hour": -1}, "no negative price"),
    ],
)
def test_impossible_assumptions_are_refused(gpu, changed, message):
    with pytest.raises(ValueError, match=message):
        estimate_cost(1e15, gpu, **{"utilisation": 0.4, "price_per_hour": 1.0} | changed)
