"""Clips: silence, one event, two in a row, or two at once, over background noise, with the truth about each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.tiny.captions import OVERLAP, SEQUENCE, SILENCE, SINGLE
from helpers.tiny.sounds import SAMPLING_RATE, SYNTHESIZERS, synthesize

# Sounds that fill the spectrum all the time: two of them at once could not be told apart by anybody.
NOISE_LIKE = frozenset({"rain", "wind", "thunder", "stream", "engine", "helicopter", "applause", "saw"})


@dataclass(frozen=True)
class Event:
    """One sound in a clip: its class, and when it begins and ends, in seconds."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Scene:
    """A clip (float32 mono at 16 kHz, shape ``(samples,)``) and the truth about it."""

    samples: np.ndarray
    events: tuple[Event, ...]
    relation: str

    @property
    def labels(self) -> list[str]:
        """Sound classes in the order in which they begin; none: silence."""
        return [event.label for event in self.events]


def compose(
    rng: np.random.Generator,
    duration: tuple[float, float] = (3.0, 4.0),
    names: Sequence[str] = tuple(SYNTHESIZERS),
    make: Callable[[str, np.random.Generator, float], np.ndarray] = synthesize,
    together: bool = False,
) -> Scene:
    """Draw a clip.

    Args:
        rng: where all randomness comes from.
        duration: shortest and longest clip in seconds.
        names: the sound classes to draw from, all equally often.
        make: makes one sound, as `synthesize` does.
        together: two sounds at once begin and end at once. Otherwise, as mostly in life, one begins first and the other
            ends last, and for half of the clip both are heard. The first to begin is the first to be named: where
            chance decides which of two is named first, a model learns to name the likelier one twice.

    Returns:
        A `Scene`: 6 % silence (or the noise of a room), 37 % one event, 33 % two in a row, 24 % two at once.
    """
    length = round(float(rng.uniform(*duration)), 2)
    relation = str(rng.choice([SILENCE, SINGLE, SEQUENCE, OVERLAP], p=[0.06, 0.37, 0.33, 0.24]))
    names = list(names)
    first = str(rng.choice(names))
    if relation == SILENCE:
        events = []
    elif relation == SINGLE:
        start = round(float(rng.uniform(0, 0.2 * length)), 2)
        end = round(float(rng.uniform(0.75 * length, length)), 2)
        events = [Event(first, start, end)]
    else:
        others = [name for name in names if name != first]
        if relation == OVERLAP and first in NOISE_LIKE:
            others = [name for name in others if name not in NOISE_LIKE]
        second = str(rng.choice(others))
        if relation == SEQUENCE:
            middle = round(float(rng.uniform(0.45, 0.55) * length), 2)
            gap = round(float(rng.uniform(0.0, 0.2)), 2)
            events = [Event(first, round(float(rng.uniform(0, 0.1)), 2), middle), Event(second, middle + gap, length)]
        else:
            ordered = sorted((first, second), key=names.index) if together else (first, second)
            begins = ((0.0, 0.1), (0.0, 0.1)) if together else ((0.0, 0.05), (0.2, 0.3))
            ends = ((0.9, 1.0), (0.9, 1.0)) if together else ((0.7, 0.8), (0.95, 1.0))
            events = [
                Event(label, round(float(rng.uniform(*begin) * length), 2), round(float(rng.uniform(*end) * length), 2))
                for label, begin, end in zip(ordered, begins, ends, strict=True)
            ]

    track = np.zeros(int(round(length * SAMPLING_RATE)))
    for event in events:
        samples = make(event.label, rng, event.end - event.start)
        begin = int(round(event.start * SAMPLING_RATE))
        samples = samples[: len(track) - begin]
        track[begin : begin + len(samples)] += samples * 10 ** (rng.uniform(-4, 0) / 20)
    track += _background(rng, len(track))
    track *= 10 ** (rng.uniform(-6, 4) / 20)
    track *= min(1.0, 0.95 / (np.abs(track).max() + 1e-12))
    return Scene(track.astype(np.float32), tuple(events), relation)


def _background(rng: np.random.Generator, size: int) -> np.ndarray:
    """Room noise: 1/f noise, 25 to 45 dB below the events, in two clips of three; the others get a trace of it."""
    padded = 1 << size.bit_length()
    spectrum = np.fft.rfft(rng.standard_normal(padded))
    frequency = np.fft.rfftfreq(padded, 1 / SAMPLING_RATE)
    pink = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequency, 40.0)), padded)[:size]
    level = rng.uniform(-45, -25) if rng.uniform() < 2 / 3 else -65.0
    return pink / np.sqrt(np.mean(pink**2)) * 0.1 * 10 ** (level / 20)
