"""Pictures of training: the loss of one run, or of several side by side, with the scores of their captions below."""

from __future__ import annotations

from helpers.metrics import SCORES
from helpers.show.figures import Picture, add_legend, as_picture, new_figure
from helpers.show.palette import CYCLE, HELD_OUT, MARKERS, PERSON, TUNED

_LOSS = "loss (nats a token)"


def _points(history: list[dict], key: str) -> list[tuple[int, float]]:
    return [(row["step"], row[key]) for row in history if key in row]


def _scores(histories: list[list[dict]], points: int = 1) -> dict[str, str]:
    """Key -> title of the scores that one of the histories holds so many times."""
    found = {key: max(len(_points(history, key)) for history in histories) for key in SCORES}
    return {key: title for key, title in SCORES.items() if found[key] >= points}


def plot_curve(history: list[dict]) -> Picture:
    """Training and evaluation loss over optimizer steps, from ``trainer.state.log_history``.

    Where a `CaptionEvaluation` recorded scores beside the loss, each has a panel of its own below.

    Raises:
        ValueError: the history holds no training loss yet.
    """
    train, evaluation = _points(history, "loss"), _points(history, "eval_loss")
    if not train:
        raise ValueError("The log holds no training loss: train first, for at least logging_steps steps.")
    scores = _scores([history])
    figure, (axes, *panels) = new_figure(1 + len(scores), height=3.0 if not scores else 2.0, sharex=True)
    axes.plot(*zip(*train, strict=True), color=TUNED, label="training", marker=".")
    if evaluation:
        axes.plot(*zip(*evaluation, strict=True), color=HELD_OUT, label="evaluation", marker="s", linestyle="--")
    axes.set(ylabel=_LOSS, ylim=(0, None))
    add_legend(axes)
    moves = "falls" if train[-1][1] < train[0][1] else "rises"
    text = f"Training loss {moves} from {train[0][1]:.2f} to {train[-1][1]:.2f} over {train[-1][0]} steps"
    if evaluation:
        text += f"; evaluation loss ends at {evaluation[-1][1]:.2f}"
    for panel, (key, title) in zip(panels, scores.items(), strict=True):
        points = _points(history, key)
        panel.plot(*zip(*points, strict=True), color=PERSON, marker="D")
        panel.set(ylabel=title, ylim=(0, 1.1 * max(score for _, score in points) or 1))
        text += f"; {title} of the captions goes from {points[0][1]:.2f} to {points[-1][1]:.2f}"
    for panel in (axes, *panels):
        panel.grid(alpha=0.6)
    (panels or [axes])[-1].set(xlabel="optimizer step")
    return as_picture(figure, text + ".")


def plot_curves(runs: dict[str, list[dict]]) -> Picture:
    """Several runs in one picture: training loss above, and below it each score that one of them recorded twice.

    Args:
        runs: name -> ``trainer.state.log_history``, at most six.

    Raises:
        ValueError: there are no runs, more than six, or one without a training loss.
    """
    if not 1 <= len(runs) <= len(CYCLE):
        raise ValueError(
            f"There are {len(runs)} runs to draw: give at least one, and at most {len(CYCLE)} for a picture that "
            "can be read."
        )
    silent = [name for name, history in runs.items() if not _points(history, "loss")]
    if silent:
        raise ValueError(
            f"The log of {silent[0]!r} holds no training loss: train first, for at least logging_steps steps."
        )
    panels = {"loss": _LOSS, **_scores(list(runs.values()), points=2)}
    figure, axes = new_figure(len(panels), height=3.0 if len(panels) == 1 else 2.1, sharex=True)
    text = []
    for (name, history), color, marker in zip(runs.items(), CYCLE, MARKERS, strict=False):
        said = []
        for panel, (key, title) in zip(axes, panels.items(), strict=True):
            points = _points(history, key)
            if points:
                panel.plot(*zip(*points, strict=True), color=color, marker=marker, markersize=4, label=name)
                said.append(f"{'loss' if key == 'loss' else title} {points[0][1]:.2f} to {points[-1][1]:.2f}")
        text.append(f"{name}: {', '.join(said)}")
    for panel, title in zip(axes, panels.values(), strict=True):
        panel.set(ylabel=title, ylim=(0, None))
        panel.grid(alpha=0.6)
    add_legend(axes[0])
    axes[-1].set(xlabel="optimizer step")
    return as_picture(figure, f"{len(runs)} training runs, first to last value. " + "; ".join(text) + ".")
