"""A tiny relative of AF3 with random weights: to try another class of model before its real weights are fetched."""

import copy
from pathlib import Path

import torch
from transformers import (
    MusicFlamingoConfig,
    MusicFlamingoForConditionalGeneration,
    MusicFlamingoProcessor,
    WhisperFeatureExtractor,
)

from helpers.model.loading import load_processor

SECONDS, MEL_BINS = 4, 64


def write_music_flamingo(folder: Path) -> Path:
    """Save a MusicFlamingo of 0.3 M random weights with its processor, the same each time; knows no sound and no word.

    MusicFlamingo, and Audio Flamingo Next of the same class, mark where the sound begins and ends, and tell the encoder
    the time (a rotary embedding) where AF3 does not. Returns ``folder``, which is made.
    """
    tiny = load_processor()
    tokenizer = copy.deepcopy(tiny.tokenizer)
    tokenizer.add_tokens(["<|sound_bos|>", "<|sound_eos|>"], special_tokens=True)
    extractor = WhisperFeatureExtractor(feature_size=MEL_BINS, sampling_rate=16_000, chunk_length=SECONDS,
                                        return_attention_mask=True)
    processor = MusicFlamingoProcessor(extractor, tokenizer, chat_template=tiny.chat_template)
    config = MusicFlamingoConfig(
        audio_config={"model_type": "audioflamingo3_encoder", "num_mel_bins": MEL_BINS, "hidden_size": 64,
                      "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
                      "max_source_positions": SECONDS * 50},  # two frames of 10 ms to a position
        text_config={"model_type": "qwen2", "vocab_size": len(tokenizer), "hidden_size": 96, "intermediate_size": 192,
                     "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                     "max_position_embeddings": 1024, "tie_word_embeddings": False,
                     "bos_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
                     "pad_token_id": tokenizer.pad_token_id},
        audio_token_id=processor.audio_token_id, audio_bos_token_id=processor.audio_bos_token_id,
        audio_eos_token_id=processor.audio_eos_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MusicFlamingoForConditionalGeneration(config)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return Path(folder)
