"""Faults planted into batches, adapters and runs: each is found, by its own sentence; healthy ones are left alone."""

from __future__ import annotations

import copy
import dataclasses
import math
import re
import warnings

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import TrainerCallback

from helpers import (
    LANGUAGE_MODEL_TARGETS,
    AudioFlamingo3DataCollator,
    TrainingError,
    TrainingGuard,
    check_adapters,
    check_batch,
    check_training,
    get_profile,
)
from helpers.chat import IGNORED
from helpers.training.guard import MOST_SKIPPED
from helpers.training.recipe import make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = dataclasses.replace(get_profile("tiny"), max_steps=3, batch_size=4, warmup_steps=0, logging_steps=1,
                            eval_steps=2)


def one(findings: list[str]) -> str:
    assert len(findings) == 1, findings
    assert findings[0].endswith(".") and ":" in findings[0] and "\n" not in findings[0], "cause, evidence, what to do"
    return findings[0]


# ---------------------------------------------------------------------------------------------------------- batches
@pytest.fixture(scope="module")
def batch(processor, test_clips):
    return AudioFlamingo3DataCollator(processor, trim_logits=False)(test_clips[:4])


@pytest.fixture(scope="module")
def trimmed(processor, test_clips):
    return AudioFlamingo3DataCollator(processor)(test_clips[:4])


def changed(batch: dict, **values) -> dict:
    return {**batch, **values}


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
        1, torch.arange(100, 400), 0)), r"There are \d+ audio placeholders for the \d+ frames"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_wrong_batches(trimmed, processor, name):
    wrong, message = OTHERS[name]
    findings = check_batch(wrong(trimmed), processor)
    assert findings and re.search(message, findings[0]), findings


def test_samples_at_integer_scale(processor, test_clips):
    loud = [{**clip, "audio": {**clip["audio"], "array": clip["audio"]["array"] * 32_768}} for clip in test_clips[:2]]
    assert "integer scale" in one(check_batch(AudioFlamingo3DataCollator(processor)(loud), processor))


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


# --------------------------------------------------------------------------------------------------------- adapters
def lora(model, **options):
    return get_peft_model(model, LoraConfig(**{"r": 2, "target_modules": LANGUAGE_MODEL_TARGETS, **options}))


def test_healthy_adapters(model):
    assert check_adapters(lora(model)) == []


def test_no_adapter(model):
    assert "There is no LoRA adapter" in one(check_adapters(model))
    model.requires_grad_(False)
    assert "Nothing in the model is trainable" in one(check_adapters(model))


SUFFIXES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize("options, message", [
    ({"target_modules": SUFFIXES}, r"24 trainable tensors \([\d,]+ parameters\) lie outside the language model, in the "
                                   r"audio tower"),
    ({"modules_to_save": ["lm_head"]}, "outside the language model, in the output head"),
    ({"layers_to_transform": [0, 1], "target_modules": ["o_proj"]}, r"2 of the 4 layers .* \(layers 2, 3: o_proj\)"),
    ({"target_modules": r".*language_model.*(layers\.\d\.self_attn\.q_proj|layers\.[01]\.self_attn\.v_proj)"},
     r"2 of the 4 layers .* \(layers 2, 3: v_proj\)"),
])
def test_adapters_in_the_wrong_places(model, options, message):
    assert re.search(message, one(check_adapters(lora(model, **options))))


def test_adapters_that_cannot_learn(model):
    adapted = lora(model)
    names = [name for name, _ in adapted.named_parameters() if "lora_" in name]
    frozen = dict(adapted.named_parameters())[names[3]]
    frozen.requires_grad_(False)
    assert f"1 of {len(names)} adapter tensors are frozen ({names[3]})" in one(check_adapters(adapted))
    frozen.requires_grad_(True)
    adapted.merge_adapter()
    assert "28 of 28 adapters are switched off or merged" in one(check_adapters(adapted))
    adapted.unmerge_adapter()
    with torch.no_grad():
        frozen[0, 0] = math.nan
    assert "1 of 56 adapter tensors hold NaN" in one(check_adapters(adapted))


# ------------------------------------------------------------------------------------------------------------- runs
def run(model, processor, clips, folder, profile=SHORT, **overrides):
    settings = {"save_strategy": "no", "disable_tqdm": True, **overrides}
    return make_trainer(profile, model, processor, folder, train=clips[:8], evaluation=clips[8:16], **settings)


