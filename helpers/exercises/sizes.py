"""Notebook 09: predict, then measure."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

import torch

from helpers.exercises.checking import Wrong, close, exercise, number
from helpers.model.architecture import FULL_SIZE
from helpers.model.memory import GB, GPU_MEMORY, HEADROOM, estimate_memory
from helpers.profiles import Profile, get_profile


@exercise
def check_precisions(gigabytes: Mapping[str, float]) -> str:
    """The weights of AF3 at full size in three precisions. ``gigabytes``: ``"float32"``, ``"bfloat16"``, ``"4-bit"`` ->
    GB (10⁹ bytes)."""
    true = {"float32": estimate_memory(FULL_SIZE, dtype=torch.float32).weights / GB,
            "bfloat16": estimate_memory(FULL_SIZE).weights / GB,
            "4-bit": estimate_memory(FULL_SIZE, quantize=True).weights / GB}
    if set(gigabytes) != set(true):
        raise Wrong(f"give GB for each of {', '.join(true)}.")
    for name, size in true.items():
        said = number(gigabytes[name], name)
        if name == "4-bit" and close(said, true["bfloat16"] / 4, 0.08):
            raise Wrong(f"a quarter of everything would be {said:.1f} GB, but it is {size:.1f}: encoder, projector, "
                        "embeddings and output head stay in 16 bits, and each block of 64 has a scale.")
        if close(said * 1.0737, size, 0.01) and not close(said, size, 0.02):
            raise Wrong(f"{name}: you count in GiB (2³⁰); the course counts in GB (10⁹).")
        if not close(said, size, 0.05):
            raise Wrong(f"{name}: you say {said:.1f} GB, it is {size:.1f}: parameters times bytes for each.")
    return ", ".join(f"{size:.1f} GB in {name}" for name, size in true.items()) + "."


@exercise
def check_memory_plan(settings: Mapping[str, object]) -> str:
    """Settings that fit an L4 and still take 16 clips of 30 s a step. ``settings``: ``{"batch_size",
    "gradient_accumulation_steps", "checkpointing", "quantize"}``."""
    gpu, clips = "L4 24 GB", 16
    needed = {"batch_size", "gradient_accumulation_steps", "checkpointing", "quantize"}
    if set(settings) != needed:
        raise Wrong(f"set {', '.join(sorted(needed))}.")
    batch, steps = int(settings["batch_size"]), int(settings["gradient_accumulation_steps"])
    if batch * steps != clips:
        raise Wrong(f"{batch} × {steps} = {batch * steps} clips a step, but {clips} must remain: what the batch loses, "
                    "accumulation has to make good.")
    need = estimate_memory(get_profile("full"), batch_size=batch, clip_seconds=30,
                           checkpointing=bool(settings["checkpointing"]), quantize=bool(settings["quantize"])).total
    usable = GPU_MEMORY[gpu] * (1 - HEADROOM)
    if need > usable:
        raise Wrong(f"that takes {need / GB:.1f} GB, and {usable / GB:.1f} are usable on {gpu}: turn the next lever: a "
                    "smaller batch with more accumulation, then checkpointing, then 4 bits.")
    return f"{need / GB:.1f} of {usable / GB:.1f} GB, and still {clips} clips a step."


def resumed_equals_unbroken(profile: Profile, overrides: Mapping[str, object]) -> bool:
    """Train four steps at once, and two, then two more from the checkpoint; whether the adapters are the same bit for
    bit. ``overrides``: for ``TrainingArguments`` in the run that is broken and resumed.

    Raises:
        CheckpointError: the checkpoint holds the weights alone.
    """
    from transformers import PrinterCallback, TrainerCallback

    from helpers.model.loading import load_model, load_processor
    from helpers.training.recipe import make_trainer
    from helpers.training.resume import last_whole_checkpoint

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == 2

    processor = load_processor(profile.model_id)

    def run(folder: Path, callbacks=(), resume: bool = False, **more) -> dict:
        settings = {"max_steps": 4, "per_device_train_batch_size": 4, "eval_strategy": "no",
                    "save_steps": 2, "logging_steps": 1, "disable_tqdm": True, "warmup_steps": 0, **more}
        trainer = make_trainer(profile, load_model(profile.model_id, quiet=True), processor, folder,
                               callbacks=list(callbacks), **settings)
        trainer.remove_callback(PrinterCallback)
        trainer.train(resume_from_checkpoint=str(last_whole_checkpoint(folder)) if resume else None)
        return {name: value.detach().clone() for name, value in trainer.model.named_parameters() if "lora_" in name}

    with tempfile.TemporaryDirectory() as scratch:
        unbroken = run(Path(scratch) / "unbroken", save_strategy="no")
        run(Path(scratch) / "broken", [Stop()], **overrides)
        resumed = run(Path(scratch) / "broken", resume=True, **overrides)
    return all(torch.equal(value, resumed[name]) for name, value in unbroken.items())


@exercise
def check_resume(overrides: Mapping[str, object], profile: Profile) -> str:
    """Settings with which a run that was broken off goes on bit for bit.

    Args:
        overrides: the reader's arguments for `make_trainer`, such as ``{"save_only_model": ...}``.
        profile: the tiny one; three short runs.
    """
    from helpers.training.resume import CheckpointError

    if not isinstance(overrides, dict):
        raise Wrong('write the arguments as a dictionary, {"save_only_model": ...}.')
    unsaved = ("the checkpoint has the weights, but neither the optimizer's running means nor the random state: "
               "save_only_model has to be False.")
    try:
        same = resumed_equals_unbroken(profile, overrides)
    except CheckpointError:
        raise Wrong(unsaved) from None
    except TypeError as error:
        raise Wrong(f"TrainingArguments refuses that: {error}") from None
    if not same:
        raise Wrong("the resumed adapter differs from the unbroken one: did another seed or another order of clips "
                    "come in?")
    return "two steps, a break, two more: the same adapter as four steps at once, bit for bit."
