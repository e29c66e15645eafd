"""The shipped model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from helpers import load_captions
from helpers.captioning.captions import caption
from helpers.model import loading
from helpers.model.architecture import TINY_FOLDER
from helpers.tiny import NEW_SOUNDS, captions
from helpers.tiny.pretraining.clips import NAMES
from helpers.tiny.scenes import Event, Scene
from helpers.tiny.sounds import SYNTHESIZERS
from tools.pretrain import exact_answers, frame_targets, in_style, learning_rate, parser, tokenize


def test_the_shipped_weights_are_small_and_no_pickle(base_model):
    assert base_model.num_parameters() <= 6_000_000
    assert sum(file.stat().st_size for file in TINY_FOLDER.iterdir()) <= 12_000_000
    assert not [file for file in TINY_FOLDER.iterdir() if file.suffix in {".bin", ".pt", ".pth", ".pkl"}]
    assert type(base_model).__name__ == "AudioFlamingo3ForConditionalGeneration"
    assert type(base_model).__module__.startswith("transformers.")


def test_the_base_hears_and_answers_but_does_not_caption(base_model, processor):
    """On clips of the test split without new sounds; two sounds at once are what it does worst."""
    drawn = [
        Scene(row["audio"]["array"], tuple(Event(**event) for event in row["events"]), row["relation"])
        for row in load_captions("tiny", "test").take(120)
    ]
    clips = [scene for scene in drawn if not set(scene.labels) & set(NEW_SOUNDS)]
    assert exact_answers(base_model, processor, clips, captions.DESCRIBE_PROMPT) >= 0.80
    assert exact_answers(base_model, processor, clips, captions.TAGS_PROMPT) >= 0.75
    assert in_style(base_model, processor, clips) == 0.0


def test_the_base_names_no_new_sound_and_is_wrong_fluently(base_model, processor):
    rows = [row for row in load_captions("tiny", "test").take(80)
            if {event["label"] for event in row["events"]} & set(NEW_SOUNDS)]
    answers = caption(base_model, processor, [row["audio"] for row in rows], batch_size=32)
    named = [set(captions.mentioned_labels(answer)) for answer in answers]
    assert sum(bool(labels & set(NEW_SOUNDS)) for labels in named) <= 0.05 * len(rows)
    assert sum(bool(labels) for labels in named) >= 0.9 * len(rows), "it answers, with a sound that it knows"
    assert all(answer.startswith("The audio clip") for answer in answers)


def test_every_sound_tells_itself_from_every_other():
    """The encoder's tags on clips of a single sound, written down by the recipe."""
    table = json.loads((TINY_FOLDER / "confusions.json").read_text())
    assert list(table) == list(SYNTHESIZERS)
    for label, heard in table.items():
        others = [share for other, share in heard.items() if other != label]
        assert heard[label] >= 0.95 and max(others, default=0) <= 0.1, (label, heard)


def test_the_written_result_of_pretraining_meets_the_bars():
    result = json.loads((TINY_FOLDER / "pretraining.json").read_text())
    assert result["exact_long_answers"] >= 0.85 and result["exact_tags"] >= 0.8
    assert result["captions_in_audiocaps_style"] == 0.0


def test_the_shipped_weights_are_what_the_recipe_makes_within_its_time():
    written, recipe = json.loads((TINY_FOLDER / "pretraining.json").read_text()), vars(parser().parse_args([]))
    for name in ("clips", "encoder_steps", "answer_steps"):
        assert written[name] == recipe[name], name
    assert "2 threads" in written["machine"] and written["total_seconds"] <= 45 * 60


def test_the_base_samples_by_habit_as_the_hub_checkpoint_does(base_model):
    config = base_model.generation_config
    assert config.do_sample and config.temperature == 0.7 and config.repetition_penalty == 1.05


def test_the_recorded_base_is_a_path_that_exists_and_names_no_machine(base_model):
    assert not Path(base_model.name_or_path).is_absolute() and Path(base_model.name_or_path).is_dir()


def test_frame_targets_of_the_warm_up():
    scene = Scene(None, (Event("dog", 0.0, 0.4), Event("applause", 0.4, 0.8)), "sequence")
    target = frame_targets(scene, 25)
    assert target[:10, 0].all() and not target[10:, 0].any()
    assert target[10:20, NAMES.index("applause")].all() and target.sum() == 20


def test_pretraining_masks_labels_as_the_collator_does(processor, test_clips):
    from helpers import AudioFlamingo3DataCollator

    clip = test_clips[0]
    batch = AudioFlamingo3DataCollator(processor, trim_logits=False)([clip])
    frames = int((batch["input_ids"] == processor.audio_token_id).sum())
    chat = [{"role": "user", "content": [{"type": "text", "text": "Describe the audio."}, {"type": "audio"}]},
            {"role": "assistant", "content": [{"type": "text", "text": clip["caption"]}]}]
    ids, labels = tokenize(processor, chat, frames)
    assert ids == batch["input_ids"][0].tolist() and labels == batch["labels"][0].tolist()


def test_learning_rate_warms_up_and_comes_down():
    rates = [learning_rate(step, 100, 1.0, 10) for step in range(100)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and rates[-1] < 0.03
    assert rates[:10] == sorted(rates[:10]) and rates[10:] == sorted(rates[10:], reverse=True)


def test_from_another_drive_of_windows_the_tiny_base_keeps_its_whole_path(monkeypatch):
    def other_drive(path):
        raise ValueError("path is on mount 'D:', start on mount 'C:'")

    assert not Path(loading._relative(TINY_FOLDER)).is_absolute()
    monkeypatch.setattr(loading.os.path, "relpath", other_drive)
    assert loading._relative(TINY_FOLDER) == TINY_FOLDER.as_posix()
