"""Notebook 08: name the illness of a run from its evidence."""

from __future__ import annotations

from collections.abc import Mapping

from helpers.exercises.adapters import recorded_runs
from helpers.exercises.checking import Wrong, exercise

ILLNESSES = ("healthy", "learning rate too high", "learning rate too low", "captions shuffled", "samples not scaled")

_CASES = {
    "A": ("shuffled", "captions shuffled", "the loss looks well and the captions are fluent, but they belong to other "
          "clips: it learned the style alone"),
    "B": ("too fast", "learning rate too high",
          "the loss is finite and hardly falls, and hardly a caption is right: the weights are thrown about"),
    "C": ("healthy", "healthy", "the loss, the style and F1 agree"),
    "D": ("too slow", "learning rate too low", "the loss still falls steeply at the end, and the style is not all "
          "there: it needs more steps, or larger ones"),
    "E": ("too loud", "samples not scaled",
          "it trained as well as the healthy run; what it was asked about afterwards is 32,768 times as loud"),
}
"""Name -> (recorded run, illness, what gives it away)."""


def sick_runs() -> list[dict]:
    """The evidence of five recorded runs as rows for `show_table`: the loss on the way, and 60 captions afterwards."""
    rows = []
    for name, (run, *_) in _CASES.items():
        seen = recorded_runs()[run]
        losses = "  ".join(f"{row['loss']:.2f}" for row in seen["history"][::3])
        rows.append({"run": name, "loss, every 15 steps": losses, "in style (%)": round(100 * seen["style"]),
                     "event F1": seen["f1"], "different captions": seen["different"],
                     "the commonest": seen["commonest"] or "(not a word)"})
    return rows


@exercise
def check_diagnosis(diagnosis: Mapping[str, str]) -> str:
    """Which illness each run of `sick_runs` has. ``diagnosis``: ``"A"`` to ``"E"`` -> one of `ILLNESSES`."""
    if set(diagnosis) != set(_CASES):
        raise Wrong(f"give a diagnosis for each of {', '.join(_CASES)}.")
    unknown = set(diagnosis.values()) - set(ILLNESSES)
    if unknown:
        raise Wrong(f"{sorted(unknown)[0]!r} is not on the list: {', '.join(ILLNESSES)}.")
    for name, (_, illness, sign) in _CASES.items():
        if diagnosis[name] != illness:
            raise Wrong(f"{name} is not {diagnosis[name]!r}: {sign}.")
    return "five of five; the loss alone would have told you two."
