"""The tiny data set on disk: AudioCaps' columns, sizes, and nothing half-made ever taken for whole."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import soundfile
from datasets import Audio, load_dataset

from helpers.tiny import dataset

ROOT = Path(__file__).resolve().parent.parent
AUDIOCAPS = {"audiocap_id", "youtube_id", "start_time", "caption", "audio"}


@pytest.fixture(scope="module")
def folder() -> Path:
    return dataset.ensure_dataset()


def test_splits_and_columns(folder):
    rows = {split: sum(pq.read_metadata(file).num_rows for file in folder.glob(f"{split}-*.parquet")) for split in dataset.SPLITS}
    assert rows == dataset.SPLITS
    assert rows["train"] >= 1000 and rows["validation"] >= 100 and rows["test"] == 200
    assert len(list(folder.glob("train-*.parquet"))) > 1, "streaming needs shards to skip"
    stream = load_dataset("parquet", data_files=str(folder / "test-*.parquet"), split="train", streaming=True)
    assert AUDIOCAPS <= set(stream.column_names) and isinstance(stream.features["audio"], Audio)


def test_five_references_in_the_test_split_and_truth_everywhere(folder):
    for file in folder.glob("*.parquet"):
        table = pq.read_table(file, columns=["caption", "references", "relation", "events", "youtube_id"]).to_pylist()
        for row in table:
            assert row["caption"] == row["references"][0]
            assert len(set(row["references"])) == (5 if file.name.startswith("test") else 1)
            assert 1 <= len(row["events"]) <= 2 and row["relation"]


def test_no_clip_is_in_two_splits(folder):
    ids = [row for file in folder.glob("*.parquet") for row in pq.read_table(file, columns=["youtube_id"])["youtube_id"].to_pylist()]
    assert len(ids) == len(set(ids)) == sum(dataset.SPLITS.values())


def test_some_clips_are_studio_rate_and_stereo(folder):
    files = pq.read_table(folder / "validation-00000-of-00002.parquet", columns=["audio"])["audio"].to_pylist()
    kinds = {(info.samplerate, info.channels) for info in (soundfile.info(io.BytesIO(file["bytes"])) for file in files)}
    assert kinds == {(16_000, 1), (44_100, 2)}


def test_a_killed_run_leaves_nothing_that_is_taken_for_whole(tmp_path):
    environment = {**os.environ, "COURSE_CACHE": str(tmp_path)}
    code = ("from helpers.tiny.dataset import ensure_dataset; "
            "ensure_dataset({'train': 400, 'validation': 1, 'test': 1}, workers=1)")
    run = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, start_new_session=True,
                           stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("sounds-*.making-*/*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    if os.name == "nt":
        run.kill()
    else:
        os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    assert list(tmp_path.glob("sounds-*.making-*/*.parquet")), "the run was killed before its first shard"
    assert not [path for path in tmp_path.iterdir() if "making" not in path.name], "half a data set has its final name"


def test_leftovers_of_dead_runs_are_cleared_and_a_whole_set_appears_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    dead = tmp_path / "sounds-00000000.making-dead"
    dead.mkdir()
    os.utime(dead, (0, 0))
    made = dataset.ensure_dataset({"train": 2, "validation": 1, "test": 1}, workers=1)
    assert not dead.exists() and [path.name for path in tmp_path.iterdir()] == [made.name]
    assert dataset.ensure_dataset({"train": 2, "validation": 1, "test": 1}) == made


def test_interrupted_by_an_error_cleans_up(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(pq, "write_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        dataset.ensure_dataset({"train": 2, "validation": 1, "test": 1}, workers=1)
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("COURSE_CACHE", str(blocked / "cache"))
    with pytest.raises(OSError, match="COURSE_CACHE"):
        dataset.ensure_dataset()
