"""Encoder windows only as long as their clips, with the same result to the last digits.

AF3's processor pads each window to 30 s, and the encoder works through all of it: for a clip of 10 s, two thirds of the
work is on padding. Nothing that is kept depends on it. Attention masks it, and the two convolutions before attention
look no further than two frames past the clip. So what lies behind those two frames is cut off, and the outputs are
equal (2e-15 apart in float64, ``tests/test_audio_windows.py``). A clip of several windows has a full one: nothing is
cut off then.

Nor has the spectrogram of that padding to be computed (`samples_needed`): it is silence, as quiet as a frame can be, so
the scale, which comes from the loudest frame, is the clip's own with the padding or without.
"""

import threading
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from transformers import AudioFlamingo3Processor, MusicFlamingoProcessor
from transformers.models.audioflamingo3.modeling_audioflamingo3 import AudioFlamingo3Encoder
from transformers.processing_utils import ProcessorMixin

MARGIN = 2
"""Frames kept after the longest clip. The last position that is heard sees one frame ahead in the second convolution,
and that frame one more in the first."""
FEWEST = 64
"""Frames whose spectrogram is computed at least. A product with fewer may round its last digit in another way."""


def trim_windows(inputs: Any) -> Any:
    """Cut the features of a batch down to its longest clip plus `MARGIN`.

    Args:
        inputs: what the processor gives: ``input_features`` ``(W, mel bins, frames)`` and ``input_features_mask``
            ``(W, frames)``. It is changed in place.

    Returns:
        ``inputs``, with fewer frames in both.
    """
    features, mask = inputs["input_features"], inputs["input_features_mask"]
    frames = min(int(mask.sum(dim=-1).max()) + MARGIN, features.shape[-1])
    # Copies: a slice would hold on to the whole of what it was cut from, and a loader's worker would send it along.
    inputs["input_features"] = features[..., :frames].contiguous()
    inputs["input_features_mask"] = mask[..., :frames].contiguous()
    return inputs


def samples_needed(processor: ProcessorMixin, clips: Sequence) -> int:
    """Samples to pad the longest of some clips to, for features that hold all that `trim_windows` keeps.

    Args:
        processor: one that `can_trim`.
        clips: samples, one-dimensional.

    Returns:
        A multiple of the hop, at most a window. The last frame that is kept has its whole FFT inside.
    """
    extractor = processor.feature_extractor
    hop, reach = extractor.hop_length, extractor.n_fft // 2
    frames = max(-(-max(map(len, clips)) // hop) + MARGIN, FEWEST)
    return min(hop * (frames + -(-reach // hop)), extractor.n_samples)


def can_trim(processor: ProcessorMixin) -> bool:
    """Whether a processor's features are for an encoder that masks its padding: AF3's, which MusicFlamingo has too.

    Qwen2-Audio's encoder refuses features of another length than 30 s; GLM-ASR's has no mask, and hears its padding.
    """
    return isinstance(processor, AudioFlamingo3Processor | MusicFlamingoProcessor)


def accept_trimmed(model: torch.nn.Module) -> bool:
    """Let a model take windows of any length up to its own; twice is harmless.

    Args:
        model: any model, with or without an adapter.

    Returns:
        Whether it does now: whether its encoder is AF3's.
    """
    tower = next((module for module in model.modules() if isinstance(module, AudioFlamingo3Encoder)), None)
    if type(tower) is AudioFlamingo3Encoder:
        tower.__class__ = TrimmableEncoder
        tower.register_forward_pre_hook(_begin, with_kwargs=True)
        tower.register_forward_hook(_end, always_call=True)
    return isinstance(tower, TrimmableEncoder)


_now = threading.local()
"""``positions``: how many this thread's encoder is working on. A server may run several threads over one model."""


class TrimmableEncoder(AudioFlamingo3Encoder):
    """AF3's encoder, which adds as many rows of its table of positions as there are positions, not always all of it."""

    @property
    def embed_positions(self):
        """The table; while the encoder runs, only its first rows."""
        table = self._modules["embed_positions"]
        positions = getattr(_now, "positions", None)
        return table if positions is None else SimpleNamespace(weight=table.weight[:positions])


# Hooks rather than another `forward`: Accelerate puts its own in place of that where a model lies on several devices.
def _begin(tower: TrimmableEncoder, args: tuple, kwargs: dict) -> None:
    features = args[0] if args else kwargs["input_features"]
    _now.positions = (features.shape[-1] - 1) // 2 + 1  # the second convolution has stride 2


def _end(tower: TrimmableEncoder, args: tuple, output: Any) -> None:
    _now.positions = None
