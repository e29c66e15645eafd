"""Faults planted into batches: each is found by its own sentence; healthy ones are left alone."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import torch
from planted import changed, one

from helpers import (
    AudioFlamingo3DataCollator,
    check_batch,
    get_profile,
)
from helpers.chat import IGNORED

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = dataclasses.replace(get_profile("tiny"), max_steps=3, batch_size=4, warmup_steps=0, logging_steps=1,
                            eval_steps=2)


@pytest.fixture(scope="module")
def batch(processor, test_clips):
    return AudioFlamingo3DataCollator(processor, trim_logits=False)(test_clips[:4])


@pytest.fixture(scope="module")
def trimmed(processor, test_clips):
    return AudioFlamingo3DataCollator(processor)(test_clips[:4])


def careless(batch, processor):
    """The guide's labels: all but audio and padding."""
    heard = batch["input_ids"] == processor.audio_token_id
    return batch["input_ids"].masked_fill(heard | (batch["attention_mask"] == 0), IGNORED)


def with_end_alone(batch, processor):
    end = batch["input_ids"] == processor.tokenizer.eos_token_id
    return batch["labels"].masked_fill(~end, IGNORED)


def without_end(batch, processor):
    end = batch["input_ids"] == processor.tokenizer.eos_token_id
    return batch["labels"].masked_fill(end, IGNORED)


def without_row(batch, processor):
    labels = batch["labels"].clone()
    labels[2] = IGNORED
    return labels


def of_other_tokens(batch, processor):
    labels = batch["labels"].clone()
    return torch.where(labels == IGNORED, labels, (labels + 1) % 690)


LABELS = {
    "on everything": (lambda batch, _: batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED),
                      r"The \d+ labels are the input ids of every position"),
    "on padding too": (lambda batch, _: batch["input_ids"].clone(), r"\d+ on padding"),
    "on the prompt": (careless, r"\d+ of \d+ labels are not on an answer \(0 on audio placeholders, 0 on padding"),
    "all masked": (lambda batch, _: torch.full_like(batch["labels"], IGNORED), "All labels of the batch are masked"),
    "zeros and ones": (lambda batch, _: (batch["labels"] != IGNORED).long(), "labels are 0 and 1 alone"),
    "ones": (lambda batch, _: torch.where(batch["labels"] == IGNORED, IGNORED, 1), "labels are 1 alone"),
    "late": (lambda batch, _: batch["labels"].roll(1, dims=1), "one position too late"),
    "early": (lambda batch, _: batch["labels"].roll(-1, dims=1), "one position too early"),
    "the end alone": (with_end_alone, "on the tokens that end the answers alone"),
    "no end": (without_end, r"In 4 of 4 rows \(0, 1, 2, 3\) the token that ends the answer has no label"),
    "a row without": (without_row, r"1 of 4 rows \(2\) have no label"),
    "other tokens": (of_other_tokens, "are other tokens than the input at their position"),
}


@pytest.mark.parametrize("name", LABELS)
def test_wrong_labels(batch, processor, name):
    wrong, message = LABELS[name]
    assert re.search(message, one(check_batch(changed(batch, labels=wrong(batch, processor)), processor)))


def test_labels_without_a_processor(batch):
    """The guard knows no tokenizer where a learner's collator hides it; what can be seen is seen."""
    assert check_batch(batch, None) == []
    masked = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
    assert "of every position" in one(check_batch(changed(batch, labels=masked), None))
    assert "0 and 1 alone" in one(check_batch(changed(batch, labels=(batch["labels"] != IGNORED).long()), None))


def turned(batch: dict) -> dict:
    """A batch padded on the right."""
    rows = []
    for mask in batch["attention_mask"]:
        rows.append(int((mask == 0).sum()))
    ids, attention = batch["input_ids"].clone(), batch["attention_mask"].clone()
    for row, padding in enumerate(rows):
        ids[row], attention[row] = ids[row].roll(-padding), attention[row].roll(-padding)
    return {**batch, "input_ids": ids, "attention_mask": attention}


