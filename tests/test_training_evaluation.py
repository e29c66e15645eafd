"""Captions during training, the pictures of them, the upload button, and references gathered by clip."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
import soundfile
from datasets import Dataset
from transformers import set_seed

from helpers import (
    CaptionEvaluation,
    cider_d,
    event_scores,
    get_profile,
    group_references,
    load_captions,
    plot_bars,
    plot_curve,
    plot_intervals,
)
from helpers.audio.captions import DecodedAudio
from helpers.metrics.intervals import Interval
from helpers.tiny.captions import EVENTS
from helpers.training.recipe import make_trainer


# ------------------------------------------------------------------------------------------------ during training
@pytest.fixture(scope="module")
def watched(processor, tmp_path_factory):
    """A run of four steps with an evaluation every other step."""
    from helpers import load_model

    profile = dataclasses.replace(
        get_profile("tiny"), max_steps=4, train_clips=16, eval_clips=4, batch_size=4, eval_steps=2
    )
    clips = list(load_captions("tiny", "validation").take(5))
    set_seed(0)  # an adapter's first matrices are random
    watcher = CaptionEvaluation(processor, clips, EVENTS, batch_size=5, max_new_tokens=20)
    trainer = make_trainer(
        profile,
        load_model(quiet=True),
        processor,
        tmp_path_factory.mktemp("run"),
        callbacks=[watcher],
        logging_steps=1,
        save_strategy="no",
        disable_tqdm=True,
        warmup_steps=0,
    )
    trainer.train()
    return trainer, watcher, clips


def test_the_metric_stands_beside_the_loss(watched):
    trainer, watcher, clips = watched
    rows = [row for row in trainer.state.log_history if "eval_loss" in row]
    assert [row["step"] for row in rows] == [2, 4] and len(watcher.captions) == 2
    for row, texts in zip(rows, watcher.captions, strict=True):
        assert row["eval_cider_d"] == pytest.approx(cider_d(texts, [[clip["caption"]] for clip in clips]).mean())
        assert row["eval_event_f1"] == pytest.approx(event_scores(texts, clips, EVENTS).f1)


def test_evaluate_returns_the_metric_and_training_goes_on_as_before(watched):
    trainer, watcher, _ = watched
    metrics = trainer.evaluate()
    assert {"eval_loss", "eval_cider_d", "eval_event_f1"} <= set(metrics)
    assert watcher.captions[-1] == watcher.captions[-2], "greedy: the same model says the same"
    assert trainer.state.log_history[-1]["eval_cider_d"] == metrics["eval_cider_d"]


@pytest.mark.slow
def test_captioning_on_the_way_does_not_change_the_training(processor, watched, tmp_path):
    from helpers import load_model

    profile = dataclasses.replace(
        get_profile("tiny"), max_steps=4, train_clips=16, eval_clips=4, batch_size=4, eval_steps=2
    )
    set_seed(0)
    alone = make_trainer(profile, load_model(quiet=True), processor, tmp_path, logging_steps=1, save_strategy="no",
                         disable_tqdm=True, warmup_steps=0)
    alone.train()
    losses = [[row["loss"] for row in trainer.state.log_history if "loss" in row] for trainer in (alone, watched[0])]
    assert losses[0] == pytest.approx(losses[1])


def test_one_clip_is_too_few(processor, test_clips):
    with pytest.raises(ValueError, match="1 clips to caption.*at least two"):
        CaptionEvaluation(processor, test_clips[:1], EVENTS)


def test_the_curve_shows_loss_and_metric(watched):
    history = watched[0].state.log_history
    with_scores = plot_curve(history)
    plain = plot_curve(
        [{key: value for key, value in row.items() if key not in ("eval_cider_d", "eval_event_f1")} for row in history]
    )
    assert "CIDEr-D of the captions goes from" in with_scores.alt and "CIDEr-D" not in plain.alt
    assert _height(with_scores) > 1.5 * _height(plain)


def _height(image) -> int:
    return int.from_bytes(image.png[20:24], "big")  # a PNG's header: width, then height


def test_intervals_as_a_picture():
    image = plot_intervals({"quiet": Interval(0.5, 0.4, 0.6), "loud": Interval(0.8, 0.7, 0.9)}, "event F1")
    assert image.alt == "event F1: quiet 0.50 [0.40, 0.60]; loud 0.80 [0.70, 0.90]."
    with pytest.raises(ValueError, match="no intervals"):
        plot_intervals({}, "event F1")


def test_bars_say_their_shares():
    image = plot_bars({"forward": 3.0, "backward": 1.0}, "seconds", "one step")
    assert image.alt == "one step: seconds: forward 3 (75%); backward 1 (25%)."
    with pytest.raises(ValueError, match="no bars"):
        plot_bars({"forward": 0.0}, "seconds")


# ----------------------------------------------------------------------------------------------------- references
def _row(clip, caption, start=30):
    file = io.BytesIO()
    soundfile.write(file, np.full(3200, 0.1 + 0.01 * clip), 16_000, format="FLAC")
    return {"audiocap_id": 100 + clip, "youtube_id": f"video{clip}", "start_time": start, "caption": caption,
            "audio": {"bytes": file.getvalue(), "path": f"{clip}.flac"}}


def test_five_rows_a_clip_become_one_example(monkeypatch):
    """Laid out as AudioCaps' test split is: one row a caption, the rows of a clip anywhere in the split."""
    rows = [_row(clip, f"Caption {number} of {clip}") for number in range(5) for clip in (2, 0, 1)]
    stream = Dataset.from_list(rows).to_iterable_dataset().cast_column("audio", DecodedAudio())
    decoded = []
    real = DecodedAudio.decode_example
    monkeypatch.setattr(DecodedAudio, "decode_example", lambda self, value, **_: decoded.append(1) or real(self, value))
    clips = group_references(stream)
    assert [clip["youtube_id"] for clip in clips] == ["video2", "video0", "video1"]
    assert clips[1]["references"] == [f"Caption {number} of 0" for number in range(5)]
    assert clips[0]["caption"] == "Caption 0 of 2" and clips[0]["audio"]["array"].shape == (3200,)
    assert len(decoded) == 3, "once a clip, not once a caption"
    first = group_references(stream, clips=1)
    assert len(first) == 1 and len(first[0]["references"]) == 5


def test_another_start_is_another_clip_and_plain_rows_stand_alone():
    assert len(group_references([_row(0, "One"), _row(0, "Two", start=60)])) == 2
    rows = [{"caption": "A hum", "audio": {"array": np.zeros(3200, np.float32), "sampling_rate": 16_000}}] * 2
    assert [clip["references"] for clip in group_references(rows)] == [["A hum"], ["A hum"]]


def test_the_tiny_test_split_has_five_references():
    clips = group_references(load_captions("tiny", "test"), clips=7)
    assert len(clips) == 7 and all(
        len(set(clip["references"])) == 5 and clip["caption"] in clip["references"] for clip in clips
    )
