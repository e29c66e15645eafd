"""Every exercise: its solution passes, its stub is "not tried", and typical wrong answers get the sentence meant for
them.

The solution stands once: in the notebook, folded away after the check. Exercises that no notebook has yet stand in
``tests/exercises``, in the same form.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from wrong_answers import WRONG

import helpers
from helpers.exercises import adapters

ROOT = Path(__file__).resolve().parent.parent
FOLDED = re.compile(r"<summary>Solution</summary>.*?```python\n(.*?)```", re.S)


def _cells_of_markdown(text: str) -> list[tuple[str, str]]:
    """As (kind, text): fences are code cells, except within ``<details>``."""
    cells = []
    for part in re.split(r"(<details>.*?</details>)", text, flags=re.S):
        pieces = [part] if part.startswith("<details>") else re.split(r"```python\n(.*?)```", part, flags=re.S)
        cells += [("code" if place % 2 else "markdown", piece) for place, piece in enumerate(pieces) if piece.strip()]
    return cells


def _exercises(cells: list[tuple[str, str]]) -> dict[str, tuple[str, str, str]]:
    """Name of the check -> (stub, check, solution)."""
    found, code = {}, []
    for kind, text in cells:
        if kind == "code":
            code.append(text)
        elif (
            (solution := FOLDED.search(text))
            and len(code) > 1
            and (called := re.search(r"^(check_\w+)\(", code[-1], re.M))
        ):
            found[called[1]] = (code[-2], code[-1], solution[1])
    return found


def _all_exercises() -> dict[str, tuple[str, str, str]]:
    found = {}
    for path in sorted((ROOT / "tests" / "exercises").glob("*.md")):
        found |= _exercises(_cells_of_markdown(path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        found |= _exercises([(cell["cell_type"], "".join(cell["source"])) for cell in cells])
    return found


EXERCISES = _all_exercises()
SLOW = {"check_deaf_student": pytest.mark.slow}
"""Trains 50 steps to know the answer."""


@pytest.fixture(scope="module")
def world(processor, base_model, tmp_path_factory):
    """What the cells around the exercises have in their notebooks."""
    import numpy as np
    from peft import get_peft_model

    from helpers.training.recipe import lora_config

    profile, vocabulary = helpers.get_profile("tiny"), helpers.load_vocabulary("tiny")
    clips = list(helpers.load_captions("tiny", "train").take(20))
    captions = [clip["caption"] for clip in clips]
    fair = [text if place % 5 else "A bell rings" for place, text in enumerate(captions)]
    worse = [text if place % 4 else "A dog barks" for place, text in enumerate(captions)]
    before, after = (helpers.event_counts(texts, clips, vocabulary) for texts in (fair, worse))
    folder = helpers.write_faulty_folder(tmp_path_factory.mktemp("faulty"), clips)
    adapted = get_peft_model(helpers.load_model(quiet=True), lora_config(profile))
    return {
        "np": np,
        "tokenizer": processor.tokenizer,
        "rate": 44_100,
        "curve_rates": helpers.curve_rates,
        "read_folder": helpers.read_folder,
        "faulty": folder,
        "small": profile,
        "test": clips,
        "events": vocabulary,
        "lists": {"base": captions, "tuned": worse},
        "some_clips": [clip["audio"]["array"] for clip in clips[:6]],
        "studio": np.random.default_rng(0).normal(0, 0.1, (44_100 * 3, 2)).astype("float32"),
        "processor": processor,
        "examples": clips[:4],
        "clips": clips,
        "clip": clips[0],
        "profile": profile,
        "vocabulary": vocabulary,
        "folder": folder,
        "model": adapted,
        "base_tags": captions,
        "tuned_tags": worse,
        "before_counts": before,
        "after_counts": after,
        "samples": [clip["audio"]["array"] for clip in clips],
        "boxes": helpers.black_boxes(lambda samples: helpers.caption(base_model, processor, samples), captions),
    }


def said(name: str, answer: str, world: dict, capsys) -> str:
    """What the exercise's own check cell prints of an answer."""
    _, check, solution = EXERCISES[name]
    space = dict(world)
    exec(answer.replace("{solution}", solution), space)
    capsys.readouterr()
    exec(check, space)
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_every_check_has_an_exercise_and_every_exercise_wrong_answers():
    checks = {
        name
        for name in helpers.__all__
        if helpers._HOME_OF[name].startswith("exercises.") and name.startswith("check_")
    }
    assert checks == set(EXERCISES) == set(WRONG)
    assert all(len(wrong) >= 2 for wrong in WRONG.values())


@pytest.mark.parametrize("name", WRONG)
def test_an_untouched_stub_is_not_tried(name, world, capsys):
    assert said(name, EXERCISES[name][0], world, capsys) == "Not tried yet."


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in WRONG])
def test_the_solution_is_right(name, world, capsys):
    assert said(name, "{solution}", world, capsys).startswith("Right: ")


@pytest.mark.parametrize(("name", "answer", "sentence"), [
    pytest.param(name, *wrong, marks=SLOW.get(name, ())) for name, answers in WRONG.items() for wrong in answers])
def test_wrong_answers_get_the_sentence_meant_for_them(name, answer, sentence, world, capsys):
    line = said(name, answer, world, capsys)
    assert line.startswith("Not yet: ") and sentence in line, line


def test_a_broken_answer_stops_nothing(world, capsys):
    assert "raised ZeroDivisionError" in said("check_f1_by_hand", "f1 = lambda named, there: 1 / 0", world, capsys)
    assert "returns nothing" in said("check_f1_by_hand", "def f1(named, there):\n    print(end='')", world, capsys)
    assert (
        said("check_f1_by_hand", "def f1(named, there):\n    raise NotImplementedError", world, capsys)
        == "Not tried yet."
    )
    assert "could not be looked at" in said("check_paired", "pair = ('a', 'b')", world, capsys)


def test_what_is_said_of_the_recorded_runs_is_true_of_them():
    """The clinic's reasons and the hints of "whose curve is it?", which a base made anew may contradict."""
    runs = adapters.recorded_runs()
    losses = {name: [point["loss"] for point in run["history"]] for name, run in runs.items()}
    fast, slow, healthy = (losses[name] for name in ("too fast", "too slow", "healthy"))
    assert fast[-1] > fast[0] and runs["too fast"]["commonest"] == "" and runs["too fast"]["different"] == 1
    assert min(losses.values(), key=lambda one: one[0]) is fast, "the fastest beginner"
    assert slow[-1] > 2 * healthy[-1] and slow[-1] < slow[-3] and 0.3 < runs["too slow"]["style"] < 0.95
    assert losses["shuffled"][0] > healthy[0], "a wrong caption surprises the base more"
    assert losses["shuffled"][-1] < 2 and runs["shuffled"]["style"] > 0.95 and runs["shuffled"]["f1"] < 0.2
    assert losses["too loud"] == healthy and runs["too loud"]["f1"] < 0.5 * runs["healthy"]["f1"]
