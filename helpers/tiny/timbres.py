"""Sounds without a name: random timbres that make the encoder's ears wide, and rooms that colour any sound.

A real audio encoder has heard nearly everything. This one would know three dozen recipes and be deaf to the rest, so
its warm-up mixes in `TIMBRES` made-up sounds: each number stands for one random recipe (a source, a spectrum, a
melody, a rhythm), and each call plays it a little differently.
"""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds import level
from helpers.tiny.sounds.blocks import Rng, add, noise, ring, seconds, shape_spectrum, sweep, swell, voice

TIMBRES = 96
"""How many random recipes there are."""


def timbre(number: int, rng: Rng, duration: float) -> np.ndarray:
    """One playing of recipe ``number``: float64 samples of ``duration`` s, at the level of `sounds.synthesize`.

    Everything that makes the recipe is drawn from a generator seeded by its number; ``rng`` varies pitch and pace by
    8 % and the spectrum by a little.
    """
    recipe = np.random.default_rng([5_150, number])
    near = rng.uniform(0.92, 1.08, size=4)
    source = ("voice", "ring", "noise", "tones", "clicks")[number % 5]
    pitch = float(np.exp(recipe.uniform(np.log(70), np.log(1600)))) * near[0]
    peaks = [(np.exp(recipe.uniform(np.log(200), np.log(6000))), recipe.uniform(0.1, 0.4), recipe.uniform(0.2, 1.0))
             for _ in range(4)]
    curve = recipe.integers(6), recipe.uniform(0.1, 0.7), recipe.uniform(1, 9) * near[1]
    rhythm = recipe.integers(4), np.exp(recipe.uniform(np.log(0.09), np.log(0.9))) * near[2], recipe.uniform(0.2, 0.8)
    shake = recipe.uniform(5, 45) * near[3], recipe.uniform(0, 0.9) * (recipe.uniform() < 0.5)
    partials = [(recipe.uniform(1, 8), recipe.uniform(0.2, 1), recipe.uniform(0.01, 0.25)) for _ in range(5)]
    tilt = recipe.uniform(0, 1.5)

    def gain(frequency: np.ndarray) -> np.ndarray:
        return 0.02 + sum(size / (1 + ((frequency / centre - 1) / width) ** 2) for centre, width, size in peaks)

    def piece(length: float) -> np.ndarray:
        x = seconds(length) / length
        line = pitch * _contour(x, length, *curve)
        if source == "voice":
            return voice(line, gain, tilt)
        if source == "tones":
            phase = sweep(np.minimum(2 * line, 7000))
            return np.sin(phase + partials[0][0] * np.sin(partials[1][0] * phase))
        if source == "noise":
            return shape_spectrum(rng.standard_normal(len(x)), gain)
        if source == "ring":
            return ring(length, [(min(pitch * ratio, 7500), size, 3 * decay) for ratio, size, decay in partials])
        step = 1 / (20 + 60 * curve[1])
        out = np.zeros(len(x))
        for at in np.arange(0, length, step):
            add(out, ring(0.05, [(min(4 * pitch, 6000), 1.0, 0.1 * partials[0][2])]), at + 0.2 * step * rng.uniform())
        return out

    kind, period, share = rhythm
    if kind == 0:
        track = piece(duration)
    else:
        track, at = np.zeros(len(seconds(duration))), 0.0
        while at < duration - 0.05:
            part = piece(max(min(period * (share if kind < 3 else 0.95), duration), 0.04))
            fall = np.exp(-np.arange(len(part)) / (0.35 * len(part))) if kind == 2 else 1.0
            add(track, part * fall * swell(len(part), 0.01, 0.02), at, rng.uniform(0.8, 1.0))
            at += period * (rng.uniform(0.6, 1.5) if kind == 3 else 1.0)
    rate, depth = shake
    track = track * (1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * rate * seconds(duration))[: len(track)]))
    return level(track)


def _contour(x: np.ndarray, length: float, kind: int, depth: float, rate: float) -> np.ndarray:
    """A melody as a factor on the pitch: level, rising, falling, trembling, arched, or in steps."""
    if kind == 1:
        return 1 + depth * x
    if kind == 2:
        return 1 + depth * np.exp(-5 * x)
    if kind == 3:
        return 1 + 0.1 * depth * np.sin(2 * np.pi * rate * x * length)
    if kind == 4:
        return 1 + depth * np.sin(np.pi * x)
    if kind == 5:
        return 1 + depth * ((x * length * rate) % 2 > 1)
    return np.ones(len(x))


def recolour(samples: np.ndarray, rng: Rng) -> np.ndarray:
    """The same sound elsewhere: another microphone (a broad tilt and one resonance), and often a room that echoes.

    Args:
        samples: shape ``(samples,)``.
        rng: where all randomness comes from.

    Returns:
        float64 samples of the same shape and about the same level.
    """
    tilt, centre, size = rng.uniform(-6, 6), np.exp(rng.uniform(np.log(200), np.log(6000))), rng.uniform(-8, 8)

    def microphone(frequency: np.ndarray) -> np.ndarray:
        octaves = np.log2(np.maximum(frequency, 30.0) / 1000)
        bump = size / (1 + (2 * (octaves - np.log2(centre / 1000))) ** 2)
        return 10 ** ((0.5 * tilt * octaves + bump) / 20)

    out = shape_spectrum(samples, microphone)
    if rng.uniform() < 0.6:
        decay = rng.uniform(0.03, 0.2)
        tail = noise(rng, 4 * decay, 100, rng.uniform(2000, 7000)) * np.exp(-seconds(4 * decay) / decay)
        padded = 1 << (len(out) + len(tail)).bit_length()
        wet = np.fft.irfft(np.fft.rfft(out, padded) * np.fft.rfft(tail, padded), padded)[: len(out)]
        out = out + rng.uniform(0.1, 0.7) * wet * (np.std(out) / (np.std(wet) + 1e-12))
    return out * (np.std(samples) / (np.std(out) + 1e-12))


def stretch(samples: np.ndarray, size: int) -> np.ndarray:
    """Play ``samples`` faster or slower, pitch and all, so that ``size`` samples come out."""
    return np.interp(np.linspace(0, len(samples) - 1, size), np.arange(len(samples)), samples)
