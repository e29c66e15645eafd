"""Predict, then look: a question to the reader before the cell that answers it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from numbers import Real

from IPython.display import display


def _as_number(text: str) -> float | None:
    """The first number in what somebody typed: "about 1,000", "40 MB", "0,5", "30 %"; None if there is none."""
    match = re.search(r"[-+]?\d[\d.,]*(?:[eE][-+]?\d+)?", text)
    if not match:
        return None
    digits = match.group().rstrip(".,")
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?", digits):
        digits = digits.replace(",", "")
    try:
        return float(digits.replace(",", "."))
    except ValueError:
        return None


def _plain(value):
    """NumPy's and PyTorch's numbers as Python's."""
    return value.item() if hasattr(value, "item") else value


def _text(value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return (
        f"{value:,.3g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, float)
        else str(value)
    )


class Guess:
    """What the reader expects; `compare` says how far off it was. Nothing is demanded: no guess is an answer too."""

    def __init__(self, question: str, options: Sequence | None = None, unit: str = ""):
        self.question, self.options, self.unit = question, options and list(options), unit
        self.value = None
        self._widget = None

    def of(self, value) -> Guess:
        """Make the guess in code, where there are no buttons: ``guess.of("yes")``."""
        self.value = None if value is ... else value
        return self

    def compare(self, truth) -> None:
        """Print in one line how far the guess was off.

        Args:
            truth: what came out: a number, or one of the options (a bool is "yes" or "no").
        """
        print(self._verdict(_plain(truth)))

    def _verdict(self, truth) -> str:
        guess, unit = _plain(self.value), f" {self.unit}" if self.unit else ""
        answer = f"{_text(truth)}{unit}".rstrip(".")
        if guess is None or str(guess).strip() == "":
            is_number = isinstance(truth, Real) and not isinstance(truth, bool)
            return f"You made no guess. {'It is' if is_number else 'The answer:'} {answer}."
        if isinstance(truth, Real) and not isinstance(truth, bool):
            number = float(guess) if isinstance(guess, Real) else _as_number(str(guess))
            if number is None:
                return f"There is no number in your guess {guess!r}. It is {answer}."
            said = f"You guessed {_text(int(number) if number == int(number) else number)}{unit}"
            if _text(float(number)) == _text(float(truth)):
                return f"{said}: right."
            share = f" ({abs(number - truth) / abs(truth):.0%})" if truth else ""
            side = "high" if number > truth else "low"
            return f"{said}; it is {answer}: {_text(abs(number - truth))}{unit} too {side}{share}."
        if str(guess).strip().lower() == _text(truth).strip().lower():
            return f"Right: {answer}."
        return f"You guessed {guess}; the answer: {answer}."

    def _make_widget(self):
        import ipywidgets

        wide = ipywidgets.Layout(width="auto")
        if self.options:
            field = ipywidgets.ToggleButtons(
                options=self.options, value=None, layout=wide, tooltips=[f"guess: {option}" for option in self.options],
                style={"button_width": "auto"},  # as wide as its words, which the default cuts off
            )
        else:
            field = ipywidgets.Text(
                placeholder="your guess", description=self.unit or "guess", layout=ipywidgets.Layout(width="16em")
            )
            field.continuous_update = True

        def take(change) -> None:
            self.value = change["new"]

        field.observe(take, names="value")
        return ipywidgets.VBox([ipywidgets.HTML(f"<b>Your guess:</b> {self.question}"), field])

    def __repr__(self) -> str:
        choice = (
            f" ({' / '.join(map(str, self.options))})" if self.options else f" (in {self.unit})" if self.unit else ""
        )
        if self.value is None:
            return f"Your guess: {self.question}{choice} Not made yet: use the buttons, or guess.of(...)."
        return f"Your guess: {self.question}{choice} {self.value}"

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        bundle = {"text/plain": repr(self)}
        try:
            self._widget = self._widget or self._make_widget()
            bundle["application/vnd.jupyter.widget-view+json"] = {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self._widget.model_id,
            }
        except Exception:  # no kernel, no ipywidgets: the text is enough, and a question never stops a notebook
            self._widget = None
        return bundle


def predict(question: str, options: Sequence | None = None, unit: str = "") -> Guess:
    """Ask the reader for a guess, before the cell that shows the truth; show buttons, or a field to type into.

    Write ``guess = predict("Does the encoder stay frozen?", ["yes", "no"])``, and after the cell that finds out
    ``guess.compare(truth)``. Without buttons (another front end), ``guess.of("yes")`` does the same.

    Args:
        question: in one sentence.
        options: what can be chosen; without them there is a field for a number or a word.
        unit: of the number.
    """
    guess = Guess(question, options, unit)
    display(guess)
    return guess
