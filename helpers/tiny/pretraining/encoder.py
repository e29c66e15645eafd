"""Stage one: the audio tower learns to hear, by tagging every 40 ms frame and by keeping its spectrum in mind."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional
from tqdm.auto import tqdm

from helpers.tiny.pretraining.clips import NAMES
from helpers.tiny.scenes import Scene
from helpers.tiny.sounds import SYNTHESIZERS


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def update(optimizer, parameters: list, rate: float) -> None:
    """One step of the optimizer at ``rate``, gradients clipped at norm 1 and cleared."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


class Heads(torch.nn.Module):
    """What sits on a sequence of frames during training and is thrown away: tags, and the log-mel spectrum.

    Args:
        hidden: width of the frames.
        mel_bins: bins of the log-mel spectrum; four mel frames belong to one of ours.
    """

    def __init__(self, hidden: int, mel_bins: int):
        super().__init__()
        self.tags = torch.nn.Linear(hidden, len(NAMES))
        self.spectrum = torch.nn.Linear(hidden, 4 * mel_bins)
        torch.nn.init.constant_(self.tags.bias, -3.0)  # most classes are off in most frames

    def loss(self, frames: torch.Tensor, targets: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """Tagging and reconstruction loss.

        Args:
            frames: ``(..., hidden)``.
            targets: ``(..., classes)``, 0 or 1.
            mel: ``(..., 4 * mel_bins)``.
        """
        frames = frames.float()
        tagging = functional.binary_cross_entropy_with_logits(self.tags(frames), targets, reduction="none")
        return tagging.sum(-1).mean() / 4 + functional.mse_loss(self.spectrum(frames), mel)


def mel_targets(inputs: torch.Tensor) -> torch.Tensor:
    """Log-mel windows ``(clips, bins, 4 * frames)`` as four mel frames a row: ``(clips, frames, 4 * bins)``."""
    clips, bins, length = inputs.shape
    return inputs.transpose(1, 2).reshape(clips, length // 4, 4 * bins)


def warm_up_encoder(tower, inputs, mask, targets, steps: int, batch: int = 32) -> Heads:
    """Teach the audio tower to tag frames and to keep their spectrum; returns the heads, which only tests need.

    Args:
        tower: the audio tower of a tiny AF3.
        inputs, mask: from `features`; ``inputs`` may be float16.
        targets: ``(clips, frames, classes)`` of bools.
        steps: updates of the weights.
        batch: clips an update.
    """
    heads = Heads(tower.config.hidden_size, inputs.shape[1])
    parameters = [p for p in tower.parameters() if p.requires_grad] + list(heads.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(1)
    progress = tqdm(range(steps), desc="encoder", mininterval=10)
    order = torch.randperm(len(inputs), generator=generator)
    for step in progress:
        if len(order) < batch:
            order = torch.randperm(len(inputs), generator=generator)
        chosen, order = order[:batch], order[batch:]
        heard = inputs[chosen].float()
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
            hidden = tower(heard, input_features_mask=mask[chosen]).last_hidden_state
        loss = heads.loss(hidden, targets[chosen].float(), mel_targets(heard))
        loss.backward()
        update(optimizer, parameters, learning_rate(step, steps, 2e-3, 100))
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    return heads


def fast_bfloat16() -> bool:
    """Whether this processor multiplies 16-bit matrices faster than 32-bit ones (AVX512-BF16 or AMX)."""
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", bool)())


@torch.no_grad()
def heard_tags(tower, heads: Heads, inputs, mask) -> np.ndarray:
    """Frames in which each sound of the course is heard: integers, shape ``(clips, sounds)``."""
    rows = []
    for start in range(0, len(inputs), 64):
        hidden = tower(inputs[start : start + 64].float(), input_features_mask=mask[start : start + 64])
        rows.append((heads.tags(hidden.last_hidden_state)[..., : len(SYNTHESIZERS)] > 0).sum(1))
    return torch.cat(rows).numpy()


def event_f1(heard: np.ndarray, scenes: list[Scene]) -> float:
    """Micro F1 of "this class sounds for at least 0.2 s somewhere in the clip"."""
    names = list(SYNTHESIZERS)
    claims = [{names[i] for i in np.flatnonzero(row >= 5)} for row in heard]
    hits = sum(len(claimed & set(scene.labels)) for claimed, scene in zip(claims, scenes, strict=True))
    return 2 * hits / max(sum(map(len, claims)) + sum(len(scene.labels) for scene in scenes), 1)


def confusions(heard: np.ndarray, scenes: list[Scene]) -> dict[str, dict[str, float]]:
    """Which classes are heard in clips of a single sound: true class -> heard class -> share of that class's clips.

    A class that is never heard as another, and never missed, has one entry: itself, 1.0.
    """
    names = list(SYNTHESIZERS)
    table: dict[str, dict[str, float]] = {}
    for name in names:
        rows = [row for row, scene in zip(heard, scenes, strict=True) if scene.labels == [name]]
        shares = np.mean([row >= 5 for row in rows], axis=0) if rows else np.zeros(len(names))
        table[name] = {names[i]: round(float(shares[i]), 3) for i in np.argsort(-shares) if shares[i] > 0}
    return table
