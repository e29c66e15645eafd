"""The doctor: each thing that can be wrong is found, and its repair named."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import pytest
import torch

from helpers import get_profile
from helpers.setup import doctor as checks
from helpers.setup import rehearsal
from helpers.setup.doctor import check_setup

TINY, FULL = get_profile("tiny"), get_profile("full")


def test_this_machine_is_well():
    diagnosis = check_setup(TINY)
    assert diagnosis.problems == []
    assert {finding.what for finding in diagnosis.findings} >= {
        "Python",
        "libraries",
        "labels",
        "adapter",
        "pipeline",
        "decoding",
        "device",
        "memory",
        "disk",
        "Hub",
    }
    assert str(diagnosis).count("\n") == len(diagnosis.findings) - 1


@pytest.mark.parametrize("version", [(3, 10, 13), (3, 15, 0), (4, 0, 0)])
def test_other_pythons(version):
    assert "3.11 to 3.14" in checks.check_python(version).fix


def test_an_old_transformers():
    found = checks.check_libraries(lambda name: "5.13.0" if name == "transformers" else "999")
    assert "pip install" in found.fix and "transformers<6,>=5.23" in found.fix


def test_labels_of_zeros_and_ones(processor):
    class Wrong:
        def apply_chat_template(self, *args, **kwargs):
            batch = processor.apply_chat_template(*args, **kwargs)
            batch["labels"] = (batch["labels"] != -100).long()
            return batch

    assert checks.check_labels(processor).fix is None
    assert "wrong labels" in checks.check_labels(Wrong()).fix


def test_tools_that_nobody_needs_to_learn_are_not_asked_for():
    found = checks.check_libraries(lambda name: None if name in {"jupyterlab", "pytest", "nbval"} else
                                   "5.23.0" if name == "transformers" else "999")
    assert found.fix is None


def test_an_old_torchao_is_named_with_its_repair(monkeypatch):
    def refuse(*_):
        raise ImportError("Found an incompatible version of torchao. Found version 0.10.0, but only versions above "
                          "0.16.0 are supported")

    monkeypatch.setattr("peft.get_peft_model", refuse)
    found = rehearsal.check_adapter()
    assert found.found == "refused by peft because of an old torchao" and "pip uninstall torchao" in found.fix


def test_libraries_that_do_not_fit_each_other_are_found(monkeypatch):
    def fail(*_, **__):
        raise AttributeError("no _prepare_generate_kwargs\nand more")

    monkeypatch.setattr("transformers.pipeline", fail)
    found = rehearsal.check_pipeline()
    assert found.found == "fails (AttributeError: no _prepare_generate_kwargs)" and "pip install -r" in found.fix


def test_a_decoder_that_loses_half_of_a_file_is_found(monkeypatch):
    whole = rehearsal.load_audio
    assert rehearsal.check_decoding().fix is None
    monkeypatch.setattr(rehearsal, "load_audio", lambda content: whole(content)[:8000])
    assert rehearsal.check_decoding().found.startswith("fails (8000 samples")


def test_the_full_profile_without_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert "CUDA GPU" in checks.check_device(FULL).fix
    assert checks.check_device(TINY).fix is None


@pytest.fixture
def gpu(monkeypatch):
    """Pretend to have GPUs with so many free gigabytes each."""
    def pretend(*free, capability=(7, 5)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: len(free))
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "Pretended")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
        monkeypatch.setattr(
            torch.cuda, "mem_get_info", lambda number=0: (int(free[number] * checks.GB), 24 * checks.GB)
        )
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda *_: 0)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda *_: 0)

    return pretend


def test_device_and_memory_follow_the_choice_that_loading_makes(gpu):
    gpu(15.5)
    device, memory = checks.check_device(FULL), checks.check_memory(FULL)
    assert device.fix is memory.fix is None
    assert device.found.startswith("cuda (Pretended), float32: ") and "4-bit NF4" in device.found
    assert memory.found == "15.5 of 24.0 GB of the GPU are free"
    gpu(22, capability=(8, 9))
    assert "4-bit" not in checks.check_device(FULL).found and checks.check_memory(FULL).fix is None


def test_a_small_gpu(gpu):
    gpu(6)
    assert "Even in 4 bits" in checks.check_device(FULL).fix
    assert "close other programs and kernels" in checks.check_memory(FULL).fix
    assert checks.check_device(TINY).fix is checks.check_memory(TINY).fix is None


def test_a_machine_without_memory_to_spare(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**9, total=4 * 10**9))
    fix = checks.check_memory(TINY).fix
    assert "the tiny profile takes about" in fix and "COURSE_PROFILE" not in fix
    assert "COURSE_PROFILE" in checks.check_memory(FULL).fix


def test_a_full_disk(monkeypatch, tmp_path):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**8))
    for profile in (TINY, FULL):
        assert "make room" in checks.check_disk(profile, [tmp_path / "not" / "made" / "yet"]).fix


def test_offline_by_choice():
    # conftest.py sets HF_HUB_OFFLINE; what the Hub itself can answer is in test_hub_faults.py.
    assert "HF_HUB_OFFLINE" in checks.check_hub(FULL)[0].fix


def test_a_diagnosis_does_not_fail_of_what_nobody_foresaw(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("helpers.setup.doctor.check_access", lambda *_: (_ for _ in ()).throw(KeyError("odd")))
    hub = checks.check_hub(get_profile("full"))[0]
    assert hub.fix.startswith("The Hub cannot be asked (KeyError): check the network")


def test_a_refusal_is_explained():
    from helpers.hub import explain

    error = OSError("403 Client Error")
    error.response = SimpleNamespace(status_code=403, headers={})
    problem = explain(error, "owner/model")
    assert problem.reason == "token" and "refuses the model owner/model" in str(problem)
