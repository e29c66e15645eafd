"""Weather and water."""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds.blocks import Rng, add, noise, ring, seconds, sweep


def rain(rng: Rng, duration: float) -> np.ndarray:
    """Rain: a steady high hiss and hundreds of separate drops, each a tiny damped click."""
    hiss = noise(rng, duration, 900, 7000)
    drops = np.zeros(len(hiss))
    for _ in range(int(duration * rng.uniform(90, 140))):
        pitch = rng.uniform(1800, 5500)
        drop = ring(0.012, [(pitch, 1.0, 0.002)])
        add(drops, drop, rng.uniform(0, duration), rng.uniform(1.0, 5.0))
    return hiss + drops


def wind(rng: Rng, duration: float) -> np.ndarray:
    """Wind: low noise in slow gusts, with a whistling resonance that rises and falls with the gust."""
    t = seconds(duration)
    rate = rng.uniform(0.35, 0.7)
    gust = 0.55 + 0.45 * np.sin(2 * np.pi * (rate * t + rng.uniform()))
    low = noise(rng, duration, 60, 350)
    howl = noise(rng, duration, 20, 60)
    pitch = rng.uniform(380, 520) * (1 + 0.35 * (gust - 0.5))
    whistle = howl * np.sin(sweep(pitch))
    return low * (0.35 + gust) + 0.9 * whistle * gust**2


def thunder(rng: Rng, duration: float) -> np.ndarray:
    """Thunder: a broadband crack, then a rumble below 300 Hz that rolls in several waves and dies away."""
    t = seconds(duration)
    crack = noise(rng, duration, 150, 3500) * np.exp(-t / 0.09)
    rumble = noise(rng, duration, 30, 150) + 0.5 * noise(rng, duration, 90, 320)
    rolls = sum(
        rng.uniform(0.5, 1.0) * np.exp(-(((t - at) / rng.uniform(0.18, 0.35)) ** 2))
        for at in rng.uniform(0.1, max(duration * 0.8, 0.2), size=5)
    )
    return 1.3 * crack + rumble * (rolls + np.exp(-t / 0.5)) * 1.2


def stream(rng: Rng, duration: float) -> np.ndarray:
    """A stream: bubbles that ring upwards between 400 and 1500 Hz, dozens a second, over a soft murmur."""
    track = 0.15 * noise(rng, duration, 300, 1800)
    for _ in range(int(duration * rng.uniform(55, 75))):
        length = rng.uniform(0.02, 0.07)
        x = seconds(length) / length
        pitch = rng.uniform(400, 1500) * (1 + rng.uniform(0.1, 0.5) * x)
        add(track, np.sin(sweep(pitch)) * np.exp(-3 * x) * np.minimum(x / 0.1, 1), rng.uniform(0, duration),
            rng.uniform(0.3, 1.0))
    return track
