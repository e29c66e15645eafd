"""The collator against a slow, obvious reference, and against the model that consumes its batches."""

from __future__ import annotations

import logging
import warnings

import numpy as np
import pytest
import torch

from helpers import AudioError, AudioFlamingo3DataCollator, CaptionError, make_chat

RNG = np.random.default_rng(0)


def noise(seconds: float) -> dict:
    return {"array": (0.1 * RNG.standard_normal(int(seconds * 16_000))).astype(np.float32), "sampling_rate": 16_000,
            "path": f"{seconds}.wav"}


def captioned(seconds: float, caption: str = "A dog barks followed by rain falling") -> dict:
    return {"audio": noise(seconds), "caption": caption}


def talk(seconds: float, *turns: str) -> dict:
    roles = ["user", "assistant"] * len(turns)
    turns = zip(roles, turns, strict=False)
    return {"audio": noise(seconds), "messages": [{"role": role, "content": text} for role, text in turns]}


EXAMPLES = {
    "one clip": [captioned(3.0)],
    "different lengths": [captioned(0.1, "Rain"), captioned(4.0), captioned(2.5, "A cat meows and then a clock ticks")],
    "several windows": [captioned(9.5), captioned(1.0, "A cow moos")],
    "longest": [captioned(80.0, "Wind")],
    "several turns": [talk(2.0, "What is this?", "A dog barks", "Sure?", "Yes, a dog."), captioned(3.0, "Rain falls")],
    "words the tokenizer never saw": [captioned(1.0, "Zwölf Xylophone ♪ klingen\nzweimal")],
}


