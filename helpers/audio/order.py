"""The order in which a run sees its clips: the same for any number of processes and loader workers, resumed or not.

A stream of `datasets` does not promise that by itself. Loader workers and processes share it out by files, so that
their number decides what comes when; evaluation on a sibling stream (``stream.skip(...)`` beside ``stream.take(...)``)
overwrites the state that the two share; and ``Trainer`` resumes by making all earlier batches again, or, once the
stream has ended and begun anew, at the wrong place.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any

import torch
from datasets import Audio, IterableDataset
from torch.utils.data import get_worker_info

from helpers.audio.captions import DecodedAudio
from helpers.audio.table import CaptionError

SEEN = "seen before the run was resumed"
"""Stands for a clip of a step that is already done: nothing is read or decoded for it."""


class ClipStream(torch.utils.data.IterableDataset):
    """A stream in one fixed order, whose clips are decoded by whoever collates them.

    Each loader worker gives the batches that are its turn, so the batches come in the order of a loader without
    workers. Accelerate shares out a stream of this class by batches too (its ``IterableDatasetShard``): process ``r``
    of ``R`` sees the ``r``-th part of each ``clips_per_batch`` clips. The price: every process and worker *reads* every
    clip of the stream, and decodes its own alone. Over the Hub that is as many downloads, so fetch the data set first.

    Args:
        clips: the stream of one pass.
        clips_per_batch: clips that all processes together take in one forward pass.
        endless: begin anew after the last clip, without a break: no batch is cut short at the end of a pass, and no
            step of gradient accumulation either (the ``Trainer`` would carry the gradients of the cut step over into
            the next one).

    Raises:
        CaptionError: on iteration, if the stream holds no clip.
    """

    def __init__(self, clips: IterableDataset, clips_per_batch: int, endless: bool = False):
        # Streams made of one another share their state's dictionaries; a copy is out of the others' reach.
        self.clips = copy.deepcopy(clips)
        if isinstance((self.clips.features or {}).get("audio"), Audio):
            self.clips = self.clips.cast_column("audio", DecodedAudio(decode=False))
        self.clips_per_batch = clips_per_batch
        self.endless = endless
        self._batches_seen = 0
        self._position: dict[str, Any] = {"clips": 0}
        # A loader reads ahead by a batch or two; one batch needs one state.
        self._states: deque[tuple[int, dict]] = deque(maxlen=16)

    def __iter__(self) -> Iterator[dict | str]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        for index, clip in enumerate(self._all_clips()):
            if index // self.clips_per_batch % workers == number:
                yield clip

    def _all_clips(self) -> Iterator[dict | str]:
        for _ in range(self._batches_seen * self.clips_per_batch):
            yield SEEN
        given = self._position["clips"]
        clips, skip = self.clips.repeat(None) if self.endless else self.clips, 0
        if self._position.get("state"):
            clips.load_state_dict(self._position["state"])
        elif given:
            skip = self._within_a_pass(given)
        # `iter` instead of a plain loop: in a loader worker the latter would give the files of that worker alone.
        found = False
        for batch in islice(clips.iter(batch_size=1), skip, None):
            found, given = True, given + 1
            if given % self.clips_per_batch == 0:
                self._states.append((given, clips.state_dict()))
            yield {name: values[0] for name, values in batch.items()}
        if not found and not given:
            raise CaptionError("The stream has no clips: check the split, and what take, skip or filter leave of it.")

    def _within_a_pass(self, given: int) -> int:
        """How far into a pass ``given`` clips reach; reads (not decodes) them once."""
        length = sum(1 for _ in islice(self.clips.iter(batch_size=1), given + 1))
        return given % length if self.endless and 0 < length <= given else given

    def position(self, clips: int) -> dict[str, Any]:
        """What `resume` needs to go on after the first ``clips`` clips; plain JSON."""
        state = next((state for given, state in self._states if given == clips), None)
        return {"clips": clips} if state is None else {"clips": clips, "state": state}

    def resume(self, batches: int, position: dict[str, Any]) -> None:
        """Begin the next iteration with ``batches`` batches of `SEEN`, and go on from ``position`` after them.

        Args:
            batches: batches that the reader will throw away, as ``Trainer`` does when it resumes.
            position: from `position`. With its state the clips before it are not even read (up to a file's
                beginning); without (states do not leave loader workers) they are read again, but not decoded.
        """
        self._batches_seen, self._position = batches, position
        self._states.clear()


class SkipSeen:
    """Around a collator: an empty batch for clips that are `SEEN`, and the collator's own for all others."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, examples: list) -> dict[str, torch.Tensor]:
        return {} if examples[0] == SEEN else self.collate(examples)
