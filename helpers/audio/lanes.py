"""A whole split of the Hub for several processes: each reads its own files, and nothing is fetched twice."""

from collections.abc import Iterator
from itertools import count

from datasets import IterableDataset

from helpers.audio.order import ALREADY_TRAINED, BLOCK, ClipStream

OTHERS = "a clip of another process"
"""Stands for a clip that this process does not take: nothing is read for it."""


class LaneStream(ClipStream):
    """An endless stream in one order, of which each of ``processes`` reads the part that it takes.

    The order: file ``f`` lies in lane ``f mod lanes``, and clip ``i`` of the run is the next one of lane ``i mod
    lanes``. A lane is shuffled, and begins anew after its last clip, by itself; so no process has to know of the
    others. With as many lanes as a step has clips, a step takes the same clips whatever the number of processes.
    (Passes do not end together: a lane with fewer clips begins its next one sooner.)

    Resumed, a process reads its lanes again up to where they were, without decoding. Each loader worker reads all that
    its process takes, so one is enough.

    Args:
        clips: the whole stream, of at least ``lanes`` files.
        clips_per_batch: clips that all processes together take in one forward pass; ``lanes`` is a multiple of it.
        lanes: clips of a step.
        seed: as for `ClipStream`.
        process, processes: which one this is, and of how many.

    Raises:
        ValueError: fewer files than lanes, or lanes that do not go up into batches.
    """

    def __init__(self, clips: IterableDataset, clips_per_batch: int, lanes: int, seed: int | None = None,
                 process: int = 0, processes: int = 1):
        super().__init__(clips, clips_per_batch, endless=True, seed=seed, block=max(1, BLOCK // lanes))
        if clips.num_shards < lanes or lanes % clips_per_batch or clips_per_batch % processes:
            raise ValueError(f"{clips.num_shards} files cannot be read in {lanes} lanes by {processes} processes that "
                             f"take {clips_per_batch} clips at once: read them with ClipStream.")
        share = clips_per_batch // processes
        self.lanes, self._mine = lanes, range(process * share, (process + 1) * share)

    def _all_clips(self) -> Iterator[dict | str]:
        for _ in range(self._batches_seen * self.clips_per_batch):
            yield ALREADY_TRAINED
        given, lanes = self._position["clips"], {}
        for number in count(given):
            lane = number % self.lanes
            if number % self.clips_per_batch not in self._mine:
                yield OTHERS
                continue
            if lane not in lanes:
                lanes[lane] = self._lane(lane, given)
            yield next(lanes[lane])

    def _lane(self, lane: int, given: int) -> Iterator[dict]:
        """The clips of a lane, from the first that is not among the first ``given`` of the run."""
        files = self.clips.shard(self.lanes, lane, contiguous=False)
        stream = ClipStream(files, 1, endless=True, seed=self.seed, block=self.block)
        stream.resume(0, {"clips": len(range(lane, given, self.lanes))})
        return stream._all_clips()
