"""The benchmark measures what it says: the guide's recipe is the guide's, figures become the right rows. No timing."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
import torch
from peft import get_peft_model

from helpers import (
    DESCRIBE_PROMPT,
    AudioFlamingo3DataCollator,
    count_clip_flops,
    get_profile,
    load_captions,
    load_model,
    lora_report,
    make_chat,
)
from helpers.model.memory import GPU_MEMORY
from tests.benchmarks import arms, jobs, mid_size, operations, parts
from tests.benchmarks.guide import GuideDataCollator, guide_lora_config, make_guide_trainer
from tests.benchmarks.memory import PeakMemory


# --------------------------------------------------------------------------------------------------------- the guide
def test_the_guides_labels_are_the_processors_own(processor, test_clips):
    chats = [make_chat(clip["audio"]["array"], DESCRIBE_PROMPT, clip["caption"]) for clip in test_clips[:3]]
    expected = processor.apply_chat_template(chats, tokenize=True, return_dict=True,
                                             processor_kwargs={"output_labels": True})
    batch = GuideDataCollator(processor)(test_clips[:3])
    assert batch.keys() == expected.keys()
    assert all(torch.equal(batch[key], expected[key]) for key in expected)


def test_the_guide_trains_on_the_prompt_and_the_course_does_not(processor, test_clips):
    collators = GuideDataCollator, AudioFlamingo3DataCollator
    guide, course = (collator(processor)(test_clips[:1])["labels"] for collator in collators)
    guide, course = guide[guide != -100], course[course != -100]
    text = processor.tokenizer.decode(guide)
    assert DESCRIBE_PROMPT in text and "system" in text and "<sound>" not in text
    assert processor.tokenizer.decode(course) == test_clips[0]["caption"] + "<|im_end|>"
    assert torch.equal(guide[-len(course) - 1 : -1], course), "the same answer, followed by the template's line break"


def test_the_guides_suffixes_reach_the_audio_tower(model):
    report = lora_report(get_peft_model(model, guide_lora_config(get_profile("tiny"))))
    layers = model.config.audio_config.num_hidden_layers
    assert report.adapters["audio tower"] == {"q_proj": layers, "k_proj": layers, "v_proj": layers}
    assert report.trainable["audio tower"] > 0


def test_both_recipes_share_every_training_argument(processor, test_clips, tmp_path):
    profile = get_profile("tiny")
    guide, course = (
        make(profile, load_model(quiet=True), processor, tmp_path, train=test_clips[:2], seed=3, save_strategy="no")
        for make in (make_guide_trainer, arms.ARMS["course"])
    )
    ours, theirs = guide.args.to_dict(), course.args.to_dict()
    assert {key for key in ours if ours[key] != theirs[key]} <= {"logging_dir"}
    adapters = [trainer.model.peft_config["default"].to_dict() for trainer in (guide, course)]
    assert {key for key in adapters[0] if adapters[0][key] != adapters[1][key]} == {"target_modules"}


@pytest.mark.parametrize("arm", arms.ARMS)
def test_every_arm_trains(arm, processor, test_clips, tmp_path):
    """The guide's labels too, at which the course's guard would stop."""
    profile = dataclasses.replace(get_profile("tiny"), max_steps=1, batch_size=2, warmup_steps=0)
    quiet = {"save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    trainer = arms.ARMS[arm](profile, load_model(quiet=True), processor, tmp_path, train=test_clips[:2], **quiet)
    assert trainer.train().global_step == 1


def test_full_fine_tuning_trains_the_language_model_and_nothing_else(model, processor, test_clips, tmp_path):
    few = test_clips[:2]
    trainer = arms.ARMS["full"](get_profile("tiny"), model, processor, tmp_path, train=few, save_strategy="no")
    report = lora_report(trainer.model)
    assert report.trainable["language model"] == report.parameters["language model"] > 0
    assert report.trainable["output head"] == report.parameters["output head"] > 0
    assert report.trainable["audio tower"] == report.trainable["projector"] == 0


# ---------------------------------------------------------------------------------------------------------- measures
def _truth(relation, *labels):
    return {"relation": relation, "events": [{"label": label} for label in labels]}


@pytest.mark.parametrize("text, truth, right", [
    ("A dog barks", _truth("single", "dog"), True),
    ("A dog barks", _truth("single", "cat"), False),
    ("A dog barks followed by rain falling", _truth("sequence", "dog", "rain"), True),
    ("Rain falls followed by a dog barking", _truth("sequence", "dog", "rain"), False),
    ("A dog barks while rain falls", _truth("sequence", "dog", "rain"), False),
    ("Rain falls while a dog barks", _truth("overlap", "dog", "rain"), True),
    ("A dog barks", _truth("overlap", "dog", "rain"), False),
    ("The audio clip contains the sound of a dog barking.", _truth("single", "dog"), False),
])
def test_a_caption_matches_only_with_the_right_events_in_the_right_order(text, truth, right):
    assert jobs.matches(text, truth) is right


def test_the_loss_counts_the_answers_tokens_whatever_the_batch(base_model, processor, test_clips):
    whole = jobs.answer_loss(base_model, processor, test_clips[:5], batch_size=5)
    collate = AudioFlamingo3DataCollator(processor, trim_logits=False)
    total, tokens = 0.0, 0
    with torch.inference_mode():
        for clip in test_clips[:5]:
            batch = collate([clip])
            labels = batch.pop("labels")[:, 1:]
            logits, answer = base_model(**batch).logits[:, :-1], labels != -100
            total += float(torch.nn.functional.cross_entropy(logits[answer], labels[answer], reduction="sum"))
            tokens += int(answer.sum())
    assert whole == pytest.approx(total / tokens, rel=1e-4)
    assert jobs.answer_loss(base_model, processor, test_clips[:5], batch_size=2) == pytest.approx(whole, rel=1e-4)


def test_peak_memory_sees_what_was_freed_again():
    with PeakMemory() as memory:
        held = np.ones(50_000_000)
        del held
    assert 380e6 < memory.above < 600e6


def test_the_mid_size_model_has_afs_vocabulary_windows_and_placeholders():
    processor = mid_size.build_processor()
    with torch.device("meta"):
        model = mid_size.build_model(processor)
    (clip,) = mid_size.make_clips(1, "test")
    batch = AudioFlamingo3DataCollator(processor, trim_windows=False)([clip])
    assert model.lm_head.weight.shape[0] == 151_672
    assert batch["input_features"].shape == (1, 128, 3000)
    assert int((batch["input_ids"] == model.config.audio_token_id).sum()) == 250, "10 s of 40 ms frames"
    assert mid_size.make_clips(1, "train")[0]["caption"] != clip["caption"]


def test_the_guides_operations_are_those_of_its_whole_recipe(model, monkeypatch):
    """Against the course's counter: whole windows, logits everywhere, and layers of the tower computed three times."""
    monkeypatch.setattr(operations, "SECONDS", 2.0)
    guide = get_peft_model(model, guide_lora_config(get_profile("tiny")))
    positions = 50 + operations.TEXT_TOKENS
    same = count_clip_flops(guide, seconds=2.0, text_tokens=operations.TEXT_TOKENS, answer_tokens=positions,
                            trim_windows=False)
    extra = operations.count_guide_flops(guide) - same.total
    assert 1.9 * same.encoder < extra < 2.6 * same.encoder, "once more forward, once backward"


def test_where_the_course_trains_without_checkpointing():
    assert {gpu: operations.checkpointing_is_off(gpu) for gpu in GPU_MEMORY} == {
        "T4 16 GB": False, "L4 24 GB": False, "A100 40 GB": True, "A100 80 GB": True, "H100 80 GB": True}


@pytest.mark.slow
def test_cycled_shards_stream_like_the_data_set_itself(tmp_path):
    stream = jobs.stream_shards(parts.cycled_shards(tmp_path, 2_350))
    first = [clip["audiocap_id"] for clip in load_captions("tiny", "train").take(3)]
    assert [clip["audiocap_id"] for clip in stream.take(3)] == first
    assert [clip["audiocap_id"] for clip in stream.skip(1200).take(3)] == first, "the second round"
    assert len(list((tmp_path / os.listdir(tmp_path)[0]).iterdir())) == 24
