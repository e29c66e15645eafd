"""Programs that are killed at random moments, and what is left of their work: ``python tests/killed.py KIND ROUNDS``.

A program of its own, for its rounds are copies (forks) of it, which spares each the import of PyTorch; and a copy of a
process that has run a backward pass, as a test's may have, can run none itself. Prints one JSON object: of so many
``rounds`` how many were ``killed`` at work, how many came out ``equal`` to the undisturbed, after how many a checkpoint
was ``half`` written, and how many processes were ``left`` behind. One kind is not killed, but finds its disk full.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import psutil  # noqa: E402
import torch  # noqa: E402
from adapter_fixtures import wait  # noqa: E402
from test_training_resume import Interrupt, adapter_bytes, history, run  # noqa: E402
from transformers import TrainerCallback  # noqa: E402

from helpers import CheckpointError, last_whole_checkpoint, load_processor  # noqa: E402
from helpers.tiny.dataset import ensure_dataset  # noqa: E402
from helpers.training.resume import checkpoints, full_disk_explained, is_whole  # noqa: E402

SIZES = {"train": 101, "validation": 1, "test": 1}
"""Four shards, so that two processes have two each."""
AT_ONCE = {"train": 3, "validation": 1, "test": 1}


def start(job, log: Path) -> int:
    """Run ``job`` in a copy of this process, with its children in a group of their own."""
    child = os.fork()
    if child == 0:
        os.setpgid(0, 0)
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        try:
            job()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)
    return child


def finish(job, log: Path) -> float:
    """Run ``job`` to its end; seconds that it took."""
    started = time.monotonic()
    if wait(start(job, log)):
        raise RuntimeError(log.read_text()[-2000:])
    return time.monotonic() - started


def left_behind(group: int) -> int:
    """Processes that a killed one has started, and that have not noticed within 15 seconds."""
    deadline = time.monotonic() + 15
    while True:
        alive = 0
        for process in psutil.process_iter(["status"]):
            with suppress(ProcessLookupError):
                alive += os.getpgid(process.pid) == group and process.info["status"] != psutil.STATUS_ZOMBIE
        if not alive or time.monotonic() > deadline:
            return alive
        time.sleep(0.1)


def killed(job, log: Path, delay: float, when=lambda: True) -> Counter:
    """Start ``job`` and kill it, but not its children, ``delay`` seconds after ``when`` is true."""
    child = start(job, log)
    while not when() and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        time.sleep(0.002)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return Counter(killed=wait(child) == -signal.SIGKILL, left=left_behind(child))


# ------------------------------------------------------------------------------------------------------------ data
def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def data(rounds: int, scratch: Path, dice: random.Random) -> Counter:
    """Killed while the data set is made, or made again where a shard is damaged."""
    log, found = scratch / "log.txt", Counter()

    def make():
        ensure_dataset(SIZES, workers=2)

    os.environ["COURSE_CACHE"] = str(scratch / "undisturbed")
    duration = finish(make, log)
    (whole,) = (scratch / "undisturbed").glob("sounds-*[!k]")
    expected = contents(whole)
    for number in range(rounds):
        cache = scratch / f"round {number}"
        os.environ["COURSE_CACHE"] = str(cache)
        if number % 3 == 2:  # a repair
            shutil.copytree(whole, cache / whole.name)
            (cache / whole.name / "train-00000-of-00002.parquet").write_bytes(b"cut short")
        found += killed(make, log, dice.uniform(0, duration))
        finish(make, log)
        found["equal"] += contents(cache / whole.name) == expected and \
            {path.name for path in cache.iterdir()} == {whole.name, f"{whole.name}.lock"}
        shutil.rmtree(cache)
    return found


def data_at_once(rounds: int, scratch: Path, dice: random.Random) -> Counter:
    """Two processes that need the data set at once, then three: one makes it, the others wait."""
    log, found, expected = scratch / "log.txt", Counter(), None
    for processes in (2, 3):
        for number in range(rounds):
            cache = scratch / f"{processes} processes, round {number}"
            os.environ["COURSE_CACHE"] = str(cache)
            children = [start(lambda: ensure_dataset(AT_ONCE, workers=1), log) for _ in range(processes)]
            ended = [wait(child) for child in children]
            (folder,) = cache.glob("sounds-*[!k]")
            expected = expected or contents(folder)
            found["equal"] += not any(ended) and contents(folder) == expected and len(list(cache.iterdir())) == 2
            shutil.rmtree(cache)
    return found


# -------------------------------------------------------------------------------------------------------- training
def trained(processor, folder: Path, **options) -> None:
    """Train into ``folder`` to the end, and leave there what came out: losses, and the adapter."""
    torch.set_num_threads(1)
    trainer = run(processor, folder / "checkpoints", **options)
    (folder / "losses.json").write_text(json.dumps(history(trainer)))
    adapter_bytes(trainer, processor, folder / "adapter")


def outcome(folder: Path) -> tuple[str, bytes]:
    return (folder / "losses.json").read_text(), (folder / "adapter" / "adapter_model.safetensors").read_bytes()


def half_written(folder: Path) -> bool:
    return any(not is_whole(checkpoint) for _, checkpoint in checkpoints(folder / "checkpoints"))


def training(rounds: int, scratch: Path, dice: random.Random) -> Counter:
    """Killed while training; in every third round while a checkpoint is written, in every fifth with loader workers."""
    processor, log, found, whole = load_processor(), scratch / "log.txt", Counter(), scratch / "undisturbed"
    duration = finish(lambda: trained(processor, whole), log)
    for number in range(rounds):
        folder, workers = scratch / f"round {number}", 2 * (number % 5 == 4)
        begun = (lambda folder=folder: half_written(folder)) if number % 3 == 0 else lambda: True
        found += killed(lambda folder=folder, workers=workers: trained(processor, folder,
                                                                        dataloader_num_workers=workers),
                        log, dice.uniform(0, 0.05 if number % 3 == 0 else duration), begun)
        found["half"] += half_written(folder)
        last = last_whole_checkpoint(folder / "checkpoints")
        assert last is None or is_whole(last)
        finish(lambda folder=folder: trained(processor, folder, resume=True), log)
        found["equal"] += outcome(folder) == outcome(whole)
        shutil.rmtree(folder)
    return found


def resuming(rounds: int, scratch: Path, dice: random.Random) -> Counter:
    """Killed while a run goes on from a checkpoint; in every second round twice."""
    processor, log, found, whole = load_processor(), scratch / "log.txt", Counter(), scratch / "undisturbed"

    def interrupted():
        try:
            trained(processor, scratch / "begun", callbacks=[Interrupt(3, "on_step_end")])
        except KeyboardInterrupt:
            return

    finish(lambda: trained(processor, whole), log)
    finish(interrupted, log)
    assert last_whole_checkpoint(scratch / "begun" / "checkpoints").name == "checkpoint-2"
    duration = None
    for number in range(rounds):
        folder = shutil.copytree(scratch / "begun", scratch / f"round {number}")

        def resume(folder=folder):
            trained(processor, folder, resume=True)

        for _ in range(1 + number % 2):
            if duration is not None:
                found += killed(resume, log, dice.uniform(0, duration))
                found["half"] += half_written(folder)
        took = finish(resume, log)
        duration = duration or took
        found["equal"] += outcome(folder) == outcome(whole)
        shutil.rmtree(folder)
    return found


def full_disk(rounds: int, scratch: Path, dice: random.Random) -> Counter:
    """A limit on the size of files, which the system enforces in the middle of the second checkpoint."""
    import resource

    processor, log, found, whole = load_processor(), scratch / "log.txt", Counter(), scratch / "undisturbed"
    finish(lambda: trained(processor, whole), log)

    class Fill(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            if state.global_step == 3:
                resource.setrlimit(resource.RLIMIT_FSIZE, (dice.randint(20_000, 400_000), resource.RLIM_INFINITY))

    for number in range(rounds):
        folder = scratch / f"round {number}"

        def fill(folder=folder):
            try:
                with full_disk_explained(folder / "checkpoints"):
                    trained(processor, folder, callbacks=[Fill()])
            except CheckpointError as error:
                assert "make room on the disk" in str(error)
                return
            raise AssertionError("nothing was said")

        finish(fill, log)
        assert last_whole_checkpoint(folder / "checkpoints").name == "checkpoint-2"
        found["half"] += half_written(folder)
        finish(lambda folder=folder: trained(processor, folder, resume=True), log)
        found["equal"] += outcome(folder) == outcome(whole)
    return found


KINDS = {"full_disk": full_disk, "data": data, "data_at_once": data_at_once, "training": training, "resuming": resuming}


def main(kind: str, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="killed-") as scratch:
        if not kind.startswith("data"):
            ensure_dataset()  # outside of what is killed
        found = KINDS[kind](rounds, Path(scratch), random.Random(rounds))
        print(json.dumps({"rounds": rounds, **{name: found[name] for name in ("killed", "equal", "half", "left")}}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
