"""An adapter to save, known by one number in all of its tensors, and copies of the process to save it in."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from helpers import get_profile
from helpers.training.recipe import make_trainer

forked = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, to kill a saver without loading PyTorch anew for "
                                                            "each")


@pytest.fixture(name="profile")
def small_profile(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.profiles.RUNS", tmp_path)
    return dataclasses.replace(get_profile("tiny"), name="short", max_steps=2, batch_size=2, lora_rank=2,
                               warmup_steps=0)


@pytest.fixture(name="trainer")
def idle_trainer(model, processor, profile, test_clips, tmp_path):
    trainer = make_trainer(profile, model, processor, tmp_path / "checkpoints", train=test_clips[:2],
                           save_strategy="no")
    trainer.state.global_step = 2  # as if it had trained
    return trainer


def mark(trainer, value: float) -> None:
    """Fill all of the adapter with one number, by which it is known again."""
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_" in name:
                parameter.fill_(value)


def marks(folder: Path) -> set[float]:
    from safetensors.torch import load_file

    return {float(number) for tensor in load_file(folder / "adapter_model.safetensors").values()
            for number in tensor.unique()}


def fork(job) -> int:
    """Run ``job`` in a copy of this process; exit status 0 if it returns something true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if job() else 2
        finally:
            os._exit(status)
    return child


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
