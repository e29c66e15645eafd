"""Whole means whole: adapters saved by the killed, by several at once, on full disks, and damaged afterwards."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import re
import signal
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from helpers import AdapterError, adapter_record, check_adapter, ensure_adapter, get_profile
from helpers.model.record import RECORD
from helpers.training import recipe, saving
from helpers.training.recipe import make_trainer, unfit
from helpers.training.saving import clear_leftovers, save_adapter

pytestmark = pytest.mark.usefixtures("one_thread")
forked = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks, to kill a saver without loading PyTorch anew for "
                                                            "each")


@pytest.fixture
def profile(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.profiles.RUNS", tmp_path)
    return dataclasses.replace(get_profile("tiny"), name="short", max_steps=2, batch_size=2, lora_rank=2,
                               warmup_steps=0)


@pytest.fixture
def trainer(model, processor, profile, test_clips, tmp_path):
    trainer = make_trainer(profile, model, processor, tmp_path / "checkpoints", train=test_clips[:2],
                           save_strategy="no")
    trainer.state.global_step = 2  # as if it had trained
    return trainer


def mark(trainer, value: float) -> None:
    """Fill all of the adapter with one number, by which it is known again."""
    with torch.no_grad():
        for name, parameter in trainer.model.named_parameters():
            if "lora_" in name:
                parameter.fill_(value)


def marks(folder: Path) -> set[float]:
    from safetensors.torch import load_file

    return {float(number) for tensor in load_file(folder / "adapter_model.safetensors").values()
            for number in tensor.unique()}


def test_the_record_says_what_made_it(trainer, processor, profile, base_model):
    folder = save_adapter(trainer, processor, profile.adapter, profile)
    record = adapter_record(folder)
    assert record.finished and (record.steps_done, record.steps_asked, record.profile, record.data) == (2, 2, "short",
                                                                                                        "tiny")
    assert record.numbers["lora_rank"] == 2 and record.numbers["learning_rate"] == profile.learning_rate
    assert str(record).startswith("2 of 2 steps, profile short, tiny (version ") and "\n" not in str(record)
    assert set(record.files) == {file.name for file in folder.iterdir()} - {RECORD, "README.md"}
    assert unfit(base_model, profile) is None
    assert sorted(path.name for path in folder.parent.iterdir()
                  if path.suffix != ".lock") == ["adapter"], "nothing left over"


def edit(folder: Path, **values) -> None:
    file = folder / RECORD
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize("change, words", [
    ({"steps_done": 1}, "stopped after 1 of 2 steps"), ({"steps_done": 0}, "stopped after 0 of 2"),
    ({"steps_done": 1, "steps_asked": 1}, "steps 1 instead of 2"), ({"data_version": "older"}, "data_version older "
                                                                                               "instead of"),
    ({"data": "somebody/clips"}, "data somebody/clips instead of tiny"), ({"numbers": {}}, "learning_rate None instead "
                                                                                           "of 0.004"),
    ({"base_version": "00000000"}, "trained on version 00000000"), ({"steps_done": "2"}, "is not what save_adapter "
                                                                                         "writes"),
    ({"unknown": 1}, "is not what save_adapter writes"), ({"files": {"gone.json": "0"}}, "gone.json .* is missing"),
])
def test_an_adapter_of_another_run_is_not_taken_for_the_profiles(trainer, processor, profile, base_model, change,
                                                                 words):
    save_adapter(trainer, processor, profile.adapter, profile)
    edit(profile.adapter, **change)
    assert re.search(words, unfit(base_model, profile))


def test_an_adapter_that_nobody_recorded(trainer, processor, profile, base_model):
    save_adapter(trainer, processor, profile.adapter, profile)
    (profile.adapter / RECORD).unlink()
    assert check_adapter(base_model, profile.adapter), "it can be used"
    assert "nobody knows what made it" in unfit(base_model, profile)
    changed = dataclasses.replace(profile, learning_rate=1e-3)
    save_adapter(trainer, processor, profile.adapter, profile)
    assert "learning_rate 0.004 instead of 0.001" in unfit(base_model, changed)


DAMAGE = {"empty": lambda content: b"", "cut": lambda content: content[: len(content) // 2],
          "zeros": lambda content: bytes(len(content)),
          "one byte": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]}


def test_each_file_damaged_in_each_way_is_named(trainer, processor, profile, base_model):
    folder = save_adapter(trainer, processor, profile.adapter, profile)
    files = [file for file in sorted(folder.iterdir()) if file.name != "README.md"]
    assert len(files) >= 7
    for file in files:
        whole = file.read_bytes()
        for name, damage in DAMAGE.items():
            if file.name == RECORD and name == "one byte":
                continue  # the next test
            file.write_bytes(damage(whole))
            with pytest.raises(AdapterError, match=file.name):
                check_adapter(base_model, folder)
        file.unlink()
        if file.name != RECORD:
            with pytest.raises(AdapterError, match=file.name):
                check_adapter(base_model, folder)
        file.write_bytes(whole)
    assert check_adapter(base_model, folder) == folder


def test_no_byte_of_the_record_makes_another_adapter_pass(trainer, processor, profile, base_model):
    """A changed record is refused, or says what it said, or the folder does not count as the profile's."""
    folder = save_adapter(trainer, processor, profile.adapter, profile)
    whole, rng = (folder / RECORD).read_bytes(), random.Random(0)
    for _ in range(20):
        at = rng.randrange(len(whole))
        (folder / RECORD).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        unfit(base_model, profile)  # a sentence or None, never an exception


