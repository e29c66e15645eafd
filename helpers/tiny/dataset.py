"""The tiny captioned-sound data set: AudioCaps' columns in parquet shards, made on first use and kept in a cache."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess  # nosec B404: starts a module of the course
import sys
import threading
import time
from pathlib import Path

import platformdirs
from tqdm.auto import tqdm

from helpers.profiles import ROOT
from helpers.systems import FULL_DISK, alone, move
from helpers.tiny import captions, phrases, scenes, shards, sounds
from helpers.tiny.shards import SEED, SHARD_CLIPS, SPLITS, make_row, make_scene, make_shard, shard_clips, to_pcm16

__all__ = ["SEED", "SHARD_CLIPS", "SPLITS", "cache_folder", "data_version", "ensure_dataset", "make_row", "make_scene",
           "to_pcm16"]

_CONTENTS = "shards.json"
"""File beside the shards: name -> size in bytes and SHA-256."""
_checked: set[tuple] = set()
"""Shards (path, size, time of change) whose digest this process has found right."""


def cache_folder() -> Path:
    """Where the course keeps what it makes: ``COURSE_CACHE``, else the operating system's cache folder.

    A relative path begins at `ROOT`, as that of ``COURSE_RUNS`` does.
    """
    kept = os.environ.get("COURSE_CACHE") or platformdirs.user_cache_dir("audio-captioning-course")
    return ROOT / Path(kept).expanduser()


def data_version() -> str:
    """Eight hex digits of the code that makes the clips: another recipe is another folder, never a stale cache."""
    code = [Path(module.__file__) for module in (scenes, captions, phrases, shards)]
    code += sorted(Path(sounds.__file__).parent.glob("*.py"))
    digest = hashlib.sha256()
    for file in code:
        digest.update(file.name.encode() + file.read_text(encoding="utf-8").encode())
    return digest.hexdigest()[:8]


def ensure_dataset(splits: dict[str, int] | None = None, workers: int | None = None) -> Path:
    """The folder of parquet shards, made now if this is the first time, and whole in any case.

    The shards are written into a folder of another name that is renamed at the very end. At every use names and sizes
    are compared with what was made, and once a process the digests too; a shard that is missing or damaged is made
    again. Of several programs that need the data at once, one makes it and the others wait.

    Args:
        splits: clips a split (default `SPLITS`).
        workers: processes (default: one a core, at most 8); one works in this process.

    Returns:
        The folder, with files ``{split}-{number}-of-{count}.parquet``.

    Raises:
        OSError: the cache folder cannot be written, or its disk is full; set ``COURSE_CACHE`` to one with room.
        RuntimeError: a worker failed; the message has its last line.
    """
    splits = splits or SPLITS
    sizes = "" if splits == SPLITS else "-" + "-".join(str(count) for count in splits.values())
    folder = cache_folder() / f"sounds-{data_version()}{sizes}"
    workers = workers or min(os.cpu_count() or 1, 8)
    if folder.is_dir() and not _bad(folder, splits):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(f"{folder}.lock", "Another program makes the tiny data set now: waiting for it."):
            _remove_leftovers(folder)
            if folder.is_dir():  # damaged, unless the program that was waited for has made it meanwhile
                _repair(folder, _bad(folder, splits), workers)
            else:
                _make_all(folder, shard_clips(splits), workers)
    except OSError as error:
        full = error.errno in FULL_DISK
        raise OSError(
            f"The tiny data set cannot be written to {folder.parent} ({error.strerror or error}): "
            + ("make room on the disk (the data set takes about 120 MB), or set" if full else "set")
            + " the environment variable COURSE_CACHE to a folder that you can write to."
        ) from error
    return folder


def _make_all(folder: Path, jobs: dict[str, int], workers: int) -> None:
    # Not `mkdtemp`, whose folders nobody else may enter: a cache can be shared.
    making = folder.with_name(f"{folder.name}.making-{secrets.token_hex(4)}")
    making.mkdir()
    try:
        _make(making, jobs, workers)
        _write_contents(making)
        move(making, folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def _bad(folder: Path, splits: dict[str, int]) -> dict[str, int]:
    """Those shards (name -> clips) that are not as they were made."""
    try:
        contents = json.loads((folder / _CONTENTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        contents = {}
    return {name: clips for name, clips in shard_clips(splits).items()
            if not _is_whole(folder / name, contents.get(name) if isinstance(contents, dict) else None)}


def _repair(folder: Path, bad: dict[str, int], workers: int) -> None:
    """Make shards again that are not as they were made."""
    for leftover in folder.glob("*.*.*"):  # files that a killed program had begun: a name, its number behind it
        leftover.unlink(missing_ok=True)
    if bad:
        _make(folder, bad, workers)
        _write_contents(folder)


def _is_whole(file: Path, made: object) -> bool:
    if not (isinstance(made, list) and len(made) == 2 and file.is_file() and file.stat().st_size == made[0]):
        return False
    seen = (str(file), made[0], file.stat().st_mtime_ns)
    if seen not in _checked:
        if shards.digest(file) != made[1]:
            return False
        _checked.add(seen)
    return True


def _write_contents(folder: Path) -> None:
    contents = {file.name: [file.stat().st_size, shards.digest(file)] for file in sorted(folder.glob("*.parquet"))}
    unfinished = folder / f"{_CONTENTS}.{os.getpid()}"
    unfinished.write_text(json.dumps(contents, indent=1) + "\n", encoding="utf-8")
    move(unfinished, folder / _CONTENTS)


def _make(folder: Path, jobs: dict[str, int], workers: int) -> None:
    """Make shards (name -> clips) in ``workers`` processes, or in this one."""
    with tqdm(total=sum(jobs.values()), desc="Making the tiny data set (first use only)", unit="clip") as bar:
        workers = min(workers, len(jobs))
        if workers == 1:
            for name, clips in jobs.items():
                make_shard(folder, name, clips, bar.update)
            return
        orders = [f"{name}:{clips}" for name, clips in jobs.items()]
        started: list[tuple[subprocess.Popen, list[str], list[threading.Thread]]] = []
        try:
            for number in range(workers):  # each takes every so-manieth shard
                started.append(_start(folder, orders[number::workers], bar))
            for process, _, _ in started:
                process.wait()
        finally:
            for process, _, readers in started:
                process.kill()
                process.wait()
                for reader in readers:
                    reader.join()
                process.stdin.close()
        for process, complaints, _ in started:
            if process.returncode:
                reason = complaints[-1] if complaints else "it was ended from outside"
                if match := re.search(r"OSError: \[Errno (\d+)\] (.*)", reason):
                    raise OSError(int(match[1]), match[2])
                raise RuntimeError(f"A process that makes the tiny data set failed: {reason}")


def _start(folder: Path, orders: list[str], bar: tqdm) -> tuple[subprocess.Popen, list[str], list[threading.Thread]]:
    """A worker that makes some shards, what it complains of, and the threads that listen to it.

    Its standard input stays open for as long as this process lives; when it closes, the worker ends.
    """
    root = str(Path(__file__).resolve().parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    process = subprocess.Popen(  # nosec B603: this Python, without a shell
        [sys.executable, "-m", shards.__name__, str(folder.resolve()), *orders], env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        encoding="utf-8", errors="replace",
    )
    complaints: list[str] = []

    def count() -> None:
        with process.stdout as lines:
            for _ in lines:
                bar.update()

    def listen() -> None:
        with process.stderr as lines:
            complaints.extend(line.strip() for line in lines if line.strip())

    readers = [threading.Thread(target=work, daemon=True) for work in (count, listen)]
    for reader in readers:
        reader.start()
    return process, complaints, readers


def _remove_leftovers(folder: Path) -> None:
    """Delete what killed programs could not clean up; call it while no other makes ``folder``.

    Unfinished folders of other versions are left alone for an hour: somebody may be making them.
    """
    for leftover in folder.parent.glob("sounds-*.making-*"):
        if leftover.name.startswith(f"{folder.name}.") or time.time() - leftover.stat().st_mtime > 3600:
            shutil.rmtree(leftover, ignore_errors=True)
