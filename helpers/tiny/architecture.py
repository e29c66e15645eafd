"""The tiny Audio Flamingo 3: the library's own classes, only smaller, with a processor that behaves like AF3's."""

from __future__ import annotations

import json

import numpy as np
import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3EncoderConfig,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    GenerationConfig,
    Qwen2Tokenizer,
    WhisperFeatureExtractor,
)
from transformers.models.audioflamingo3.modeling_audioflamingo3 import AudioFlamingo3Encoder
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

from helpers.tiny import captions, vocabulary
from helpers.tiny.sounds import SAMPLING_RATE

WINDOW_SECONDS = 4
"""Length of one encoder window; AF3 itself uses 30 s."""
MEL_BINS = 64
AUDIO_CONFIG = {
    "num_mel_bins": MEL_BINS, "hidden_size": 160, "intermediate_size": 640, "num_hidden_layers": 4,
    "num_attention_heads": 4, "max_source_positions": WINDOW_SECONDS * 50,
}
"""The audio tower: AF3's has 1280 channels, 32 layers and 20 heads."""

VOCABULARY = 4600
"""Tokens beside the special ones; AF3's tokenizer has 151,665."""

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
    """Every clause, prompt and answer of the tiny world, and everyday words: what the tokenizer should know whole."""
    rng = np.random.default_rng(0)
    labels = list(captions.PHRASES)
    texts = [clause for phrase in captions.PHRASES.values() for clause in phrase.clauses()]
    texts += [text[0].upper() + text[1:] for text in texts] + labels
    texts += [*captions.QUESTIONS, captions.CAPTION_ONLY_PROMPT, "system\nYou are a helpful assistant.", "user\n",
              "assistant\n"] * 20
    for relation, count in ((captions.SILENCE, 0), (captions.SINGLE, 1), (captions.SEQUENCE, 2), (captions.OVERLAP, 2)):
        for first in labels:
            pair = [first, labels[rng.integers(len(labels))]][:count]
            texts += [captions.long_answer(pair, relation), captions.tags(pair), captions.count_answer(pair),
                      captions.first_answer(pair, relation), *captions.write_captions(pair, relation, 2, rng)] * 4
    texts += [vocabulary.sentence(rng) for _ in range(12_000)]
    # Inside a sentence a word begins with its space, and that is the form to know whole, the rarest of them too.
    return texts + [f"the {word}" for word in sorted(vocabulary.all_forms())] * 6


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
        vocab_size=VOCABULARY, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trainee.train_from_iterator(_corpus(), trainer)

    model = json.loads(trainee.to_str())["model"]
    tokenizer = Qwen2Tokenizer(  # nosec B106: tokens of a text, not of a login
        vocab=model["vocab"], merges=[tuple(pair) for pair in model["merges"]],
        eos_token="<|im_end|>", pad_token="<|endoftext|>", model_max_length=4096,
    )
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(token, special=True) for token in _SPECIAL]}
    )
    return tokenizer


def build_feature_extractor() -> WhisperFeatureExtractor:
    """AF3's feature extractor with 4 s windows and 64 mel bins (AF3: 30 s and 128)."""
    return WhisperFeatureExtractor(
        feature_size=MEL_BINS, sampling_rate=SAMPLING_RATE, chunk_length=WINDOW_SECONDS, return_attention_mask=True
    )


def build_audio_tower() -> AudioFlamingo3Encoder:
    """A randomly initialised audio tower with Whisper's fixed position table; the caller seeds torch."""
    tower = AudioFlamingo3Encoder(AudioFlamingo3EncoderConfig(**AUDIO_CONFIG))
    with torch.no_grad():
        tower.embed_positions.weight.copy_(sinusoids(tower.config.max_source_positions, tower.config.hidden_size))
    return tower


def build_processor() -> AudioFlamingo3Processor:
    """AF3's processor classes with 4 s windows and 64 mel bins (AF3: 30 s and 128)."""
    return AudioFlamingo3Processor(
        feature_extractor=build_feature_extractor(),
        tokenizer=build_tokenizer(),
        chat_template=CHAT_TEMPLATE,
        max_audio_len=20 * WINDOW_SECONDS,  # twenty windows, as in AF3 (20 x 30 s = 10 minutes)
    )


def build_model(processor: AudioFlamingo3Processor) -> AudioFlamingo3ForConditionalGeneration:
    """A randomly initialised tiny AF3 that fits ``processor``; the caller seeds torch."""
    tokenizer = processor.tokenizer
    config = AudioFlamingo3Config(
        audio_token_id=processor.audio_token_id,
        audio_config={"model_type": "audioflamingo3_encoder", **AUDIO_CONFIG},
        text_config={
            "model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 192, "intermediate_size": 512,
            "num_hidden_layers": 4, "num_attention_heads": 6, "num_key_value_heads": 2,
            "max_position_embeddings": 4096, "tie_word_embeddings": False,
            "bos_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
    )
    model = AudioFlamingo3ForConditionalGeneration(config)
    model.model.audio_tower.load_state_dict(build_audio_tower().state_dict())
    # The checkpoint of AF3 on the Hub samples, and punishes words it has used before, unless told otherwise; the tiny
    # one keeps both habits, traps included.
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.7, top_k=20, top_p=0.8, repetition_penalty=1.05,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )
    return model


def sinusoids(length: int, channels: int) -> torch.Tensor:
    """Whisper's fixed position table, shape ``(length, channels)`` (Radford et al. 2022, section 2.2)."""
    rate = torch.exp(-torch.arange(channels // 2) * (np.log(10_000) / (channels // 2 - 1)))
    angle = torch.arange(length)[:, None] * rate[None, :]
    return torch.cat([angle.sin(), angle.cos()], dim=1)
