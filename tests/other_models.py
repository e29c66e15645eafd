"""Tiny random models of the families that the course can teach, each with a processor of its own class."""

from __future__ import annotations

import copy

import numpy as np
import torch
from transformers import (
    AudioFlamingo3Config,
    GenerationConfig,
    GlmAsrConfig,
    GlmAsrProcessor,
    MusicFlamingoConfig,
    MusicFlamingoProcessor,
    Qwen2AudioConfig,
    Qwen2AudioProcessor,
    WhisperFeatureExtractor,
)

from helpers import load_processor
from helpers.families import FAMILIES, Family

SECONDS, MEL_BINS = 4, 64
GLM_TEMPLATE = """\
{%- for message in messages -%}
{{- '<|' + message.role + '|>\\n' -}}
{%- for item in message.content if item.type == 'audio' -%}
{{- '<|begin_of_audio|><|pad|><|end_of_audio|>' -}}
{%- endfor -%}
{%- for item in message.content if item.type == 'text' -%}{{- item.text -}}{%- endfor -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}"""
"""As GLM-ASR's: nothing marks the end of an answer."""


def build_processor(family: Family):
    tiny = load_processor()
    tokenizer = copy.deepcopy(tiny.tokenizer)
    extractor = WhisperFeatureExtractor(feature_size=MEL_BINS, sampling_rate=16_000, chunk_length=SECONDS,
                                        return_attention_mask=True)
    if family.model_type == "audioflamingo3":
        return tiny
    if family.model_type == "musicflamingo":
        tokenizer.add_tokens(["<|sound_bos|>", "<|sound_eos|>"], special_tokens=True)
        return MusicFlamingoProcessor(extractor, tokenizer, chat_template=tiny.chat_template)
    if family.model_type == "qwen2_audio":
        tokenizer.add_tokens(["<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"], special_tokens=True)
        return Qwen2AudioProcessor(extractor, tokenizer)
    roles = ["<|system|>", "<|user|>", "<|assistant|>"]
    tokenizer.add_tokens(["<|pad|>", "<|begin_of_audio|>", "<|end_of_audio|>", *roles], special_tokens=True)
    return GlmAsrProcessor(extractor, tokenizer, chat_template=GLM_TEMPLATE)


def build_model(family: Family, processor) -> torch.nn.Module:
    """Random weights; the same each time."""
    tokenizer, kind = processor.tokenizer, family.model_type
    encoder_type = "audioflamingo3" if kind == "musicflamingo" else kind
    encoder = {"model_type": f"{encoder_type}_encoder", "num_mel_bins": MEL_BINS, "hidden_size": 64,
               "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}
    if kind == "qwen2_audio":
        encoder |= {"d_model": 64, "encoder_ffn_dim": 256, "encoder_layers": 2, "encoder_attention_heads": 4}
    if kind != "glmasr":
        encoder["max_source_positions"] = SECONDS * 50
    text = {"model_type": "llama" if kind == "glmasr" else "qwen2", "vocab_size": len(tokenizer), "hidden_size": 96,
            "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
            "max_position_embeddings": 1024, "bos_token_id": tokenizer.pad_token_id,
            "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
            "tie_word_embeddings": False}
    settings = {"audio_config": encoder, "text_config": text}
    if kind == "qwen2_audio":
        config = Qwen2AudioConfig(**settings, audio_token_index=processor.audio_token_id)
    elif kind == "musicflamingo":
        config = MusicFlamingoConfig(**settings, audio_token_id=processor.audio_token_id)
        config.audio_bos_token_id = processor.audio_bos_token_id
        config.audio_eos_token_id = processor.audio_eos_token_id
    elif kind == "glmasr":
        config = GlmAsrConfig(**settings, audio_token_id=processor.audio_token_id, tie_word_embeddings=False)
    else:
        config = AudioFlamingo3Config(**settings, audio_token_id=processor.audio_token_id)
    torch.manual_seed(0)
    model = family.model_class(config).eval()
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2 and "embed" not in name:
            torch.nn.init.normal_(parameter, std=0.08)  # the usual 0.02 lets so small a model hear next to nothing
    model.generation_config = GenerationConfig(do_sample=True, temperature=0.7, repetition_penalty=1.05,
                                               eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    return model


def make_clips() -> list[dict]:
    """Four clips of different lengths and pitches, with captions of the tiny world's words."""
    captions = ["A siren wails", "A man speaks as water flows", "A bell rings and then a dog barks loudly",
                "Rain falls"]
    clips = []
    for number, (caption, seconds) in enumerate(zip(captions, (1.0, 2.5, 0.7, 3.3), strict=True)):
        times = np.arange(int(seconds * 16_000)) / 16_000
        tone = 0.3 * np.sin(2 * np.pi * 220 * 3**number * times)
        audio = {"array": tone.astype("float32"), "sampling_rate": 16_000, "path": None}
        clips.append({"audio": audio, "caption": caption})
    return clips


__all__ = ["FAMILIES", "build_model", "build_processor", "make_clips"]