def test_what_is_not_whole_does_not_replace_what_is(trainer, processor, profile, base_model):
    mark(trainer, 1.0)
    folder = save_adapter(trainer, processor, profile.adapter, profile)
    mark(trainer, float("nan"))
    with pytest.raises(AdapterError, match="holds NaN"):
        save_adapter(trainer, processor, folder, profile)
    assert marks(check_adapter(base_model, folder)) == {1.0}
    assert sorted(path.name for path in folder.parent.iterdir() if path.suffix != ".lock") == ["adapter"]


@pytest.mark.parametrize("where", ["model", "processor", "record"])
def test_a_full_disk(trainer, processor, profile, base_model, monkeypatch, where):
    mark(trainer, 1.0)
    folder = save_adapter(trainer, processor, profile.adapter, profile)
    mark(trainer, 2.0)

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if where == "model":
            patch.setattr(trainer, "save_model", full)
        elif where == "processor":
            patch.setattr(type(processor), "save_pretrained", full)
        else:
            patch.setattr(saving, "write_record", full)
        with pytest.raises(AdapterError, match=r"cannot be written to 'adapter' \(No space left on device\): make "
                                               r"room"):
            save_adapter(trainer, processor, folder, profile)
    assert marks(check_adapter(base_model, folder)) == {1.0}
    assert marks(save_adapter(trainer, processor, folder, profile)) == {2.0}, "with room again"


@forked
def test_a_disk_that_really_is_full(trainer, processor, profile, base_model):
    """A limit on the size of files, which the system enforces in the middle of the weights."""
    import resource

    mark(trainer, 1.0)
    folder = save_adapter(trainer, processor, profile.adapter, profile)

    def save():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
        try:
            save_adapter(trainer, processor, folder, profile)
        except AdapterError as error:
            return "make room on the disk" in str(error)

    assert wait(fork(save)) == 0
    assert marks(check_adapter(base_model, folder)) == {1.0}
    assert sorted(path.name for path in folder.parent.iterdir() if path.suffix != ".lock") == ["adapter"]


