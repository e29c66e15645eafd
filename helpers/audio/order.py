"""The order in which a run sees its clips: the same for any number of processes and loader workers, resumed or not.

A stream of `datasets` does not promise that by itself. Loader workers and processes share it out by files, so that
their number decides what comes when; evaluation on a sibling stream (``stream.skip(...)`` beside ``stream.take(...)``)
overwrites the state that the two share; and ``Trainer`` resumes by making all earlier batches again, or, once the
stream has ended and begun anew, at the wrong place. Its own ``shuffle`` is no help: the clips in its buffer are not
part of its state, so a resumed run would lose them. Here clips are shuffled block by block, and a block is read again.
"""

import copy
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from datasets import Audio, IterableDataset
from torch.utils.data import get_worker_info

from helpers.audio.captions import DecodedAudio
from helpers.audio.samples import AudioError, as_samples
from helpers.audio.table import CaptionError
from helpers.profiles import SAMPLING_RATE

BLOCK = 256
"""Clips that are shuffled together: of AudioCaps about 200 MB, of a folder only their names."""

ALREADY_TRAINED = "seen before the run was resumed"
"""Stands for a clip of a step that is already done: nothing is read or decoded for it."""


class ClipStream(torch.utils.data.IterableDataset):
    """A stream in one order, whose clips are decoded by whoever collates them.

    Each loader worker gives the batches that are its turn, so the batches come in the order of a loader without
    workers. Accelerate shares out a stream of this class by batches too (its ``IterableDatasetShard``): process ``r``
    of ``R`` sees the ``r``-th part of each ``clips_per_batch`` clips. The price: every process and worker *reads* every
    clip of the stream, and decodes its own alone; cheap from this machine's disk, where the trainer's part of the Hub's
    clips is kept (`first_rows`). For a whole split there is `LaneStream`.

    Args:
        clips: the stream of one pass.
        clips_per_batch: clips that all processes together take in one forward pass.
        endless: begin anew after the last clip, without a break: no batch is cut short at the end of a pass, and no
            step of gradient accumulation either (the ``Trainer`` would carry the gradients of the cut step over into
            the next one).
        seed: shuffle the clips, differently in each pass, and always in the same way; ``None`` keeps the stream's
            order. Shuffle the training part alone, after it was split off: a stream that is shuffled first and split
            then has other clips on each side in each pass.
        block: clips that are shuffled together; so many lie in memory, undecoded, and the first batch waits for them.
            The blocks of each pass begin elsewhere. ``None``: all clips of a pass together.

    Raises:
        CaptionError: on iteration, if the stream holds no clip.
    """

    def __init__(self, clips: IterableDataset, clips_per_batch: int, endless: bool = False, seed: int | None = None,
                 block: int | None = BLOCK):
        # Streams made of one another share their state's dictionaries; a copy is out of the others' reach.
        self.clips = copy.deepcopy(clips)
        if isinstance((self.clips.features or {}).get("audio"), Audio):
            self.clips = self.clips.cast_column("audio", DecodedAudio(decode=False))
        self.clips_per_batch = clips_per_batch
        self.endless = endless
        self.seed, self.block = seed, block
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
            yield ALREADY_TRAINED
        given = self._position["clips"]
        state = self._position.get("state") or self._state_at(given)
        while True:
            found = state.get("stream") is not None or "done" in state
            for clip, following in self._pass(**state):
                found, given = True, given + 1
                if given % self.clips_per_batch == 0:
                    self._states.append((given, following))
                yield clip
            if not found:
                raise CaptionError("The stream has no clips: check the split, and what take, skip or filter leave "
                                   "of it.")
            if not self.endless:
                return
            state = {"number": state["number"] + 1}

    def _pass(self, number: int = 0, stream: dict | None = None, block: int = 0, done: int = 0) -> Iterator[tuple]:
        """One pass from its ``block``-th block on, without the first ``done`` clips of that; ``stream`` is the state of
        the stream before it. Gives each clip with what to call this with so that the clip after it comes first."""
        # A fresh copy: a stream of `datasets` that was resumed once would begin its next pass at the same place.
        clips = copy.deepcopy(self.clips)
        if stream is not None:
            clips.load_state_dict(stream)
        # `iter` instead of a plain loop: in a loader worker the latter would give the files of that worker alone.
        rows = clips.iter(batch_size=1)
        while True:
            size, order = self._block(number, block)
            found = list(islice(rows, size))
            if not found:
                return
            after = clips.state_dict()
            for position, index in enumerate(order(len(found))):
                if position >= done:
                    row = {name: values[0] for name, values in found[index].items()}
                    yield row, {"number": number, "stream": stream, "block": block, "done": position + 1}
            stream, block, done = after, block + 1, 0

    def _block(self, number: int, block: int) -> tuple[int | None, Callable]:
        """How many clips are read together as the ``block``-th of pass ``number``, and in which order they come."""
        if self.seed is None:
            return 1, range
        rng = np.random.default_rng((self.seed, number, block))
        # The first block of a pass is of any size, so that a clip has other neighbours in each pass.
        return self.block and (int(rng.integers(1, self.block + 1)) if block == 0 else self.block), rng.permutation

    def _state_at(self, given: int) -> dict[str, Any]:
        """The state after ``given`` clips; reads (not decodes) a pass once to count it."""
        if not given:
            return {"number": 0}
        length = sum(1 for _ in islice(copy.deepcopy(self.clips).iter(batch_size=1), given + 1))
        number, within = divmod(given, length) if self.endless and 0 < length <= given else (0, given)
        states = (state for _, state in islice(self._pass(number), within))
        last = deque(states, maxlen=1)
        return last[0] if last else {"number": number}

    def position(self, clips: int) -> dict[str, Any]:
        """What `resume` needs to go on after the first ``clips`` clips; plain JSON."""
        state = next((state for given, state in self._states if given == clips), None)
        return {"clips": clips} if state is None else {"clips": clips, "state": state}

    def resume(self, batches: int, position: dict[str, Any]) -> None:
        """Begin the next iteration with ``batches`` batches of `ALREADY_TRAINED`, which ``Trainer`` throws away when it
        resumes, then go on from ``position``. With its state the clips before it are not even read (up to a file's or
        a block's beginning); without (states do not leave loader workers) they are read again, but not decoded."""
        self._batches_seen, self._position = batches, position
        self._states.clear()


