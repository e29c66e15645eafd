"""Notebook 07: a folder of recordings, and what is wrong with it."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import soundfile

from helpers.exercises.checking import Wrong, exercise
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