@pytest.fixture
def trainer(model, processor, test_clips, tmp_path):
    return run(model, processor, test_clips, tmp_path)


def test_a_healthy_run_has_no_findings_before_and_after(trainer):
    assert check_training(trainer) == []
    trainer.train()
    assert trainer.state.global_step == 3 and check_training(trainer) == []
    (guard,) = [callback for callback in trainer.callback_handler.callbacks if isinstance(callback, TrainingGuard)]
    assert guard._listened and guard._moved, "it has looked"


def spoil(trainer, change):
    """Let a collator's batches pass through ``change``."""
    collate = trainer.data_collator
    wrapped = copy.copy(collate)
    trainer.data_collator = type("Spoiled", (), {"processor": wrapped.processor,
                                                 "__call__": lambda self, examples: change(collate(examples))})()


@pytest.mark.parametrize("change, message", [
    (lambda batch: changed(batch, input_features=torch.zeros_like(batch["input_features"])), "In step 1: All audio "
                                                                                             "features"),
    (lambda batch: changed(batch, labels=batch["labels"].roll(1, dims=1)), "In step 1: The .* one position too late"),
    (lambda batch: changed(batch, labels=(batch["labels"] != IGNORED).long()), "In step 1: .*no token ids|In step 1: "
                                                                               ".* 0 and 1"),
])
def test_the_guard_finds_it_in_the_first_step(trainer, change, message):
    spoil(trainer, change)
    assert check_training(trainer) != []
    with pytest.raises(TrainingError, match=message):
        trainer.train()
    assert trainer.state.global_step == 0


def test_the_guard_finds_it_before_the_first_step(model, processor, test_clips, tmp_path):
    trainer = run(model, processor, test_clips, tmp_path, learning_rate=0.0)
    assert "The learning rate is 0.0" in one(check_training(trainer))
    with pytest.raises(TrainingError, match="The learning rate is 0.0"):
        trainer.train()
    trainer.args.learning_rate, trainer.args.warmup_steps = 1e-3, 10
    assert "The warm-up of 10 steps is longer than the run of 3" in one(check_training(trainer))
    with pytest.raises(TrainingError, match="warm-up of 10 steps is longer"):
        trainer.train()
    trainer.args.warmup_steps = 0
    for name, parameter in trainer.model.named_parameters():
        if "audio_tower" in name:
            parameter.requires_grad_(True)
    with pytest.raises(TrainingError, match="outside the language model, in the audio tower"):
        trainer.train()


def test_an_update_that_changes_nothing(trainer):
    class Stuck(TrainerCallback):
        def on_train_begin(self, args, state, control, optimizer=None, **kwargs):
            optimizer.optimizer.step = lambda closure=None: None
    trainer.add_callback(Stuck())
    with pytest.raises(TrainingError, match="The update of step 1 changed no weight"):
        trainer.train()


def test_a_schedule_that_stays_at_zero(trainer):
    trainer.create_optimizer()
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(trainer.optimizer, lambda step: 0.0)
    with pytest.raises(TrainingError, match="learning rate is 0 in 2 updates, the last in step 2"):
        trainer.train()


class Poison(TrainerCallback):
    """Make a gradient or a weight infinite at one step."""

    def __init__(self, step: int, event: str):
        self.step = step
        setattr(self, event, self.poison)

    def poison(self, args, state, control, model=None, **kwargs):
        if state.global_step == self.step - 1:
            weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
            with torch.no_grad():
                weights[-1][0, 0] = math.inf


