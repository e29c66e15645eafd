"""The recipe: what notebook 03 writes out is what the helpers run; saving is all or nothing."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from helpers import AdapterError, ensure_adapter, event_scores, get_profile, load_captions
from helpers.metrics.events import reads_like_audiocaps
from helpers.profiles import PROFILES
from helpers.tiny.captions import EVENTS
from helpers.training.recipe import lora_config, make_trainer, save_adapter, training_arguments

ROOT = Path(__file__).resolve().parent.parent


def _notebook_values(model, profile) -> dict:
    """Run the two cells of notebook 03 that hold the recipe, and nothing else of it."""
    book = json.loads((ROOT / "notebooks" / "03_train_with_lora.ipynb").read_text(encoding="utf-8"))
    cells = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    (lora,) = [cell for cell in cells if "lora_dropout=" in cell]
    (arguments,) = [cell for cell in cells if "arguments = TrainingArguments(" in cell]
    from peft import LoraConfig
    from transformers import TrainingArguments

    from helpers import choose_checkpointing, precision_arguments

    names = {"LoraConfig": LoraConfig, "TrainingArguments": TrainingArguments, "profile": profile, "model": model,
             "precision_arguments": precision_arguments, "checkpointing": choose_checkpointing(model, profile)[0]}
    exec(lora[lora.index("lora = ") : lora.index("model = get_peft_model")], names)
    exec(arguments, names)
    return names


@pytest.mark.parametrize("name", PROFILES)
def test_notebook_03_writes_out_the_recipe_that_the_helpers_run(base_model, name, tmp_path):
    profile = get_profile(name)
    written = _notebook_values(base_model, profile)
    assert written["lora"].to_dict() == lora_config(profile).to_dict()
    ours = training_arguments(profile, base_model, profile.runs / "checkpoints")
    different = {field.name for field in dataclasses.fields(ours)
                 if getattr(ours, field.name) != getattr(written["arguments"], field.name)}
    assert different <= {"logging_dir", "accelerator_config"}


def test_the_full_profile_holds_the_guides_numbers():
    """The numbers of the public guide, from ../shared/FACTS.md."""
    profile = get_profile("full")
    assert (profile.model_id, profile.dataset_id) == ("nvidia/audio-flamingo-3-hf", "OpenSound/AudioCaps")
    assert (profile.lora_rank, profile.lora_alpha, profile.lora_dropout) == (16, 32, 0.05)
    assert (profile.batch_size, profile.gradient_accumulation_steps, profile.learning_rate) == (4, 4, 1e-4)
    assert (profile.max_steps, profile.logging_steps, profile.eval_steps, profile.save_steps) == (500, 10, 100, 250)
    assert (profile.train_clips, profile.eval_clips, profile.gradient_checkpointing) == (1000, 100, True)


def test_an_unknown_profile_lists_the_known_ones(monkeypatch):
    with pytest.raises(ValueError, match="no profile 'huge'.*'tiny', 'full'"):
        get_profile("huge")
    monkeypatch.setenv("COURSE_PROFILE", "full")
    assert get_profile().name == "full"


@pytest.fixture
def short(tmp_path):
    return dataclasses.replace(get_profile("tiny"), max_steps=2, train_clips=8, eval_clips=8, batch_size=4)


def test_a_step_moves_the_adapter_and_nothing_else(model, processor, short, tmp_path):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    trainer = make_trainer(short, model, processor, tmp_path, disable_tqdm=True, eval_strategy="no", save_strategy="no",
                           warmup_steps=0)
    trainer.train()
    for name, parameter in trainer.model.base_model.model.named_parameters():
        if "lora_B" in name:
            assert parameter.abs().sum() > 0, f"{name} got no gradient"
        elif "lora_" not in name:
            assert torch.equal(parameter, before[name.replace(".base_layer", "")]), f"{name} is frozen"


def test_an_interrupted_save_leaves_the_old_adapter(model, processor, short, tmp_path, monkeypatch):
    trainer = make_trainer(short, model, processor, tmp_path / "checkpoints", disable_tqdm=True)
    folder = save_adapter(trainer, processor, tmp_path / "adapter")
    old = (folder / "adapter_model.safetensors").read_bytes()
    assert not (folder / "training_args.bin").exists(), "a pickle"
    monkeypatch.setattr(type(processor), "save_pretrained", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        save_adapter(trainer, processor, folder)
    assert (folder / "adapter_model.safetensors").read_bytes() == old
    assert [path.name for path in tmp_path.iterdir() if "saving" in path.name] == []


@pytest.mark.parametrize("refused", [1, 2])
def test_a_move_that_is_refused_loses_neither_adapter(model, processor, short, tmp_path, monkeypatch, refused):
    """As Windows refuses to move a folder in which another program has a file open."""
    trainer = make_trainer(short, model, processor, tmp_path / "checkpoints", disable_tqdm=True)
    folder = save_adapter(trainer, processor, tmp_path / "adapter")
    (folder / "mark").touch()
    moves, replace = [], Path.replace

    def refuse(self, target):
        if self.is_dir():
            moves.append(target)
            if len(moves) == refused:
                raise PermissionError(13, "in use")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(AdapterError, match=r"cannot take the place of 'adapter' \(in use\): close the programs"):
        save_adapter(trainer, processor, folder)
    assert (folder / "mark").exists(), "the old one is in its place"
    (fresh,) = tmp_path.glob("adapter.saving")
    assert (fresh / "adapter_model.safetensors").exists() and (fresh / "tokenizer.json").exists(), "the new one is kept"


def test_a_data_set_with_no_clips_to_spare_is_trained_on_whole(monkeypatch):
    from datasets import Dataset, SplitDict, SplitInfo

    from helpers.training import splits as training

    stream = Dataset.from_dict({"caption": ["A dog barks"] * 3}).to_iterable_dataset()
    stream.info.splits = SplitDict({"train": SplitInfo("train", num_examples=3)})
    monkeypatch.setattr(training, "load_captions", lambda *_, **__: stream)
    few = dataclasses.replace(get_profile("tiny"), dataset_id="somebody/few")
    train, evaluation = training.load_splits(few)
    assert len(list(train)) == 3 and evaluation is None
    train, evaluation = training.load_splits(dataclasses.replace(few, train_clips=2))
    assert len(list(train)) == 2 and len(list(evaluation)) == 1


def test_a_whole_split_of_the_hub_is_read_by_files(model, processor, short, tmp_path, monkeypatch):
    """Ten files, a step of two clips: two lanes, and the trainer takes a clip of each."""
    from helpers.audio.lanes import LaneStream
    from helpers.training import recipe

    monkeypatch.setattr(recipe, "load_splits", lambda profile, lanes: (load_captions("tiny", "train"), None))
    whole = dataclasses.replace(short, dataset_id="somebody/whole", batch_size=2, gradient_accumulation_steps=1)
    trainer = make_trainer(whole, model, processor, tmp_path, dataloader_num_workers=3, max_steps=1, save_strategy="no",
                           disable_tqdm=True)
    assert isinstance(trainer.train_dataset, LaneStream) and trainer.train_dataset.lanes == 2
    assert trainer.args.dataloader_num_workers == 1 and trainer.eval_dataset is None
    assert trainer.train().training_loss > 0


def test_a_saved_adapter_names_no_machine(model, processor, short, tmp_path):
    trainer = make_trainer(short, model, processor, tmp_path / "checkpoints", disable_tqdm=True)
    folder = save_adapter(trainer, processor, tmp_path / "adapter")
    for file in folder.iterdir():
        if file.suffix in {".json", ".md", ".jinja"}:
            assert str(ROOT) not in file.read_text(encoding="utf-8") and str(Path.home()) not in file.read_text(
                encoding="utf-8"
            )


@pytest.mark.slow
def test_a_missing_or_broken_adapter_is_trained_anew(short, tmp_path, monkeypatch, capsys):
    profile = dataclasses.replace(short, name="short")
    monkeypatch.setattr("helpers.profiles.RUNS", tmp_path)
    prepared = []
    folder = ensure_adapter(profile, lambda trainer: prepared.append(trainer) or trainer)
    assert "There is no adapter yet" in capsys.readouterr().out and prepared[0].state.global_step == profile.max_steps
    stamp = (folder / "adapter_model.safetensors").stat().st_mtime_ns
    assert ensure_adapter(profile) == folder and (folder / "adapter_model.safetensors").stat().st_mtime_ns == stamp
    (folder / "adapter_model.safetensors").write_bytes(b"half")
    ensure_adapter(profile)
    assert (folder / "adapter_model.safetensors").stat().st_size > 1000


# ---------------------------------------------------------------------------------------------------------- scores
def _truth(*labels, relation="sequence"):
    return {"events": [{"label": label} for label in labels], "relation": relation if len(labels) > 1 else "single"}


def test_event_scores_by_hand():
    texts = [
        "A dog barks followed by rain falling",
        "Rain falls followed by a dog barking",
        "A cat meows",
        "The audio clip is silent.",
    ]
    truths = [_truth("dog", "rain"), _truth("dog", "rain"), _truth("cat", "bell", relation="overlap"), _truth("siren")]
    scores = event_scores(texts, truths, EVENTS)
    assert scores.precision == 1.0 and scores.recall == pytest.approx(5 / 7) and scores.f1 == pytest.approx(10 / 12)
    assert scores.order == 0.5 and scores.style == 0.75


def test_event_scores_count_what_is_not_there_and_read_captions_without_truth():
    assert event_scores(["A cow moos"], [_truth("dog")], EVENTS).f1 == 0
    assert event_scores(["A dog barks"], [{"caption": "Several dogs are barking"}], EVENTS).f1 == 1
    with pytest.raises(ValueError, match="1 texts for 2 clips"):
        event_scores(["A dog barks"], [_truth("dog")] * 2, EVENTS)


@pytest.mark.parametrize(
    "text, like", [("A dog barks", True), ("The audio clip contains a dog.", False), ("dog, rain", False), ("", False)]
)
def test_what_reads_like_audiocaps(text, like):
    assert reads_like_audiocaps(text) is like


