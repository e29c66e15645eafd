"""Which of a run's checkpoints are whole: ``Trainer`` writes them file by file, and takes the newest folder on trust.

The files are the library's own: the adapter as safetensors, and optimizer, scheduler and random state as PyTorch
files, which it loads with ``weights_only=True``. They stay on the learner's disk; what the course shares holds none.

torchdata's ``StatefulDataLoader`` was weighed for the position in the stream: ``Trainer`` neither offers it nor saves
its state, and the state belongs to one number of loader workers, where a run here may go on with another, bit for bit.
"""

import json
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import torch.distributed
from safetensors import SafetensorError
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from helpers.audio.order import ClipStream
from helpers.systems import FULL_DISK, move

MARKER = "whole.json"
"""Written last into a checkpoint: the size of each file in it, in bytes."""

_NEEDED = ("optimizer", "scheduler", "rng_state")
"""What a file or folder name of a checkpoint begins with, beside the weights, if a run can go on from it exactly."""


class CheckpointError(ValueError):
    """A checkpoint that a run cannot go on from; the message says why and what to do."""


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """The checkpoints of a run, whole or not, as (step, folder), the newest first."""
    if not Path(folder).is_dir():  # from Python 3.13 on, `glob` raises where a name cannot be one
        return []
    found = [(int(match[1]), path) for path in Path(folder).glob("checkpoint-*")
             if path.is_dir() and (match := re.fullmatch(r"checkpoint-(\d+)", path.name))]
    return sorted(found, reverse=True)


def _sizes(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size
            for path in sorted(folder.rglob("*")) if path.is_file() and path.name != MARKER}


def is_whole(checkpoint: Path) -> bool:
    """Whether all files that were in ``checkpoint`` when its save ended are there, at their full size."""
    try:
        listed = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    present = _sizes(checkpoint)
    return bool(listed) and all(present.get(name) == size for name, size in listed.items())


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run, or ``None``; an interrupted save is passed over.

    Raises:
        CheckpointError: it holds the weights alone, so that a run cannot go on from it exactly.
    """
    for _, checkpoint in checkpoints(folder):
        if is_whole(checkpoint):
            names = [path.name for path in checkpoint.iterdir()]
            # DeepSpeed keeps all of it in a folder of its own, named global_step and the number.
            if not any(name.startswith("global_step") for name in names):
                missing = [part for part in _NEEDED if not any(name.startswith(part) for name in names)]
                if missing:
                    raise CheckpointError(f"{checkpoint.name} in {Path(folder).name!r} holds no {missing[0]} state, so "
                                          "a run cannot go on from it exactly: train with save_only_model=False, or "
                                          "begin anew in another folder.")
            return checkpoint
    return None


@contextmanager
def full_disk_explained(folder: Path):
    """Say in one sentence, and not in three libraries' words, that a checkpoint found no room; around ``train()``.

    Raises:
        CheckpointError: the disk is full, or one's share of it.
    """
    try:
        yield
    except (OSError, SafetensorError, RuntimeError) as error:
        full = getattr(error, "errno", None) in FULL_DISK
        # safetensors gives the system's number in its text; PyTorch says that writing failed, and not why.
        if not full and not re.search(r"os error (27|28|122)\b|PytorchStreamWriter failed writing", str(error)):
            raise
        raise CheckpointError(f"A checkpoint cannot be written to {Path(folder).name!r}: make room on the disk, and "
                              "go on from the last whole one with --resume; it is untouched.") from error


class CheckpointMarker(TrainerCallback):
    """Marks each checkpoint as whole once every process has written its part of it.

    Checkpoints ahead of where a run begins are put aside as ``abandoned-`` and their step: written over in place, they
    would be a mixture under an old mark, and ``Trainer`` counts them when it deletes what is beyond
    ``save_total_limit``.
    """

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Called by the ``Trainer`` before the first step, of which it would take one in any case."""
        if 0 < args.max_steps <= state.global_step:
            raise CheckpointError(f"The run is at checkpoint-{state.global_step} already, and {args.max_steps} steps "
                                  "were asked for: load its adapter, or ask for more steps.")
        if not state.is_world_process_zero:
            return
        for step, checkpoint in checkpoints(Path(args.output_dir)):
            if step > state.global_step:
                aside = checkpoint.with_name(f"abandoned-{step}")
                shutil.rmtree(aside, ignore_errors=True)
                move(checkpoint, aside)

    def on_save(self, args, state, control, **kwargs) -> None:
        """Called by the ``Trainer`` after it has written a checkpoint."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            fresh = checkpoint / f"{MARKER}.saving"
            sizes = {name: size for name, size in _sizes(checkpoint).items() if name != fresh.name}
            fresh.write_text(json.dumps(sizes, indent=1), encoding="utf-8")
            move(fresh, checkpoint / MARKER)


class StreamPosition(TrainerCallback, ExportableState):
    """Keeps a `ClipStream`'s position in ``trainer_state.json``, and takes a resumed run back to it.

    ``Trainer`` throws the batches of the steps that are done away, and restores the random state after the first
    new one. The stream makes these batches empty, so this costs nothing and stays exact.
    """

    def __init__(self, stream: ClipStream):
        self.stream, self._clips = stream, 0

    def on_train_begin(self, args, state, control, **kwargs) -> None:
        """Called by the ``Trainer`` before it asks for the first batch."""
        batches = state.global_step * args.gradient_accumulation_steps
        saved = state.stateful_callbacks.get(type(self).__name__, {}).get("attributes", {}).get("position")
        if state.global_step == 0 or saved is None:
            saved = {"clips": batches * self.stream.clips_per_batch}
        self._first_step, self._first_clips = state.global_step, saved["clips"]
        self.stream.resume(batches, saved)

    def on_step_end(self, args, state, control, **kwargs) -> None:
        """Called by the ``Trainer`` after each update of the weights."""
        steps = state.global_step - self._first_step
        self._clips = self._first_clips + steps * args.gradient_accumulation_steps * self.stream.clips_per_batch

    def state(self) -> dict:
        """What the ``Trainer`` writes into each checkpoint."""
        return {"args": {}, "attributes": {"position": self.stream.position(self._clips)}}
