"""Captioned audio as streams: nothing is downloaded or decoded before it is asked for.

`datasets` decodes audio through torchcodec, which needs FFmpeg's shared libraries. Here the column keeps the raw
bytes, and `DecodedAudio` decodes them at the very end of the stream.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Audio, Dataset, IterableDataset, get_dataset_split_names, load_dataset

from helpers.audio.folder import columns_of
from helpers.audio.kept import first_rows
from helpers.audio.listing import check_rows, list_recordings
from helpers.audio.references import clips_with_references, gather
from helpers.audio.samples import load_audio
from helpers.hub import hub_access, is_hub_id
from helpers.profiles import SAMPLING_RATE, TINY


class SplitError(ValueError):
    """A split that a source does not have; the message lists those it has."""


@dataclass
class DecodedAudio(Audio):
    """`datasets.Audio`, decoded by `load_audio` instead of torchcodec.

    As a feature it decodes at the very end of a stream: clips that ``skip`` passes over are never decoded.
    """

    sampling_rate: int | None = SAMPLING_RATE
    _type: str = field(default="DecodedAudio", init=False, repr=False)

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


def load_captions(source: str | os.PathLike, split: str = "train", keep: int | None = None) -> IterableDataset:
    """Stream captioned clips: nothing is downloaded or decoded before it is asked for.

    Args:
        source: ``"tiny"``, a Hub id such as ``"OpenSound/AudioCaps"``, or a folder of audio files with a table (see
            `list_recordings`; several rows of one file become one example with all of its ``references``).
        split: name of the split.
        keep: of a data set on the Hub, the first so many rows alone, kept on this machine (see `first_rows`).

    Returns:
        A stream of examples: ``audio`` = ``{"array": float32 mono, "sampling_rate": 16000, "path"}``, ``caption``, and
        the source's other columns.

    Raises:
        SplitError, FileNotFoundError: there is no such split, or no such folder.
        HubError, TooMuch: the Hub did not give the data set (see `hub_access`), or there is too much to keep.
        CaptionError: the folder's table is missing or incomplete.
    """
    if source == TINY:
        stream = _load_tiny(split)
    elif Path(source).is_dir():
        stream = _load_folder(Path(source), split)
    elif not is_hub_id(source):
        raise FileNotFoundError(f"There is no folder {os.fspath(source)!r}: give a folder of audio files, a Hub id "
                                f"such as 'OpenSound/AudioCaps', or {TINY!r}.")
    else:
        stream = _load_hub(source, split) if keep is None else first_rows(
            source, split, keep, lambda revision: _load_hub(source, split, revision))
    clips = stream.cast_column("audio", DecodedAudio())
    if is_hub_id(source) and keep is None:
        clips.on_hub = source, split  # for `group_references`; whatever is made of this stream does not have it
    return clips


def _check_split(split: str, available: list[str], source: str) -> None:
    if split not in available:
        raise SplitError(f"{source} has no split {split!r}; it has {', '.join(map(repr, available))}.") from None


def _load_tiny(split: str) -> IterableDataset:
    from helpers.tiny.dataset import SPLITS, ensure_dataset

    _check_split(split, list(SPLITS), "The tiny data set")
    files = sorted(str(file) for file in ensure_dataset().glob(f"{split}-*.parquet"))
    return load_dataset("parquet", data_files={split: files}, split=split, streaming=True)  # nosec B615: local files


def _load_hub(source: str, split: str, revision: str | None = None) -> IterableDataset:
    with hub_access(source, "dataset"):
        try:
            return load_dataset(source, split=split, streaming=True, revision=revision)
        except ValueError as error:
            if "split" not in str(error).lower():
                raise
            _check_split(split, get_dataset_split_names(source), f"The data set {source}")
            raise


def _load_folder(folder: Path, split: str) -> IterableDataset:
    listing = list_recordings(folder)
    check_rows(listing)
    _check_split(split, listing.splits, f"The folder {folder.name!r}")
    rows = [{"audio": str(recording.path), "caption": recording.captions[0], "references": recording.captions,
             "source": recording.source, **recording.others}
            for recording in listing.recordings if recording.split == split]
    clips = Dataset.from_dict(columns_of(rows)).cast_column("audio", Audio(decode=False))
    return clips.to_iterable_dataset()


def group_references(rows: Iterable[dict], clips: int | None = None, word: str | None = None) -> list[dict]:
    """One example a clip, with everything that people wrote about it in ``references``.

    AudioCaps' validation and test splits have five captions a clip, as five rows that share ``youtube_id`` and
    ``start_time`` and lie anywhere in the split; so all rows are read before the first clip is whole, and a clip is
    decoded once. The tiny data set brings ``references`` already.

    Args:
        rows: from `load_captions`, or a list of examples; without these two columns each row is a clip of its own.
        clips: keep the first so many clips (default: all) with all of their captions.
        word: only clips of which a caption has these letters in it; that caption becomes the clip's ``caption``.

    Returns:
        The clips in the order in which they first appear: each its first row plus ``references``, one or more texts.
        A whole split of the Hub is not streamed for that: see `clips_with_references`.
    """
    if hasattr(rows, "on_hub") and (whole := clips_with_references(*rows.on_hub, clips, word)) is not None:
        return [{**row, "audio": DecodedAudio().decode_example(row["audio"])} for row in whole]
    if isinstance(rows, IterableDataset):
        rows = rows.cast_column("audio", DecodedAudio(decode=False))
    decode = DecodedAudio().decode_example
    return [{**clip, "audio": decode(clip["audio"]) if "bytes" in clip["audio"] else clip["audio"]}
            for _, clip in gather(rows, clips, word)]
