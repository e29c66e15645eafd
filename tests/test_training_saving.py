"""Whole means whole: what made an adapter, damage to it, and disks that are full."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import re
import signal
from pathlib import Path

import pytest
from adapter_fixtures import fork, forked, idle_trainer, mark, marks, small_profile, wait  # noqa: F401  (fixtures)

from helpers import AdapterError, adapter_record, check_adapter, load_processor
from helpers.model.folders import NoSuchModel
from helpers.model.record import RECORD
from helpers.training import saving
from helpers.training.recipe import unfit
from helpers.training.saving import save_adapter

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_record_says_what_made_it(trainer, processor, profile, base_model):
    folder = save_adapter(trainer, processor, profile.adapter, profile)
    record = adapter_record(folder)
    assert record.finished and (record.steps_done, record.steps_asked, record.profile, record.data) == (2, 2, "short",
                                                                                                        "tiny")
    assert record.numbers["lora_rank"] == 2 and record.numbers["learning_rate"] == profile.learning_rate
    assert str(record).startswith("2 of 2 steps, profile short, data tiny (version ")
    assert str(record).endswith("on the tiny model") and "\n" not in str(record)
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
                                                                                           "of 0.003"),
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
    assert "learning_rate 0.003 instead of 0.001" in unfit(base_model, changed)


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
            with pytest.raises(NoSuchModel, match=file.name):
                load_processor(folder)
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
