"""Numbers in prose are those that the cells compute (see tools/numbers.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tools.numbers import MARKED, renew, renewed, stored_outputs

ROOT = Path(__file__).resolve().parent.parent
BOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CITED = {
    "06_measure_captions": {"0.70"},  # an example of how a paper may print a score
    "07_teach_your_own_sounds": {"0.8"},  # a floor, set beforehand
    # Given in the exercise, and held to by its check; measured on a GPU, and held to by tests/test_benchmarks_table.py.
    "09_scale_up": {"6.53", "0.80", "20.5", "1.29", "27.2"},
    "10_serve_captions": {"0.13"},
}
"""Numbers with decimals that no cell computes."""
UNREAD = re.compile(r"```.*?```|`[^`]*`|\]\([^)]*\)|<!--.*?-->|section \d+\.\d+", re.S)
"""Code, addresses, comments, and sections of papers."""


def prose(path):
    return "\n".join("".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
                     if cell["cell_type"] == "markdown")


def test_numbers_in_prose_are_those_of_the_stored_outputs():
    stale = renew(write=False)
    assert not stale, "\n".join(["Run `python -m tools.numbers`, which renews these numbers in prose:", *stale])


def test_many_numbers_are_marked():
    texts = [prose(path) for path in BOOKS]
    assert len(MARKED.findall("\n".join(texts))) >= 20
    assert len(MARKED.findall((ROOT / "README.md").read_text(encoding="utf-8"))) >= 20
    for text in texts:
        assert text.count("<!-- from") == len(MARKED.findall(text)), "a mark follows its number at once"


@pytest.mark.parametrize("path", BOOKS, ids=lambda path: path.stem)
def test_numbers_with_decimals_are_marked_or_cited(path):
    unmarked = UNREAD.sub(" ", MARKED.sub(" ", prose(path)))
    found = set(re.findall(r"(?<![\w.-])\d+(?:\.\d+)+", unmarked))
    assert found <= CITED.get(path.stem, set()), "mark them with the cell that computes them (tools/numbers.py)"


def test_cells_have_ids_of_their_own():
    ids = [cell["id"] for path in BOOKS for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    assert len(ids) == len(set(ids)) and set(stored_outputs()) <= set(ids)


def test_a_number_is_renewed_with_its_decimals():
    outputs = {"0a1b2c3d": "before | 0.004\nafter | 1234.5678", "11111111": None}
    text, changes = renewed("from 0.10<!-- from 0a1b2c3d: before\\W+([\\d.]+) --> to 7<!-- from 0a1b2c3d: "
                            "after\\W+([\\d.]+) -->, or 3<!-- from 11111111: (\\d) -->", outputs)
    assert re.sub(r"<!--.*?-->", "", text) == "from 0.00 to 1,235, or 3"
    assert len(changes) == 2 and changes[0].startswith("0.10 is 0.00 in the output of cell 0a1b2c3d")
    assert renewed(text, outputs) == (text, [])


def test_a_mark_that_finds_nothing_is_no_mark():
    with pytest.raises(ValueError, match="which no notebook has"):
        renewed("1<!-- from 0a1b2c3d: (1) -->", {})
    with pytest.raises(ValueError, match="has nothing like"):
        renewed("1<!-- from 0a1b2c3d: (1) -->", {"0a1b2c3d": "two"})


def test_only_what_changed_is_written(tmp_path):
    cells = [{"cell_type": "markdown", "id": "aaaaaaaa", "metadata": {},
              "source": ["It is 1.5<!-- from bbbbbbbb: is ([\\d.]+) -->."]},
             {"cell_type": "code", "id": "bbbbbbbb", "metadata": {}, "execution_count": 1, "source": [],
              "outputs": [{"output_type": "stream", "name": "stdout", "text": ["it is 2.46\n"]}]}]
    (tmp_path / "notebooks").mkdir()
    book = tmp_path / "notebooks" / "01.ipynb"
    book.write_text(json.dumps({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {}}), encoding="utf-8")
    (tmp_path / "README.md").write_text("Here 2.4<!-- from bbbbbbbb: is ([\\d.]+) -->.", encoding="utf-8")
    assert len(renew(tmp_path, write=False)) == 2 and "1.5<" in book.read_text(encoding="utf-8")
    assert len(renew(tmp_path)) == 2
    assert "2.5<" in book.read_text(encoding="utf-8") and "2.5<" in (tmp_path / "README.md").read_text(encoding="utf-8")
    assert renew(tmp_path) == []
