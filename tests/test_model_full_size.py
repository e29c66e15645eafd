"""AF3 at full size, on the meta device: what is there, where adapters go, and how long a clip is for encoder and
chat."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    AudioFlamingo3Config,
    AudioFlamingo3ForConditionalGeneration,
    AudioFlamingo3Processor,
    WhisperFeatureExtractor,
)

from helpers import AudioFlamingo3DataCollator, build_on_meta, estimate_memory, get_profile, lora_report
from helpers.model.architecture import count_audio_tokens, count_windows, quantizable, read_config
from helpers.training.recipe import lora_config

FULL = get_profile("full")


def _adapted(config: LoraConfig):
    return get_peft_model(build_on_meta(FULL.model_id), config, low_cpu_mem_usage=True)


def test_parameters_by_part():
    """The sum is from FACTS.md; the tower is Whisper large v3's encoder, 32 layers of 1280."""
    model = build_on_meta(FULL.model_id)
    report = lora_report(model)
    assert sum(report.parameters.values()) == model.num_parameters() == 8_267_215_360
    assert report.parameters["output head"] == 3584 * 151_672
    assert report.parameters["projector"] == 1280 * 3584 + 3584 + 3584 * 3584 + 3584
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


def test_lora_by_regular_expression_leaves_the_tower_alone():
    report = lora_report(_adapted(lora_config(FULL)))
    assert report.total_trainable == report.trainable["language model"] == 40_370_176
    kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    assert report.adapters["language model"] == dict.fromkeys(kinds, 28)
    assert (
        not report.adapters["audio tower"] and not report.adapters["projector"] and not report.adapters["output head"]
    )


def test_lora_by_suffix_does_not():
    """What the guide's list really trains (FACTS.md 1)."""
    report = lora_report(_adapted(LoraConfig(
        r=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])))
    assert (report.total_trainable, report.trainable["audio tower"]) == (44_302_336, 3_932_160)
    # 96 modules, 192 tensors
    assert report.adapters["audio tower"] == dict.fromkeys(["q_proj", "k_proj", "v_proj"], 32)


def test_the_estimate_counts_the_same_adapters():
    assert estimate_memory(FULL).adapters == 40_370_176 * 4
    assert estimate_memory(FULL).weights == 8_267_215_360 * 2 + 2 * 64 * 4  # and two tables of the rotary embedding


def test_what_four_bits_would_quantize():
    names = quantizable(build_on_meta(FULL.model_id))
    assert len(names) == 28 * 7 and all(".language_model.layers." in name for name in names)


@pytest.fixture(scope="module")
def collator(processor):
    """AF3's own settings (128 mel bins, windows of 30 s, 10 minutes at most); the tokenizer alone is the tiny one."""
    extractor = WhisperFeatureExtractor(feature_size=128, chunk_length=30, return_attention_mask=True)
    return AudioFlamingo3DataCollator(
        AudioFlamingo3Processor(
            feature_extractor=extractor,
            tokenizer=processor.tokenizer,
            chat_template=processor.chat_template,
            max_audio_len=600,
        ),
        trim_windows=False,  # a bare encoder takes whole windows
    )


@pytest.fixture(scope="module")
def narrow(processor):
    """AF3 with its own windows and mel bins, and next to no width: its encoder really runs."""
    return AudioFlamingo3ForConditionalGeneration(
        AudioFlamingo3Config(
            audio_token_id=processor.audio_token_id,
            audio_config={
                "model_type": "audioflamingo3_encoder",
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
            },
            text_config={
                "model_type": "qwen2",
                "vocab_size": len(processor.tokenizer),
                "hidden_size": 8,
                "intermediate_size": 8,
                "num_hidden_layers": 1,
                "num_attention_heads": 1,
                "num_key_value_heads": 1,
            },
        )
    ).eval()


@pytest.mark.parametrize("seconds", [0.1, 0.99, 4.0, 10.0, 29.99, 30.0, 30.1, 59.97, 95.3,
                                     pytest.param(600.0, marks=pytest.mark.slow)])
def test_as_many_placeholders_as_encoder_frames(collator, narrow, seconds):
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * 16_000)).astype(np.float32)
    batch = collator([{"audio": {"array": samples, "sampling_rate": 16_000}, "caption": "Noise"}])
    placeholders = int((batch["input_ids"] == collator.processor.audio_token_id).sum())
    with torch.no_grad():
        heard = narrow.get_audio_features(batch["input_features"], batch["input_features_mask"], return_dict=True)
    config = read_config(FULL.model_id)
    assert placeholders == len(heard.pooler_output) == count_audio_tokens(seconds, config)
    assert batch["input_features"].shape == (count_windows(seconds, config), 128, 3000)


def test_what_comes_after_ten_minutes_is_cut():
    config = read_config(FULL.model_id)
    assert (
        count_windows(660, config) == 20
        and count_audio_tokens(660, config) == count_audio_tokens(600, config) == 15_000
    )
