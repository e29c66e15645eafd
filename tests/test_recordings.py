"""The learner's own folder, from mixed files to a measured adapter."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
import soundfile
import soxr

from helpers import (
    CaptionError,
    bootstrap_interval,
    caption,
    cider_d,
    get_profile,
    load_captions,
    read_folder,
    split_by_source,
)
from helpers.audio.sources import source_of
from helpers.training.recipe import make_trainer, save_adapter

RATES = [8_000, 11_025, 16_000, 22_050, 32_000, 44_100, 48_000, 96_000]
SUFFIXES = [".wav", ".flac", ".ogg", ".mp3"]
LOSSY_RATES = {".mp3": (8_000, 48_000), ".ogg": (8_000, 96_000)}


def _write(path, samples, rate, stereo):
    wide = soxr.resample(samples, 16_000, rate)
    soundfile.write(path, np.stack([wide, 0.5 * wide], axis=1) if stereo else wide, rate)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """50 files: all formats, 8 to 96 kHz, mono and stereo, 0.2 s to 3 minutes; five of them are no good."""
    folder = tmp_path_factory.mktemp("own") / "recordings"
    folder.mkdir()
    clips = list(load_captions("tiny", "validation").take(50))
    rows = []
    for number, clip in enumerate(clips):
        suffix = SUFFIXES[number % 4]
        low, high = LOSSY_RATES.get(suffix, (8_000, 96_000))
        rate = min(max(RATES[number // 4 % 8], low), high)
        samples = clip["audio"]["array"]
        if number == 0:
            samples = samples[8000 : 8000 + 3200]  # 0.2 s
        if number == 1:
            samples = np.tile(samples, 60)[: 180 * 16_000]  # three minutes
        name = f"place{number // 3:02d}_{number}{suffix}"
        _write(folder / name, samples, rate, number % 3 == 0)
        rows.append({"file_name": name, "caption": clip["caption"]})
    broken = {number: rows[number]["file_name"] for number in (5, 12, 19, 26, 33)}
    (folder / broken[5]).write_bytes((folder / broken[5]).read_bytes()[:20])  # cut short
    (folder / broken[12]).write_text("not audio at all")
    soundfile.write(folder / broken[19], np.zeros(16_000), 16_000)  # silent from end to end
    rows[26]["caption"] = "  "
    (folder / broken[33]).unlink()
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["file_name", "caption"])
        table.writeheader()
        table.writerows(rows)
    return folder, broken


def test_the_report_names_exactly_the_broken_files_and_goes_on(folder):
    folder, broken = folder
    report = read_folder(folder, longest=60)
    assert set(report.problems) == set(broken.values())
    reasons = ["cannot be decoded", "cannot be decoded", "is silent", "has no caption", "is not in"]
    for name, reason in zip(broken.values(), reasons, strict=True):
        assert name in report.problems[name] and reason in report.problems[name]
        assert report.problems[name] in str(report)
    assert report.pieces == {"place00_1.flac": 3}
    assert len(report.clips) == 44 + 3 and f"{len(report.clips)} usable clips" in str(report)
    assert str(folder.parent) not in str(report), "no machine paths"
    for clip in report.clips:
        assert clip["audio"]["array"].dtype == np.float32 and clip["audio"]["sampling_rate"] == 16_000
    lengths = [len(clip["audio"]["array"]) / 16_000 for clip in report.clips]
    assert min(lengths) == pytest.approx(0.2, abs=0.01) and max(lengths) == pytest.approx(60, abs=0.1)


def test_from_a_folder_to_a_measured_adapter(folder, model, processor, tmp_path):
    """A few steps are enough to see that the whole way works; how good it gets is the notebook's part."""
    report = read_folder(folder[0], longest=12)
    train, held_out = split_by_source(report.clips)
    profile = dataclasses.replace(get_profile("tiny"), max_steps=6, batch_size=4)
    trainer = make_trainer(
        profile,
        model,
        processor,
        tmp_path / "checkpoints",
        train=train,
        warmup_steps=0,
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
    )
    trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(losses) == 6 and losses[-1] < losses[0]
    assert (save_adapter(trainer, processor, tmp_path / "adapter") / "adapter_model.safetensors").is_file()
    texts = caption(trainer.model, processor, [clip["audio"] for clip in held_out], max_new_tokens=30)
    measured = bootstrap_interval(cider_d(texts, [clip["references"] for clip in held_out]))
    assert len(texts) == len(held_out) and measured.low <= measured.value <= measured.high


