"""An AF3 between the tiny one and the real one: the full vocabulary and 30 s windows, random weights.

What a step costs does not depend on what the weights are, so that step time and memory can be measured without the
8 B checkpoint. Captions of such a model say nothing and are not measured.

Its ratios are not those of the 8 B model. Here the output head holds most of the arithmetic; there it is about a
twelfth of the language model's, so that leaving it out saves less of the time. The bytes of logits saved are the same.
"""

from __future__ import annotations

import numpy as np
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    WhisperFeatureExtractor,
)

from helpers.audio.windows import accept_trimmed
from helpers.model.loading import load_processor
from helpers.profiles import SAMPLING_RATE
from helpers.tiny.captions import write_captions
from helpers.tiny.scenes import compose

VOCABULARY = 151_672
"""Rows of AF3's output head."""
WINDOW_SECONDS = 30
CLIP_SECONDS = 10.0
"""AudioCaps' clips: 250 placeholders each; the guide's encoder hears a whole window all the same."""


def build_processor() -> AudioFlamingo3Processor:
    """AF3's feature extractor (128 mel bins, 30 s windows) with the tiny tokenizer, which has the same special tokens.

    The tokenizer knows fewer words than AF3's; a caption of the tiny world still takes about a token a word, as
    captions do with AF3's own.
    """
    tiny = load_processor()
    return AudioFlamingo3Processor(
        feature_extractor=WhisperFeatureExtractor(
            feature_size=128, sampling_rate=SAMPLING_RATE, chunk_length=WINDOW_SECONDS, return_attention_mask=True
        ),
        tokenizer=tiny.tokenizer,
        chat_template=tiny.chat_template,
    )


def token_ids(processor: AudioFlamingo3Processor) -> dict[str, int]:
    """Where the language model's configuration finds the tokenizer's beginning, end and padding."""
    tokenizer = processor.tokenizer
    return {"bos_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id}


def build_model(processor: AudioFlamingo3Processor) -> AudioFlamingo3ForConditionalGeneration:
    """A randomly initialised AF3 in float32; the caller seeds torch.

    The encoder has the size of whisper-tiny's, the language model is as wide and deep as fits a laptop.
    """
    config = AudioFlamingo3Config(
        audio_token_id=processor.audio_token_id,
        audio_config={
            "model_type": "audioflamingo3_encoder", "num_mel_bins": 128, "hidden_size": 384,
            "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 6,
            "max_source_positions": WINDOW_SECONDS * 50,
        },
        text_config={
            "model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": 512, "intermediate_size": 1408,
            "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 2,
            "max_position_embeddings": 4096, "tie_word_embeddings": False,
            **token_ids(processor),
        },
    )
    model = AudioFlamingo3ForConditionalGeneration(config)
    accept_trimmed(model)  # as `load_model` does; whole windows, such as the guide's, go through it as before
    return model


def make_clips(count: int, split: str) -> list[dict]:
    """Captioned clips of AudioCaps' length from the tiny world's sounds; the same every time, others in each split."""
    clips = []
    for index in range(count):
        rng = np.random.default_rng([*split.encode(), index])
        scene = compose(rng, (CLIP_SECONDS, CLIP_SECONDS))
        clips.append({
            "audio": {"array": scene.samples, "sampling_rate": SAMPLING_RATE, "path": None},
            "caption": write_captions(scene.labels, scene.relation, 1, rng)[0],
        })
    return clips
