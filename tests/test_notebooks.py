"""The notebooks as documents; that they run and give the stored outputs is nbval's part."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BOOKS = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
IGNORED = "nbval-ignore-output"
WIDGETS = re.compile(r"^(?:your_sound|playground|calculator|guess_caption|explore_labels)\(", re.M)
"""Cells that end in something to play with: their functions are tested without a notebook."""

each = pytest.mark.parametrize("name", BOOKS)


def code_cells(name):
    return [cell for cell in BOOKS[name]["cells"] if cell["cell_type"] == "code"]


def text_of(cell):
    return "".join(cell["source"])


@each
def test_executed_top_to_bottom_without_errors(name):
    cells = code_cells(name)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell["outputs"] if out["output_type"] == "error"]


def test_most_outputs_are_really_compared():
    showing = [cell for name in BOOKS for cell in code_cells(name) if cell["outputs"]]
    compared = [cell for cell in showing if IGNORED not in cell["metadata"].get("tags", [])]
    assert len(compared) >= 0.6 * len(showing), f"{len(compared)} of {len(showing)}"


@each
def test_what_is_not_compared_is_asserted_later(name):
    """After every cell whose output may differ there is one that states what must hold."""
    cells = code_cells(name)
    for number, cell in enumerate(cells):
        if IGNORED in cell["metadata"].get("tags", []) and not WIDGETS.search(text_of(cell)):
            later = "\n".join(text_of(other) for other in cells[number + 1 :])
            assert "assert " in later or "profile.expect(" in later or number == len(cells) - 1, (
                f"cell {number}: nothing is asserted afterwards"
            )


@each
def test_assertions_say_what_was_expected_and_what_was_found(name):
    """An `AssertionError` without words tells a learner nothing."""
    for cell in code_cells(name):
        asserted = [node for node in ast.walk(ast.parse(text_of(cell))) if isinstance(node, ast.Assert)]
        assert all(node.msg for node in asserted), text_of(cell)


@each
def test_pictures_have_alternative_text_and_outputs_hold_no_paths(name):
    private = re.compile(r"/(?:work|root|tmp)/[\w.-]|/home/\w|/Users/")
    for cell in code_cells(name):
        for out in cell["outputs"]:
            data = out.get("data", {})
            if "image/png" in data:  # a picture shows its description in HTML, and is never without it
                assert len(out["metadata"]["image/png"]["alt"]) > 20
            for picture in re.findall(r"<img [^>]*>", "".join(data.get("text/html", ""))):
                assert len(re.search(r'alt="([^"]*)"', picture)[1]) > 20
            assert ("image/png" in data) <= ("<img " in "".join(data.get("text/html", "")))
            assert not private.search(json.dumps(out.get("text", out.get("data", {}).get("text/plain", ""))))


@each
def test_first_and_last_cells(name):
    first, last = text_of(BOOKS[name]["cells"][0]), text_of(BOOKS[name]["cells"][-1])
    assert re.match(r"# \d+ · ", first) and "Time:" in first and "By the end you can" in first
    assert "What you can do now" in last
    goals, answers = (len(re.findall(r"^- ", text.split("### ")[0], flags=re.M)) for text in (first, last))
    assert goals == answers, "the recap answers each goal"


def test_each_notebook_leads_to_the_next():
    names = list(BOOKS)
    for name, following in zip(names, names[1:], strict=False):
        assert f"]({following}.ipynb)" in text_of(BOOKS[name]["cells"][-1])


@each
def test_cells_are_short_and_branch_on_no_profile(name):
    for number, cell in enumerate(code_cells(name)):
        source = text_of(cell)
        assert source.count("\n") < 20, f"cell {number} has {source.count(chr(10)) + 1} lines"
        assert not re.search(r"profile\.name\s*[=!]=|environ\W+(?:get\W+)?COURSE_PROFILE", source)
        ast.parse(source)


def test_no_cell_uses_a_name_that_no_cell_makes():
    """A merge of two branches has lost one, without a conflict."""
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=F821",
                           "--output-format=concise", "notebooks"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode in (0, 1), done.stderr
    deleted = {target.id for name in BOOKS for cell in code_cells(name) for node in ast.walk(ast.parse(text_of(cell)))
               if isinstance(node, ast.Delete) for target in node.targets if isinstance(target, ast.Name)}
    unknown = set(re.findall(r"Undefined name `(\w+)`", done.stdout))
    assert unknown <= deleted, done.stdout  # ruff counts a name as gone that the last cells delete


@each
def test_notebooks_are_small(name):
    assert (ROOT / "notebooks" / f"{name}.ipynb").stat().st_size < 1_000_000


def test_all_eleven_places_where_the_guide_breaks_are_taught():
    """Where a learner would hit them (the numbers are those of ../shared/FACTS.md)."""
    taught = {
        1: ("03_train_with_lora", "careless.unload()"),
        2: ("02_collate_conversations", "output_labels"),
        3: ("05_use_a_pipeline", "except KeyError"),
        4: ("04_caption_new_audio", "inputs.to(tower.device, tower.dtype)"),
        5: ("03_train_with_lora", "torch.bfloat16"),
        6: ("03_train_with_lora", "bf16=True"),
        7: ("01_load_audio_captions", "Audio(decode=False)"),
        8: ("02_collate_conversations", "processor_kwargs"),
        9: ("02_collate_conversations", "logits_to_keep"),
        10: ("04_caption_new_audio", "GREEDY.get(knob)"),
        11: ("02_collate_conversations", "(trained == ids)"),
    }
    for number, (name, needle) in taught.items():
        assert any(needle in text_of(cell) for cell in code_cells(name)), number


def test_every_question_is_answered_where_the_list_says():
    """docs/questions.md: each row names a heading that is there."""
    rows = re.findall(r"^\| (.+?) \| \[[^\]]+\]\(\.\./([^)]+)\) \| (.+) \|$",
                      (ROOT / "docs" / "questions.md").read_text(encoding="utf-8"), re.M)
    assert len(rows) == 16
    for question, file, heading in rows:
        cells = BOOKS[Path(file).stem]["cells"] if file.endswith(".ipynb") else None
        texts = ([text_of(cell) for cell in cells if cell["cell_type"] == "markdown"] if cells
                 else [(ROOT / file).read_text(encoding="utf-8")])
        assert any(re.search(rf"^#+ {re.escape(heading)}$", text, re.M) for text in texts), question


def test_exercises_in_every_notebook_that_has_checks():
    """Two to four in each of the notebooks 01 to 09, each with a hint and a solution folded away."""
    for name in list(BOOKS)[:9]:
        folded = [text_of(cell) for cell in BOOKS[name]["cells"] if "<summary>Solution</summary>" in text_of(cell)]
        assert 2 <= len(folded) <= 4, name
        assert all("<summary>Hint</summary>" in text for text in folded), name


@each
def test_every_notebook_names_further_reading(name):
    last = text_of(BOOKS[name]["cells"][-1])
    assert len(re.findall(r"^- .*\S", last.split("### Further reading")[1], flags=re.M)) >= 3


def test_the_clinics_cases_and_wards_are_all_announced():
    """A heading was once cut out together with the text before it."""
    cells = json.loads((ROOT / "notebooks/08_debug_training.ipynb").read_text(encoding="utf-8"))["cells"]
    text = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    assert [int(number) for number in re.findall(r"^### (\d+)\. ", text, re.M)] == list(range(1, 25))
    assert re.findall(r"^## Ward (\w)", text, re.M) == list("ABCDE")
