"""Engines and vehicles."""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds.blocks import SAMPLING_RATE, Rng, formants, noise, repeat, seconds, swell, voice


def engine(rng: Rng, duration: float) -> np.ndarray:
    """An engine: explosions at 32 to 50 a second through an exhaust pipe, the speed wavering a little."""
    t = seconds(duration)
    rate = rng.uniform(32, 50) * (1 + 0.06 * np.sin(2 * np.pi * rng.uniform(0.3, 0.8) * t + rng.uniform(0, 6)))
    pipe = formants((90, 40, 1.0), (210, 60, 0.7), (480, 120, 0.3), (1100, 300, 0.1))
    rattle = noise(rng, duration, 200, 2500) * (0.5 + 0.5 * np.sin(2 * np.pi * np.cumsum(rate) / SAMPLING_RATE)) ** 4
    return voice(rate, pipe, 0.1) + 0.12 * rattle


def horn(rng: Rng, duration: float) -> np.ndarray:
    """A car horn: two reedy tones a third apart, in hard-edged honks."""
    low = rng.uniform(380, 450)
    reed = formants((1200, 700, 1.0), (2600, 800, 0.5))

    def honk() -> np.ndarray:
        length = rng.uniform(0.25, 0.55)
        flat = np.ones(len(seconds(length)))
        return (voice(low * flat, reed, 0.5) + voice(1.26 * low * flat, reed, 0.5)) * swell(len(flat), 0.01, 0.02)

    return repeat(rng, duration, honk, (0.65, 0.85), level=(0.95, 1.0))


def train(rng: Rng, duration: float) -> np.ndarray:
    """A train whistle: a breathy chord of four pipes that swells in and sags at the end."""
    root = rng.uniform(290, 350)

    def blow() -> np.ndarray:
        length = min(rng.uniform(1.1, 1.5), duration)
        x = seconds(length) / length
        sag = 1 - 0.04 * np.clip((x - 0.8) / 0.2, 0, 1) - 0.03 * np.clip(1 - x / 0.1, 0, 1)
        pipes = sum(
            np.sin(2 * np.pi * np.cumsum(root * ratio * sag * k) / SAMPLING_RATE) / k
            for ratio in (1.0, 1.19, 1.5, 1.78) for k in (1, 2, 3)
        )
        return (pipes + 0.5 * noise(rng, length, 800, 5000)) * swell(len(x), 0.1, 0.2)

    return repeat(rng, duration, blow, (1.6, 1.9))


def helicopter(rng: Rng, duration: float) -> np.ndarray:
    """A helicopter: blades chop 11 to 14 times a second, each chop a thump and a swish, over turbine whine."""
    t = seconds(duration)
    phase = (rng.uniform(11, 14) * t) % 1
    chop = np.exp(-phase / 0.22)
    thump = np.sin(2 * np.pi * rng.uniform(70, 95) * t)
    whoosh = 0.9 * noise(rng, duration, 100, 1600)
    return chop * (whoosh + thump) + 0.06 * np.sin(2 * np.pi * rng.uniform(1900, 2300) * t)
