"""Clips to raise the tiny model on, and what the encoder is to hear in them."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch
from tqdm.auto import tqdm

from helpers.tiny.scenes import Scene, compose
from helpers.tiny.sounds import KNOWN_SOUNDS, SYNTHESIZERS, synthesize
from helpers.tiny.timbres import TIMBRES, recolour, stretch, timbre

SEED = 90_210
"""A seed that the course's own data set never uses."""
FRAME_SECONDS = 0.04
"""One encoder output frame: 10 ms mel frames, halved by a convolution and again by pooling."""
NAMES = [*SYNTHESIZERS, *(f"timbre{number:03d}" for number in range(TIMBRES))]
"""All classes that the encoder's warm-up tags: the sounds of the course, then timbres without a name."""


def make_sound(label: str, rng: np.random.Generator, duration: float) -> np.ndarray:
    """One sound of a class of `NAMES`, float64 samples of ``duration`` s."""
    return synthesize(label, rng, duration) if label in SYNTHESIZERS else timbre(int(label[6:]), rng, duration)


def vary_sound(label: str, rng: np.random.Generator, duration: float) -> np.ndarray:
    """`make_sound`, played up to 12 % faster or slower."""
    fast = rng.uniform(0.88, 1.12)
    return stretch(make_sound(label, rng, duration * fast), int(round(duration * 16_000)))


def draw_scene(job: tuple[str, int, int, tuple[float, float]]) -> Scene:
    """A clip of one of four kinds.

    ``"plain"``: as in the course's data set. ``"known"``: the same without the new sounds. ``"together"``: the same as
    plain, but two sounds at once begin at once, which is harder to hear. ``"wide"``: so too, with timbres and sounds of
    the course half and half, played at odd speeds through odd microphones in odd rooms.
    """
    kind, pool, index, duration = job
    rng = np.random.default_rng([SEED, pool, index])
    if kind == "known":
        return compose(rng, duration, KNOWN_SOUNDS)
    if kind in ("plain", "together"):
        return compose(rng, duration, together=kind == "together")
    some = [str(name) for name in rng.choice(NAMES[len(SYNTHESIZERS) :], size=4, replace=False)]
    some += [str(name) for name in rng.choice(list(SYNTHESIZERS), size=3, replace=False)]
    scene = compose(rng, duration, sorted(some, key=NAMES.index), vary_sound, together=True)
    return Scene(recolour(scene.samples, rng).astype(np.float32), scene.events, scene.relation)


def make_scenes(kind: str, pool: int, count: int, duration: tuple[float, float]) -> list[Scene]:
    """``count`` clips of one kind (see `draw_scene`) from a numbered pool; the same clips every time."""
    jobs = [(kind, pool, index, duration) for index in range(count)]
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as executor:
        drawn = executor.map(draw_scene, jobs, chunksize=50)
        return list(tqdm(drawn, total=count, desc=f"{kind} clips of pool {pool}"))


def frame_targets(scene: Scene, frames: int) -> np.ndarray:
    """Which classes of `NAMES` sound in each encoder frame, shape ``(frames, classes)``, 0 or 1."""
    middle = (np.arange(frames) + 0.5) * FRAME_SECONDS
    target = np.zeros((frames, len(NAMES)), dtype=np.float32)
    for event in scene.events:
        target[(middle >= event.start) & (middle < event.end), NAMES.index(event.label)] = 1.0
    return target


def features(extractor, scenes: list[Scene], device: str | torch.device = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Log-mel windows of one-window clips: ``(clips, 64, 400)`` float32 and mask ``(clips, 400)``.

    Args:
        extractor: the processor's feature extractor.
        scenes: clips no longer than its window.
        device: what computes them, and where they are.
    """
    parts = []
    for start in range(0, len(scenes), 64):
        batch = extractor(
            [scene.samples for scene in scenes[start : start + 64]], sampling_rate=16_000, return_tensors="pt",
            return_attention_mask=True, device=str(device),
        )
        parts.append((batch["input_features"], batch["attention_mask"]))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


@torch.no_grad()
def encode(tower, extractor, scenes: list[Scene]) -> list[torch.Tensor]:
    """What the frozen tower hears, one float16 tensor ``(frames, hidden)`` a clip; long clips pass window by window."""
    window, device = 16_000 * extractor.chunk_length, next(tower.parameters()).device
    pieces, owners = [], []
    for number, scene in enumerate(scenes):
        for start in range(0, len(scene.samples), window):
            pieces.append(Scene(scene.samples[start : start + window], (), ""))
            owners.append(number)
    outputs: list[list[torch.Tensor]] = [[] for _ in scenes]
    for start in range(0, len(pieces), 64):
        inputs, mask = (part.to(device) for part in features(extractor, pieces[start : start + 64], device))
        hidden = tower(inputs, input_features_mask=mask).last_hidden_state
        _, lengths = tower._get_feat_extract_output_lengths(mask.sum(-1))
        for owner, row, length in zip(owners[start : start + 64], hidden, lengths, strict=True):
            outputs[owner].append(row[:length].half().cpu())
    return [torch.cat(parts) for parts in outputs]
