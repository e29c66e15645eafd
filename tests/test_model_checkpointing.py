"""Checkpointing where a step would not fit without it, and nowhere else."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from helpers import choose_checkpointing, estimate_memory, get_profile, training_arguments
from helpers.audio.folder import stream_clips
from helpers.model import checkpointing
from helpers.model.architecture import read_config
from helpers.model.hardware import loader_workers
from helpers.training import recipe

FULL = get_profile("full")


def loaded(device: str = "cuda"):
    return SimpleNamespace(device=torch.device(device), dtype=torch.bfloat16, config=read_config(FULL.model_id))


@pytest.mark.parametrize("gigabytes, on", [(39.5 - 16.8, False), (22 - 16.8, True)])
def test_it_follows_from_what_is_free_beside_the_weights(monkeypatch, gigabytes, on):
    """An A100 40 GB holds the guide's step without; an L4 does not."""
    monkeypatch.setattr(checkpointing, "free_memory", lambda gpus: int(gigabytes * 2**30))
    chosen, why = choose_checkpointing(loaded(), FULL)
    assert chosen is on and why.startswith(f"Activation checkpointing is {'on' if on else 'off'}: without it a step")
    step = estimate_memory(FULL, checkpointing=False)
    assert f"{(step.total - step.weights) / 1e9:.1f} GB beside the weights" in why


@pytest.mark.parametrize("data, overrides, seconds, clips", [
    ({}, {}, 10, 4), ({}, {"per_device_train_batch_size": 16}, 10, 16), ({"train": "folder"}, {}, 30, 4),
    ({"train": [{"audio": {"array": [0.0] * 3 * n, "sampling_rate": 3}, "caption": "."} for n in (2, 28)]}, {}, 28, 4),
    ({"train": [{"audio": "recording.wav", "caption": "."}]}, {}, 30, 4),
])
def test_the_batch_that_will_be_trained_is_the_one_that_is_weighed(monkeypatch, data, overrides, seconds, clips):
    """On an A100 40 GB four clips of 10 s need no checkpointing; sixteen of them, or four of 30 s, do."""
    monkeypatch.setattr(checkpointing, "free_memory", lambda gpus: int((39.5 - 16.8) * 2**30))
    if data.get("train") == "folder":
        row = {"audio": {"path": "recording.wav", "start": 0.0}, "caption": "."}
        data = {"train": stream_clips([row])}
    asked = {}

    def choose(*args, **how):
        asked["chosen"] = choose_checkpointing(*args, **how)
        raise InterruptedError

    monkeypatch.setattr(recipe, "choose_checkpointing", choose)
    with pytest.raises(InterruptedError):
        recipe.make_trainer(FULL, loaded(), None, Path("nowhere"), **data, **overrides)
    on, why = asked["chosen"]
    assert f"({clips} clips of {seconds} s at once)" in why
    assert on is (clips * seconds > 40)


def test_a_profile_without_it_and_a_cpu_decide_nothing():
    assert choose_checkpointing(loaded(), dataclasses.replace(FULL, gradient_checkpointing=False)) == (False, "")
    assert choose_checkpointing(loaded("cpu"), FULL) == (True, "")


def test_loader_workers_only_where_a_gpu_waits(monkeypatch):
    import os

    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8), raising=False)
    assert loader_workers(loaded("cpu")) == 0
    assert [loader_workers(loaded(), processes) for processes in (1, 2, 4, 8)] == [4, 3, 1, 0]


@pytest.mark.parametrize("name", ["gradient_checkpointing", "activation_checkpointing"])
@pytest.mark.parametrize("chosen, asked", [(True, False), (False, True)])
def test_the_choice_can_be_overruled(base_model, tmp_path, name, chosen, asked):
    profile = dataclasses.replace(get_profile("tiny"), gradient_checkpointing=chosen)
    for overrides, expected in (({}, chosen), ({name: asked}, asked)):
        arguments = training_arguments(profile, base_model, tmp_path, **overrides)
        kept = getattr(arguments, "activation_checkpointing", arguments.gradient_checkpointing)
        assert (kept, arguments.gradient_checkpointing) == (expected, expected)
