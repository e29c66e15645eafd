"""The learner's own clips: a folder looked through file by file, and split so that no source is on both sides."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr

from helpers.audio.samples import AudioError, load_audio
from helpers.audio.table import AUDIO_SUFFIXES, CaptionError, metadata_rows, row_problem
from helpers.profiles import SAMPLING_RATE

SILENT = 1e-4
"""A clip whose loudest sample is below this (80 dB under full scale) has nothing in it to describe."""


@dataclass(frozen=True)
class FolderReport:
    """A folder of recordings after the check: what can be used, and what cannot and why."""

    name: str
    """The folder's own name."""
    clips: list[dict]
    """Usable examples: ``audio`` (16 kHz mono, as `load_captions` gives it), ``caption``, ``references``, ``source``."""
    problems: dict[str, str]
    """File -> one sentence that says why it cannot be used and what to do."""
    pieces: dict[str, int] = field(default_factory=dict)
    """Long recording -> how many pieces it was cut into."""

    def __str__(self) -> str:
        seconds = sum(len(clip["audio"]["array"]) for clip in self.clips) / SAMPLING_RATE
        lines = [f"{self.name}: {len(self.clips)} usable clips, {seconds:.0f} s, from "
                 f"{len({clip['source'] for clip in self.clips})} sources; files left out: {len(self.problems)}."]
        lines += [f"- {file} is long: cut into {count} pieces." for file, count in self.pieces.items()]
        lines += [f"- {why}" for why in self.problems.values()]
        return "\n".join(lines)


def _name(path: Path, folder: Path) -> str:
    """A file as the table calls it, without what lies above the folder."""
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def source_of(file_name: str) -> str:
    """What a file was cut from, by the usual way to name such files: ``kitchen_01.wav`` and ``kitchen-2.flac`` are both
    of the source ``kitchen``. A name that is nothing but a number is a source of its own."""
    path = Path(file_name)
    stem = re.sub(r"[\s_.\-]*\(?\d+\)?$", "", path.stem)
    return (path.parent / (stem or path.stem)).as_posix()


