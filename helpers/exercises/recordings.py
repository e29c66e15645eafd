"""Notebook 07: a folder of recordings, what is wrong with it, and how it is split."""

import csv
import os
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import soundfile

from helpers.exercises.checking import Wrong, call, exercise
from helpers.profiles import SAMPLING_RATE

_MISLABELLED, _SILENT_ROW, _TWICE = 4, 11, (7, 18)


def _name(number: int) -> str:
    return f"{'train' if number < 14 else 'test'}/take{number:02d}.wav"


def write_faulty_folder(folder: str | os.PathLike, examples: Sequence[dict]) -> Path:
    """A folder of 20 recordings in two halves, ``train`` and ``test``, with three faults planted.

    A header claims half of the true rate; a row has no caption; one recording is in both halves, under another name.

    Args:
        folder: made if it is not there; files of the same names are overwritten.
        examples: at least 20 clips with ``audio`` and ``caption``.

    Raises:
        ValueError: fewer than 20 clips.
    """
    if len(examples) < 20:
        raise ValueError(f"There are {len(examples)} clips, but the folder takes 20: give more.")
    folder, rows = Path(folder), {"train": [], "test": []}
    for number, example in enumerate(examples[:20]):
        source = examples[_TWICE[0]] if number == _TWICE[1] else example
        path = folder / _name(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        rate = SAMPLING_RATE // 2 if number == _MISLABELLED else SAMPLING_RATE
        soundfile.write(path, source["audio"]["array"], rate)
        caption = "" if number == _SILENT_ROW else example["caption"]
        rows[path.parent.name].append({"file_name": path.name, "caption": caption})
    for half, listed in rows.items():
        with (folder / half / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, ["file_name", "caption"])
            table.writeheader()
            table.writerows(listed)
    return folder


@exercise
def check_faults(faults: Mapping[str, object]) -> str:
    """Three planted faults of `write_faulty_folder`.

    Args:
        faults: the reader's answer: ``"wrong rate"`` -> file, ``"no caption"`` -> file, ``"in both halves"`` -> two
            files. Files by their place in the folder, such as ``"train/take00.wav"``, or by their name alone.
    """
    if set(faults) != {"wrong rate", "no caption", "in both halves"}:
        raise Wrong('name the files: {"wrong rate": ..., "no caption": ..., "in both halves": (..., ...)}.')

    def names(answer) -> set[str]:
        return {Path(str(name)).name for name in ([answer] if isinstance(answer, str | Path) else answer)}

    true = {"no caption": {_name(_SILENT_ROW)}, "wrong rate": {_name(_MISLABELLED)},
            "in both halves": {_name(n) for n in _TWICE}}
    hints = {
        "no caption": "read_folder names it, or the table does",
        "wrong rate": "its header is readable and read_folder is content; compare the rates, or listen for a sound "
        "that is twice too slow",
        "in both halves": "the names differ and the samples do not; compare the arrays of the two halves",
    }
    for fault, files in true.items():
        if names(faults[fault]) != names(files):
            raise Wrong(f"{fault!r} is not {', '.join(sorted(names(faults[fault])))}: {hints[fault]}.")
    return "all three found; only one of them would have raised an error."


def sourced_rows() -> list[dict[str, str]]:
    """44 rows of ``caption``, ``source`` and ``path``: four kinds of sound, each out of three to five recordings."""
    clips_of = {"kettle": (5, 3, 2), "zipper": (4, 4, 1, 2), "coin": (3, 2, 3, 1, 2), "drill": (6, 2, 4)}
    rows = [
        {"caption": f"A {kind} sounds", "source": f"{kind}_{source}", "path": f"{kind}_{source}_{number}.wav"}
        for kind, numbers in clips_of.items()
        for source, count in enumerate(numbers)
        for number in range(count)
    ]
    random.Random(0).shuffle(rows)  # nosec B311: an order of rows, no secret
    return rows


@exercise
def check_split(split: Callable) -> str:
    """A split with each kind of sound on both sides, and no recording.

    Args:
        split: the reader's function: (clips, share) -> (clips to train on, clips to measure on).
    """
    rows = sourced_rows()
    halves = call(split, [dict(row) for row in rows], 0.3)
    if not isinstance(halves, tuple | list) or len(halves) != 2:
        raise Wrong("return two lists: the clips to train on, and the clips to measure on.")
    train, held_out = (list(half) for half in halves)
    if sorted(row["path"] for row in train + held_out) != sorted(row["path"] for row in rows):
        raise Wrong(f"{len(rows)} clips went in and {len(train) + len(held_out)} came out: each belongs on one side, "
                    "and none may be lost.")
    if shared := {row["source"] for row in train} & {row["source"] for row in held_out}:
        raise Wrong(f"the recording {min(shared)} is on both sides: its clips share a microphone and a room, so you "
                    "would measure memory; move whole sources.")
    kinds = {row["caption"] for row in rows}
    if untaught := kinds - {row["caption"] for row in train}:
        raise Wrong(f"every clip of {min(untaught)!r} is held out: nobody can learn it; choose sources kind by kind.")
    if unmeasured := kinds - {row["caption"] for row in held_out}:
        raise Wrong(f"no clip of {min(unmeasured)!r} is held out: you would never know whether it was learned; choose "
                    "sources kind by kind.")
    if not 0.15 <= len(held_out) / len(rows) <= 0.5:
        raise Wrong(f"{len(held_out)} of {len(rows)} clips are held out: the share asked for is 0.3, or near it.")
    return (f"{len(train)} clips to train on, {len(held_out)} to measure on; every kind is on both sides, and no "
            "recording.")
