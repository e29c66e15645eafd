"""A live widget and its static form in one: widgets where a kernel runs, words and pictures everywhere else."""

from __future__ import annotations

import html

from helpers.show.tables import Page


class Panel:
    """An ``ipywidgets`` box with a page that stands for it: in a notebook that was not run, on GitHub, in print.

    A notebook keeps the static page, so its stored output is the same in every run (the widget's own number is not
    compared by nbval). Store no widget state in a notebook (``nbconvert --ExecutePreprocessor.store_widget_state=False``):
    where it is there, nbconvert shows the frozen widget in place of the page.
    """

    def __init__(self, box, page: Page):
        self.box, self.page = box, page

    @property
    def children(self) -> tuple:
        """The widgets inside."""
        return self.box.children

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        view = {"version_major": 2, "version_minor": 0, "model_id": self.box.model_id}
        return {"text/plain": self.page.text, "text/html": self.page.data, "application/vnd.jupyter.widget-view+json": view}

    def __repr__(self) -> str:
        return self.page.text


def problem(error: Exception) -> str:
    """HTML that says what went wrong; errors of the course speak for themselves, others are named."""
    known = type(error).__module__.startswith("helpers.")
    text = str(error) if known else f"{type(error).__name__}: {error}"
    return f'<p role="alert"><b>That did not work.</b> {html.escape(text)}</p>'


def named(widget, name: str):
    """Give a widget without a visible text a name for screen readers, where this ipywidgets can (from 8 on)."""
    if hasattr(widget, "tooltip"):
        widget.tooltip = name
    return widget
