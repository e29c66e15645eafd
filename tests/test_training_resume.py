"""Stop and resume: the same order, the same losses, the same adapter; and no half-written checkpoint is ever loaded."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback, TrainerState
from transformers.trainer_utils import get_last_checkpoint

from helpers import CheckpointError, TrainingGuard, get_profile, last_whole_checkpoint, load_captions, load_model
from helpers.audio.order import ClipStream
from helpers.training.recipe import make_trainer, save_adapter
from helpers.training.resume import MARKER, CheckpointMarker, is_whole

ROOT = Path(__file__).resolve().parent.parent

# Three clips a pass and four a step: steps, accumulation and checkpoints all fall into the middle of passes. Evaluation
# comes between training steps, from the same files. Dropout is on, so the random state matters.
SHORT = dataclasses.replace(get_profile("tiny"), max_steps=5, train_clips=3, eval_clips=2, batch_size=2, warmup_steps=2,
                            gradient_accumulation_steps=2, eval_steps=3, save_steps=2, logging_steps=1)


pytestmark = pytest.mark.usefixtures("one_thread")


class Interrupt(TrainerCallback):
    """What Ctrl-C does, at a chosen place."""

    def __init__(self, step: int, event: str):
        self.step = step
        setattr(self, event, self.raise_at)

    def raise_at(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise KeyboardInterrupt


def run(processor, output: Path, *, resume: bool = False, callbacks=(), **overrides):
    trainer = make_trainer(
        SHORT,
        load_model(quiet=True),
        processor,
        output,
        callbacks=list(callbacks),
        save_only_model=False,
        disable_tqdm=True,
        **overrides,
    )
    checkpoint = last_whole_checkpoint(output) if resume else None
    if checkpoint and checkpoint.name == f"checkpoint-{SHORT.max_steps}":  # nothing is left to train, as in the command
        trainer.model.load_adapter(str(checkpoint), "default", is_trainable=True)
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return trainer


def history(trainer) -> list[tuple]:
    return [(row["step"], row.get("loss"), row.get("eval_loss")) for row in trainer.state.log_history
            if "loss" in row or "eval_loss" in row]


def adapter_bytes(trainer, processor, folder: Path) -> bytes:
    return (save_adapter(trainer, processor, folder) / "adapter_model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def uninterrupted(one_thread, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uninterrupted")
    trainer = run(processor, folder / "checkpoints")
    return history(trainer), adapter_bytes(trainer, processor, folder / "adapter")


@pytest.mark.slow
def test_the_same_seed_gives_the_same_adapter_bit_for_bit(processor, uninterrupted, tmp_path):
    torch.rand(7)  # whatever was drawn before must not matter
    trainer = run(processor, tmp_path / "checkpoints")
    assert (history(trainer), adapter_bytes(trainer, processor, tmp_path / "adapter")) == uninterrupted
    other = run(processor, tmp_path / "other", seed=1, save_strategy="no")
    assert history(other)[-1] != uninterrupted[0][-1]


# (steps done, event, loader workers of the second part)
@pytest.mark.parametrize("step, event, workers", [
    pytest.param(1, "on_step_end", 0, id="before the first save", marks=pytest.mark.slow),
    pytest.param(3, "on_substep_end", 0, id="inside a step"),
    pytest.param(4, "on_save", 2, id="during the second save, then with workers", marks=pytest.mark.slow),
])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    processor, uninterrupted, tmp_path, step, event, workers
):
    with pytest.raises(KeyboardInterrupt):
        run(processor, tmp_path / "checkpoints", callbacks=[Interrupt(step, event)])
    last = last_whole_checkpoint(tmp_path / "checkpoints")
    # At step 4 the files are written, but the interrupt comes before the mark: the save counts as broken.
    assert (last and last.name) == {1: None, 3: "checkpoint-2", 4: "checkpoint-2"}[step]
    trainer = run(processor, tmp_path / "checkpoints", resume=True, dataloader_num_workers=workers)
    assert (history(trainer), adapter_bytes(trainer, processor, tmp_path / "adapter")) == uninterrupted


KILLED = """
import dataclasses, os, signal, sys
from pathlib import Path
import torch
sys.path.insert(0, "tests")
from test_training_resume import SHORT, run
from helpers import load_processor

