"""A run of two steps by ``python -m helpers.train``: shared by the tests of the command."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from helpers import get_profile, profiles, train

ROOT = Path(__file__).resolve().parent.parent

# Without dropout, which differs from process to process. Saves and evaluations fall between the steps.
SHORT = dict(
    max_steps=2,
    train_clips=10,
    eval_clips=8,
    batch_size=2,
    gradient_accumulation_steps=2,
    lora_dropout=0.0,
    warmup_steps=0,
    eval_steps=2,
    save_steps=1,
    logging_steps=1,
)


@pytest.fixture
def short(monkeypatch):
    """The tiny profile, shortened, for the command to find."""
    profile = dataclasses.replace(get_profile("tiny"), **SHORT)
    monkeypatch.setitem(profiles.PROFILES, "tiny", profile)
    return profile


def log_of(folder: Path, step: int = 2) -> dict[tuple[int, str], float]:
    state = json.loads((folder / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json").read_text())
    return {
        (row["step"], key): row[key]
        for row in state["log_history"]
        for key in ("loss", "grad_norm", "eval_loss")
        if key in row
    }


LOGGED = {(1, "loss"), (1, "grad_norm"), (2, "loss"), (2, "grad_norm"), (2, "eval_loss")}


@pytest.fixture(scope="module")
def alone(one_thread, tmp_path_factory):
    """A run of the command with twice the clips a step that each of two processes takes."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.PROFILES, "tiny", dataclasses.replace(get_profile("tiny"), **{**SHORT, "batch_size": 4}))
        assert train.main(["--profile", "tiny", "--output", str(folder)]) == 0
    return folder
