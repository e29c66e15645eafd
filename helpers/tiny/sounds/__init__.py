"""Procedural sounds: one function per sound class, each a short piece of classical synthesis.

Every function takes a seeded ``numpy.random.Generator`` and a duration in seconds, and returns mono float64
samples at `SAMPLING_RATE`, of any scale (the scene mixer sets the level). Nothing here reads a file, and all
randomness comes from the generator, so the same seed gives the same sound everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helpers.tiny.sounds.animals import bird, cat, cow, cricket, dog
from helpers.tiny.sounds.blocks import SAMPLING_RATE, Rng, swell
from helpers.tiny.sounds.machines import engine, helicopter, horn, train
from helpers.tiny.sounds.music import drums, guitar, piano, violin
from helpers.tiny.sounds.people import applause, laugh, speech, whistle
from helpers.tiny.sounds.signals import alarm, bell, phone, siren
from helpers.tiny.sounds.things import ball, clock, drip, knock, laser, saw
from helpers.tiny.sounds.weather import rain, stream, thunder, wind
from helpers.tiny.sounds.wildlife import bee, frog, horse, owl, sheep

__all__ = ["KNOWN_SOUNDS", "NEW_SOUNDS", "SAMPLING_RATE", "SYNTHESIZERS", "Rng", "synthesize"]

NEW_SOUNDS = ("frog", "sheep", "owl", "horse", "drip", "laser", "saw", "ball", "violin")
"""Sounds whose names the base model has never been taught: what a learner's fine-tuning is for."""

SYNTHESIZERS: dict[str, Callable[[Rng, float], np.ndarray]] = {
    function.__name__: function
    for function in (dog, cat, bird, cow, cricket, bee, rain, wind, thunder, stream, engine, horn, train, helicopter,
                     clock, knock, phone, siren, alarm, bell, piano, guitar, drums, speech, laugh, whistle, applause,
                     frog, sheep, owl, horse, drip, laser, saw, ball, violin)
}
"""Sound class -> function. The order is fixed: it numbers the classes in the encoder's warm-up."""

KNOWN_SOUNDS = tuple(label for label in SYNTHESIZERS if label not in NEW_SOUNDS)
"""Sounds that the base model is raised on: it hears them and names them."""


def synthesize(label: str, rng: Rng, duration: float) -> np.ndarray:
    """One sound of class ``label``.

    Args:
        label: a key of `SYNTHESIZERS`.
        rng: where all randomness comes from.
        duration: seconds.

    Returns:
        float64 samples, shape ``(round(duration * 16000),)``, RMS 0.1 over the loud part, edges faded by 10 ms.

    Raises:
        ValueError: ``label`` is not a known class.
    """
    if label not in SYNTHESIZERS:
        raise ValueError(f"There is no sound class {label!r}; the classes are {', '.join(SYNTHESIZERS)}.")
    return level(SYNTHESIZERS[label](rng, duration))


def level(samples: np.ndarray) -> np.ndarray:
    """Samples brought to RMS 0.1 over their loudest quarter, with edges faded by 10 ms."""
    # A clock is silent most of the time: measure the level where it sounds, or it would come out deafening.
    power = np.sort(samples**2)[::-1][: max(len(samples) // 4, 1)]
    samples = 0.1 * samples / (np.sqrt(power.mean()) + 1e-12)
    return samples * swell(len(samples), 0.01, 0.01)
