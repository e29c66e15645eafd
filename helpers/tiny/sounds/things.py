"""Things of the house and the workshop."""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds.blocks import SAMPLING_RATE, Rng, add, noise, repeat, ring, seconds, sweep


def clock(rng: Rng, duration: float) -> np.ndarray:
    """A clock: tick and tock, two dry clicks of slightly different pitch, evenly spaced."""
    step = rng.uniform(0.3, 0.42)
    high = rng.uniform(2500, 3200)
    track = np.zeros(len(seconds(duration)))
    for number in range(int(duration / step) + 1):
        pitch = high if number % 2 == 0 else high * 0.78
        add(track, ring(0.04, [(pitch, 1.0, 0.005), (pitch * 1.83, 0.5, 0.003)]), 0.02 + number * step)
    return track


def knock(rng: Rng, duration: float) -> np.ndarray:
    """Knocks on a door: groups of three or four dull wooden thuds."""
    box = rng.uniform(160, 240)

    def group() -> np.ndarray:
        track = np.zeros(len(seconds(0.95)))
        for number in range(rng.integers(3, 5)):
            thud = ring(0.12, [(box, 1.0, 0.022), (box * 2.3, 0.6, 0.014), (box * 4.1, 0.35, 0.007)])
            thud[:160] += 0.6 * noise(rng, 0.01, 500, 3000) * np.linspace(1, 0, 160)
            add(track, thud, number * 0.2)
        return track

    return repeat(rng, duration, group, (1.05, 1.3))


def drip(rng: Rng, duration: float) -> np.ndarray:
    """A dripping tap: single drops, each a "plink" whose bubble rings upwards and dies within a tenth of a second."""
    base, pace = rng.uniform(900, 1300), rng.uniform(0.34, 0.5)

    def drop() -> np.ndarray:
        x = seconds(0.16) / 0.16
        pitch = base * rng.uniform(0.9, 1.1) * (1 + 1.1 * x**1.5)
        plink = np.sin(sweep(pitch)) * np.exp(-6 * x) * np.minimum(x / 0.03, 1)
        plink[:60] += 0.35 * noise(rng, 60 / SAMPLING_RATE, 2000, 7000)
        return plink

    return repeat(rng, duration, drop, (0.93 * pace, 1.07 * pace), level=(0.75, 1.0))


def laser(rng: Rng, duration: float) -> np.ndarray:
    """A toy laser: "pew pew", a tone that falls from 3 kHz to 300 Hz within a fifth of a second."""
    top, length = rng.uniform(2600, 3600), rng.uniform(0.17, 0.24)

    def pew() -> np.ndarray:
        x = seconds(length) / length
        phase = sweep(300 + (top - 300) * np.exp(-4.5 * x))
        square = np.sin(phase) + np.sin(3 * phase) / 3
        return square * (1 - x) ** 0.5

    return repeat(rng, duration, pew, (1.1 * length, 1.5 * length))


def saw(rng: Rng, duration: float) -> np.ndarray:
    """A hand saw: strokes to and fro, a rasp of teeth that is bright on the push and dull on the pull."""
    pace, teeth = rng.uniform(0.3, 0.4), rng.uniform(75, 110)
    track = np.zeros(len(seconds(duration)))
    for number in range(int(duration / pace) + 1):
        length = 0.85 * pace
        x = seconds(length) / length
        push = number % 2 == 0
        speed = np.sin(np.pi * x) ** 0.6
        grain = (0.5 + 0.5 * np.sin(sweep(teeth * (0.6 + 0.5 * speed)))) ** 3
        low, high = (1300, 5200) if push else (700, 2600)
        rasp = noise(rng, length, low, high) * (0.25 + grain) * speed
        add(track, rasp, number * pace, 1.0 if push else 0.6)
    return track


def ball(rng: Rng, duration: float) -> np.ndarray:
    """A bouncing ball: dull thumps that come faster and softer until the ball lies still, then it is dropped again."""
    pitch, first, bounce = rng.uniform(120, 170), rng.uniform(0.36, 0.46), rng.uniform(0.74, 0.8)
    track = np.zeros(len(seconds(duration)))
    at, gap, level = 0.0, first, 1.0
    while at < duration:
        thump = ring(0.14, [(pitch, 1.0, 0.03), (2.7 * pitch, 0.7, 0.014), (9 * pitch, 0.4, 0.008)])
        add(track, thump, at, level)
        at, gap, level = at + gap, gap * bounce, level * 0.88
        if gap < 0.045:
            at, gap, level = at + 0.2, first, 1.0
    return track