class SkipTrained:
    """Around a collator: an empty batch for clips that are `ALREADY_TRAINED`, and the collator's own for all others."""

    def __init__(self, collate):
        self.collate = collate

    def __call__(self, examples: list) -> dict[str, torch.Tensor]:
        return {} if examples[0] == ALREADY_TRAINED else self.collate(examples)


class SkipUnusable:
    """Around a collator: leaves out clips that cannot be used, with one sentence each, instead of ending a long run.

    The batch is smaller then, by the same clips in each pass and after a resume. Where a whole batch is unusable, the
    first usable clip of ``clips`` stands in for it.

    Args:
        collate: the collator.
        clips: where to look for the stand-in.
        say: takes a sentence; by default it becomes a warning.
    """

    def __init__(self, collate, clips: IterableDataset, say: Callable[[str], None] = warnings.warn):
        self.collate, self.clips, self.say = collate, clips, say
        self._said: set[str] = set()
        self._spare: dict | None = None

    def __call__(self, examples: list[dict]) -> dict[str, torch.Tensor]:
        usable = [found for example in examples if (found := self._usable(example))]
        return self.collate(usable or [self._stand_in()])

    def _usable(self, example: dict) -> dict | None:
        audio = example.get("audio")
        if not isinstance(audio, dict) or "array" in audio:
            return example  # nothing to decode: what is wrong with it the collator says
        try:
            samples = as_samples(audio)
        except AudioError as error:
            if str(error) not in self._said:
                self._said.add(str(error))
                self.say(f"Left out of training: {error}")
            return None
        return {**example, "audio": {"array": samples, "sampling_rate": SAMPLING_RATE,
                                     "path": audio.get("name") or audio.get("path")}}

    def _stand_in(self) -> dict:
        if self._spare is None:
            clips = copy.deepcopy(self.clips).iter(batch_size=1)
            rows = ({name: values[0] for name, values in batch.items()} for batch in islice(clips, 100))
            self._spare = next((found for row in rows if (found := self._usable(row))), None)
        if self._spare is None:
            raise AudioError("None of the first 100 clips can be used: see the sentences above for each of them.")
        return self._spare
