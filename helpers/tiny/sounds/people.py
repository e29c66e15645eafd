"""People: what they do with voice, breath and hands."""

from __future__ import annotations

import numpy as np

from helpers.tiny.sounds.blocks import (
    SAMPLING_RATE,
    SCALE,
    Rng,
    add,
    formants,
    noise,
    repeat,
    seconds,
    sweep,
    swell,
    voice,
)

_VOWELS = [(730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (300, 870, 2240)]
"""Formants of five English vowels of men, in Hz (Peterson and Barney, JASA 24, 1952, table II)."""


def speech(rng: Rng, duration: float) -> np.ndarray:
    """A man talks: syllables of changing vowels, four to five a second, with a falling melody and short pauses."""
    base = rng.uniform(95, 135)
    track = np.zeros(len(seconds(duration)))
    at, in_phrase = 0.0, 0
    while at < duration - 0.08:
        length = rng.uniform(0.14, 0.24)
        x = seconds(length) / length
        first, second, third = _VOWELS[rng.integers(len(_VOWELS))]
        throat = formants((first, 70, 1.0), (second, 100, 0.6), (third, 150, 0.25))
        pitch = base * (1.18 - 0.05 * in_phrase + 0.06 * np.sin(np.pi * x))
        syllable = voice(pitch, throat, 0.5) * swell(len(x), 0.03, 0.06)
        if rng.uniform() < 0.5:
            size = int(0.04 * SAMPLING_RATE)
            syllable[:size] += 0.5 * noise(rng, 0.04, 2500, 6500)[:size] * np.hanning(size)
        add(track, syllable, at, rng.uniform(0.7, 1.0))
        at += length * 0.95
        in_phrase += 1
        if in_phrase > rng.integers(4, 8):
            at, in_phrase = at + rng.uniform(0.1, 0.2), 0
    return track


def whistle(rng: Rng, duration: float) -> np.ndarray:
    """A person whistles: one pure tone that steps through a tune around 1 to 2 kHz, with glides and vibrato."""
    t = seconds(duration)
    root = rng.uniform(950, 1150)
    step = rng.uniform(0.25, 0.36)
    notes = rng.choice(SCALE[:6], size=int(duration / step) + 2)
    position = t / step
    index = position.astype(int)
    glide = np.clip((position - index) / 0.25, 0, 1)
    semitones = notes[np.maximum(index - 1, 0)] * (1 - glide) + notes[index] * glide
    pitch = root * 2 ** (semitones / 12) * (1 + 0.008 * np.sin(2 * np.pi * 5.5 * t))
    gap = 1 - 0.8 * np.exp(-(((position - index) / 0.06) ** 2))
    breath = 0.04 * noise(rng, duration, 1000, 5000)
    return gap * (np.sin(sweep(pitch)) + breath)


def applause(rng: Rng, duration: float) -> np.ndarray:
    """A crowd claps: many hands, each with its own pace and pitch, each clap a burst of 8 ms around 1 to 2 kHz."""
    track = np.zeros(len(seconds(duration)))
    for _ in range(14):
        pace, at, pitch = rng.uniform(0.2, 0.32), rng.uniform(0, 0.3), rng.uniform(900, 1900)
        loud = rng.uniform(0.5, 1.0)
        while at < duration:
            length = 0.03
            clap = noise(rng, length, 0.7 * pitch, 1.5 * pitch) * np.exp(-seconds(length) / 0.006)
            add(track, clap, at, loud)
            at += pace * rng.uniform(0.9, 1.1)
    return track


def laugh(rng: Rng, duration: float) -> np.ndarray:
    """A woman laughs: "ha ha ha ha", breathy syllables five a second, each phrase falling in pitch and level."""
    base = rng.uniform(270, 340)
    mouth = formants((850, 150, 1.0), (1400, 200, 0.7), (2900, 350, 0.3))

    def ha(place: float) -> np.ndarray:
        length = 0.15
        x = seconds(length) / length
        pitch = base * (1.35 - 0.5 * place) * (1.06 - 0.16 * x)
        breath = noise(rng, length, 700, 4500) * np.exp(-x / 0.3)
        return voice(pitch, mouth, 0.45) * swell(len(x), 0.035, 0.06) + 0.3 * breath

    def phrase() -> np.ndarray:
        count = rng.integers(5, 8)
        track = np.zeros(len(seconds(0.19 * 8)))
        for number in range(count):
            add(track, ha(number / count), 0.19 * number, 1.0 - 0.5 * number / count)
        return track

    return repeat(rng, duration, phrase, (1.45, 1.6))
