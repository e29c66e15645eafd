"""What every picture stands on: a card that suits both themes, and a text that is never lost."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from html import escape

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from helpers.show.palette import CARD, GRID, INK

_DPI = 110
_LOOK = {
    "figure.facecolor": CARD,
    "savefig.facecolor": CARD,
    "axes.facecolor": CARD,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": GRID,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
}


def new_figure(
    rows: int = 1, width: float = 6.6, height: float = 2.4, columns: int = 1, **kwargs
) -> tuple[Figure, list[Axes]]:
    """A figure that belongs to no pyplot state: nothing to close, nothing shown twice.

    Args:
        rows, columns: of panels.
        width: of the figure in inches.
        height: of one row in inches.
        **kwargs: for ``Figure.subplots``.
    """
    with rc_context(_LOOK):
        figure = Figure(figsize=(width, height * rows), layout="constrained")
        FigureCanvasAgg(figure)
        return figure, list(figure.subplots(rows, columns, squeeze=False, **kwargs).ravel())


def add_legend(axes: Axes) -> None:
    """A legend in the card's colours."""
    axes.legend(facecolor=CARD, edgecolor=GRID, labelcolor=INK, framealpha=0.8)


@dataclass(frozen=True)
class Picture:
    """A rendered figure that is never shown without its description.

    It goes into a notebook once, as HTML. JupyterLab (4.6) drops the ``alt`` that stands beside an ``image/png``, so
    that screen readers find a nameless picture; nbconvert, and GitHub's view, which is made by it, take the HTML first
    anyway. As plain text the description stands for the picture where none can be shown.
    """

    png: bytes
    alt: str
    width: int
    """On the page, in CSS pixels; a narrow page makes it smaller."""

    def to_html(self) -> str:
        """An ``<img>`` with the PNG inside; ``width`` as an attribute too, for pages that strip styles."""
        return (
            f'<img src="data:image/png;base64,{b64encode(self.png).decode()}" alt="{escape(self.alt, quote=True)}" '
            f'width="{self.width}" style="width:{self.width}px;max-width:100%;height:auto;border-radius:8px">'
        )

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/plain": self.alt, "text/html": self.to_html()}


def as_picture(figure: Figure, alt: str) -> Picture:
    """Render a figure, with the text that stands for it."""
    from PIL import Image

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DPI, format="png", facecolor=CARD)
    # 128 colours are enough for flat drawings and for a spectrogram's map, and make a file of a third of the size. An
    # octree keeps thin lines in their own colour; a median cut gives them one of the map's, which has more pixels.
    image = Image.open(buffer).convert("RGB").quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    small = io.BytesIO()
    image.save(small, format="png", optimize=True)
    return Picture(small.getvalue(), alt, width=int(figure.get_figwidth() * _DPI * 0.85))
