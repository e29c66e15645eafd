"""Adapters saved by the killed, and by several at once: the folder is whole, old or new."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from adapter_fixtures import fork, forked, idle_trainer, mark, marks, small_profile, wait  # noqa: F401  (fixtures)
from filelock import FileLock

from helpers import check_adapter, ensure_adapter
from helpers.training import recipe
from helpers.training.saving import clear_leftovers, save_adapter

pytestmark = pytest.mark.usefixtures("one_thread")


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
@pytest.mark.soak
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
@pytest.mark.soak
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
@pytest.mark.soak
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
