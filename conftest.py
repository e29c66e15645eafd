"""Tests and notebooks run without the network, and away from the user's caches, tokens and results.

This file stands above both, so that one notebook alone runs as it does in the whole. The environment is set here,
before anything is imported, and the notebooks' kernels inherit it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
_SCRATCH = Path(tempfile.mkdtemp(prefix="course-tests-"))

os.environ.update(
    HF_HOME=str(_SCRATCH / "huggingface"),
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_TELEMETRY="1",
    COURSE_RUNS=str(_SCRATCH / "runs"),
    # JupyterLab and IPython keep settings and history in the user's home; the kernels of these tests do not.
    IPYTHONDIR=str(_SCRATCH / "ipython"),
    # Kernels are other processes: they block the network at start-up, through sitecustomize.
    PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT / "tests" / "no_network"), os.environ.get("PYTHONPATH")])),
)
if "PYTEST_XDIST_WORKER" in os.environ:  # several processes share the cores: one thread each
    os.environ["OMP_NUM_THREADS"] = "1"
# Made once and reused where the caller says so; otherwise made for this run alone.
os.environ.setdefault("COURSE_CACHE", str(_SCRATCH / "cache"))
for name in ("COURSE_PROFILE", "COURSE_TRIAL", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
    os.environ.pop(name, None)

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "no_network")]

import sitecustomize as no_network  # noqa: E402  (this process too; a second import of the same guard is harmless)

no_network.block()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the tiny data set before the first notebook: its progress bar is no part of any stored output."""
    if session.items and not session.config.option.collectonly:
        from helpers.tiny.dataset import ensure_dataset

        ensure_dataset()


def pytest_sessionfinish() -> None:
    shutil.rmtree(_SCRATCH, ignore_errors=True)
