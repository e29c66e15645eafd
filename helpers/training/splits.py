"""Which clips a run trains on, and which it is evaluated on."""

from pathlib import Path

from datasets import IterableDataset

from helpers.audio.captions import load_captions
from helpers.audio.folder import FolderReport, scan_folder, stream_clips
from helpers.audio.sources import split_by_source
from helpers.audio.table import CaptionError
from helpers.hub import is_hub_id
from helpers.profiles import Profile


def load_splits(profile: Profile, lanes: int | None = None) -> tuple[IterableDataset, IterableDataset | None]:
    """The profile's streams: clips to train on, and clips to evaluate on if there are any.

    Of the tiny data set and of one on the Hub: the first ``train_clips`` of its training split, and the next
    ``eval_clips``; if there are no more than ``train_clips``, all of them and none. Of a folder: see `folder_splits`.

    What is read of the Hub is kept on this machine, so that it is fetched once; but a whole split of at least ``lanes``
    files, if that is given, is streamed, for `LaneStream`.
    """
    source = profile.dataset_id
    if Path(source).is_dir():
        train, held_out = folder_splits(scan_folder(source), profile)
        return stream_clips(train), stream_clips(held_out) if held_out else None
    wanted = profile.train_clips + profile.eval_clips
    if lanes and is_hub_id(source):
        whole = load_captions(source, split="train")
        if _length(whole, wanted) <= profile.train_clips and whole.num_shards >= lanes:
            return whole, None
    stream = load_captions(source, split="train", keep=wanted)
    if _length(stream, wanted) <= profile.train_clips:
        return stream, None  # they are all needed
    return stream.take(profile.train_clips), stream.skip(profile.train_clips).take(profile.eval_clips)


def _length(stream: IterableDataset, otherwise: int) -> int:
    """How many clips the training split has, if that is said."""
    known = (stream.info.splits or {}).get("train")
    return otherwise if known is None or known.num_examples is None else known.num_examples


def folder_splits(report: FolderReport, profile: Profile) -> tuple[list[dict], list[dict]]:
    """Clips of a folder to train on, and at most ``eval_clips`` to evaluate on.

    These are its validation part if it has one; otherwise a fifth of its training part, by source, so that no recording
    is on both sides. The second list is empty where all clips come from one source. A part ``test`` is left alone.

    Raises:
        CaptionError: the folder has no clips to train on.
    """
    train, held_out = ([clip for clip in report.clips if clip["split"] == split] for split in ("train", "validation"))
    if not train:
        raise CaptionError(f"The folder {report.name!r} has no usable clips in its part 'train': it offers "
                           f"{', '.join(sorted({clip['split'] for clip in report.clips}))} alone.")
    if not held_out and len({clip["source"] for clip in train}) > 1:
        train, held_out = split_by_source(train)
    return train, held_out[: profile.eval_clips]
