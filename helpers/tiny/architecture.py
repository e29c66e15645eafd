"""The tiny Audio Flamingo 3: the library's own classes, only smaller, with a processor that behaves like AF3's."""

from __future__ import annotations

import json

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    GenerationConfig,
    Qwen2Tokenizer,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from helpers.tiny import captions
from helpers.tiny.sounds import SAMPLING_RATE

WINDOW_SECONDS = 4
"""Length of one encoder window; AF3 itself uses 30 s."""
MEL_BINS = 64

# AF3's own template says the same in its own words: a default system prompt unless the chat brings one, every
# <sound> of a turn before its text whatever the order of the items, and a generation prompt on request.
CHAT_TEMPLATE = """\
{%- if messages[0].role != 'system' -%}
{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message.role + '\\n' -}}
{%- if message.content is string -%}
{{- message.content -}}
{%- else -%}
{%- for item in message.content if item.type == 'audio' -%}{{- '<sound>' -}}{%- endfor -%}
{%- for item in message.content if item.type == 'text' -%}{{- item.text -}}{%- endfor -%}
{%- endif -%}
{{- '<|im_end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- endif -%}"""

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<sound>"]


def _corpus() -> list[str]:
    """Every clause, prompt and answer of the tiny world: what the tokenizer should know as whole words."""
    rng = np.random.default_rng(0)
    labels = list(captions.PHRASES)
    texts = [clause for phrase in captions.PHRASES.values() for clause in phrase.clauses()]
    texts += [text[0].upper() + text[1:] for text in texts] + labels
    texts += [captions.DESCRIBE_PROMPT, captions.TAGS_PROMPT, captions.COUNT_PROMPT, captions.FIRST_PROMPT,
              captions.CAPTION_ONLY_PROMPT, "system\nYou are a helpful assistant.", "user\n", "assistant\n"] * 20
    for first in labels:
        for second in labels:
            pair = [first] if first == second else [first, second]
            relations = [captions.SINGLE] if first == second else [captions.SEQUENCE, captions.OVERLAP]
            for relation in relations:
                texts += [captions.long_answer(pair, relation), captions.tags(pair), captions.count_answer(pair),
                          captions.first_answer(pair, relation), *captions.write_captions(pair, relation, 2, rng)]
    return texts


def build_tokenizer() -> Qwen2Tokenizer:
    """A byte-level BPE tokenizer of AF3's class, trained on the words of the tiny world.

    Any text at all can be encoded (bytes are the fallback); words of the tiny world are one token each.
    """
    trainee = Tokenizer(models.BPE())
    trainee.normalizer = normalizers.NFC()
    trainee.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    trainee.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1020, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trainee.train_from_iterator(_corpus(), trainer)


    model = json.loads(trainee.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=4096,
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(token, special=True) for token in _SPECIAL]}
    )
    return tokenizer


def build_processor() -> AudioFlamingo3Processor:
    """AF3's processor classes with 4 s windows and 64 mel bins (AF3: 30 s and 128)."""
    return AudioFlamingo3Processor(
        feature_extractor=WhisperFeatureExtractor(
            feature_size=MEL_BINS, sampling_rate=SAMPLING_RATE, chunk_length=WINDOW_SECONDS, return_attention_mask=True
        ),
        tokenizer=build_tokenizer(),
        chat_template=CHAT_TEMPLATE,
        max_audio_len=20 * WINDOW_SECONDS,  # twenty windows, as in AF3 (20 x 30 s = 10 minutes)
    )


def build_model(processor: AudioFlamingo3Processor) -> AudioFlamingo3ForConditionalGeneration:
    """A randomly initialised tiny AF3 that fits ``processor``; the caller seeds torch."""
    tokenizer = processor.tokenizer
    config = AudioFlamingo3Config(
        audio_token_id=processor.audio_token_id,
        audio_config={
            "model_type": "audioflamingo3_encoder", "num_mel_bins": MEL_BINS, "hidden_size": 128,
            "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
            "max_source_positions": WINDOW_SECONDS * 50,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 192, "intermediate_size": 512,
            "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2,
            "max_position_embeddings": 4096, "tie_word_embeddings": False,
            "bos_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    model = AudioFlamingo3ForConditionalGeneration(config)
    with torch.no_grad():
        model.model.audio_tower.embed_positions.weight.copy_(sinusoids(config.audio_config.max_source_positions, 128))
    # The checkpoint of AF3 on the Hub samples unless told otherwise; the tiny one keeps that habit, trap included.
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, top_k=20, top_p=0.8, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return model


def sinusoids(length: int, channels: int) -> torch.Tensor:
    """Whisper's fixed position table, shape ``(length, channels)`` (Radford et al. 2022, section 2.2)."""
    rate = torch.exp(-torch.arange(channels // 2) * (np.log(10_000) / (channels // 2 - 1)))
    angle = torch.arange(length)[:, None] * rate[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
