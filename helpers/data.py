"""Captioned audio: streamed, decoded to 16 kHz mono float32, and checked before it can do harm.

`datasets` decodes audio through torchcodec, which needs FFmpeg's shared libraries. Here the column keeps the raw
bytes and `SoundFileAudio` decodes them with soundfile (libsndfile) and soxr: wheels alone, on every platform.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
import soxr
from datasets import Audio, IterableDataset, get_dataset_split_names, load_dataset

from helpers.hub import hub_access, is_hub_id

SAMPLING_RATE = 16_000
"""Samples a second, in Hz: what Audio Flamingo 3 was trained on."""

MINIMUM_SECONDS = 0.1
"""Shorter clips give the encoder (40 ms a frame) next to nothing to hear."""

TINY = "tiny"
"""The source that stands for the sounds this course makes itself."""


class AudioError(ValueError):
    """Audio that cannot be used; the message says what was wrong, where, and what to do."""


class SplitError(ValueError):
    """A split that a source does not have; the message lists those it has."""


class CaptionError(ValueError):
    """A caption or a metadata table that cannot be used; the message says which and what to do."""


# ------------------------------------------------------------------------------------------------------- samples
def validate_audio(array: np.ndarray, sampling_rate: int = SAMPLING_RATE, name: str = "The clip") -> np.ndarray:
    """Return ``array`` as float32, or say in one sentence why a model should not hear it.

    Args:
        array: float samples, shape ``(samples,)``, nominally in [-1, 1].
        sampling_rate: its rate in Hz; must be `SAMPLING_RATE`.
        name: what to call the clip in the message.

    Raises:
        AudioError: not a float array, not one channel, empty, too short, not finite, or at another rate.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise AudioError(
            f"{name} is {kind}, not a NumPy array of floats: convert it with np.asarray(x, dtype=np.float32), and "
            "divide 16-bit integer samples by 32768."
        )
    if array.ndim != 1:
        raise AudioError(f"{name} has shape {array.shape}, not (samples,): mix the channels down to one, for example "
                         "with array.mean(axis=channel_axis).")
    if array.size == 0:
        raise AudioError(f"{name} is empty (0 samples): leave it out, or look at how it was cut.")
    if sampling_rate != SAMPLING_RATE:
        raise AudioError(
            f"{name} is sampled at {sampling_rate} Hz, but the model hears {SAMPLING_RATE} Hz: resample it, for example "
            f"with soxr.resample(array, {sampling_rate}, {SAMPLING_RATE}), or load it with load_audio."
        )
    if array.size < MINIMUM_SECONDS * SAMPLING_RATE:
        raise AudioError(f"{name} lasts {array.size / SAMPLING_RATE:.3f} s, less than the {MINIMUM_SECONDS} s that the "
                         "encoder needs: leave it out, or pad it with silence.")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise AudioError(f"{name} holds NaN or infinite samples (the first at sample {bad}): it was damaged on the way; "
                         "load it again or leave it out.")
    return np.ascontiguousarray(array, dtype=np.float32)


def load_audio(source: str | os.PathLike | bytes, name: str | None = None) -> np.ndarray:
    """Decode a file to 16 kHz mono float32.

    Args:
        source: a path, or the bytes of a file: WAV, FLAC, OGG or MP3, any rate, any number of channels.
        name: what to call the file in messages (default: its own name).

    Returns:
        Samples in [-1, 1], shape ``(samples,)``.

    Raises:
        AudioError: the file is missing, broken, empty, or of a kind that libsndfile cannot read.
    """
    if isinstance(source, bytes | bytearray):
        file, name = io.BytesIO(source), name or "The audio"
    else:
        file, name = Path(source), name or Path(source).name
        if not file.is_file():
            raise AudioError(f"There is no file {name}: check the path (the notebook looks from its own folder).")
    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise AudioError(f"{name} cannot be decoded ({reason}): use a whole WAV, FLAC, OGG or MP3 file, or convert it "
                         "with any audio editor.") from None
    mono = samples.mean(axis=1)
    if rate != SAMPLING_RATE and mono.size:
        mono = soxr.resample(mono, rate, SAMPLING_RATE)
    return validate_audio(mono, name=name)


