"""Every test runs without the network, and away from the user's caches, tokens and results.

The environment is set here, before anything is imported, and the notebooks' kernels inherit it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
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
# Made once and reused where the caller says so; otherwise made for this run alone.
os.environ.setdefault("COURSE_CACHE", str(_SCRATCH / "cache"))
for name in ("COURSE_PROFILE", "COURSE_TRIAL", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT"):
    os.environ.pop(name, None)

sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "no_network")]

import sitecustomize as no_network  # noqa: E402  (this process too; a second import of the same guard is harmless)

no_network.block()

from hub_fixtures import hub, kernel, learners_home, served_data, served_model, shards, tiny_files  # noqa: E402, F401


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make the tiny data set before the first notebook: its progress bar is no part of any stored output."""
    if session.items and not session.config.option.collectonly:
        from helpers.tiny.dataset import ensure_dataset

        ensure_dataset()


def pytest_sessionfinish() -> None:
    shutil.rmtree(_SCRATCH, ignore_errors=True)


@pytest.fixture(scope="session")
def processor():
    from helpers import load_processor

    return load_processor()


@pytest.fixture(scope="session")
def base_model():
    """The shipped model, shared by all tests that only read it."""
    from helpers import load_model

    return load_model(quiet=True)


@pytest.fixture
def model():
    """A fresh copy for tests that change it."""
    from helpers import load_model

    return load_model(quiet=True)


@pytest.fixture(scope="session")
def test_clips() -> list[dict]:
    from helpers import load_captions

    return list(load_captions("tiny", "test").take(24))


@pytest.fixture(scope="module")
def one_thread():
    """PyTorch with one thread, as processes that share a machine have it: sums come out the same to the last bit."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
