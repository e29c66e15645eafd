"""Musical instruments."""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds.blocks import SCALE, Rng, add, formants, noise, pluck, repeat, ring, seconds, swell, voice


def piano(rng: Rng, duration: float) -> np.ndarray:
    """A piano: single notes of a pentatonic tune, bright at the hammer and dull as they fade."""
    root = 220 * 2 ** (rng.integers(0, 8) / 12)

    def note() -> np.ndarray:
        pitch = root * 2 ** (rng.choice(SCALE) / 12)
        return ring(1.2, [(pitch * k * np.sqrt(1 + 0.0004 * k * k), 1 / k**1.4, 0.7 / k**0.8) for k in range(1, 9)])

    return repeat(rng, duration, note, (0.24, 0.36), level=(0.7, 1.0))


def guitar(rng: Rng, duration: float) -> np.ndarray:
    """A guitar: strummed chords of five plucked strings (Karplus and Strong), one string after another."""
    root = 98 * 2 ** (rng.integers(0, 8) / 12)

    def strum() -> np.ndarray:
        track = np.zeros(len(seconds(0.9)))
        for number, semitone in enumerate((0, 7, 12, 16, 19)):
            add(track, pluck(rng, root * 2 ** (semitone / 12), 0.8), number * 0.022)
        return track * swell(len(track), 0.0, 0.1)

    return repeat(rng, duration, strum, (0.42, 0.6))


def drums(rng: Rng, duration: float) -> np.ndarray:
    """Drums: bass drum and snare in turn, a hi-hat on every half beat."""
    beat = rng.uniform(0.36, 0.5)
    track = np.zeros(len(seconds(duration)))
    for number in range(int(2 * duration / beat) + 1):
        at = number * beat / 2
        t = seconds(0.2)
        if number % 4 == 0:
            add(track, np.exp(-t / 0.07) * np.sin(2 * np.pi * (55 * t + 6 * (1 - np.exp(-t / 0.03)))), at, 1.6)
        elif number % 4 == 2:
            snare = np.exp(-t / 0.05) * (noise(rng, 0.2, 800, 6000) * 0.6 + np.sin(2 * np.pi * 190 * t))
            add(track, snare, at)
        hat = noise(rng, 0.05, 5500, 7800) * np.exp(-seconds(0.05) / 0.012)
        add(track, hat, at, 0.35)
    return track


def violin(rng: Rng, duration: float) -> np.ndarray:
    """A violin: long bowed notes with vibrato, all harmonics through a wooden body, a scratch where the bow turns."""
    root, step = 294 * 2 ** (rng.integers(0, 8) / 12), rng.uniform(0.55, 0.75)
    body = formants((480, 120, 1.0), (1100, 300, 0.8), (2700, 700, 0.9), (4200, 900, 0.3))

    def note() -> np.ndarray:
        t = seconds(1.1 * step)
        vibrato = 1 + 0.011 * np.sin(2 * np.pi * 5.8 * t) * np.minimum(t / 0.2, 1)
        pitch = root * 2 ** (rng.choice(SCALE[:6]) / 12) * vibrato
        bow = 0.05 * noise(rng, 1.1 * step, 1500, 6000) * (0.3 + np.exp(-t / 0.04))
        return (voice(pitch, body, 0.75) + bow) * swell(len(t), 0.07, 0.09)

    return repeat(rng, duration, note, (step, 1.05 * step), level=(0.85, 1.0))
