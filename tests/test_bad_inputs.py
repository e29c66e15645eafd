"""Bad numbers, environments, models, adapters, places and options: each is refused by one sentence."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest
from planted import one_sentence

from helpers import (
    AdapterError,
    TrainingError,
    adapter_record,
    check_adapter,
    get_profile,
    load_model,
    load_processor,
    make_trainer,
)
from helpers import train as command
from helpers.model.loading import NoSuchModel
from helpers.training.saving import check_place

CHANGES = [
    {"nothing": 1}, {"license": None}, {"max_steps": 0}, {"max_steps": -1}, {"max_steps": 2.5}, {"max_steps": "9"},
    {"max_steps": None}, {"max_steps": True}, {"max_steps": math.inf}, {"batch_size": 0},
    {"gradient_accumulation_steps": 0},
    {"logging_steps": 0}, {"eval_steps": 0}, {"save_steps": 0}, {"train_clips": 0}, {"eval_clips": 0},
    {"test_clips": -3},
    {"caption_batch_size": 0}, {"lora_rank": 0}, {"lora_rank": 1.5}, {"lora_alpha": 0}, {"lora_dropout": 1},
    {"lora_dropout": -0.1},
    {"learning_rate": 0}, {"learning_rate": -1e-4}, {"learning_rate": math.nan}, {"learning_rate": 1000},
    {"learning_rate": "1e-4"},
    {"warmup_steps": -1}, {"warmup_steps": 301}, {"max_steps": 5, "warmup_steps": 6}, {"gradient_checkpointing": 1},
    {"gradient_checkpointing": "no"}, {"needs_gpu": None}, {"model_id": ""}, {"model_id": None}, {"dataset_id": 3},
    {"dataset_id": " "}, {"least_disk_gb": -1},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_bad_numbers_to_play_with(changes):
    with pytest.raises(ValueError, match="|".join(changes)) as caught:
        get_profile(**changes)
    one_sentence(caught.value)


@pytest.mark.parametrize("name, value", [
    ("COURSE_PROFILE", "huge"), ("COURSE_PROFILE", "Tiny"), ("COURSE_PROFILE", "tiny "), ("COURSE_TRIAL", "max_steps"),
    ("COURSE_TRIAL", "max_steps=0"), ("COURSE_TRIAL", "max_steps=1e9999"), ("COURSE_TRIAL", "max_steps=[1]"),
    ("COURSE_TRIAL", "eval_clips=0"), ("COURSE_TRIAL", "learning_rate=null"), ("COURSE_TRIAL", "needs_gpu=1"),
    ("COURSE_TRIAL", "=3"), ("COURSE_TRIAL", "max_steps = 3"), ("COURSE_TRIAL", "model_id="),
    ("COURSE_TRIAL", "__class__=x"),
    ("COURSE_TRIAL", "max_steps=3 warmup_steps=9"),
])
def test_a_bad_environment(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as caught:
        get_profile()
    one_sentence(caught.value)


def test_play_stands_beside_a_trial_and_both_beside_the_real_one(monkeypatch):
    real, play = get_profile("tiny"), get_profile(lora_rank=4, max_steps=50)
    assert (play.lora_rank, play.max_steps, play.learning_rate) == (4, 50, real.learning_rate)
    assert not play.measured and play == get_profile(max_steps=50, lora_rank=4) and get_profile(lora_rank=16) == real
    monkeypatch.setenv("COURSE_TRIAL", "max_steps=8")
    trial, both = get_profile(), get_profile(lora_rank=4)
    assert (trial.max_steps, trial.warmup_steps, both.max_steps, both.lora_rank) == (8, 4, 8, 4)
    folders = {profile.adapter for profile in (real, play, trial, both, get_profile(lora_rank=8))}
    assert len(folders) == 5


def test_a_relative_folder_for_results_means_the_same_everywhere(tmp_path):
    import subprocess
    import sys

    root = Path(__file__).resolve().parent.parent
    code = f"import sys; sys.path.insert(0, {str(root)!r}); from helpers.profiles import RUNS; print(RUNS)"
    for value, expected in (("results", root / "results"), ("", root / "runs"), (str(tmp_path), tmp_path),
                            ("~/results", Path.home() / "results")):
        for folder in (tmp_path, root / "notebooks"):
            said = subprocess.run([sys.executable, "-c", code], cwd=folder, env={**os.environ, "COURSE_RUNS": value},
                                  capture_output=True, text=True, check=True).stdout
            assert Path(said.strip()) == expected


NO_MODELS = ["nope", "", " ", None, 3, "a/b/c", "~/models", "./missing", "/missing", "tiny/", ["tiny"], "empty",
             "broken", "bert",
             "list", "file"]


@pytest.fixture
def models(tmp_path):
    """Folders that hold no AF3."""
    for name, content in {"empty": None, "broken": "{", "bert": json.dumps({"model_type": "bert"}),
                          "list": "[]"}.items():
        (tmp_path / name).mkdir()
        if content is not None:
            (tmp_path / name / "config.json").write_text(content)
    (tmp_path / "file").write_text("x")
    return tmp_path


@pytest.mark.parametrize("model_id", NO_MODELS, ids=repr)
def test_what_is_no_model_is_refused_at_once(models, monkeypatch, model_id):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    made = isinstance(model_id, str) and model_id and (models / model_id.strip("/")).exists() and "." not in model_id
    source = str(models / model_id) if made and model_id.isalpha() else model_id
    for load in (load_model, load_processor):
        with pytest.raises(NoSuchModel) as caught:
            load(source)
        one_sentence(caught.value)


def test_a_revision_is_for_the_hub():
    for load in (load_model, load_processor):
        with pytest.raises(ValueError, match="only models of the Hub have revisions"):
            load("tiny", revision="main")


def test_code_beside_a_processor_is_neither_run_nor_asked_about(processor, tmp_path, monkeypatch):
    processor.save_pretrained(tmp_path)
    for name in ("processor_config.json", "tokenizer_config.json"):
        content = json.loads((tmp_path / name).read_text())
        content["auto_map"] = {"AutoProcessor": "evil.Evil", "AutoTokenizer": ["evil.Evil", None]}
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "evil.py").write_text("raise SystemExit('run')")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    assert type(load_processor(str(tmp_path))).__name__ == "AudioFlamingo3Processor"


@pytest.mark.parametrize("folder", [None, 3, "", "missing", ["x"], "file.txt", b"x"], ids=repr)
def test_what_is_no_adapter(base_model, tmp_path, folder):
    (tmp_path / "file.txt").write_text("x")
    source = tmp_path / folder if isinstance(folder, str) and folder else folder
    for look in (lambda: check_adapter(base_model, source), lambda: adapter_record(source)):
        with pytest.raises(AdapterError) as caught:
            look()
        one_sentence(caught.value)


def test_nothing_else_is_replaced_by_an_adapter(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("mine")
    for name, message in (("file", "is a file"), ("photos", r"holds something else than an adapter \(cat.jpg, for "
                                                            r"one\)")):
        with pytest.raises(AdapterError, match=message) as caught:
            check_place(tmp_path / name)
        one_sentence(caught.value)
    check_place(tmp_path / "new")


@pytest.mark.parametrize("clips", [{"train": []}, {"train": [{"audio": None, "caption": "x"}], "evaluation": []}],
                         ids=["train", "evaluation"])
def test_runs_without_clips(processor, tmp_path, clips):
    with pytest.raises(TrainingError, match="There are no clips to") as caught:
        make_trainer(get_profile("tiny"), None, processor, tmp_path, **clips)
    one_sentence(caught.value)


@pytest.mark.parametrize("arguments, words", [
    (["--steps", "0"], "at least 1 step"), (["--steps", "-5"], "at least 1 step"), (["--steps", "x"], "invalid int"),
    (["--steps"], "expected one argument"), (["--profile", "huge"], "invalid choice"),
    (["--output", "FILE"], "is a file"),
    (["--nothing"], "unrecognized arguments"), (["--push", "mine"], "needs a login"), (["--push"], "no name to share"),
    (["extra"], "unrecognized arguments"),
])
def test_bad_options_of_the_command(capsys, tmp_path, arguments, words):
    (tmp_path / "FILE").write_text("x")
    with pytest.raises(SystemExit) as caught:
        command.read_options([str(tmp_path / "FILE") if part == "FILE" else part for part in arguments])
    assert caught.value.code == 2 and words in capsys.readouterr().err
