"""A run that cannot learn stops at once, and says which run it is and why."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import TrainerCallback

from helpers import AudioFlamingo3DataCollator, TrainingError, TrainingGuard, get_profile
from helpers.chat import IGNORED
from helpers.training.recipe import make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = dataclasses.replace(get_profile("tiny"), max_steps=3, batch_size=2, warmup_steps=0)


@pytest.fixture
def trainer(model, processor, test_clips, tmp_path):
    return make_trainer(SHORT, model, processor, tmp_path, train=test_clips[:4], save_strategy="no", disable_tqdm=True)


class Watch(TrainerCallback):
    def __init__(self, look):
        self.look = look

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self.look()


def lora(trainer, part: str):
    return [parameter for name, parameter in trainer.model.named_parameters() if f"lora_{part}" in name]


def test_a_healthy_run_is_left_alone(trainer):
    """At step 1 every A has a gradient of zero, because every B is zero."""
    gradients = []
    trainer.add_callback(Watch(lambda: gradients.append([float(sum(p.grad.abs().sum() for p in lora(trainer, part)))
                                                         for part in "AB"])))
    assert trainer.train().global_step == 3
    assert gradients[0][0] == 0 < gradients[0][1] and gradients[1][0] > 0
    assert not trainer.model._forward_hooks, "the guard takes its hook away"


def test_nothing_trainable(trainer):
    trainer.model.requires_grad_(False)
    with pytest.raises(TrainingError, match="Nothing in the model is trainable.*is_trainable=True"):
        trainer.train()


def test_gradients_that_are_all_zero(trainer):
    for module in trainer.model.modules():
        if isinstance(getattr(module, "scaling", None), dict):  # of LoRA; attention has a number of that name
            module.scaling = dict.fromkeys(module.scaling, 0.0)
    with pytest.raises(TrainingError, match=r"after step 1 the gradients of all \d+ trainable tensors are missing or "
                                            r"zero"):
        trainer.train()
    assert all(parameter.abs().sum() == 0 for parameter in lora(trainer, "B")), "stopped before the first update"


def test_a_graph_that_is_cut(trainer):
    """Checkpointing of the reentrant kind gives no gradient where its input, here the embeddings, needs none."""
    def checkpointed(forward):
        return lambda hidden, **kwargs: checkpoint(lambda hidden: forward(hidden, **kwargs), hidden, use_reentrant=True)

    for layer in trainer.model.base_model.model.model.language_model.layers:
        layer.forward = checkpointed(layer.forward)
    with pytest.raises(TrainingError, match="loss does not depend on any trainable weight.*enable_input_require_grads"):
        trainer.train()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite(trainer, value):
    trainer.args.logging_nan_inf_filter = True  # the default, which hides it
    with torch.no_grad():
        trainer.model.base_model.model.lm_head.weight[0, 0] = value
    with pytest.raises(TrainingError, match="loss of step 1 is (nan|inf)"):
        trainer.train()


def test_labels_that_are_all_masked(trainer):
    collate = trainer.data_collator

    def masked(examples):
        batch = collate(examples)
        return {**batch, "labels": torch.full_like(batch["labels"], IGNORED)}

    trainer.data_collator = masked
    with pytest.raises(TrainingError, match="All labels of a batch of step 1 are masked"):
        trainer.train()


def test_a_guard_can_be_used_twice_and_after_an_interrupt(trainer):
    guard = TrainingGuard()
    trainer.add_callback(guard)
    guard.on_train_begin(trainer.args, trainer.state, trainer.control, model=trainer.model)
    guard.on_train_begin(trainer.args, trainer.state, trainer.control, model=trainer.model)
    assert len(trainer.model._forward_hooks) == 1


# -------------------------------------------------------------------------------------------------------- collator
def test_a_chat_template_that_loses_a_text_is_refused(processor, test_clips):
    other = copy.deepcopy(processor)
    other.chat_template = other.chat_template.replace("{{- item.text -}}", "")
    with pytest.raises(RuntimeError, match="does not show each text of a chat once"):
        AudioFlamingo3DataCollator(other)(test_clips[:3])


def test_a_clip_beyond_the_longest_keeps_its_whole_answer(processor):
    """The processor cuts the audio of long clips (10 minutes for AF3; here 8 s), never the text behind it."""
    short = copy.deepcopy(processor)
    short.max_audio_len = 8
    samples = np.random.default_rng(0).normal(0, 0.1, 20 * 16_000).astype(np.float32)
    batches = [AudioFlamingo3DataCollator(any_)([{"audio": samples, "caption": "A dog barks"}])
               for any_ in (processor, short)]
    assert batches[1]["input_features"].shape[0] == 2 < batches[0]["input_features"].shape[0]
    answers = [batch["labels"][batch["labels"] != IGNORED].tolist() for batch in batches]
    assert answers[0] == answers[1] and "A dog barks" in processor.tokenizer.decode(answers[0])