def test_no_source_is_on_both_sides(folder):
    clips = read_folder(folder[0], longest=60).clips
    for seed in range(20):
        train, held_out = split_by_source(clips, seed=seed)
        assert not {clip["source"] for clip in train} & {clip["source"] for clip in held_out}
        assert len(train) + len(held_out) == len(clips) and 0.1 <= len(held_out) / len(clips) <= 0.2
    names = [clip["audio"]["path"] for clip in split_by_source(clips)[1]]
    again = [clip["audio"]["path"] for clip in split_by_source(clips[::-1])[1]]
    assert sorted(names) == sorted(again), "the order of the table does not matter"
    assert names != [clip["audio"]["path"] for clip in split_by_source(clips, seed=1)[1]]


def test_split_says_what_it_needs():
    clips = [{"source": "a"}] * 5
    with pytest.raises(ValueError, match="All 5 clips come from 1 source .a."):
        split_by_source(clips)
    with pytest.raises(ValueError, match="share is 20"):
        split_by_source(clips, share=20)
    train, held_out = split_by_source([*clips, {"source": "b"}, {"source": "b"}], share=0.1)
    assert [clip["source"] for clip in held_out] == ["b", "b"], "the smaller source, though it is more than the share"


@pytest.mark.parametrize(
    "name, source",
    [
        ("kitchen_01.wav", "kitchen"),
        ("kitchen-2.flac", "kitchen"),
        ("kitchen 3.mp3", "kitchen"),
        ("kitchen(4).ogg", "kitchen"),
        ("kitchen.wav", "kitchen"),
        ("day1/0007.wav", "day1/0007"),
        ("day1/dog2.wav", "day1/dog"),
        ("day2/dog2.wav", "day2/dog"),
    ],
)
def test_source_by_file_name(name, source):
    assert source_of(name) == source


def _small(folder, table, files=("a1.wav", "a2.wav", "b1.wav")):
    for name in files:
        soundfile.write(folder / name, 0.1 * np.sin(np.arange(8000)), 16_000)
    (folder / "metadata.csv").write_text(table, encoding="utf-8")
    return folder


def test_a_source_column_and_several_captions_of_a_file(tmp_path):
    table = "file_name,caption,source\na1.wav,A hum,one\na1.wav,A tone hums,one\na2.wav,A hum,two\n"
    report = read_folder(_small(tmp_path, table))
    assert [(clip["source"], clip["references"]) for clip in report.clips] == [
        ("one", ["A hum", "A tone hums"]),
        ("two", ["A hum"]),
    ]
    assert list(report.problems) == ["b1.wav"] and "in no row of the table" in report.problems["b1.wav"]


@pytest.mark.parametrize(
    "table, message",
    [
        ("file_name,text\na1.wav,A hum\n", "no column 'caption'"),
        ("file_name,caption\n", "no rows"),
        ("file_name,caption\nnone.wav,A hum\n", "Not one clip of the folder .* can be used"),
    ],
)
def test_a_table_that_is_unusable_as_a_whole(tmp_path, table, message):
    with pytest.raises(CaptionError, match=message):
        read_folder(_small(tmp_path, table))


def test_tables_that_cannot_be_read(tmp_path):
    _small(tmp_path, "")
    (tmp_path / "metadata.csv").write_bytes("file_name,caption\na1.wav,Ein Mäuschen".encode("cp1252"))
    with pytest.raises(CaptionError, match="not UTF-8"):
        read_folder(tmp_path)
    (tmp_path / "metadata.csv").unlink()
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a1.wav", "caption"')
    with pytest.raises(CaptionError, match="metadata.jsonl cannot be read"):
        read_folder(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder 'nowhere'"):
        read_folder(tmp_path / "nowhere")