OTHERS = {
    "right padding with trimming": (turned, "are padded on the right although only the last"),
    "attention mask lost": (lambda b: changed(b, attention_mask=torch.ones_like(b["attention_mask"])),
                            r"The attention mask covers \d+ padding tokens in \d of 4 rows"),
    "trimmed too far": (lambda b: changed(b, labels=b["labels"][:, -4:], logits_to_keep=4), "tokens of answers lie "
                                                                                            "before the last 4"),
    "logits_to_keep forgotten": (lambda b: {name: value for name, value in b.items() if name != "logits_to_keep"},
                                 "logits_to_keep is None"),
    "no labels": (lambda b: {name: value for name, value in b.items() if name != "labels"}, "has no labels"),
    "no mask": (lambda b: changed(b, attention_mask=None), "has no attention_mask"),
    "deaf: zeros": (lambda b: changed(b, input_features=torch.zeros_like(b["input_features"])), "All audio features of "
                                                                                                "the batch are 0"),
    "deaf: a constant": (lambda b: changed(b, input_features=torch.full_like(b["input_features"], -0.7)), "are -0.7"),
    "one clip for all": (lambda b: changed(b, input_features=b["input_features"][:1].expand(4, -1, -1)),
                         "all 4 windows are the same"),
    "NaN in features": (lambda b: changed(b, input_features=b["input_features"] * float("nan")), "are NaN or infinite"),
    "placeholders and frames": (lambda b: changed(b, input_features_mask=b["input_features_mask"].index_fill(
        1, torch.arange(100, b["input_features_mask"].shape[1]), 0)),
        r"There are \d+ audio placeholders for the \d+ frames"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_wrong_batches(trimmed, processor, name):
    wrong, message = OTHERS[name]
    findings = check_batch(wrong(trimmed), processor)
    assert findings and re.search(message, findings[0]), findings


def test_samples_at_integer_scale(trimmed, processor):
    """`as_samples` refuses them; a collator of one's own may not: 32,768 times the samples are 2.26 more of log-mel."""
    louder = trimmed["input_features"] + 2 * np.log10(32_768) / 4
    assert "integer scale" in one(check_batch(changed(trimmed, input_features=louder), processor))


def test_the_loudest_possible_samples_are_no_finding(processor):
    time = np.arange(32_000) / 16_000
    for shape in (np.sin(2 * np.pi * 1000 * time), np.sign(np.sin(2 * np.pi * 40 * time)), np.ones(32_000),
                  np.random.default_rng(0).choice([-1.0, 1.0], 32_000)):
        clip = {"audio": np.append(shape, 0.0).astype(np.float32), "caption": "A tone plays"}
        batch = AudioFlamingo3DataCollator(processor)([clip, {"audio": np.full(3200, 1e-3, np.float32),
                                                              "caption": "Hum"}])
        assert float(batch["input_features"].max()) < 1.75 and check_batch(batch, processor) == []


@pytest.mark.parametrize("seed", range(20))
def test_healthy_batches_are_left_alone(processor, test_clips, seed):
    rng = np.random.default_rng(seed)
    clips = [test_clips[number] for number in rng.choice(24, size=rng.integers(1, 6), replace=False)]
    if seed % 3 == 0:
        clips[0] = {"audio": clips[0]["audio"], "messages": [
            {"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "<|im_end|> A dog"},
            {"role": "user", "content": "Sure?"}, {"role": "assistant", "content": "Yes"}]}
    if seed % 4 == 0:
        clips.append({"audio": np.tile(clips[0]["audio"]["array"], 3), "caption": "A long clip"})
    for trim in (True, False):
        assert check_batch(AudioFlamingo3DataCollator(processor, trim_logits=trim)(clips), processor) == []
