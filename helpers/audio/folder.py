"""The learner's own clips: a folder looked through file by file, decoded at once or when each clip's turn comes."""

import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from datasets import Dataset, IterableDataset
from tqdm.auto import tqdm

from helpers.audio.listing import Listing, Recording, list_recordings
from helpers.audio.samples import AudioError, load_clip, probe_audio
from helpers.audio.table import CaptionError
from helpers.profiles import SAMPLING_RATE

LONGEST_PIECE = 30.0
"""Seconds: AF3 listens in windows of this length."""

_MANY = 200
"""From so many files on there is a progress bar."""

_SILENCE_WORDS = re.compile(r"\b(silen|quiet|noiseless|nothing|no (sound|noise|audio)|mute)", re.IGNORECASE)


@dataclass(frozen=True)
class FolderReport:
    """A folder of recordings after the check: what can be used, and what cannot and why."""

    name: str
    clips: list[dict]
    """Usable examples: ``audio`` (16 kHz mono, as `load_captions` gives it; from `scan_folder` what `as_samples` makes
    it of), ``caption``, ``references``, ``source``, ``split``, and the table's other columns."""
    problems: dict[str, str]
    """File -> one sentence that says why it cannot be used and what to do."""
    pieces: dict[str, int] = field(default_factory=dict)
    """Long recording -> how many pieces it was cut into."""
    remarks: list[str] = field(default_factory=list)
    """One sentence each on what can be used and is odd all the same."""
    seconds: float = 0.0
    """Of all usable clips together; from `scan_folder` as their headers say."""

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.clips)} usable clips, {self.seconds:.0f} s, from "
                 f"{len({clip['source'] for clip in self.clips})} sources; files left out: {len(self.problems)}."]
        lines += [f"- {file} is long: cut into {count} pieces." for file, count in self.pieces.items()]
        lines += [f"- {sentence}" for sentence in (*self.problems.values(), *self.remarks)]
        return "\n".join(lines)


def says_silence(captions: Sequence[str]) -> bool:
    """Whether a caption says that there is nothing to hear ("Silence", "A quiet room"), so that silence is no fault."""
    return any(_SILENCE_WORDS.search(text) for text in captions)


def _example(recording: Recording, audio: dict) -> dict:
    return {"audio": audio, "caption": recording.captions[0], "references": recording.captions,
            "source": recording.source, "split": recording.split, **recording.others}


def _undecoded(recording: Recording, start: float = 0.0, stop: float | None = None, name: str | None = None) -> dict:
    return {"path": str(recording.path), "name": name or recording.name, "start": start, "stop": stop,
            "silence": says_silence(recording.captions)}


def _look_through(listing: Listing, hear: Callable[[Recording], tuple[list[dict], float, list[str]]]) -> FolderReport:
    """``hear`` gives a recording's pieces as ``audio``, their seconds and remarks, or raises `AudioError`."""
    problems, clips, pieces, remarks, total = dict(listing.problems), [], {}, list(listing.remarks), 0.0
    for recording in tqdm(listing.recordings, desc=f"looking through {listing.name}", unit="file", leave=False,
                          disable=len(listing.recordings) < _MANY):
        try:
            found, seconds, words = hear(recording)
        except AudioError as error:
            problems[recording.name] = str(error)
            continue
        clips += [_example(recording, audio) for audio in found]
        if len(found) > 1:
            pieces[recording.name] = len(found)
        remarks += words
        total += seconds
    problems |= listing.unlisted
    if not clips:
        first = next(iter(problems.values()))
        raise CaptionError(f"Not one clip of the folder {listing.name!r} can be used; the first reason: {first}")
    return FolderReport(listing.name, clips, problems, pieces, remarks, total)


def read_folder(folder: str | os.PathLike, longest: float = LONGEST_PIECE) -> FolderReport:
    """Load every clip of a folder that can be loaded, and say of every other one why it cannot.

    The table is as `list_recordings` reads it; a column ``source`` says which clips were cut from the same recording
    (default: see `name_sources`). Several rows with the same file are several captions of one clip. A silent recording
    is left out unless a caption of it says so (`says_silence`). Clips are kept in memory, decoded: 64 kB a second.

    Recordings longer than ``longest`` seconds are cut into equal pieces, all with the caption and the source of the
    whole; AF3 listens in windows of 30 s and takes at most 10 minutes.

    Raises:
        FileNotFoundError: there is no such folder.
        CaptionError: the table is missing or unusable as a whole, or not a single clip can be used.
    """
    def hear(recording: Recording) -> tuple[list[dict], float, list[str]]:
        samples, remarks = load_clip(_undecoded(recording))
        count = max(1, math.ceil(len(samples) / (longest * SAMPLING_RATE)))
        found = [{"array": np.ascontiguousarray(piece), "sampling_rate": SAMPLING_RATE,
                  "path": _title(recording, number, count)}
                 for number, piece in enumerate(np.array_split(samples, count), start=1)]
        return found, len(samples) / SAMPLING_RATE, remarks

    return _look_through(list_recordings(folder), hear)


def scan_folder(folder: str | os.PathLike) -> FolderReport:
    """`read_folder` for folders that memory does not hold: only the headers are read, and clips decode when asked for.

    What shows in the samples alone (silence, a cut MP3 without a count of its frames) is found when a clip's turn
    comes: `as_samples` raises `AudioError` then. Lengths are what the headers say.
    """
    def hear(recording: Recording) -> tuple[list[dict], float, list[str]]:
        seconds = probe_audio(recording.path, recording.name) or 0.0
        count = max(1, math.ceil(seconds / LONGEST_PIECE))
        edges = [seconds * number / count for number in range(count)] + [None]
        found = [_undecoded(recording, edges[number - 1], edges[number], _title(recording, number, count))
                 for number in range(1, count + 1)]
        return found, seconds, []

    return _look_through(list_recordings(folder), hear)


def _title(recording: Recording, number: int, count: int) -> str:
    return f"{recording.name} ({number} of {count})" if count > 1 else recording.name


def stream_clips(clips: Sequence[dict]) -> IterableDataset:
    """Clips of `scan_folder` as a stream that holds no sound: each decodes when it is collated."""
    return Dataset.from_dict(columns_of(clips)).to_iterable_dataset()


def columns_of(rows: Sequence[dict]) -> dict[str, list]:
    """Rows as columns; a column of mixed kinds becomes text, for a stream's columns have one kind each."""
    import pyarrow

    columns = {key: [row.get(key) for row in rows] for key in dict.fromkeys(key for row in rows for key in row)}
    for key, values in columns.items():
        try:
            pyarrow.array(values)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError):
            columns[key] = [None if value is None else str(value) for value in values]
    return columns
