"""The full profile against the stand-in Hub: the notebooks run, streams stream, and what is shared comes back the same."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from hub_client import environment
from hub_fixtures import DATA, MODEL, client, home, hub, shards, tiny_files  # noqa: F401  (fixtures)
from hub_server import TOKEN, USER, HubServer
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
TRIAL = ("max_steps=4 eval_steps=2 save_steps=4 logging_steps=1 train_clips=24 eval_clips=16 test_clips=8 "
         "needs_gpu=false least_memory_gb=1 least_disk_gb=0.1")
"""Fewer steps and clips, and no objections of the doctor to this machine. The ids and the rates are the full profile's."""


@pytest.fixture(scope="module")
def learner(hub, home):  # noqa: F811
    """Environment of a learner with the full profile, a token, and an empty cache."""
    return environment(hub.endpoint, home, COURSE_PROFILE="full", COURSE_TRIAL=TRIAL, HF_TOKEN=TOKEN)


def execute(name: str, env: dict[str, str]) -> nbformat.NotebookNode:
    """Run a notebook in its folder; raises what a cell raises."""
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    runner = NotebookClient(book, timeout=300, resources={"metadata": {"path": str(ROOT / "notebooks")}}, kernel_name="python3")
    return runner.execute(env=env)
