"""Notebook 04: compare under equal conditions, and count."""

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch

from helpers.audio.samples import as_samples
from helpers.captioning.captions import GREEDY
from helpers.chat import make_chat
from helpers.exercises.checking import Wrong, call, close, exercise, number
from helpers.metrics.events import event_f1
from helpers.metrics.intervals import Interval, bootstrap_difference, bootstrap_interval

OMISSIONS = ("the slice", "the dtype", "disable_adapter")
"""What can be forgotten: ``[:, n:]`` after ``generate``; ``.to(dtype)`` before it; switching the adapter off for
"before"."""


def _outcome(act: Callable) -> str:
    try:
        act()
    except (RuntimeError, ValueError, TypeError):
        return "error"
    return "silence"


def omission_outcomes(model, processor, clip) -> dict[str, str]:
    """Forget each of `OMISSIONS` for real: ``"error"`` or ``"silence"``."""
    inputs = processor.apply_chat_template([make_chat(as_samples(clip))], tokenize=True, add_generation_prompt=True,
                                           return_dict=True).to(model.device, model.dtype)
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    # A copy of the ears in another precision than the features: what a model on a GPU and a processor's output are.
    tower = copy.deepcopy(base.model.audio_tower).to(torch.bfloat16)

    def generate() -> None:
        processor.batch_decode(model.generate(**inputs, **GREEDY, max_new_tokens=5), skip_special_tokens=True)

    return {"the slice": _outcome(generate),
            "the dtype": _outcome(lambda: tower(inputs["input_features"].float(), inputs["input_features_mask"])),
            "disable_adapter": _outcome(generate)}


@exercise
def check_omissions(outcomes: Mapping[str, str], model, processor, clip) -> str:
    """Which thing forgotten gives an error, and which silence.

    Args:
        outcomes: the reader's answer: each of `OMISSIONS` -> ``"error"`` or ``"silence"``.
        model: a model with an adapter.
        processor: its processor.
        clip: whatever `as_samples` takes.
    """
    if set(outcomes) != set(OMISSIONS) or not set(outcomes.values()) <= {"error", "silence"}:
        raise Wrong(f'say "error" or "silence" for each of {", ".join(OMISSIONS)}.')
    if set(outcomes.values()) == {"error"}:
        raise Wrong("not all of them raise: two give texts, and the texts are wrong.")
    true = omission_outcomes(model, processor, clip)
    for name, outcome in true.items():
        if outcomes[name] != outcome:
            reason = {"the slice": "the question comes back in front of every answer, and no line of code minds",
                      "the dtype": "a convolution refuses features of another precision than its weights",
                      "disable_adapter": "before and after are then the same model, and nothing says so"}[name]
            raise Wrong(f"{name} gives {'an error' if outcome == 'error' else 'silence'}: {reason}.")
    return "only the precision raises; the other two hand you wrong texts without a word."


@exercise
def check_f1_by_hand(f1: Callable) -> str:
    """F1 over five captions, counted by hand. ``f1``: (one set of named events a clip, one set of events there a clip)
    -> F1."""
    named = [{"dog"}, {"rain", "wind"}, {"cow"}, {"bell"}, {"dog", "rain", "wind", "bell"}]
    there = [{"dog"}, {"rain"}, {"cow", "dog", "bell"}, {"clock"}, {"dog", "rain"}]
    hits = [len(one & other) for one, other in zip(named, there, strict=True)]
    claimed, present = sum(map(len, named)), sum(map(len, there))
    true = 2 * sum(hits) / (claimed + present)
    said = number(call(f1, [set(events) for events in named], [set(events) for events in there]), "F1")
    mean = np.mean([2 * hit / (len(one) + len(other)) for hit, one, other in zip(hits, named, there, strict=True)])
    if close(said, mean, 1e-6):
        raise Wrong(f"{said:.3f} is the mean of five F1s: a clip with one event then weighs as much as one with five; "
                    "add up hits and events over all clips first.")
    if close(said, sum(hits) / present, 1e-6):
        raise Wrong(f"{said:.3f} is recall: what was named and is not there has to count too.")
    if close(said, sum(hits) / claimed, 1e-6):
        raise Wrong(f"{said:.3f} is precision: what is there and was not named has to count too.")
    if not close(said, true, 1e-6):
        raise Wrong(f"you say {said:.3f}, it is {true:.3f}: twice the hits, divided by the events named plus the "
                    "events there.")
    return f"{true:.3f} = 2 × {sum(hits)} / ({claimed} + {present})."


@exercise
def check_luck(difference: Interval, before: np.ndarray, after: np.ndarray) -> str:
    """Whether two F1s over the same clips differ by luck.

    Args:
        difference: the reader's interval of after minus before, from `bootstrap_difference`.
        before, after: `event_counts` of the two models on the same clips.
    """
    if not isinstance(difference, Interval):
        raise Wrong("give the Interval that bootstrap_difference returns.")
    true = bootstrap_difference(after, before, event_f1)
    width = difference.high - difference.low
    if close(difference.value, true.value, 1e-6) and close(width, true.high - true.low, 0.05):
        luck = "excludes zero, so it is not luck" if true.excludes_zero else "holds zero, so it may be luck"
        return f"{true} {luck}."
    if close(difference.value, -true.value, 1e-6) and true.value:
        raise Wrong("it is before minus after: turn it round, so that a loss is negative.")
    one, other = bootstrap_interval(after, event_f1), bootstrap_interval(before, event_f1)
    apart = Interval(true.value, one.low - other.high, one.high - other.low)
    if close(width, apart.high - apart.low, 0.1):
        raise Wrong("you took the two intervals apart: that forgets that a clip is hard for both models; draw the same "
                    "clips for both.")
    raise Wrong(f"you have {difference}, the paired difference of event_f1 over all {len(before)} clips is another: "
                "give bootstrap_difference the counts of both models and event_f1.")
