"""Parquet shards of the tiny data set, each made on its own: ``python -m helpers.tiny.shards FOLDER NAME:CLIPS ...``.

The command is what `helpers.tiny.dataset` starts, once a core. Processes of `multiprocessing` would import the
learner's script again, and a script that loads data outside of a ``__main__`` guard would start itself for ever.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from helpers.tiny import captions, scenes
from helpers.tiny.sounds import SAMPLING_RATE

SEED = 1_234
SPLITS = {"train": 1200, "validation": 120, "test": 200}
"""Clips in each split."""
SHARD_CLIPS = 100
"""Clips in one parquet shard: small ones, so that streaming has something to skip."""
_SPLIT_KEYS = {name: number for number, name in enumerate(SPLITS)}
_REFERENCES = 5
_NAME = re.compile(r"(?P<split>\w+)-(?P<number>\d{5})-of-\d{5}\.parquet")


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
        samples *= min(1.0, 0.99 / (np.abs(samples).max() + 1e-12))
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


def shard_clips(splits: dict[str, int]) -> dict[str, int]:
    """File name of every shard of a data set with so many clips a split -> clips in that shard."""
    found = {}
    for split, count in splits.items():
        shards = -(-count // SHARD_CLIPS)
        for number in range(shards):
            found[f"{split}-{number:05d}-of-{shards:05d}.parquet"] = min(SHARD_CLIPS, count - number * SHARD_CLIPS)
    return found


def make_shard(folder: Path, name: str, clips: int, made: Callable[[], object]) -> None:
    """Make one shard; a file of that name is always whole.

    Args:
        folder: where it goes.
        name, clips: from `shard_clips`.
        made: called after each clip.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    match, rows = _NAME.fullmatch(name), []
    first = int(match["number"]) * SHARD_CLIPS
    for index in range(first, first + clips):
        rows.append(make_row((match["split"], index)))
        made()
    unfinished = folder / f"{name}.{os.getpid()}"
    try:
        pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), unfinished)
        unfinished.replace(folder / name)
    finally:
        unfinished.unlink(missing_ok=True)


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


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


def _end_with_the_parent() -> None:
    """Leave as soon as standard input closes, which it does when the process that started this one is gone."""
    os.read(0, 1)  # not through `sys.stdin`, whose lock the interpreter wants at its end
    os._exit(1)


def main() -> None:
    folder, *jobs = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's business, and ends this process with it
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    for job in jobs:
        name, _, clips = job.rpartition(":")
        make_shard(Path(folder), name, int(clips), lambda: print(".", flush=True))


if __name__ == "__main__":
    main()