# ------------------------------------------------------------------------------------------------ killed, and at once
def fork(job) -> int:
    """Run ``job`` in a copy of this process; exit status 0 if it returns something true."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if job() else 2
        finally:
            os._exit(status)
    return child


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_while_saving(trainer, processor, profile, base_model, rounds: int) -> None:
    rng = random.Random(rounds)
    mark(trainer, 1.0)
    started = time.perf_counter()
    folder = save_adapter(trainer, processor, profile.adapter, profile)
    duration = time.perf_counter() - started
    for number in range(2, rounds + 2):
        mark(trainer, float(number))
        child = fork(lambda: save_adapter(trainer, processor, folder, profile))
        time.sleep(rng.uniform(0, 1.2 * duration))
        os.kill(child, signal.SIGKILL)
        wait(child)
        with FileLock(f"{folder}.lock", timeout=10):
            clear_leftovers(folder)
        found = marks(check_adapter(base_model, folder))
        assert found in ({float(number - 1)}, {float(number)}), "the old one or the new one"
        mark(trainer, float(number))
        assert marks(save_adapter(trainer, processor, folder, profile)) == {float(number)}
        assert sorted(path.name for path in folder.parent.iterdir() if path.suffix != ".lock") == ["adapter"]


@forked
def test_savers_that_are_killed(trainer, processor, profile, base_model):
    killed_while_saving(trainer, processor, profile, base_model, rounds=4)


@forked
@pytest.mark.slow
def test_savers_that_are_killed_soak(trainer, processor, profile, base_model):
    killed_while_saving(trainer, processor, profile, base_model, rounds=30)


def at_once(trainer, processor, profile, base_model, rounds: int, processes: int) -> None:
    for _ in range(rounds):
        children = []
        for number in range(1, processes + 1):
            mark(trainer, float(number))
            children.append(fork(lambda: save_adapter(trainer, processor, profile.adapter, profile)))
        assert [wait(child) for child in children] == [0] * processes
        assert marks(check_adapter(base_model, profile.adapter)) in [{float(number)}
                                                                     for number in range(1, processes + 1)]
        assert sorted(path.name for path in profile.runs.iterdir() if path.suffix != ".lock") == ["adapter"]


@forked
def test_savers_at_once(trainer, processor, profile, base_model):
    at_once(trainer, processor, profile, base_model, rounds=2, processes=3)


@forked
@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_savers_at_once_soak(trainer, processor, profile, base_model, processes):
    at_once(trainer, processor, profile, base_model, rounds=30, processes=processes)


@pytest.fixture
def quick_training(monkeypatch, trainer, tmp_path, profile):
    """Training that takes a moment and leaves a line in a file; all the rest is as it is."""
    log = tmp_path / "trained.txt"

    def train():
        with log.open("a") as file:
            file.write("begun\n")
        time.sleep(0.5)
        mark(trainer, 7.0)
        trainer.state.global_step = profile.max_steps

    monkeypatch.setattr(recipe, "load_model", lambda *_, **__: trainer.model.get_base_model())
    monkeypatch.setattr(trainer, "train", train)
    monkeypatch.setattr(recipe, "make_trainer", lambda *_, **__: trainer)
    return log


def ensured_at_once(profile, log, base_model, rounds: int, processes: int) -> None:
    import shutil

    for number in range(1, rounds + 1):
        shutil.rmtree(profile.adapter, ignore_errors=True)
        children = [fork(lambda: ensure_adapter(profile) == profile.adapter) for _ in range(processes)]
        assert [wait(child) for child in children] == [0] * processes
        assert len(log.read_text().splitlines()) == number, "one trains, the others wait"
        assert marks(check_adapter(base_model, profile.adapter)) == {7.0}


@forked
def test_programs_that_need_the_adapter_at_once(profile, quick_training, base_model):
    ensured_at_once(profile, quick_training, base_model, rounds=1, processes=3)


@forked
@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_programs_that_need_the_adapter_at_once_soak(profile, quick_training, base_model, processes):
    ensured_at_once(profile, quick_training, base_model, rounds=30, processes=processes)


@forked
def test_who_waits_takes_over_from_who_is_killed(profile, quick_training, base_model):
    first = fork(lambda: ensure_adapter(profile))
    while not quick_training.exists():
        time.sleep(0.01)
    second = fork(lambda: ensure_adapter(profile))
    os.kill(first, signal.SIGKILL)
    assert wait(first) == -signal.SIGKILL and wait(second) == 0
    assert len(quick_training.read_text().splitlines()) == 2 and marks(check_adapter(base_model,
                                                                                     profile.adapter)) == {7.0}


def test_ensuring_says_why_it_trains(profile, quick_training, trainer, processor, capsys):
    trainer.state.global_step = 1
    save_adapter(trainer, processor, profile.adapter, profile)
    assert ensure_adapter(profile) == profile.adapter
    said = capsys.readouterr().out
    assert "stopped after 1 of 2 steps" in said and "the recipe of notebook 03 runs first" in said
    ensure_adapter(profile)
    assert capsys.readouterr().out == "" and len(quick_training.read_text().splitlines()) == 1


def test_an_adapter_under_its_old_name_comes_back(profile, quick_training, trainer, processor):
    folder = save_adapter(trainer, processor, profile.adapter, profile)
    folder.rename(folder.with_name("adapter.old"))
    (folder.with_name("adapter.saving")).mkdir()
    assert ensure_adapter(profile) == folder and not quick_training.exists()
    assert sorted(path.name for path in folder.parent.iterdir() if path.suffix != ".lock") == ["adapter"]
