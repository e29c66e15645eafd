"""How far a long cell is: shown while it runs, and never a part of what is stored."""

from __future__ import annotations

import html
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from IPython import get_ipython
from IPython.display import display
from transformers import TrainerCallback
from transformers.trainer_callback import PrinterCallback, ProgressCallback

from helpers.metrics import SCORES
from helpers.show.panel import Panel
from helpers.show.tables import Page, show_table


class _Board:
    """A place in the page that can be rewritten; the stored notebook keeps ``text`` alone. Outside of notebooks it
    is silent."""

    def __init__(self, text: str):
        self._field = None
        if get_ipython() is not None and hasattr(get_ipython(), "kernel"):
            import ipywidgets

            self._field = ipywidgets.HTML(f"<p>{html.escape(text)}</p>")
            display(Panel(self._field, Page(f"<p>{html.escape(text)}</p>", text)))

    def write(self, page: str) -> None:
        if self._field is not None:
            self._field.value = page


def _minutes(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _bar(share: float, words: str) -> str:
    return (
        f'<progress value="{share:.4f}" max="1" style="width:16em" aria-label="progress"></progress> '
        f"{share:.0%} {html.escape(words)}"
    )


def _count(iterable: Iterable, what: str) -> Iterator:
    items = list(iterable)
    board, started = _Board(what), time.monotonic()
    for number, item in enumerate(items):
        yield item
        share = (number + 1) / len(items)
        left = (time.monotonic() - started) * (1 / share - 1)
        board.write(_bar(share, f"{what}, {_minutes(left)} left" if share < 1 else f"{what}: done"))


def progress(what: str) -> Callable[[Iterable], Iterator]:
    """A bar with the time left, for ``caption(..., progress=progress("Captioning 200 clips"))`` or any loop:
    ``for clip in progress("Listening")(clips)``.

    Args:
        what: is done, in a few words; this is also what the stored notebook shows.
    """
    return partial(_count, what=what)


class TrainingProgress(TrainerCallback):
    """Step, loss, time left, and the scores of each evaluation with two decimals: Trainer's own table for people.

    transformers' table has columns "No log", six decimals, and a number of epochs that means nothing for a stream that
    is repeated without end. Put it on with `show_progress`, which takes the others off.
    """

    def __init__(self):
        self._board, self._started, self._first, self._rows, self._loss = None, 0.0, 0, [], None

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Opens the board. Called by the ``Trainer``, as all methods here."""
        self._board = _Board(f"Training, {state.max_steps:,} steps.")
        self._started, self._first, self._rows, self._loss = time.monotonic(), state.global_step, [], None

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Counts on."""
        self._show(state)

    def on_log(self, args, state, control, logs=None, **kwargs) -> None:
        """Notes the loss."""
        self._loss = (logs or {}).get("loss", self._loss)

    def on_prediction_step(self, args, state, control, **kwargs) -> None:
        """Opens a board for an evaluation outside of a training."""
        if self._board is None:
            self._board = _Board("Evaluating.")

    def on_evaluate(self, args, state, control, metrics=None, **kwargs) -> None:
        """Adds a row. A `CaptionEvaluation` that comes before this callback has put its scores into ``metrics``."""
        names = {"eval_loss": "evaluation loss", **SCORES}
        scores = {name: metrics[key] for key, name in names.items() if key in (metrics or {})}
        self._rows.append({"step": state.global_step, "training loss": self._loss, **scores})
        if self._board is not None:
            self._show(state)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Leaves the last numbers standing."""
        self._show(state, done=True)

    def _show(self, state, done: bool = False) -> None:
        share = state.global_step / max(state.max_steps, 1)
        made = state.global_step - self._first
        left = (time.monotonic() - self._started) / max(made, 1) * (state.max_steps - state.global_step)
        loss = f", loss {self._loss:.2f}" if self._loss is not None else ""
        time_left = "" if done or not made or left <= 0 else f", {_minutes(left)} left"
        table = show_table(self._rows).data if self._rows else ""
        if not state.max_steps:  # nothing has been trained yet
            self._board.write(table)
            return
        self._board.write(
            f"<p>{_bar(share, f'step {state.global_step:,} of {state.max_steps:,}{loss}{time_left}')}</p>{table}"
        )


def show_progress(trainer):
    """Give a ``Trainer`` the course's progress board in place of its own table; return the trainer.

    Nothing of it is stored in the notebook but the line "Training, 200 steps."
    """
    from transformers.utils.notebook import NotebookProgressCallback

    for other in (NotebookProgressCallback, ProgressCallback, PrinterCallback, TrainingProgress):
        trainer.remove_callback(other)
    trainer.add_callback(TrainingProgress())
    return trainer
