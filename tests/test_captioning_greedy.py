"""Greedy decoding against a loop that takes the highest score, whatever the generation configuration holds."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from helpers import GREEDY, caption, check_chat, load_model, make_chat
from helpers.captioning.pipeline import AudioTextToTextPipeline
from helpers.chat import encode_chats

TRAPS = {
    "do_sample": True, "temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.1, "typical_p": 0.9,
    "epsilon_cutoff": 1e-3, "eta_cutoff": 1e-3, "top_h": 0.5, "num_beams": 3, "repetition_penalty": 1.3,
    "no_repeat_ngram_size": 2,
    "bad_words_ids": [[300]], "sequence_bias": [[[301], -5.0]], "suppress_tokens": [302],
    "begin_suppress_tokens": [303], "forced_bos_token_id": 304, "forced_eos_token_id": 305,
    "exponential_decay_length_penalty": [2, 1.5], "min_length": 300,
    "min_new_tokens": 30, "guidance_scale": 1.5, "renormalize_logits": True, "remove_invalid_values": True,
    "encoder_repetition_penalty": 1.2, "encoder_no_repeat_ngram_size": 2, "watermarking_config": {"bias": 3.0},
}


def highest_scores(model, processor, sound, tokens: int) -> str:
    """Token by token, without a cache and without the library's ``generate``."""
    inputs = dict(encode_chats(processor, [check_chat(make_chat(sound))], ask=True))
    start, end = inputs["input_ids"].shape[1], processor.tokenizer.eos_token_id
    with torch.no_grad():
        for _ in range(tokens):
            best = model(**inputs).logits[:, -1].argmax(dim=-1, keepdim=True)
            inputs["input_ids"] = torch.cat([inputs["input_ids"], best], dim=1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            if int(best) == end:
                break
    return processor.tokenizer.decode(inputs["input_ids"][0, start:], skip_special_tokens=True)


@pytest.fixture(scope="module")
def trapped():
    """The base with a generation configuration that bends the scores in every way there is."""
    model = load_model(quiet=True)
    for name, value in TRAPS.items():
        setattr(model.generation_config, name, value)
    return model


def test_captions_are_the_highest_scores(trapped, base_model, processor, test_clips):
    for clip in test_clips[:2]:
        sound = clip["audio"]["array"]
        expected = highest_scores(base_model, processor, sound, 12)
        assert caption(trapped, processor, sound, max_new_tokens=12) == expected
        pipe = AudioTextToTextPipeline(trapped, processor=processor)
        assert pipe(sound, max_new_tokens=12) == [{"generated_text": expected}]


def test_a_repetition_penalty_without_sampling_is_what_used_to_get_through(processor, test_clips):
    model = load_model(quiet=True)
    sounds = [clip["audio"]["array"] for clip in test_clips[:4]]
    honest = caption(model, processor, sounds, max_new_tokens=24)
    assert caption(model, processor, sounds, max_new_tokens=24, repetition_penalty=5.0) != honest
    model.generation_config.repetition_penalty = 5.0
    assert caption(model, processor, sounds, max_new_tokens=24) == honest


def test_no_knob_of_the_library_is_forgotten(trapped):
    """Of all that ``generate`` would do to the scores, nothing is left; a new release's knobs turn up here."""
    config, rest = trapped._prepare_generation_config(None, **GREEDY)
    assert rest == {}, "the library knows every name"
    trapped._prepare_special_tokens(config, device="cpu")
    config.max_length = 400
    ids = torch.ones(1, 8, dtype=torch.long)
    made = trapped._get_logits_processor(generation_config=config, input_ids_seq_length=8, encoder_input_ids=ids,
                                         device="cpu")
    assert list(made) == []
    endings = ("_penalty", "_cutoff", "_size", "_bias", "_p")
    bending = {name for name in vars(GenerationConfig()) if name.endswith(endings)}
    harmless = {"length_penalty", "diversity_penalty", "max_matching_ngram_size", "prefill_chunk_size"}
    assert bending - harmless <= set(GREEDY), "knobs that nobody has thought of yet"
