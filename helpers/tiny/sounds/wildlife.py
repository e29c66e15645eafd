"""A bee, a frog, a sheep, an owl and a galloping horse."""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds.blocks import (
    SAMPLING_RATE,
    Rng,
    add,
    formants,
    noise,
    repeat,
    ring,
    seconds,
    sweep,
    swell,
    voice,
)


def bee(rng: Rng, duration: float) -> np.ndarray:
    """A bee: a buzzing wing beat near 220 Hz that comes closer and goes away, bending a little in pitch."""
    t = seconds(duration)
    near = 0.5 + 0.5 * np.sin(2 * np.pi * (rng.uniform(0.6, 1.1) * t + rng.uniform()))
    pitch = rng.uniform(200, 240) * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(1.5, 2.5) * t) + 0.04 * near)
    wings = formants((420, 200, 1.0), (1300, 500, 0.5), (3200, 900, 0.25))
    flutter = 1 + 0.25 * np.sin(2 * np.pi * rng.uniform(24, 30) * t)
    return voice(pitch, wings, 0.1) * flutter * (0.3 + 0.7 * near)


def frog(rng: Rng, duration: float) -> np.ndarray:
    """A frog: "ribbit", two croaks in a row, each a rattle of 45 to 60 throat pulses a second that jumps up."""
    rate, throat = rng.uniform(45, 60), rng.uniform(550, 750)

    def croak(length: float, lift: float) -> np.ndarray:
        x = seconds(length) / length
        pulses = (1 + 0.15 * lift * x) * rate
        phase = np.cumsum(pulses) / SAMPLING_RATE % 1
        body = np.exp(-phase / 0.22) * np.sin(2 * np.pi * throat * (1 + lift * x) * phase / rate)
        shrill = np.exp(-phase / 0.12) * np.sin(2 * np.pi * 2.7 * throat * (1 + lift * x) * phase / rate)
        return (body + 0.5 * shrill) * np.sin(np.pi * x**0.8) ** 0.7

    def ribbit() -> np.ndarray:
        track = np.zeros(len(seconds(0.5)))
        add(track, croak(0.17, 0.1), 0.0, 0.8)
        add(track, croak(0.2, 0.5), 0.21)
        return track

    return repeat(rng, duration, ribbit, (0.6, 0.75))


def sheep(rng: Rng, duration: float) -> np.ndarray:
    """A sheep: a nasal "baa" whose pitch and level tremble seven to nine times a second."""
    base, rate = rng.uniform(260, 340), rng.uniform(7, 9)

    def baa() -> np.ndarray:
        length = min(rng.uniform(0.75, 1.0), duration)
        t = seconds(length)
        shake = np.sin(2 * np.pi * rate * t)
        pitch = base * (1.05 - 0.12 * t / length + 0.05 * shake)
        nose = formants((800, 200, 1.0), (1700, 250, 0.9), (2700, 400, 0.5))
        rasp = noise(rng, length, 700, 3500)
        return (voice(pitch, nose, 0.2) + 0.5 * rasp) * (0.55 + 0.45 * shake) * swell(len(t), 0.06, 0.15)

    return repeat(rng, duration, baa, (1.1, 1.35))


def owl(rng: Rng, duration: float) -> np.ndarray:
    """An owl: soft, flute-like hoots near 350 Hz in its own rhythm, "hoo, hu-hu, hooo"."""
    base = rng.uniform(310, 400)

    def hoot(length: float) -> np.ndarray:
        x = seconds(length) / length
        phase = sweep(base * (0.94 + 0.08 * np.sin(np.pi * x)))
        breath = 0.06 * noise(rng, length, 250, 900)
        return (np.sin(phase) + 0.12 * np.sin(2 * phase) + breath) * swell(len(x), 0.06, 0.1)

    def call() -> np.ndarray:
        track = np.zeros(len(seconds(1.5)))
        for at, length in ((0.0, 0.3), (0.45, 0.13), (0.63, 0.13), (0.84, 0.45)):
            add(track, hoot(length), at)
        return track

    return repeat(rng, duration, call, (1.55, 1.8))


def horse(rng: Rng, duration: float) -> np.ndarray:
    """A horse gallops: three hollow hoof beats close together and a rest, over and over."""
    stride, hollow = rng.uniform(0.42, 0.52), rng.uniform(750, 950)

    def hoof(number: int) -> np.ndarray:
        pitch = hollow * (1.0, 0.84, 1.18)[number]
        clop = ring(0.1, [(pitch, 1.0, 0.014), (1.9 * pitch, 0.45, 0.007), (0.27 * pitch, 0.7, 0.02)])
        clop[:80] += 0.3 * noise(rng, 0.005, 1000, 5000)
        return clop

    def gallop() -> np.ndarray:
        track = np.zeros(len(seconds(stride)))
        for number in range(3):
            add(track, hoof(number), 0.27 * stride * number, (0.8, 0.7, 1.0)[number])
        return track

    return repeat(rng, duration, gallop, (stride, 1.02 * stride))
