"""Programs killed at random moments, and several at once: whatever was begun, a rerun ends as the undisturbed does.

Adapters saved by the killed and by several at once are in test_training_at_once.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, to kill a program without loading PyTorch anew")

SCRIPT = Path(__file__).with_name("killed.py")


def rounds_of(kind: str, rounds: int) -> dict[str, int]:
    done = subprocess.run([sys.executable, str(SCRIPT), kind, str(rounds)], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("rounds", [2, pytest.param(30, marks=pytest.mark.soak)])
def test_several_programs_that_need_the_data_at_once(rounds):
    assert rounds_of("data_at_once", rounds)["equal"] == 2 * rounds, "rounds of two and of three"


@pytest.mark.slow
def test_a_disk_that_is_full_in_the_middle_of_a_checkpoint():
    assert rounds_of("full_disk", 2) == {"rounds": 2, "killed": 0, "equal": 2, "half": 2, "left": 0}


@pytest.mark.parametrize("rounds", [pytest.param(3, marks=pytest.mark.slow), pytest.param(30, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", ["data", "training", "resuming"])
def test_programs_that_are_killed(kind, rounds):
    found = rounds_of(kind, rounds)
    assert found["equal"] == rounds and found["left"] == 0, "the same bytes, and no process left behind"
    assert found["killed"] >= rounds / 2, "the others had ended before"
    assert found["half"] > 0 or kind != "training" or rounds < 30, "some are killed while a checkpoint is written"