def reference_labels(processor, example: dict) -> list[int]:
    """Token by token, through character offsets: the obvious way, far too slow for training."""
    chat = AudioFlamingo3DataCollator(processor).chat(example)
    one = processor.apply_chat_template([chat], tokenize=True, return_dict=True)["input_ids"][0].tolist()
    frames = one.count(processor.audio_token_id)
    text = processor.apply_chat_template(chat, tokenize=False).replace("<sound>", "<sound>" * frames)
    encoded = processor.tokenizer(text, return_offsets_mapping=True)
    assert encoded["input_ids"] == one
    trained = [False] * len(text)
    at = 0
    for message in chat:
        at = text.index(f"<|im_start|>{message['role']}\n", at) + len(f"<|im_start|>{message['role']}\n")
        end = text.index("<|im_end|>", at) + len("<|im_end|>")
        if message["role"] == "assistant":
            trained[at:end] = [True] * (end - at)
        at = end
    return [token if trained[start] else -100 for token, (start, _) in zip(encoded["input_ids"],
                                                                           encoded["offset_mapping"],
                                                                           strict=True)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_labels_equal_the_reference(processor, name):
    examples = EXAMPLES[name]
    batch = AudioFlamingo3DataCollator(processor, trim_logits=False)(examples)
    width = batch["input_ids"].shape[1]
    for row, example in enumerate(examples):
        expected = reference_labels(processor, example)
        assert batch["labels"][row].tolist() == [-100] * (width - len(expected)) + expected
        assert int(batch["attention_mask"][row].sum()) == len(expected)


@pytest.mark.parametrize("name", EXAMPLES)
def test_trimming_changes_neither_labels_nor_loss(processor, base_model, name):
    examples = EXAMPLES[name]
    whole = AudioFlamingo3DataCollator(processor, trim_logits=False)(examples)
    trimmed = AudioFlamingo3DataCollator(processor)(examples)
    keep = trimmed["logits_to_keep"]
    assert trimmed["labels"].shape == (len(examples), keep)
    assert torch.equal(trimmed["labels"], whole["labels"][:, -keep:])
    assert (whole["labels"][:, : -keep + 1] == -100).all(), "nothing trained may be cut off"
    with torch.no_grad():
        assert base_model(**trimmed).loss.item() == pytest.approx(base_model(**whole).loss.item(), abs=1e-5)


def test_gradients_are_the_same_too(processor, model):
    gradients = []
    for trim in (False, True):
        model.zero_grad()
        model(**AudioFlamingo3DataCollator(processor, trim_logits=trim)(EXAMPLES["different lengths"])).loss.backward()
        gradients.append(model.lm_head.weight.grad.clone())
    assert torch.allclose(*gradients, atol=1e-6)


@pytest.mark.parametrize("seconds", [0.1, 0.15, 1.0, 3.99, 4.0, 4.02, 8.0, 11.3])
def test_placeholders_equal_the_encoders_frames(processor, base_model, seconds):
    batch = AudioFlamingo3DataCollator(processor)([captioned(seconds)])
    placeholders = int((batch["input_ids"] == processor.audio_token_id).sum())
    heard = base_model.get_audio_features(batch["input_features"], batch["input_features_mask"]).pooler_output
    assert placeholders == len(heard)


def test_it_warns_about_nothing(processor, caplog):
    collator = AudioFlamingo3DataCollator(processor)
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        logging.getLogger("transformers").propagate = True
        try:
            for examples in EXAMPLES.values():
                collator(examples)
        finally:
            logging.getLogger("transformers").propagate = False
    assert not caplog.records


def test_the_prompt_can_be_changed(processor):
    batch = AudioFlamingo3DataCollator(processor, prompt="What sounds are in the audio?")([captioned(1.0)])
    assert "What sounds are in the audio?" in processor.tokenizer.decode(batch["input_ids"][0])


def test_a_clip_can_be_placed_by_hand_and_the_example_is_left_alone(processor):
    example = talk(1.0, "Hello", "Hi", "And now?", "Rain falls")
    example["messages"][2]["content"] = [{"type": "audio"}, {"type": "text", "text": "And now?"}]
    before = str(example["messages"])
    text = processor.tokenizer.decode(AudioFlamingo3DataCollator(processor)([example])["input_ids"][0])
    assert text.index("Hi") < text.index("<sound>") < text.index("And now?")
    assert str(example["messages"]) == before


@pytest.mark.parametrize("example, error, message", [
    ({"audio": noise(1)}, CaptionError, "1.wav has no caption"),
    ({"audio": noise(1), "caption": None}, CaptionError, "has no caption"),
    ({"audio": noise(1), "caption": "  "}, CaptionError, "has no caption"),
    ({"caption": "A dog barks"}, CaptionError, "Example 0 .* has no 'audio'.*remove_unused_columns=False"),
    ({"audio": {"array": np.zeros(0, np.float32), "path": "void.wav"}, "caption": "x"}, AudioError,
     "void.wav is empty"),
    ({"audio": noise(1), "messages": [{"role": "user", "content": "?"}]}, CaptionError,
     "The chat of 1.wav ends in the user's turn: the assistant has to"),
    ({"audio": noise(1), "messages": [{"role": "user", "content": [{"type": "audio"}, {"type": "audio"}]},
                                         {"role": "assistant", "content": "Rain"}]}, CaptionError, "holds 2 clips"),
])
def test_bad_examples_are_named(processor, example, error, message):
    with pytest.raises(error, match=message):
        AudioFlamingo3DataCollator(processor)([example])


def test_the_processor_behaves_like_af3s(processor):
    chat = make_chat(noise(1)["array"], "Question?")
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == ("<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n<sound>Question?"
                    "<|im_end|>\n<|im_start|>assistant\n")
    own = processor.apply_chat_template([{"role": "system", "content": "Be brief."}, *chat], tokenize=False)
    assert own.startswith("<|im_start|>system\nBe brief.<|im_end|>") and own.count("system") == 1
    batch = processor.apply_chat_template([make_chat(noise(1)["array"]), make_chat(noise(3)["array"])], tokenize=True,
                                          return_dict=True)
    assert batch["attention_mask"][0, 0] == 0 and batch["attention_mask"][0, -1] == 1, "padding belongs on the left"
