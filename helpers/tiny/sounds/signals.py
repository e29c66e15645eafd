"""Signals that somebody is meant to hear: telephone, siren, smoke alarm, church bell."""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds.blocks import Rng, repeat, ring, seconds, sweep


def siren(rng: Rng, duration: float) -> np.ndarray:
    """A siren: a reedy tone that wails between about 600 and 1500 Hz and back, over and over."""
    t = seconds(duration)
    wave = 0.5 - 0.5 * np.cos(2 * np.pi * (rng.uniform(0.7, 1.1) * t + rng.uniform(0, 0.3)))
    pitch = rng.uniform(560, 680) * 2.3**wave
    phase = sweep(pitch)
    return np.sin(phase) + 0.35 * np.sin(2 * phase) + 0.2 * np.sin(3 * phase)


def alarm(rng: Rng, duration: float) -> np.ndarray:
    """A smoke alarm: piercing beeps at 3 kHz, on and off at a fixed pace."""
    t = seconds(duration)
    period = rng.uniform(0.28, 0.36)
    on = np.convolve((t % period < 0.55 * period).astype(float), np.ones(80) / 80, mode="same")
    pitch = rng.uniform(2900, 3300)
    return on * (np.sin(2 * np.pi * pitch * t) + 0.15 * np.sin(2 * np.pi * 2 * pitch * t))


def bell(rng: Rng, duration: float) -> np.ndarray:
    """A church bell: the classic partials (hum, prime, minor third, fifth, octave), struck and left to ring."""
    prime = rng.uniform(330, 470)
    ratios = [(0.5, 0.6, 1.8), (1.0, 1.0, 1.2), (1.19, 0.7, 0.9), (1.5, 0.4, 0.7), (2.0, 0.8, 0.6),
              (2.66, 0.4, 0.35), (3.01, 0.3, 0.25), (4.1, 0.25, 0.15)]

    def strike() -> np.ndarray:
        return ring(2.5, [(prime * ratio, level, decay) for ratio, level, decay in ratios])

    return repeat(rng, duration, strike, (1.1, 1.4))


def phone(rng: Rng, duration: float) -> np.ndarray:
    """An old telephone: a hammer beats two small bells 20 to 25 times a second, in rings with pauses."""
    low, rate = rng.uniform(1250, 1500), rng.uniform(20, 25)
    t = seconds(duration)
    phase = (t * rate) % 1
    second = ((t * rate / 2) % 1) < 0.5
    bells = sum(
        np.exp(-phase / 0.5) * level * np.sin(2 * np.pi * np.where(second, low, low * 1.22) * ratio * t)
        for ratio, level in ((1.0, 1.0), (2.41, 0.6), (3.9, 0.3))
    )
    ringing = ((t + rng.uniform(0, 0.1)) % 1.1) < 0.75
    return bells * ringing
