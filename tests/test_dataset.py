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
from adapter_fixtures import fork, forked, wait
from datasets import Audio, load_dataset

from helpers.tiny import dataset

ROOT = Path(__file__).resolve().parent.parent
AUDIOCAPS = {"audiocap_id", "youtube_id", "start_time", "caption", "audio"}


@pytest.fixture(scope="module")
def folder() -> Path:
    return dataset.ensure_dataset()


def test_splits_and_columns(folder):
    rows = {split: sum(pq.read_metadata(file).num_rows for file in folder.glob(f"{split}-*.parquet"))
            for split in dataset.SPLITS}
    assert rows == dataset.SPLITS
    assert rows["train"] >= 1000 and rows["validation"] >= 100 and rows["test"] == 200
    assert len(list(folder.glob("train-*.parquet"))) > 1, "streaming needs shards to skip"
    stream = load_dataset("parquet", data_files=str(folder / "test-*.parquet"), split="train", streaming=True)
    assert set(stream.column_names) >= AUDIOCAPS and isinstance(stream.features["audio"], Audio)


def test_five_references_in_the_test_split_and_truth_everywhere(folder):
    for file in folder.glob("*.parquet"):
        table = pq.read_table(file, columns=["caption", "references", "relation", "events", "youtube_id"]).to_pylist()
        for row in table:
            assert row["caption"] == row["references"][0]
            assert len(set(row["references"])) == (5 if file.name.startswith("test") else 1)
            count = {"silence": 0, "single": 1}.get(row["relation"], 2)
            assert len(row["events"]) == count


def test_no_clip_is_in_two_splits(folder):
    tables = [pq.read_table(file, columns=["youtube_id"]) for file in folder.glob("*.parquet")]
    ids = [row for table in tables for row in table["youtube_id"].to_pylist()]
    assert len(ids) == len(set(ids)) == sum(dataset.SPLITS.values())


def test_some_clips_are_studio_rate_and_stereo(folder):
    files = pq.read_table(folder / "validation-00000-of-00002.parquet", columns=["audio"])["audio"].to_pylist()
    kinds = {(info.samplerate, info.channels) for info in (soundfile.info(io.BytesIO(file["bytes"])) for file in files)}
    assert kinds == {(16_000, 1), (44_100, 2)}


def present(cache: Path) -> list[str]:
    """What is in a cache, beside the files of its locks."""
    return sorted(path.name for path in cache.iterdir() if path.suffix != ".lock")


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
    assert not [name for name in present(tmp_path) if "making" not in name], "half a data set has its final name"


def test_leftovers_of_dead_runs_are_cleared_and_a_whole_set_appears_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    sizes = {"train": 2, "validation": 1, "test": 1}
    dead, own = (tmp_path / f"sounds-{name}.making-dead" for name in ("00000000", f"{dataset.data_version()}-2-1-1"))
    dead.mkdir()
    os.utime(dead, (0, 0))
    own.mkdir()  # of this moment, but who makes this data set holds its lock
    made = dataset.ensure_dataset(sizes, workers=1)
    assert not dead.exists() and not own.exists() and present(tmp_path) == [made.name]
    assert dataset.ensure_dataset({"train": 2, "validation": 1, "test": 1}) == made


