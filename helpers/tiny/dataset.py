"""The tiny captioned-sound data set: AudioCaps' columns in parquet shards, made on first use and kept in a cache."""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import shutil
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import platformdirs
from tqdm.auto import tqdm

from helpers.tiny import captions, scenes, sounds
from helpers.tiny.sounds import SAMPLING_RATE

SEED = 1_234
SPLITS = {"train": 1200, "validation": 120, "test": 200}
"""Clips in each split."""
SHARD_CLIPS = 100
"""Clips in one parquet shard: small ones, so that streaming has something to skip."""
_SPLIT_KEYS = {name: number for number, name in enumerate(SPLITS)}
_REFERENCES = 5


def cache_folder() -> Path:
    """Where the course keeps what it makes: ``COURSE_CACHE``, else the operating system's cache folder."""
    return Path(os.environ.get("COURSE_CACHE") or platformdirs.user_cache_dir("audio-captioning-course"))


def make_scene(split: str, index: int) -> scenes.Scene:
    """Clip number ``index`` of a split; the same clip on every machine."""
    return scenes.compose(np.random.default_rng([SEED, _SPLIT_KEYS[split], index]))


def to_pcm16(samples: np.ndarray) -> np.ndarray:
    """float samples in [-1, 1] to 16-bit integers, rounded to the nearest step."""
    return np.clip(np.round(samples * 32767.0), -32768, 32767).astype(np.int16)


def make_row(job: tuple[str, int]) -> dict:
    """One row in AudioCaps' columns, plus the truth that only metrics read.

    Every tenth clip is stored as 44.1 kHz stereo, so that loading really has to mix down and resample.
    """
    import soundfile
    import soxr

    split, index = job
    scene = make_scene(split, index)
    rng = np.random.default_rng([SEED, _SPLIT_KEYS[split], index, 1])
    texts = captions.write_captions(scene.labels, scene.relation, _REFERENCES, rng)
    samples, rate = scene.samples, SAMPLING_RATE
    if index % 10 == 7:
        rate = 44_100
        wide = soxr.resample(samples, SAMPLING_RATE, rate)
        pan = rng.uniform(0.8, 1.2)
        samples = np.stack([wide * pan, wide * (2 - pan)], axis=1)
        samples *= min(1.0, 0.99 / np.abs(samples).max())
    file = io.BytesIO()
    soundfile.write(file, to_pcm16(samples), rate, format="FLAC", subtype="PCM_16")
    name = f"{split}{index:05d}"
    return {
        "audiocap_id": _SPLIT_KEYS[split] * 100_000 + index,
        "youtube_id": name,
        "start_time": 0,
        "caption": texts[0],
        "audio": {"bytes": file.getvalue(), "path": f"{name}.flac"},
        "references": texts if split == "test" else texts[:1],
        "relation": scene.relation,
        "events": [{"label": event.label, "start": round(event.start, 2), "end": round(event.end, 2)}
                   for event in scene.events],
    }


def data_version() -> str:
    """Eight hex digits of the code that makes the clips: another recipe is another folder, never a stale cache."""
    digest = hashlib.sha256()
    for module in (sounds, scenes, captions):
        digest.update(Path(module.__file__).read_text(encoding="utf-8").encode())
    digest.update(Path(__file__).read_text(encoding="utf-8").encode())
    return digest.hexdigest()[:8]


def _schema():
    """Arrow schema with the Hub's own metadata, so that `datasets` sees an audio column as it does in AudioCaps."""
    from datasets import Audio, Features, List, Value

    return Features({
        "audiocap_id": Value("int32"),
        "youtube_id": Value("string"),
        "start_time": Value("int32"),
        "caption": Value("string"),
        "audio": Audio(),
        "references": List(Value("string")),
        "relation": Value("string"),
        "events": List({"label": Value("string"), "start": Value("float64"), "end": Value("float64")}),
    }).arrow_schema


def _remove_leftovers(cache: Path) -> None:
    """Delete unfinished folders of runs that are long dead (a killed run cannot clean up after itself)."""
    import time

    for folder in cache.glob("sounds-*.making-*"):
        if time.time() - folder.stat().st_mtime > 3600:
            shutil.rmtree(folder, ignore_errors=True)


def ensure_dataset(splits: dict[str, int] | None = None, workers: int | None = None) -> Path:
    """The folder of parquet shards, made now if this is the first time.

    The shards are written into a folder of another name that is renamed at the very end, so a folder with the
    final name is always whole, whatever happened to the run that made it.

    Args:
        splits: clips a split (default `SPLITS`).
        workers: processes (default: one a core, at most 8).

    Returns:
        The folder, with files ``{split}-{number}-of-{count}.parquet``.

    Raises:
        OSError: the cache folder cannot be written; set ``COURSE_CACHE`` to one that can.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    splits = splits or SPLITS
    sizes = "" if splits == SPLITS else "-" + "-".join(str(count) for count in splits.values())
    folder = cache_folder() / f"sounds-{data_version()}{sizes}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(folder.parent)
        making = Path(tempfile.mkdtemp(prefix=f"{folder.name}.making-", dir=folder.parent))
    except OSError as error:
        raise OSError(
            f"The tiny data set cannot be written to {folder.parent} ({error.strerror}): set the environment variable "
            "COURSE_CACHE to a folder that you can write to."
        ) from error

    schema = _schema()
    jobs = [(split, index) for split, count in splits.items() for index in range(count)]
    workers = workers or min(os.cpu_count() or 1, 8)
    try:
        # "spawn" everywhere: forking a process that has already started PyTorch's threads can hang.
        with (
            ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor,
            tqdm(total=len(jobs), desc="Making the tiny data set (first use only)", unit="clip") as bar,
        ):
            rows = executor.map(make_row, jobs, chunksize=20)
            for split, count in splits.items():
                shards = -(-count // SHARD_CLIPS)
                for shard in range(shards):
                    batch = []
                    for row in itertools.islice(rows, min(SHARD_CLIPS, count - shard * SHARD_CLIPS)):
                        batch.append(row)
                        bar.update()
                    pq.write_table(pa.Table.from_pylist(batch, schema=schema),
                                   making / f"{split}-{shard:05d}-of-{shards:05d}.parquet")
        try:
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # another process was first: its folder is as good as this one
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder
