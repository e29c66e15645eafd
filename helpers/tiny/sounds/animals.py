"""Animals of the farm, the house and the garden."""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds.blocks import Rng, add, formants, noise, repeat, seconds, sweep, swell, voice


def dog(rng: Rng, duration: float) -> np.ndarray:
    """Barks: a short harmonic yell, pitch up and down, through a mouth-shaped filter, with breath noise."""
    base = rng.uniform(280, 520)
    mouth = formants((1.7 * base + 300, 260, 1.0), (1900, 400, 0.5), (3000, 600, 0.2))

    def bark() -> np.ndarray:
        length = rng.uniform(0.13, 0.2)
        x = seconds(length) / length
        pitch = base * (0.8 + 0.75 * np.sin(np.pi * x**0.7)) * rng.uniform(0.95, 1.05)
        level = np.minimum(x / 0.08, 1) * (1 - x) ** 0.8
        return level * (voice(pitch, mouth, 0.4) + 0.35 * noise(rng, length, 600, 4000))

    return repeat(rng, duration, bark, (0.28, 0.5))


def cat(rng: Rng, duration: float) -> np.ndarray:
    """Meows: a slow pitch arch whose mouth opens and closes, so that the resonance glides up and back."""
    base = rng.uniform(430, 620)

    def meow() -> np.ndarray:
        length = rng.uniform(0.65, 0.95)
        x = seconds(length) / length
        pitch = base * (0.9 + 0.35 * np.sin(np.pi * np.minimum(x * 1.15, 1)) - 0.2 * x)
        pitch = pitch * (1 + 0.012 * np.sin(2 * np.pi * 7 * x * length))
        opening = 900 + 1300 * np.sin(np.pi * x) ** 1.5
        phase = sweep(pitch)
        tone = sum(np.exp(-(((k * pitch - opening) / 650) ** 2)) * np.sin(k * phase) for k in range(1, 8))
        return (tone + 0.25 * np.sin(phase)) * swell(len(x), 0.12, 0.25)

    return repeat(rng, duration, meow, (1.05, 1.35))


def bird(rng: Rng, duration: float) -> np.ndarray:
    """Chirps: pure tones that sweep between 2.5 and 6 kHz in a tenth of a second, in small phrases."""
    base = rng.uniform(2900, 4300)
    direction = rng.choice([-1.0, 1.0])

    def phrase() -> np.ndarray:
        track = np.zeros(len(seconds(0.6)))
        for number in range(rng.integers(2, 5)):
            length = rng.uniform(0.05, 0.1)
            x = seconds(length) / length
            pitch = base * (1 + direction * rng.uniform(0.12, 0.3) * (x - 0.5) + 0.06 * np.sin(2 * np.pi * 3 * x))
            chirp = np.sin(sweep(pitch)) * np.sin(np.pi * x) ** 1.3
            add(track, chirp, number * 0.125)
        return track

    return repeat(rng, duration, phrase, (0.6, 0.85))


def cow(rng: Rng, duration: float) -> np.ndarray:
    """A moo: a long, low, rich voice that opens from nasal to full and sinks at the end."""
    base = rng.uniform(115, 165)

    def moo() -> np.ndarray:
        length = min(rng.uniform(1.2, 1.6), duration)
        x = seconds(length) / length
        pitch = base * (0.85 + 0.3 * np.sin(np.pi * np.minimum(1.3 * x, 1)) - 0.12 * x)
        throat = formants((320, 110, 1.0), (720, 160, 0.6), (2300, 400, 0.08))
        return voice(pitch, throat, 0.3) * swell(len(x), 0.18, 0.3)

    return repeat(rng, duration, moo, (1.7, 2.0))


def cricket(rng: Rng, duration: float) -> np.ndarray:
    """Crickets: a steady 4.5 to 5.5 kHz tone in quick groups of pulses."""
    carrier, rate = rng.uniform(4500, 5500), rng.uniform(2.6, 3.4)
    t = seconds(duration)
    beat = (t * rate) % 1
    pulses = np.clip(np.sin(2 * np.pi * rng.uniform(32, 40) * t), 0, None) ** 0.7
    return np.sin(2 * np.pi * carrier * t) * pulses * (beat < 0.5)
