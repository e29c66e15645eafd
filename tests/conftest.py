"""What several tests share. The environment that keeps them apart from the user's is set in ../conftest.py."""

from __future__ import annotations

import pytest
from hub_fixtures import hub, kernel, learners_home, served_data, served_model, shards, tiny_files  # noqa: E402, F401


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
