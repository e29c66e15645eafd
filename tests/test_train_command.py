"""``python -m helpers.train``: the recipe of the notebook as a command, in one process."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from short_run import LOGGED, SHORT, log_of

from helpers import HubError, NotEnoughMemory, UnknownModel, get_profile, load_model, profiles, train
from helpers.training.recipe import make_trainer, save_adapter
from helpers.training.resume import MARKER

pytestmark = pytest.mark.usefixtures("one_thread")


# --------------------------------------------------------------------------------------------------------- options
@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--profile", "huge"], "invalid choice: 'huge'"),
        (["--steps", "0"], "--steps is 0: a run takes at least 1 step."),
        (["--steps", "many"], "invalid int value: 'many'"),
        (["--push"], "The tiny profile has no name to share the adapter under: give one"),
        (["--push", "mine"], "--push needs a login: run `hf auth login` first"),
        (["--epochs", "3"], "unrecognized arguments: --epochs 3"),
        (["--data", ""], "--data is empty: name a folder"),
        (["--data", " "], "--data is empty: name a folder"),
    ],
)
def test_a_bad_option_gets_one_sentence(options, sentence, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--output", str(tmp_path / "run"), *options])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and sentence in error.splitlines()[-1] and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_bad_data_gets_one_sentence(short, tmp_path, capsys):
    output = ["--output", str(tmp_path / "run")]
    assert train.main([*output, "--data", str(tmp_path / "nowhere")]) == 1
    assert train.main([*output, "--data", str(tmp_path)]) == 1
    first, second = [line for line in capsys.readouterr().err.splitlines() if line.startswith("helpers.train: ")]
    assert "There is no folder" in first and "has no metadata.csv" in second


@pytest.mark.parametrize("option, value, sentence", [
    ("--data", "FILE", "There is no folder"), ("--data", "a\0b", "There is no folder"),
    ("--data", "a/b/c", "There is no folder"), ("--output", "FILE/run", "cannot be made or written to"),
    ("--output", "a\0b", "cannot be made or written to"),
])
def test_a_bad_place_is_named_before_anything_large_is_loaded(tmp_path, monkeypatch, capsys, option, value, sentence):
    for load in ("load_model", "load_processor"):
        monkeypatch.setattr(f"helpers.model.loading.{load}", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "file").touch()
    place = value.replace("FILE", str(tmp_path / "file"))
    arguments = {"--output": str(tmp_path / "run")} | {option: place}
    assert train.main([part for pair in arguments.items() for part in pair]) == 1
    error = capsys.readouterr().err.strip()
    assert error.startswith("helpers.train: ") and sentence in error and "\n" not in error


def test_a_file_as_output_and_a_profile_from_the_environment(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        train.read_options(["--output", str(tmp_path / "file")])
    assert "--output file is a file" in capsys.readouterr().err
    monkeypatch.setenv("COURSE_PROFILE", "full")
    options, profile = train.read_options(["--steps", "7", "--data", "someone/clips"])
    assert profile == dataclasses.replace(get_profile("full"), max_steps=7, dataset_id="someone/clips")
    assert options.output == profile.runs


# ---------------------------------------------------------------------------------------------------- one process
def test_the_command_is_the_recipe(alone, processor, tmp_path):
    profile = dataclasses.replace(get_profile("tiny"), **{**SHORT, "batch_size": 4})
    trainer = make_trainer(profile, load_model(quiet=True), processor, tmp_path / "checkpoints", disable_tqdm=True)
    trainer.train()
    expected = save_adapter(trainer, processor, tmp_path / "adapter")
    for name in ("adapter_model.safetensors", "adapter_config.json", "chat_template.jinja"):
        assert (alone / "adapter" / name).read_bytes() == (expected / name).read_bytes()
    assert not [path for path in (alone / "adapter").iterdir() if path.suffix in {".bin", ".pt", ".pth"}]
    assert "## Metrics" in (alone / "adapter" / "README.md").read_text(encoding="utf-8"), "the model card"


def test_a_begun_run_is_not_written_over_and_a_finished_one_not_trained_further(alone, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        profiles.PROFILES, "tiny", dataclasses.replace(get_profile("tiny"), **{**SHORT, "batch_size": 4})
    )
    output = shutil.copytree(alone, tmp_path / "run")
    shutil.rmtree(output / "adapter")
    options = ["--profile", "tiny", "--output", str(output)]
    with pytest.raises(SystemExit):
        train.main(options)
    assert (
        "'run' holds checkpoints of an earlier run: go on from its last whole one with --resume"
        in capsys.readouterr().err
    )
    assert train.main([*options, "--resume"]) == 0
    assert "from checkpoint-2 on." in capsys.readouterr().out
    assert (output / "adapter" / "adapter_model.safetensors").read_bytes() == (
        alone / "adapter" / "adapter_model.safetensors"
    ).read_bytes()
    assert (output / "adapter" / "README.md").read_text() == (alone / "adapter" / "README.md").read_text(), (
        "with metrics"
    )
    (output / "checkpoints" / "checkpoint-2" / MARKER).unlink()
    assert train.main([*options, "--resume"]) == 0
    assert "from checkpoint-1 on." in capsys.readouterr().out and log_of(output) == log_of(alone)


def test_a_folder_of_own_clips_is_trained_on_as_a_whole(short, test_clips, tmp_path, capsys):
    import soundfile

    for split, clips in (("train", test_clips[:3]), ("validation", test_clips[3:5])):
        (tmp_path / "own" / split).mkdir(parents=True)
        rows = []
        for number, clip in enumerate(clips):
            soundfile.write(tmp_path / "own" / split / f"{number}.wav", clip["audio"]["array"], 16_000)
            rows.append(json.dumps({"file_name": f"{number}.wav", "caption": clip["caption"]}))
        (tmp_path / "own" / split / "metadata.jsonl").write_text("\n".join(rows))
    assert train.main(["--data", str(tmp_path / "own"), "--steps", "2", "--output", str(tmp_path / "run")]) == 0
    assert log_of(tmp_path / "run").keys() == LOGGED
    assert "2 steps of 4 clips in 1 process, from the beginning." in capsys.readouterr().out
    card = (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "not published here" in card and "The data has terms of its own" in card


@pytest.mark.parametrize(
    "error", [HubError("The Hub is away: wait.", "unreachable"), NotEnoughMemory("Too large: shrink."),
              UnknownModel("No such class: choose one.")]
)
def test_what_loading_says_is_one_sentence_and_no_traceback(error, tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("helpers.model.loading.load_model", refuse)
    assert train.main(["--profile", "tiny", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"helpers.train: {error}\n"


def test_pushing_uploads_the_saved_folder(alone, monkeypatch):
    calls = []

    class Hub:
        def create_repo(self, name, private, exist_ok):
            assert private and exist_ok
            return type("Url", (str,), {"repo_id": f"me/{name}"})(f"hub.example/me/{name}")

        def upload_folder(self, repo_id, folder_path, commit_message):
            calls.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert train.push_adapter(alone / "adapter", "mine") == "hub.example/me/mine"
    assert calls == [("me/mine", sorted(path.name for path in (alone / "adapter").iterdir()))]
