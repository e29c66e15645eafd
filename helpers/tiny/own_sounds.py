"""A stand-in for a learner's own recordings: five kinds of sound that no part of the base model has ever heard.

They are recipes of their own, kept out of `SYNTHESIZERS` on purpose: neither the base's training nor the course's data
set holds them. Written as a folder, they look like what people have: files of all kinds and rates, several clips cut
from each recording, a table with captions in somebody's own words, and two files that are broken.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from helpers.profiles import SAMPLING_RATE
from helpers.tiny.sounds import level
from helpers.tiny.sounds.blocks import Rng, add, noise, repeat, ring, seconds, sweep, swell

KINDS = {
    "kettle": "The kettle in our kitchen whistles",
    "woodpecker": "A woodpecker hammers in the garden",
    "zipper": "Somebody pulls the zipper of a jacket",
    "coin": "A coin spins on the table",
    "typewriter": "Grandmother types on her typewriter",
}
"""Kind of sound -> its caption."""


def kettle(rng: Rng, duration: float) -> np.ndarray:
    """Steam that begins to whistle: a hiss, and two tones a sixth apart that climb as the water boils."""
    t = seconds(duration)
    climb = 1 - 0.35 * np.exp(-t / (0.3 * duration))
    pitch = rng.uniform(1500, 1900) * climb
    tone = np.sin(sweep(pitch)) + 0.6 * np.sin(sweep(1.66 * pitch))
    return tone * climb**3 + 0.5 * noise(rng, duration, 2500, 7000) * (0.4 + 0.6 * climb)


def woodpecker(rng: Rng, duration: float) -> np.ndarray:
    """Bursts of a dozen dry knocks, twenty a second, that fade."""
    wood = rng.uniform(900, 1300)

    def burst() -> np.ndarray:
        track, rate = np.zeros(len(seconds(0.75))), rng.uniform(18, 23)
        for number in range(rng.integers(10, 14)):
            knock = ring(0.03, [(wood, 1.0, 0.006), (2.6 * wood, 0.5, 0.003)])
            add(track, knock, number / rate, 1 - 0.05 * number)
        return track

    return repeat(rng, duration, burst, (1.0, 1.4))


def zipper(rng: Rng, duration: float) -> np.ndarray:
    """Teeth that click faster and faster, and brighter, as the slider is pulled; up, and down again."""

    def pull(upwards: bool) -> np.ndarray:
        length = rng.uniform(0.5, 0.7)
        x = seconds(length) / length
        rate = (60 + 140 * x) if upwards else (200 - 140 * x)
        teeth = np.sin(sweep(rate)) ** 16
        bright = 0.5 + 0.5 * (x if upwards else 1 - x)
        return noise(rng, length, 1500, 7500) * teeth * bright * swell(len(x), 0.02, 0.05)

    track, at, upwards = np.zeros(len(seconds(duration))), 0.05, True
    while at < duration - 0.1:
        add(track, pull(upwards), at)
        at, upwards = at + rng.uniform(0.85, 1.05), not upwards
    return track


def coin(rng: Rng, duration: float) -> np.ndarray:
    """A coin spun on a table: a metallic ring that wobbles faster and faster until it lies flat; then again."""
    metal = rng.uniform(3200, 3900)

    def spin() -> np.ndarray:
        length = rng.uniform(1.3, 1.6)
        track, at, gap = np.zeros(len(seconds(length))), 0.0, 0.13
        while at < length - 0.06 and gap > 0.012:
            clink = ring(0.12, [(metal, 1.0, 0.03), (1.47 * metal, 0.6, 0.02), (400, 0.4, 0.01)])
            add(track, clink, at, 0.4 + 4 * gap)
            at, gap = at + gap, 0.93 * gap
        return track

    return repeat(rng, duration, spin, (1.7, 2.0))


def typewriter(rng: Rng, duration: float) -> np.ndarray:
    """Uneven clacks of keys, each a click and a lower thump, and the bell at the end of a line."""
    track, at = np.zeros(len(seconds(duration))), 0.05
    bell = rng.uniform(0.55, 0.8) * duration
    while at < duration - 0.1:
        clack = ring(0.08, [(rng.uniform(1900, 2300), 1.0, 0.004), (rng.uniform(280, 340), 1.2, 0.015)])
        clack[:60] += noise(rng, 60 / SAMPLING_RATE, 2000, 7000)
        add(track, clack, at, rng.uniform(0.7, 1.0))
        at += rng.uniform(0.11, 0.26)
    add(track, ring(0.8, [(2637, 0.8, 0.25), (5274, 0.4, 0.12)]), bell)
    return track


_FORMATS = [(".wav", 8_000), (".flac", 44_100), (".ogg", 16_000), (".mp3", 48_000), (".wav", 48_000), (".ogg", 22_050)]


def write_own_folder(folder: str | os.PathLike, clips_a_kind: int = 12, clips_a_source: int = 2, seed: int = 7) -> Path:
    """Write the folder: audio files, and a ``metadata.csv`` with ``file_name``, ``caption`` and ``source``.

    Args:
        folder: made if it is not there; files of the same names are overwritten.
        clips_a_kind: clips of each of `KINDS`, 3 to 4 s long.
        clips_a_source: so many clips in a row were cut from one recording, and are named so (``kettle_02_1.wav``).
        seed: another number, other clips.

    Returns:
        The folder. Every other file is stereo; each recording lies in the noise of its own room. The second file is cut
        short, and the third one's caption is empty.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind, (name, caption) in enumerate(KINDS.items()):
        for clip in range(clips_a_kind):
            source, part = divmod(clip, clips_a_source)
            rng = np.random.default_rng([seed, kind, source])  # one recording: one kettle, one room
            sound = level(globals()[name](rng, rng.uniform(3.0, 4.0)))
            rng = np.random.default_rng([seed, kind, source, part])
            sound = np.roll(sound, rng.integers(len(sound) // 2)) * 10 ** (rng.uniform(-6, 3) / 20)
            sound = sound + 10 ** (rng.uniform(-42, -28) / 20) * 0.1 * noise(rng, len(sound) / SAMPLING_RATE, 50, 4000)
            suffix, rate = _FORMATS[len(rows) % len(_FORMATS)]
            wide = soxr.resample(np.clip(sound, -0.98, 0.98), SAMPLING_RATE, rate)
            file = folder / f"{name}_{source + 1:02d}_{part + 1}{suffix}"
            soundfile.write(file, np.stack([wide, 0.8 * wide], axis=1) if len(rows) % 2 else wide, rate)
            rows.append({"file_name": file.name, "caption": caption, "source": f"{name}_{source + 1:02d}"})
    (folder / rows[1]["file_name"]).write_bytes((folder / rows[1]["file_name"]).read_bytes()[:30])
    rows[2]["caption"] = ""
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["file_name", "caption", "source"])
        table.writeheader()
        table.writerows(rows)
    return folder