whole_save = torch.save
def half_save(what, file, **kwargs):
    whole_save(what, file, **kwargs)
    if "checkpoint-4" in str(file) and "optimizer" in str(file):
        os.truncate(file, os.path.getsize(file) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
torch.save = half_save
run(load_processor(), Path(sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL to send oneself")
def test_a_save_that_was_killed_is_never_loaded(processor, uninterrupted, tmp_path):
    output = tmp_path / "checkpoints"
    done = subprocess.run([sys.executable, "-c", KILLED, str(output)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert Path(get_last_checkpoint(output)).name == "checkpoint-4", "what the Trainer would take on trust"
    assert (output / "checkpoint-4" / "optimizer.pt").is_file() and not is_whole(output / "checkpoint-4")
    assert last_whole_checkpoint(output).name == "checkpoint-2"
    trainer = run(processor, output, resume=True)
    assert (history(trainer), adapter_bytes(trainer, processor, tmp_path / "adapter")) == uninterrupted
    assert is_whole(output / "checkpoint-4") and is_whole(output / "checkpoint-5")


@pytest.mark.slow
def test_a_list_of_clips_is_resumed_exactly_too(processor, test_clips, tmp_path):
    """Here the order is the Trainer's own: shuffled, and skipped by index."""
    whole = run(processor, tmp_path / "run", train=test_clips[:6])
    with pytest.raises(KeyboardInterrupt):
        run(processor, tmp_path / "run", train=test_clips[:6], callbacks=[Interrupt(2, "on_step_begin")])
    resumed = run(processor, tmp_path / "run", train=test_clips[:6], resume=True)
    assert resumed.state.log_history[0]["step"] == 1 and history(resumed) == history(whole)


# ----------------------------------------------------------------------------------------------------- checkpoints
FILES = ("adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth")


def write_checkpoint(folder: Path, step: int, names=FILES) -> Path:
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in names:
        (checkpoint / name).write_bytes(b"12345678")
    (checkpoint / MARKER).write_text(json.dumps(dict.fromkeys(names, 8)))
    return checkpoint


def test_broken_checkpoints_are_passed_over(tmp_path):
    assert last_whole_checkpoint(tmp_path / "nowhere") is None
    paths = [write_checkpoint(tmp_path, step) for step in (8, 9, 10, 11, 12)]
    (tmp_path / "checkpoint-best").mkdir()
    assert last_whole_checkpoint(tmp_path) == paths[4]
    os.truncate(paths[4] / "optimizer.pt", 7)
    (paths[3] / "scheduler.pt").unlink()
    (paths[2] / MARKER).unlink()
    (paths[1] / MARKER).write_text('{"optimizer.pt": ')
    assert last_whole_checkpoint(tmp_path) == paths[0]


def test_weights_alone_cannot_be_resumed(tmp_path):
    write_checkpoint(tmp_path, 3, ("adapter_model.safetensors",))
    with pytest.raises(CheckpointError, match="checkpoint-3 .* no optimizer state.*save_only_model=False"):
        last_whole_checkpoint(tmp_path)


def test_a_run_that_is_at_its_end_is_not_trained_further(tmp_path):
    args = type("Arguments", (), {"max_steps": 5, "output_dir": str(tmp_path)})
    state = type("State", (), {"global_step": 5, "is_world_process_zero": True})
    with pytest.raises(CheckpointError, match="at checkpoint-5 already, and 5 steps were asked for"):
        CheckpointMarker().on_train_begin(args, state, None)
    state.global_step = 4
    CheckpointMarker().on_train_begin(args, state, None)


def test_a_new_run_puts_an_old_ones_checkpoints_aside(processor, tmp_path):
    """Left in place, the old ones would be taken for this run's, or would make the Trainer delete the new ones."""
    write_checkpoint(tmp_path, 1)
    (write_checkpoint(tmp_path, 4).rename(tmp_path / "abandoned-4") / "of the run before that").touch()
    write_checkpoint(tmp_path, 4)
    with pytest.raises(KeyboardInterrupt):
        run(processor, tmp_path, callbacks=[Interrupt(0, "on_step_begin")])
    assert last_whole_checkpoint(tmp_path) is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["abandoned-1", "abandoned-4"]
    assert sorted(path.name for path in (tmp_path / "abandoned-4").iterdir())[0] == "adapter_model.safetensors"
    assert not (tmp_path / "abandoned-4" / "of the run before that").exists()


def test_no_gradient_is_carried_over_the_end_of_a_pass(base_model, model, processor, tmp_path):
    """The plain Trainer's stream ends inside step 2 here, and it adds the orphaned gradients to the next step's.

    With a learning rate of 0 each step's loss is the unchanged model's, over the clips of that step.
    """
    profile = dataclasses.replace(SHORT, max_steps=3, batch_size=1, lora_dropout=0.0)
    trainer = make_trainer(
        profile,
        model,
        processor,
        tmp_path,
        learning_rate=0.0,
        eval_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer.remove_callback(TrainingGuard)  # it would stop a run at rate 0
    trainer.train()
    stream = ClipStream(load_captions("tiny", "train").take(3), 1, endless=True, seed=trainer.args.seed)
    clips = list(islice(stream, 6))
    names = [clip["audio"]["path"] for clip in clips]
    assert sorted(names[:3]) == sorted(names[3:]) and len(set(names)) == 3, "two passes, each of all clips"
    with torch.no_grad():
        expected = [float(base_model(**trainer.data_collator(clips[first : first + 2])).loss) for first in (0, 2, 4)]
    assert [loss for _, loss, _ in history(trainer)] == pytest.approx(expected, rel=1e-5)