def as_samples(audio, name: str = "The clip") -> np.ndarray:
    """Anything a learner may hold as audio, as checked 16 kHz mono float32 samples.

    Args:
        audio: float samples at 16 kHz; a path; a file's bytes; an example's ``{"array", "sampling_rate"}``; or its
            ``{"bytes", "path"}`` where the stream does not decode.

    Raises:
        AudioError: see `validate_audio` and `load_audio`.
    """
    if isinstance(audio, str | os.PathLike | bytes | bytearray):
        return load_audio(audio)
    if isinstance(audio, dict) and "array" not in audio and (audio.get("bytes") or audio.get("path")):
        audio = SoundFileAudio().decode_example(audio)
    if isinstance(audio, dict) and "array" in audio:
        name = Path(audio["path"]).name if audio.get("path") else name
        return validate_audio(audio["array"], audio.get("sampling_rate", SAMPLING_RATE), name)
    if hasattr(audio, "detach"):  # a torch tensor, without importing torch here
        audio = audio.detach().cpu().numpy()
    return validate_audio(audio, name=name)


@dataclass
class SoundFileAudio(Audio):
    """`datasets.Audio`, decoded by `load_audio` instead of torchcodec.

    As a feature it decodes at the very end of a stream: clips that ``skip`` passes over are never decoded.
    """

    sampling_rate: int | None = SAMPLING_RATE
    _type: str = field(default="SoundFileAudio", init=False, repr=False)

    def encode_example(self, value: dict | str) -> dict:
        """What a stream hands over is already ``{"bytes", "path"}``, or a path; keep it."""
        return {"bytes": None, "path": value} if isinstance(value, str) else value

    def decode_example(self, value: dict, token_per_repo_id: dict | None = None) -> dict:
        """Decode to ``{"array": float32 mono, "sampling_rate": 16000, "path": file name}``."""
        if "array" in value:  # decoding twice is harmless
            return value
        content, path = value.get("bytes"), value.get("path")
        name = Path(path).name if path else None
        if content is None and path is not None and "://" in path:
            from datasets.utils.file_utils import xopen

            with xopen(path, "rb") as file:
                content = file.read()
        array = load_audio(content if content is not None else path, name)
        return {"array": array, "sampling_rate": SAMPLING_RATE, "path": name}


# -------------------------------------------------------------------------------------------------------- streams
def load_captions(source: str | os.PathLike, split: str = "train") -> IterableDataset:
    """Stream captioned clips: nothing is downloaded or decoded before it is asked for.

    Args:
        source: ``"tiny"`` for the sounds this course makes, a Hub id such as ``"OpenSound/AudioCaps"``, or a folder
            of audio files with a ``metadata.csv`` or ``metadata.jsonl`` that has the columns ``file_name`` and
            ``caption`` (the ``audiofolder`` convention of `datasets`).
        split: name of the split.

    Returns:
        A streaming dataset. Each example has ``audio`` = ``{"array": float32 mono, "sampling_rate": 16000, "path"}``
        and ``caption``, besides the source's other columns.

    Raises:
        SplitError: there is no such split.
        FileNotFoundError: there is no such folder.
        HubError: the Hub did not give the data set (see `hub_access`).
        CaptionError: the folder's metadata table is missing or incomplete.
    """
    if source == TINY:
        stream = _load_tiny(split)
    elif Path(source).is_dir():
        stream = _load_folder(Path(source), split)
    elif not is_hub_id(source):
        raise FileNotFoundError(
            f"There is no folder {os.fspath(source)!r}: give a folder of audio files, a Hub id such as "
            f"'OpenSound/AudioCaps', or {TINY!r}."
        )
    else:
        stream = _load_hub(source, split)
    return stream.cast_column("audio", SoundFileAudio())


def _check_split(split: str, available: list[str], source: str) -> None:
    if split not in available:
        raise SplitError(f"{source} has no split {split!r}; it has {', '.join(map(repr, available))}.") from None


def _load_tiny(split: str) -> IterableDataset:
    from helpers.tiny.dataset import SPLITS, ensure_dataset

    _check_split(split, list(SPLITS), "The tiny data set")
    files = sorted(str(file) for file in ensure_dataset().glob(f"{split}-*.parquet"))
    return load_dataset("parquet", data_files={split: files}, split=split, streaming=True)


def _load_hub(source: str, split: str) -> IterableDataset:
    with hub_access(source, "dataset"):
        try:
            return load_dataset(source, split=split, streaming=True)
        except ValueError as error:
            if "split" not in str(error).lower():
                raise
            _check_split(split, get_dataset_split_names(source), f"The data set {source}")
            raise


AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".m4a", ".aac", ".wma", ".opus", ".aiff", ".aif"}


