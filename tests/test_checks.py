"""The doctor: each thing that can be wrong is found, and its repair named."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch

from helpers import checks, get_profile
from helpers.checks import Diagnosis, Finding, check_setup

TINY, FULL = get_profile("tiny"), get_profile("full")


def test_this_machine_is_well():
    diagnosis = check_setup(TINY)
    assert diagnosis.problems == []
    assert {finding.what for finding in diagnosis.findings} >= {"Python", "libraries", "labels", "device", "memory", "disk", "Hub"}
    assert str(diagnosis).count("\n") == len(diagnosis.findings) - 1


def test_a_diagnosis_prints_the_repair_below_the_table():
    text = str(Diagnosis((Finding("memory", "plenty"), Finding("disk", "full", "Make room."))))
    assert text == "ok memory  plenty\n!  disk    full\n\ndisk: Make room."


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 14, 0), (4, 0, 0)])
def test_other_pythons(version):
    assert "3.10 to 3.13" in checks.check_python(version).fix


@pytest.mark.parametrize("version", [(3, 10, 0), (3, 13, 9)])
def test_supported_pythons(version):
    assert checks.check_python(version).fix is None


def test_an_old_transformers():
    found = checks.check_libraries(lambda name: "5.13.0" if name == "transformers" else "999")
    assert "pip install" in found.fix and "transformers<6,>=5.14" in found.fix


def test_labels_of_zeros_and_ones(processor):
    class Wrong:
        def apply_chat_template(self, *args, **kwargs):
            batch = processor.apply_chat_template(*args, **kwargs)
            batch["labels"] = (batch["labels"] != -100).long()
            return batch

    assert checks.check_labels(processor).fix is None
    assert "wrong labels" in checks.check_labels(Wrong()).fix


def test_the_full_profile_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "CUDA GPU" in checks.check_device(FULL).fix
    assert checks.check_device(TINY).fix is None


def test_a_small_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (6 * checks.GB, 8 * checks.GB))
    assert "needs about 13.0 GB" in checks.check_memory(FULL).fix
    assert checks.check_memory(TINY).fix is None


def test_a_full_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**8))
    for profile in (TINY, FULL):
        assert "make room" in checks.check_disk(profile, [tmp_path / "not" / "made" / "yet"]).fix


def test_offline_by_choice():
    # tests/conftest.py sets HF_HUB_OFFLINE; what the Hub itself can answer is in test_hub_faults.py.
    assert "HF_HUB_OFFLINE" in checks.check_hub(FULL)[0].fix
