"""The stored notebooks as GitHub shows them: no styles, no scripts, no sound, no widgets. They still say what is there.

That GitHub strips these: pandas-dev/pandas issue 33076 (styles, scripts), jsboige/CoursIA issue 11179 (players).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup, Tag
from nbconvert import HTMLExporter

NOTEBOOKS = sorted((Path(__file__).resolve().parents[1] / "notebooks").glob("*.ipynb"))
GONE = ["script", "style", "link", "audio", "video", "progress", "input", "button", "select", "iframe", "object"]
LENGTH = re.compile(r"\d\.\d s\b")


@cache
def _exporter() -> HTMLExporter:
    return HTMLExporter()


def render(book: nbformat.NotebookNode) -> BeautifulSoup:
    """The page that nbconvert makes, which GitHub's view is made of."""
    page, _ = _exporter().from_notebook_node(book)
    return BeautifulSoup(page, "html.parser")


def strip(page: BeautifulSoup | Tag) -> None:
    """Take away what GitHub takes away."""
    for node in page(GONE):
        node.decompose()
    for node in page.find_all(True):
        node.attrs = {name: value for name, value in node.attrs.items() if name != "style" and name[:2] != "on"}


def said(output: Tag) -> str:
    """What is left to read: text, and what stands for a picture."""
    return " ".join([output.get_text(" ", strip=True), *(image.get("alt", "") for image in output("img"))]).strip()


def unsaid(book: nbformat.NotebookNode) -> list[str]:
    """What a reader of the stripped page would miss."""
    page = render(book)
    silent = []
    for player in page("audio"):  # its length or its name stands near it, or nothing tells that a sound was there
        near, name = player.find_parent(["tr", "div"]).get_text(" "), player.get("aria-label", "?")
        if not LENGTH.search(near) and name not in near:
            silent.append(f"nothing beside the player {name!r}")
    strip(page)
    silent += ["a picture without a description"] * len(page.select('img:not([alt]), img[alt=""], img[alt^="No desc"]'))
    for output in page.select(".jp-OutputArea-output"):
        text = said(output)
        if len(text) < 2 or re.fullmatch(r"(?:\w+\()?(?:VBox|HBox|HTML|Output)\(.*|<[\w.]+ (?:object )?at 0x.*", text):
            silent.append(f"an output that says {text!r}")
        if re.search(r"\d%\|", text):
            silent.append(f"a frozen progress bar: {text!r}")
        for row in output("tr"):
            if any(not said(cell) for cell in row("td")):
                silent.append(f"an empty cell in the row {said(row)!r}")
    return silent


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_nothing_is_lost_where_styles_scripts_and_sounds_are_stripped(path: Path):
    assert not unsaid(nbformat.read(path, as_version=4))


def test_what_is_trained_is_seen_without_styles():
    """Notebook 02's lesson: the guide's labels and the collator's are told apart by brackets, bold and a count."""
    page = render(nbformat.read(next(path for path in NOTEBOOKS if "02_" in path.name), as_version=4))
    strip(page)
    masks = [said(output) for output in page.select(".jp-OutputArea-output") if "tokens are trained:" in said(output)]
    guide, course = masks[:2]
    assert "[ helpful]" in guide and "[ helpful]" not in course and " helpful" in course
    for mask in masks[:2]:
        count = int(re.match(r"\d+", mask)[0])
        body = mask.split("Key:")[0]
        assert len(re.findall(r"\[[^\]]+\]", body)) == count > 0
    assert len(page.select("b ins")) > 30


@pytest.mark.parametrize("data, missed", [
    ({"text/html": '<div><audio aria-label="a dog" src="data:audio/mpeg;base64,"></audio></div>'}, "nothing beside"),
    ({"text/html": '<img src="data:image/png;base64,">'}, "a picture without a description"),
    ({"text/plain": "VBox(children=(IntSlider(value=0), HTML(value='')))"}, "an output that says \"VBox"),
    ({"text/plain": "Writing model shards:   0%|          | 0/1 [00:00<?, ?it/s]"}, "a frozen progress bar"),
    ({"text/html": "<table><tr><td>a</td><td><progress></progress></td></tr></table>"}, "an empty cell in the row 'a'"),
])
def test_what_would_be_lost_is_found(data: dict, missed: str):
    output = nbformat.v4.new_output("display_data", data=data)
    found = unsaid(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])]))
    assert any(line.startswith(missed) for line in found), found
