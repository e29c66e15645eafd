"""Faults planted into runs: the guard stops each, as soon as it can be known; healthy runs go on."""

from __future__ import annotations

import copy
import dataclasses
import math
import warnings

import pytest
import torch
from planted import changed, one
from transformers import TrainerCallback

from helpers import (
    TrainingError,
    TrainingGuard,
    check_training,
    get_profile,
)
from helpers.chat import IGNORED
from helpers.training.guard import MOST_SKIPPED
from helpers.training.recipe import make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = dataclasses.replace(get_profile("tiny"), max_steps=3, batch_size=4, warmup_steps=0, logging_steps=1,
                            eval_steps=2)


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


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_healthy_runs_of_twenty_seeds(model, processor, tmp_path, seed):
    """Streams, dropout, warm-up, evaluation: the recipe as it is, and the guard as strict as it is."""
    profile = dataclasses.replace(SHORT, max_steps=6, warmup_steps=2, train_clips=24, eval_clips=8, eval_steps=3)
    trainer = make_trainer(profile, model, processor, tmp_path, seed=seed, save_strategy="no", disable_tqdm=True)
    assert check_training(trainer) == []
    trainer.train()
    assert check_training(trainer) == []
