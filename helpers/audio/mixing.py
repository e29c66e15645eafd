"""Mixing decoded blocks to one channel at 16 kHz, and what gets lost on the way."""

from dataclasses import dataclass, field

import numpy as np
import soxr

from helpers.profiles import SAMPLING_RATE

CANCELLED = 1e-4
"""Channels cancel out if the energy of their mean is below this share of their own (40 dB)."""

ABOVE_HEARING = 0.01
"""A clip is named if less than this share of its energy is left at 16 kHz, which carries sound up to 8 kHz."""

OFFSET = 0.05
"""A clip is named if its mean is further than this from 0; sound swings around 0."""

SILENT = 1e-4
"""A clip whose samples stay this close to their mean (80 dB under full scale) has nothing in it to describe."""


class AudioError(ValueError):
    """Audio that cannot be used; the message says what was wrong, where, and what to do."""


@dataclass
class Mixer:
    """Mixes blocks to one channel at 16 kHz, and keeps account of what gets lost on the way."""

    name: str
    channels: int = 1
    apart: float = 0.0
    """Energy of the channels, on average, in full scale squared times seconds."""
    together: float = 0.0
    """Energy of their mean."""
    seconds: float = 0.0
    kept: int = 0
    """Samples at 16 kHz so far."""
    _rate: int = 0
    _resampler: soxr.ResampleStream | None = None
    _blocks: list[np.ndarray] = field(default_factory=list)

    def add(self, block: np.ndarray, rate: int, position: int) -> None:
        """The next block, float32 ``(samples, channels)``, whose first sample is the ``position``-th of the file."""
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            bad = position + int(np.flatnonzero(~finite)[0])
            raise AudioError(f"{self.name} holds NaN or infinite samples (the first at sample {bad} of the file, "
                             f"{bad / rate:.2f} s): it was damaged on the way; export it again or leave it out.")
        mono = block.mean(axis=1)
        self.apart += float(np.square(block, dtype=np.float64).mean(axis=1).sum()) / rate
        self.together += float(np.square(mono, dtype=np.float64).sum()) / rate
        self.channels, self.seconds = max(self.channels, block.shape[1]), self.seconds + len(mono) / rate
        if rate != self._rate:
            self._flush()
            self._rate = rate
            self._resampler = (soxr.ResampleStream(rate, SAMPLING_RATE, 1, dtype="float32") if rate != SAMPLING_RATE
                               else None)
        self._keep(self._resampler.resample_chunk(mono) if self._resampler else mono)

    def _keep(self, block: np.ndarray) -> None:
        self._blocks.append(block)
        self.kept += len(block)

    def _flush(self) -> None:
        if self._resampler:
            self._keep(self._resampler.resample_chunk(np.zeros(0, np.float32), last=True))
        self._resampler = None

    def finish(self) -> np.ndarray:
        """All blocks so far, as float32 ``(samples,)`` at 16 kHz."""
        self._flush()
        return np.concatenate([np.zeros(0, np.float32), *self._blocks])


def remarks_on(name: str, mixer: Mixer, samples: np.ndarray, unfinished: bool, broken: int) -> list[str]:
    """What is odd about a clip, one sentence each; raises where nothing of it is left."""
    if mixer.channels > 1 and mixer.apart > 1e-8 * mixer.seconds and mixer.together < CANCELLED * mixer.apart:
        raise AudioError(f"The {mixer.channels} channels of {name} cancel each other out, so their mean is silence: "
                         f"keep one channel, for example with ffmpeg -i {name} -af \"pan=mono|c0=c0\" one_channel.wav")
    remarks = []
    seconds = len(samples) / SAMPLING_RATE
    if unfinished:
        remarks.append(f"The header of {name} is unfinished, as if its recorder was switched off: all {seconds:.2f} s "
                       "up to the end of the file are used.")
    if broken:
        remarks.append(f"{name} is damaged in {broken} place{'s' if broken > 1 else ''}, which "
                       f"{'are' if broken > 1 else 'is'} "
                       f"left out: listen whether its {seconds:.2f} s still fit the caption.")
    if len(samples):
        energy = float(np.square(samples, dtype=np.float64).sum()) / SAMPLING_RATE
        if mixer.together > 1e-8 * mixer.seconds and energy < ABOVE_HEARING * mixer.together:
            remarks.append(f"Almost all of {name} lies above 8 kHz, where the model does not hear: "
                           f"{energy / mixer.together:.1%} "
                           "of its energy is left; leave it out, or expect no caption of it.")
        offset = float(samples.mean(dtype=np.float64))
        if abs(offset) > OFFSET:
            remarks.append(f"{name} holds a constant {offset:.2f} and no sound: record it again, or leave it out."
                           if is_silent(samples) else
                           f"{name} swings around {offset:.2f} instead of 0 (a constant offset of the recorder): "
                           "subtract the mean of its samples.")
    return remarks


def is_silent(samples: np.ndarray) -> bool:
    """Whether there is nothing to hear: zeros, or one constant value (whose edges ring where it was resampled)."""
    edge = SAMPLING_RATE // 25
    inner = samples[edge:-edge] if len(samples) > 2 * edge else samples
    return bool(np.abs(samples).max() < SILENT or np.abs(inner - inner.mean(dtype=np.float64)).max() < SILENT)
