"""The profile of a step: all of its time, each part under its own name, and no weight moved."""

from __future__ import annotations

import time

import pytest
import torch
from peft import get_peft_model

from helpers import AudioFlamingo3DataCollator, get_profile, load_captions, profile_steps, step_shares
from helpers.audio.order import ClipStream
from helpers.scale.profiling import PHASES
from helpers.training.recipe import lora_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def adapted(model):
    return get_peft_model(model, lora_config(get_profile("tiny")))


def test_each_phase_is_charged_with_its_own_time(adapted, processor, monkeypatch):
    """A pause put into one part shows up there and nowhere else."""
    base = adapted.base_model.model
    pauses = {"decode": 0.2, "features": 0.4, "encoder": 0.6, "language model": 0.8}

    def slowed(function, seconds):
        return lambda *args, **kwargs: (time.sleep(seconds), function(*args, **kwargs))[1]

    plain = step_shares(profile_steps(adapted, AudioFlamingo3DataCollator(processor), stream(), 2, steps=1, warmup=1))
    monkeypatch.setattr(
        "helpers.scale.profiling.as_samples", slowed(lambda audio: real_samples(audio), pauses["decode"] / 2)
    )
    monkeypatch.setattr(base.model.audio_tower, "forward", slowed(base.model.audio_tower.forward, pauses["encoder"]))
    language_model = base.model.language_model
    monkeypatch.setattr(language_model, "forward", slowed(language_model.forward, pauses["language model"]))
    collate = slowed(AudioFlamingo3DataCollator(processor), pauses["features"])
    paused = step_shares(profile_steps(adapted, collate, stream(), 2, steps=1, warmup=0))
    for phase in PHASES:
        assert paused[phase][0] - plain[phase][0] == pytest.approx(pauses.get(phase, 0.0), abs=0.19), phase
    assert sum(share for _, share in paused.values()) == pytest.approx(1)


def real_samples(audio):
    from helpers.audio.samples import as_samples

    return as_samples(audio)


def stream():
    return ClipStream(load_captions("tiny", "train"), 2)


def test_the_steps_leave_the_weights_as_they_were(adapted, processor):
    before = {name: parameter.detach().clone() for name, parameter in adapted.named_parameters()}
    hooks = len(adapted.base_model.model.model.audio_tower._forward_hooks)
    rows = profile_steps(adapted, AudioFlamingo3DataCollator(processor), stream(), 2, steps=2, warmup=0)
    assert [(row["step"], row["phase"]) for row in rows] == [(step, phase) for step in (0, 1) for phase in PHASES]
    assert all(row["seconds"] > 0 for row in rows)
    assert all(torch.equal(parameter, before[name]) for name, parameter in adapted.named_parameters())
    assert len(adapted.base_model.model.model.audio_tower._forward_hooks) == hooks


def test_too_few_clips_and_nothing_trainable(adapted, processor):
    collate = AudioFlamingo3DataCollator(processor)
    with pytest.raises(ValueError, match="clips for 1 steps only: 3 steps of 2 clips take 6"):
        profile_steps(adapted, collate, list(stream().clips.take(3)), 2, steps=3, warmup=0)
    adapted.requires_grad_(False)
    with pytest.raises(ValueError, match="Nothing in the model is trainable"):
        profile_steps(adapted, collate, stream(), 2)
