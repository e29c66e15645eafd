"""The most memory that a process held while something ran."""

from __future__ import annotations

import sys
import threading

import psutil

try:
    import resource
except ImportError:  # Windows
    resource = None

INTERVAL = 0.002
"""Seconds between two looks. The tensors that make a peak live far longer."""


def _high_water() -> int:
    """The process's largest resident set so far in bytes; 0 where the system does not say."""
    if resource is None:
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class PeakMemory:
    """Context manager: resident memory (RSS) of this process at the start, and its peak until the end.

    A thread looks every 2 ms. Where the system's own high-water mark rose meanwhile, that mark is the peak, exactly.

    Attributes:
        start: bytes when the block was entered.
        peak: most bytes within the block.
    """

    def __enter__(self) -> PeakMemory:
        self._process, self._stop = psutil.Process(), threading.Event()
        self.start = self.peak = self._process.memory_info().rss
        self._mark = _high_water()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *_) -> None:
        self._stop.set()
        self._thread.join()
        mark = _high_water()
        if mark > self._mark:
            self.peak = max(self.peak, mark)

    @property
    def above(self) -> int:
        """Bytes by which the peak exceeds the start."""
        return self.peak - self.start