def _read_metadata(file: Path) -> list[dict]:
    import csv

    try:
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return list(csv.DictReader(stream))
    except UnicodeDecodeError:
        raise CaptionError(f"{file.name} is not UTF-8 text: save it as \"CSV UTF-8\" in your spreadsheet program.") from None
    except (json.JSONDecodeError, csv.Error) as error:
        raise CaptionError(f"{file.name} cannot be read ({error}): each line of it has to be one whole row.") from None


def metadata_rows(folder: Path) -> list[tuple[Path, int, dict]]:
    """All rows of a folder's metadata tables, as (table, number of the row from 1, row).

    Raises:
        CaptionError: there is no table, or one is unreadable, empty, or without ``file_name`` or ``caption``.
    """
    tables = sorted(path for path in folder.rglob("metadata.*") if path.suffix in {".csv", ".jsonl"})
    if not tables:
        raise CaptionError(f"The folder {folder.name!r} has no metadata.csv or metadata.jsonl: add one with the columns "
                           "file_name and caption, one row a clip.")
    found = []
    for table in tables:
        rows = _read_metadata(table)
        if not rows:
            raise CaptionError(f"{table.name} in {table.parent.name!r} has no rows: list each clip's file_name and caption.")
        for column in ("file_name", "caption"):
            if column not in rows[0]:
                raise CaptionError(f"{table.name} in {table.parent.name!r} has no column {column!r} (it has "
                                   f"{', '.join(rows[0])}): rename or add it.")
        found += [(table, number, row) for number, row in enumerate(rows, start=1)]
    return found


def row_problem(table: Path, number: int, row: dict) -> str | None:
    """What is wrong with one row of `metadata_rows`, in one sentence; ``None`` if nothing is."""
    name, text = row.get("file_name"), row.get("caption")
    if not isinstance(name, str) or not name.strip():
        return f"Row {number} of {table.name} names no file: fill in its file_name, or take the row out."
    if not isinstance(text, str) or not text.strip():
        return f"Row {number} of {table.name} ({name}) has no caption: write one, or take the row out."
    if not (table.parent / name).is_file():
        return (f"Row {number} of {table.name} names {name}, which is not in {table.parent.name!r}: add the file, or take "
                "the row out.")
    return None


def check_folder(folder: Path) -> list[str]:
    """Look through a folder's metadata table before anything is loaded from it.

    Returns:
        The splits it offers: names of subfolders that hold a table, or ``["train"]``.

    Raises:
        CaptionError: no table, a missing column, an empty caption, or a file that is not there.
    """
    rows = metadata_rows(folder)
    for row in rows:
        problem = row_problem(*row)
        if problem:
            raise CaptionError(problem)
    return list(dict.fromkeys(table.parent.name for table, _, _ in rows if table.parent != folder)) or ["train"]


def _load_folder(folder: Path, split: str) -> IterableDataset:
    available = check_folder(folder)
    _check_split(split, available, f"The folder {folder.name!r}")
    return load_dataset("audiofolder", data_dir=str(folder), split=split, streaming=True)


# ----------------------------------------------------------------------------------------------------- references
def group_references(rows: Iterable[dict], clips: int | None = None) -> list[dict]:
    """One example a clip, with everything that people wrote about it in ``references``.

    AudioCaps' validation and test splits have five captions a clip, as five rows that share ``youtube_id`` and
    ``start_time`` and lie anywhere in the split; so all rows are read before the first clip is whole. Clips of a
    stream are decoded once, not once a caption. The tiny data set brings ``references`` already.

    Args:
        rows: examples with ``audio`` and ``caption``, from `load_captions` or a list. Rows are of the same clip if
            ``youtube_id`` and ``start_time`` agree; without these columns each row is a clip of its own.
        clips: keep the first so many clips (default: all) with all of their captions.

    Returns:
        The clips in the order in which they first appear: each the first row of its clip plus ``references``, a list
        of one or more texts.
    """
    if isinstance(rows, IterableDataset):
        rows = rows.cast_column("audio", SoundFileAudio(decode=False))
    found: dict = {}
    for number, row in enumerate(rows):
        key = (row["youtube_id"], row.get("start_time")) if row.get("youtube_id") else number
        if key not in found:
            if clips is not None and len(found) >= clips:
                continue
            found[key] = {**row, "references": []}
        found[key]["references"] += row.get("references") or [row["caption"]]
    decode = SoundFileAudio().decode_example
    return [{**row, "audio": decode(row["audio"]) if "bytes" in row["audio"] else row["audio"]} for row in found.values()]
