"""What a model is made of, known before any weight is loaded."""

import copy
import math
from pathlib import Path

import torch
from transformers import AudioFlamingo3Config, AutoConfig, PreTrainedConfig, PreTrainedModel

from helpers.audio.windows import accept_trimmed
from helpers.families import UnknownModel, family_of
from helpers.profiles import SAMPLING_RATE, TINY

TINY_FOLDER = Path(__file__).parents[1] / "tiny" / "weights"
FULL_SIZE = "nvidia/audio-flamingo-3-hf"

FULL_SIZE_TEXT = {"model_type": "qwen2", "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
                  "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 151_672,
                  "tie_word_embeddings": False}
"""Language model of AF3: Qwen2.5-7B with AF3's extra tokens. The audio encoder is at its class's defaults. What does
not change a shape (the base of the rotary embedding, the longest sequence) is left out: this counts, it does not
run."""

HOP = 160
"""Samples from one log-mel frame to the next: 10 ms at 16 kHz, as in Whisper (Radford et al. 2022, section 2.2)."""

MOST_WINDOWS = 20
"""Encoder windows of the longest clip: AF3's processor cuts off what comes after 10 minutes, 20 windows of 30 s."""


def read_config(model_id: str, **options) -> PreTrainedConfig:
    """The configuration of a model (``"tiny"``, a Hub id or a folder); for the course's own two, without the Hub.
    ``options`` are for ``from_pretrained``."""
    if model_id == FULL_SIZE:
        return AudioFlamingo3Config(text_config=dict(FULL_SIZE_TEXT))
    source = TINY_FOLDER if model_id == TINY else model_id
    return AutoConfig.from_pretrained(source, **options)  # nosec B615: a revision is among the options, if asked for


def build_on_meta(config: PreTrainedConfig | str = FULL_SIZE) -> PreTrainedModel:
    """The model (of a configuration, or of what `read_config` takes) in bfloat16 on the meta device, in eval mode: each
    shape, no numbers, and so no memory and nothing to download. ``get_peft_model(..., low_cpu_mem_usage=True)`` puts an
    adapter on it that takes no memory either."""
    config = read_config(config) if isinstance(config, str) else copy.deepcopy(config)
    # The configuration of a model that is on a GPU may ask for an attention that the meta device does not have.
    config._attn_implementation = "sdpa"
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            model = family_of(config).model_class(config).eval()
    finally:
        torch.set_default_dtype(default)
    accept_trimmed(model)
    return model


def quantizable(model: torch.nn.Module) -> dict[str, torch.nn.Linear]:
    """The matrices that 4-bit loading quantizes: every linear layer inside the language model, by name.

    Audio tower, projector and output head stay in 16 bits. They and the embeddings are a fifth of AF3's parameters, and
    no adapter sits in them that could learn to make up for the rounding.
    """
    return {name: module for name, module in model.named_modules()
            if isinstance(module, torch.nn.Linear) and "language_model." in name}


def count_windows(seconds: float, config: AudioFlamingo3Config) -> int:
    """Encoder windows of one clip: at least one, at most `MOST_WINDOWS`."""
    return min(max(1, math.ceil(round(seconds * SAMPLING_RATE) / _window_samples(config))), MOST_WINDOWS)


def count_audio_tokens(seconds: float, config: AudioFlamingo3Config) -> int:
    """Frames that the encoder gives for one clip, and placeholders in its chat: about 25 a second (a stride-2
    convolution and a pooling by 2: ``AudioFlamingo3Encoder._get_feat_extract_output_lengths``)."""
    samples = min(round(seconds * SAMPLING_RATE), count_windows(seconds, config) * _window_samples(config))
    return ((math.ceil(samples / HOP) - 1) // 2 + 1) // 2


def count_positions(seconds: float, config: AudioFlamingo3Config) -> int:
    """Positions of one encoder window: all, or as many as a shorter clip leaves (see `helpers.audio.windows`)."""
    whole = config.audio_config.max_source_positions
    return whole if count_windows(seconds, config) > 1 else min(whole, 2 * count_audio_tokens(seconds, config) + 1)


def check_estimated(config: PreTrainedConfig) -> None:
    """Raise `UnknownModel` where counting by AF3's rules would give wrong numbers."""
    family = family_of(config)
    if not family.estimated:
        raise UnknownModel("Memory and operations are counted for the family of Audio Flamingo 3 alone, not for "
                           f"{family.title}: train a few steps on a machine with room to spare, and measure.")


def _window_samples(config: AudioFlamingo3Config) -> int:
    return 2 * config.audio_config.max_source_positions * HOP