@pytest.mark.parametrize("step", [1, 3])
def test_weights_that_are_not_finite_are_never_saved(model, processor, test_clips, tmp_path, step):
    """At step 3 the run would end, and save."""
    trainer = run(model, processor, test_clips, tmp_path, save_strategy="steps", save_steps=3, eval_strategy="no")
    trainer.add_callback(Poison(step, "on_optimizer_step"))
    with pytest.raises(TrainingError, match=f"After step {step} trainable weights are NaN"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*/adapter_model.safetensors"))


def grow(trainer, step: int):
    """A gradient that is infinite at one step, although the loss is finite."""
    def hook(gradient):
        return gradient * math.inf if trainer.state.global_step == step - 1 else gradient

    [parameter for parameter in trainer.model.parameters() if parameter.requires_grad][-1].register_hook(hook)


@pytest.mark.parametrize("step", [1, 3])
def test_gradients_that_are_not_finite(trainer, step):
    trainer.args.eval_strategy = "no"
    grow(trainer, step)
    with pytest.raises(TrainingError, match=f"Gradients of step {step} are NaN or infinite"):
        trainer.train()


def test_a_rate_at_which_the_weights_explode(model, processor, test_clips, tmp_path):
    trainer = run(model, processor, test_clips, tmp_path, learning_rate=1e30, eval_strategy="no", save_strategy="steps",
                  save_steps=1)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        trainer.train()


def test_a_few_skipped_updates_of_float16_are_no_failure_and_many_are():
    guard, weight = TrainingGuard(), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    args = type("Arguments", (), {"fp16": True, "device": "cpu", "deepspeed_plugin": None})
    state = type("State", (), {"global_step": 0})

    def step(gradient):
        weight.grad = torch.full((2,), gradient)
        guard.on_pre_optimizer_step(args, state, None, optimizer=optimizer)
        if math.isfinite(gradient):
            optimizer.step()
        guard.on_optimizer_step(args, state, None)

    for _ in range(MOST_SKIPPED):
        step(math.inf)
    step(1.0)
    for _ in range(MOST_SKIPPED):
        step(math.nan)
    with pytest.raises(TrainingError, match=f"infinite in {MOST_SKIPPED + 1} updates in a row"):
        step(math.inf)


def test_a_model_that_does_not_listen(trainer):
    """Its audio features reach the language model as nothing: the loss is the same with any clip."""
    trainer.model.base_model.model.model.multi_modal_projector.register_forward_hook(lambda *inputs: inputs[2] * 0)
    with pytest.raises(TrainingError, match=r"do not depend on the audio: at step 2 the loss of 2 batches is ([\d.]+) "
                                            r"with "
                                            r"their clips and \1 with clips swapped"):
        trainer.train()


def test_captions_of_other_clips(trainer):
    """A collator that gives each caption the next clip of the batch: the loss gets better with the clips swapped."""
    spoil(trainer, lambda batch: changed(batch, input_features=batch["input_features"].roll(1, 0),
                                         input_features_mask=batch["input_features_mask"].roll(1, 0)))
    with pytest.raises(TrainingError, match="do not depend on the audio: at step 2"):
        trainer.train()


def test_no_clips_to_evaluate_on(model, processor, test_clips, tmp_path):
    with pytest.raises(TrainingError, match="no clips to evaluate on"):
        make_trainer(SHORT, model, processor, tmp_path, train=test_clips[:4], evaluation=[])
    trainer = make_trainer(SHORT, model, processor, tmp_path, train=test_clips[:4], evaluation=test_clips[4:6])
    trainer.eval_dataset = []
    assert "There are no clips to evaluate on" in one(check_training(trainer))
    with pytest.raises(ValueError, match="eval_clips cannot be 0"):
        get_profile(eval_clips=0)


def test_clips_on_both_sides(model, processor, test_clips, tmp_path):
    trainer = make_trainer(SHORT, model, processor, tmp_path, train=test_clips[:6], evaluation=test_clips[4:9])
    assert "2 of the 5 clips to evaluate on are trained on as well (number 0, 1)" in one(check_training(trainer))


def test_an_optimizer_of_another_model(trainer):
    trainer.optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(1))])
    assert "The optimizer does not hold 56 trainable tensors" in one(check_training(trainer))


def test_checking_does_not_change_the_run(model, processor, test_clips, tmp_path, base_model):
    """Neither the random state nor the position in the data moves."""
    trainer = run(model, processor, test_clips, tmp_path)
    before = torch.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert check_training(trainer) == []
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_healthy_runs_of_twenty_seeds(model, processor, tmp_path, seed):
    """Streams, dropout, warm-up, evaluation: the recipe as it is, and the guard as strict as it is."""
    profile = dataclasses.replace(SHORT, max_steps=6, warmup_steps=2, train_clips=24, eval_clips=8, eval_steps=3)
    trainer = make_trainer(profile, model, processor, tmp_path, seed=seed, save_strategy="no", disable_tqdm=True)
    assert check_training(trainer) == []
    trainer.train()
    assert check_training(trainer) == []
