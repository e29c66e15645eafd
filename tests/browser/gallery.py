"""A small notebook of widgets: guesses with the cells that judge them, and a model that fails."""

from __future__ import annotations

from pathlib import Path

import nbformat

CELLS = [
    """import sys
sys.path.insert(0, "..")
from helpers import *
processor = load_processor()""",
    'side = predict("Does the encoder stay frozen?", ["yes", "no"])',
    'side.compare("no")',
    'size = predict("How large is it?", unit="MB")',
    "size.compare(40)",
    'your_sound({"a model that fails": lambda samples: 1 / 0}, processor)',
]


def write_gallery(path: Path, cells: list[str] = CELLS) -> Path:
    """Write the notebook, or one of other cells."""
    book = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(code) for code in cells],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
    )
    nbformat.write(book, path)
    return path