def read_folder(folder: str | os.PathLike, longest: float = 30.0) -> FolderReport:
    """Load every clip of a folder that can be loaded, and say of every other one why it cannot.

    The folder has a ``metadata.csv`` or ``metadata.jsonl`` with the columns ``file_name`` and ``caption``; a column
    ``source`` says which clips were cut from the same recording (default: see `source_of`). Several rows with the
    same file are several captions of one clip. Clips are kept in memory, decoded: 64 kB a second.

    Args:
        folder: where the files and the table are.
        longest: in seconds. Longer recordings are cut into equal pieces of at most this length, all with the caption
            and the source of the whole; AF3 listens in windows of 30 s and takes at most 10 minutes.

    Returns:
        A `FolderReport`; print it.

    Raises:
        FileNotFoundError: there is no such folder.
        CaptionError: the table is missing or unusable as a whole, or not a single clip can be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.name!r}: check the path (the notebook looks from its own folder).")
    captions: dict[Path, list[str]] = {}
    sources: dict[Path, str] = {}
    problems: dict[str, str] = {}
    for table, number, row in metadata_rows(folder):
        why = row_problem(table, number, row)
        path = table.parent / (row.get("file_name") or f"row {number}")
        name = _name(path, folder)
        if why:
            problems[name] = why
            continue
        captions.setdefault(path, []).append(row["caption"].strip())
        sources[path] = str(row.get("source") or "").strip() or source_of(name)
    clips, pieces = [], {}
    for path, texts in captions.items():
        name = _name(path, folder)
        try:
            samples = load_audio(path, name)
            if np.abs(samples).max() < SILENT:
                raise AudioError(f"{name} is silent from end to end: record it again, or leave it out.")
        except AudioError as error:
            problems[name] = str(error)
            continue
        count = math.ceil(len(samples) / (longest * SAMPLING_RATE))
        if count > 1:
            pieces[name] = count
        for number, piece in enumerate(np.array_split(samples, count), start=1):
            title = f"{name} ({number} of {count})" if count > 1 else name
            clips.append({"audio": {"array": np.ascontiguousarray(piece), "sampling_rate": SAMPLING_RATE, "path": title},
                          "caption": texts[0], "references": texts, "source": sources[path]})
    named = {path.resolve() for path in captions} | {(folder / name).resolve() for name in problems}
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES):
        if path.resolve() not in named:
            name = _name(path, folder)
            problems[name] = f"{name} is in no row of the table: add one with its caption, or move the file away."
    if not clips:
        first = next(iter(problems.values()))
        raise CaptionError(f"Not one clip of the folder {folder.name!r} can be used; the first reason: {first}")
    return FolderReport(folder.name, clips, problems, pieces)


def split_by_source(clips: Sequence[dict], share: float = 0.2, seed: int = 0) -> tuple[list[dict], list[dict]]:
    """Clips to train on and clips to evaluate on, so that no source is on both sides.

    Two clips cut from one recording share its microphone, its room and its dog: with one on each side the score would
    measure memory. The sides depend on the names of the sources and on ``seed`` alone, not on the order of the clips.

    Args:
        clips: have a ``source``, as `read_folder` gives them.
        share: of the clips, roughly how many to evaluate on.
        seed: another number, another split.

    Returns:
        (training clips, evaluation clips), each in the order given.

    Raises:
        ValueError: fewer than two sources, or a share outside 0 to 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"share is {share}, but it has to lie between 0 and 1, such as 0.2.")
    sizes: dict[str, int] = {}
    for clip in clips:
        sizes[clip["source"]] = sizes.get(clip["source"], 0) + 1
    if len(sizes) < 2:
        raise ValueError(f"All {len(clips)} clips come from {len(sizes)} source ({', '.join(sizes)}), so there is nothing to "
                         "evaluate on that was not trained on: add a column 'source' to the table that tells recordings apart.")
    shuffled = sorted(sizes, key=lambda source: hashlib.sha256(f"{seed}:{source}".encode()).digest())
    chosen, count = set(), 0
    for source in shuffled:
        if count + sizes[source] <= share * len(clips):
            chosen.add(source)
            count += sizes[source]
    if not chosen:  # every source is larger than the share: the smallest one then
        chosen.add(min(shuffled, key=sizes.get))
    return ([clip for clip in clips if clip["source"] not in chosen], [clip for clip in clips if clip["source"] in chosen])


_KINDS = [(".wav", 8_000), (".flac", 44_100), (".ogg", 16_000), (".mp3", 48_000), (".wav", 96_000), (".flac", 22_050),
          (".mp3", 16_000), (".ogg", 48_000)]


def write_example_folder(folder: str | os.PathLike, examples: Sequence[dict], clips_a_source: int = 3) -> Path:
    """Stand-in for a learner's own folder: clips in all kinds of files, with a table, and two files that are broken.

    Args:
        folder: made if it is not there; files of the same names are overwritten.
        examples: clips with ``audio`` and ``caption``; at least three.
        clips_a_source: so many clips in a row count as cut from one recording.

    Returns:
        The folder. Every other file is stereo. The second file is cut short, and the third one's caption is empty.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, example in enumerate(examples):
        suffix, rate = _KINDS[number % len(_KINDS)]
        samples = soxr.resample(example["audio"]["array"], SAMPLING_RATE, rate)
        name = f"walk{number // clips_a_source:02d}_{number % clips_a_source + 1}{suffix}"
        soundfile.write(folder / name, np.stack([samples, 0.8 * samples], axis=1) if number % 2 else samples, rate)
        if number == 1:
            (folder / name).write_bytes((folder / name).read_bytes()[:30])
        rows.append({"file_name": name, "caption": "" if number == 2 else example["caption"]})
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["file_name", "caption"])
        table.writeheader()
        table.writerows(rows)
    return folder
