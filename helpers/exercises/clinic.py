"""Notebook 08: name the illness of a run from its evidence, and choose the checkpoint to keep."""

from collections.abc import Callable, Mapping

from helpers.exercises.adapters import recorded_runs
from helpers.exercises.checking import Wrong, call, exercise, number

ILLNESSES = ("healthy", "learning rate too high", "learning rate too low", "captions shuffled", "samples not scaled")

_CASES = {
    "A": ("shuffled", "captions shuffled", "the loss looks well and the captions are fluent, but they belong to other "
          "clips: it learned the style alone"),
    "B": ("too fast", "learning rate too high",
          "the loss is finite but ends above where it began, and every caption is empty: the weights are thrown about"),
    "C": ("healthy", "healthy", "the loss, the style and F1 agree"),
    "D": ("too slow", "learning rate too low", "the loss is still high and still on its way down at the end, and the "
          "style is not all there: it needs more steps, or larger ones"),
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


_STEPS = (10, 20, 30, 40, 50, 60, 70, 80)
_ON_TRAINED = (2.10, 1.22, 0.81, 0.50, 0.36, 0.27, 0.19, 0.22)
_ON_OTHERS = (2.04, 1.61, 1.47, 1.45, 1.52, 1.60, 1.68, 1.71)


def overfitted_log() -> list[dict[str, float]]:
    """The log of a run that goes too far, as ``trainer.state.log_history`` has it; on other clips step 40 is best."""
    rows = []
    for step, trained, others in zip(_STEPS, _ON_TRAINED, _ON_OTHERS, strict=True):
        rows += [{"step": step, "loss": trained}, {"step": step, "eval_loss": others}]
    return rows


@exercise
def check_keep(keep: Callable) -> str:
    """Which checkpoint of a run to keep.

    Args:
        keep: the reader's function: (rows of a log, steps that have a checkpoint) -> step.
    """
    others = dict(zip(_STEPS, _ON_OTHERS, strict=True))
    by_heart = _STEPS[_ON_TRAINED.index(min(_ON_TRAINED))]
    for saved in (list(_STEPS), [30, 60, 70, 80]):
        step = number(call(keep, overfitted_log(), list(saved)), "The step")
        best = min(saved, key=others.get)
        if step not in saved:
            raise Wrong(f"step {step:g} has no checkpoint: choose among {', '.join(map(str, saved))}.")
        if step == best:
            continue
        if step == saved[-1]:
            raise Wrong(f"step {step:g} is the last: on other clips its loss is {others[step]:.2f}, and at step {best} "
                        f"it was {others[best]:.2f}.")
        if step == by_heart:
            raise Wrong(f"step {by_heart} has the lowest loss on the clips that were trained on: those may be known by "
                        "heart; look at eval_loss.")
        raise Wrong(f"step {step:g} has a loss of {others[step]:.2f} on other clips: look for the lowest eval_loss.")
    return "step 40 where it was saved, step 30 where it was not: the best on other clips, among those on disk."
