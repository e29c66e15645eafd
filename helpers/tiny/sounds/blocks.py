"""Building blocks of the procedural sounds: noise, envelopes, voices and struck objects.

The recipes are the textbook ones: additive synthesis, source and filter for voices, shaped noise, damped resonances.
All randomness comes from the generator that is passed in, so the same seed gives the same sound everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.profiles import SAMPLING_RATE

Rng = np.random.Generator
Gain = Callable[[np.ndarray], np.ndarray]
"""A filter: frequencies in Hz to gains."""

SCALE = np.array([0, 2, 4, 7, 9, 12, 14, 16])
"""Major pentatonic scale in semitones: any order of its notes sounds like a tune."""


def seconds(duration: float) -> np.ndarray:
    """Time axis in seconds, shape ``(samples,)``."""
    return np.arange(int(round(duration * SAMPLING_RATE))) / SAMPLING_RATE


def shape_spectrum(signal: np.ndarray, gain: Gain) -> np.ndarray:
    """Filter by multiplying the spectrum with ``gain(frequency in Hz)``: zero phase, no recursion to drift."""
    size = len(signal)
    if size == 0:
        return signal
    padded = 1 << (size + 256).bit_length()  # a power of two is fast, and room at the end keeps the tail from wrapping
    spectrum = np.fft.rfft(signal, padded)
    return np.fft.irfft(spectrum * gain(np.fft.rfftfreq(padded, 1 / SAMPLING_RATE)), padded)[:size]


def band(low: float, high: float) -> Gain:
    """A soft band between ``low`` and ``high`` Hz (fourth-order slopes)."""
    return lambda f: 1 / np.sqrt((1 + (low / np.maximum(f, 1e-9)) ** 8) * (1 + (f / high) ** 8))


def formants(*peaks: tuple[float, float, float]) -> Gain:
    """Resonances of a throat or a box: sum of bells given as (centre in Hz, width in Hz, gain)."""
    return lambda f: 0.02 + sum(gain / (1 + ((f - centre) / width) ** 2) for centre, width, gain in peaks)


def noise(rng: Rng, duration: float, low: float, high: float) -> np.ndarray:
    """Band-limited Gaussian noise with unit RMS."""
    samples = shape_spectrum(rng.standard_normal(len(seconds(duration))), band(low, high))
    return samples / (np.sqrt(np.mean(samples**2)) + 1e-12)


def swell(size: int, attack: float, release: float) -> np.ndarray:
    """A level envelope with raised-cosine edges; ``attack`` and ``release`` in seconds."""
    envelope = np.ones(size)
    for edge, at_start in ((attack, True), (release, False)):
        count = min(int(edge * SAMPLING_RATE), size // 2)
        if count:
            ramp = 0.5 - 0.5 * np.cos(np.pi * np.arange(count) / count)
            if at_start:
                envelope[:count] *= ramp
            else:
                envelope[size - count :] *= ramp[::-1]
    return envelope


def voice(pitch: np.ndarray, gain: Gain, tilt: float = 1.0) -> np.ndarray:
    """Harmonics of a gliding pitch (Hz per sample), weighted by the resonances ``gain`` and by ``1 / k ** tilt``."""
    table = np.append(gain(np.arange(7400.0)), 0.0)  # one entry a Hz; nothing above 7.4 kHz, so nothing aliases
    phase = 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE
    out = np.zeros(len(pitch))
    # sin((k + 1) x) = 2 cos(x) sin(k x) - sin((k - 1) x): one multiplication a harmonic instead of one sine
    twice_cosine, previous, current = 2 * np.cos(phase), np.zeros(len(pitch)), np.sin(phase)
    for k in range(1, min(int(7400 / max(pitch.min(), 40.0)), 60) + 1):
        out += table[np.minimum(k * pitch, 7400).astype(int)] / k**tilt * current
        previous, current = current, twice_cosine * current - previous
    return out


def ring(duration: float, partials: list[tuple[float, float, float]]) -> np.ndarray:
    """Struck object: partials given as (frequency in Hz, level, decay time to 1/e in seconds)."""
    t = seconds(duration)
    return sum(level * np.exp(-t / decay) * np.sin(2 * np.pi * frequency * t) for frequency, level, decay in partials)


def add(track: np.ndarray, piece: np.ndarray, at: float, level: float = 1.0) -> None:
    """Mix ``piece`` into ``track`` from second ``at`` on, cut at the end of the track."""
    start = int(at * SAMPLING_RATE)
    if start < len(track):
        piece = piece[: len(track) - start]
        track[start : start + len(piece)] += level * piece


def repeat(rng: Rng, duration: float, piece: Callable[[], np.ndarray], every: tuple[float, float],
           start: float = 0.0, level: tuple[float, float] = (0.8, 1.0)) -> np.ndarray:
    """Place fresh copies of ``piece()`` one after another, onset to onset between ``every[0]`` and ``every[1]`` s."""
    track = np.zeros(len(seconds(duration)))
    at = start
    while at < duration - 0.05:
        add(track, piece(), at, rng.uniform(*level))
        at += rng.uniform(*every)
    return track


def sweep(pitch: np.ndarray) -> np.ndarray:
    """Phase in radians of a tone whose pitch is given in Hz per sample."""
    return 2 * np.pi * np.cumsum(pitch) / SAMPLING_RATE


def pluck(rng: Rng, pitch: float, length: float) -> np.ndarray:
    """A plucked string of ``pitch`` Hz for ``length`` s, after Karplus and Strong (CMJ 7(2), 1983)."""
    period = int(SAMPLING_RATE / pitch)
    # Each turn of the loop averages neighbours: a power of one filter, so all turns come from one transform.
    spectrum = np.fft.rfft(rng.uniform(-1, 1, period))
    turn = 0.4985 * (1 + np.exp(-2j * np.pi * np.arange(len(spectrum)) / period))
    turns = np.arange(int(length * SAMPLING_RATE / period) + 1)
    return np.fft.irfft(spectrum * turn ** turns[:, None], period, axis=1).ravel()