def test_interrupted_by_an_error_cleans_up(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(pq, "write_table", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        dataset.ensure_dataset({"train": 2, "validation": 1, "test": 1}, workers=1)
    assert present(tmp_path) == []


SMALL = {"train": 101, "validation": 1, "test": 1}


def test_damaged_and_missing_shards_are_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    folder = dataset.ensure_dataset(SMALL, workers=1)
    shards = {file.name: file.read_bytes() for file in folder.glob("*.parquet")}
    assert len(shards) == 4
    damaged = bytearray(shards["test-00000-of-00001.parquet"])
    damaged[len(damaged) // 2] ^= 1  # same name, same size
    (folder / "test-00000-of-00001.parquet").write_bytes(damaged)
    (folder / "validation-00000-of-00001.parquet").unlink()
    (folder / "train-00001-of-00002.parquet").write_bytes(b"cut short")
    untouched = (folder / "train-00000-of-00002.parquet").stat().st_mtime_ns
    assert dataset.ensure_dataset(SMALL, workers=1) == folder
    assert {file.name: file.read_bytes() for file in folder.glob("*.parquet")} == shards
    assert (folder / "train-00000-of-00002.parquet").stat().st_mtime_ns == untouched
    assert sorted(file.name for file in folder.iterdir()) == sorted([*shards, "shards.json"])


DAMAGE = {"empty": lambda content: b"", "cut": lambda content: content[: len(content) // 2],
          "zeros": lambda content: bytes(len(content)),
          "one byte": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]}


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_file_damaged_in_each_way_is_made_again(tmp_path, monkeypatch, damage):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    sizes = {"train": 2, "validation": 1, "test": 1}
    folder = dataset.ensure_dataset(sizes, workers=1)
    whole = {file.name: file.read_bytes() for file in folder.iterdir()}
    assert len(whole) == 4
    for name in whole:
        (folder / name).write_bytes(DAMAGE[damage](whole[name]))
        assert dataset.ensure_dataset(sizes, workers=1) == folder
        assert {file.name: file.read_bytes() for file in folder.iterdir()} == whole


@forked
@pytest.mark.parametrize("workers", [1, 2])
def test_a_disk_that_is_full(tmp_path, monkeypatch, workers):
    """A limit on the size of files, which the system enforces in the middle of a shard; workers inherit it."""
    import resource

    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    sizes = {"train": 4, "validation": 1, "test": 1}

    def make() -> bool:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            dataset.ensure_dataset(sizes, workers=workers)
        except OSError as error:
            return "make room on the disk" in str(error) and "COURSE_CACHE" in str(error)

    assert wait(fork(make)) == 0 and present(tmp_path) == []
    assert [dataset.ensure_dataset(sizes, workers=workers).name] == present(tmp_path), "with room again"


def test_every_part_of_the_recipe_is_in_the_version(monkeypatch):
    version = dataset.data_version()
    read = Path.read_text
    parts = [*(ROOT / "helpers/tiny/sounds").glob("*.py"), *(ROOT / f"helpers/tiny/{name}.py" for name in
                                                             ("scenes", "captions", "phrases", "shards"))]
    assert len(parts) > 10
    for part in parts:
        monkeypatch.setattr(Path, "read_text",
                            lambda file, *a, part=part, **k: read(file, *a, **k) + "#" * (file == part))
        assert dataset.data_version() != version, f"{part.name} can change without anybody noticing"
    monkeypatch.undo()
    assert dataset.data_version() == version


@pytest.mark.parametrize("value, expected", [
    ("cache", ROOT / "cache"), ("../cache", ROOT / "../cache"), ("~/cache", Path.home() / "cache"),
])
def test_a_relative_cache_means_the_same_from_every_folder(tmp_path, monkeypatch, value, expected):
    monkeypatch.setenv("COURSE_CACHE", value)
    for folder in (tmp_path, ROOT / "notebooks"):
        monkeypatch.chdir(folder)
        assert dataset.cache_folder() == expected


def test_others_can_read_a_shared_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    before = os.umask(0o022)
    try:
        folder = dataset.ensure_dataset({"train": 1, "validation": 1, "test": 1}, workers=1)
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == 0o755
    assert all(file.stat().st_mode & 0o777 == 0o644 for file in folder.iterdir())


def test_a_script_without_a_guard_gets_its_data(tmp_path):
    """Processes of `multiprocessing` would import the script again, and it would start itself for ever."""
    script = tmp_path / "script.py"
    script.write_text("from helpers.tiny.dataset import ensure_dataset\n"
                      "print(ensure_dataset({'train': 2, 'validation': 1, 'test': 1}, workers=2).name)\n")
    environment = {**os.environ, "COURSE_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    run = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True,
                         timeout=120)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("sounds-") and len(list((tmp_path / "cache").glob("sounds-*/*.parquet"))) == 3


def test_workers_end_with_the_process_that_started_them(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "helpers.tiny.shards", str(tmp_path), "train-00000-of-00001.parquet:10000"]
    worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    worker.stdout.readline()  # it is at work
    worker.stdin.close()  # what the system does when the parent is killed
    assert worker.wait(timeout=10) == 1
    worker.stdout.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_worker_dies_of_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    monkeypatch.setattr(dataset.shards, "__name__", "helpers.tiny.no_such_module")
    with pytest.raises(RuntimeError, match="no_such_module"):
        dataset.ensure_dataset({"train": 1, "validation": 1, "test": 1}, workers=2)
    assert present(tmp_path) == []


def test_a_cache_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("COURSE_CACHE", str(blocked / "cache"))
    with pytest.raises(OSError, match="COURSE_CACHE"):
        dataset.ensure_dataset()
