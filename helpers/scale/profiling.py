"""What a model and a training step really take: time by phase, and memory by the allocator's own account."""

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterable
from itertools import islice, pairwise

import torch
from transformers import BatchFeature

from helpers.audio.samples import as_samples

PHASES = ("decode", "features", "encoder", "language model", "backward", "optimizer")
"""The parts of a step, in order: samples out of compressed audio; log-mel features, token ids and labels; the audio
encoder's forward pass; the rest of the forward pass, up to the loss; the backward pass; the update of the weights."""


def profile_steps(model: torch.nn.Module, collate: Callable[[list[dict]], dict], clips: Iterable[dict], batch_size: int,
                  *, steps: int = 8, warmup: int = 2) -> list[dict]:
    """Time the parts of training steps, one after the other; nothing overlaps here.

    The steps are real, but their learning rate is 0, so the weights stay as they are.

    Args:
        model: an AF3 with something trainable in it; in training mode afterwards.
        collate: makes a batch of a list of examples, for example `AudioFlamingo3DataCollator`.
        clips: at least ``(warmup + steps) * batch_size`` examples; for the time of decoding they must not be decoded
            yet (as `ClipStream` gives them).
        warmup: steps before those that are timed: the first ones allocate memory and compile kernels.

    Returns:
        One row a step and phase: ``{"step": from 0, "phase": one of PHASES, "seconds": float}``.

    Raises:
        ValueError: not enough clips, or nothing is trainable.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        raise ValueError("Nothing in the model is trainable: add the adapter with get_peft_model first.")
    optimizer = torch.optim.AdamW(trainable, lr=0.0)
    device, dtype = trainable[0].device, next(model.parameters()).dtype
    encoder = next(module for name, module in model.named_modules() if name.endswith("audio_tower"))
    rows, marks, iterator = [], [], iter(clips)

    def mark(phase: str = "") -> None:
        """The end of a phase; waits for the GPU first, which works behind Python's back."""
        if device.type == "cuda":
            torch.cuda.synchronize()
        marks.append((phase, time.perf_counter()))

    entered = encoder.register_forward_pre_hook(lambda *_: mark("language model"))
    left = encoder.register_forward_hook(lambda *_: mark("encoder"))
    model.train()
    try:
        for step in range(-warmup, steps):
            marks.clear()
            mark()
            examples = [{**clip, "audio": as_samples(clip["audio"])} for clip in islice(iterator, batch_size)]
            if len(examples) < batch_size:
                raise ValueError(f"There are clips for {step + warmup} steps only: {warmup + steps} steps of "
                                 f"{batch_size} clips take {(warmup + steps) * batch_size}.")
            mark("decode")
            batch = BatchFeature(collate(examples)).to(device, dtype)  # floats take the dtype, integers keep theirs
            mark("features")
            loss = model(**batch).loss
            mark("language model")
            loss.backward()
            mark("backward")
            optimizer.step()
            optimizer.zero_grad()
            mark("optimizer")
            seconds = dict.fromkeys(PHASES, 0.0)
            for (_, begin), (phase, end) in pairwise(marks):
                seconds[phase] += end - begin
            if step >= 0:
                rows += [{"step": step, "phase": phase, "seconds": seconds[phase]} for phase in PHASES]
    finally:
        entered.remove()
        left.remove()
    return rows


def step_shares(rows: list[dict]) -> dict[str, tuple[float, float]]:
    """Per phase: the median of its seconds, and its share of the sum of these medians."""
    medians = {phase: statistics.median(row["seconds"] for row in rows if row["phase"] == phase) for phase in PHASES}
    total = sum(medians.values())
    return {phase: (seconds, seconds / total) for phase, seconds in medians.items()}


def model_bytes(model: torch.nn.Module) -> int:
    """Every byte that parameters and buffers keep, each storage once, with what 4-bit matrices carry beside their
    codes."""
    tensors = [*model.parameters(), *model.buffers()]
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        if state is not None:
            tensors += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    return sum({tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}.values())


def peak_memory(function: Callable[[], object]) -> int:
    """Most bytes that PyTorch's CPU allocator held at once while ``function`` ran, above what it held before.

    The allocator itself reports each block that it hands out and takes back (``profile_memory``); what a kernel takes
    past it does not count. (On a GPU, ``torch.cuda.max_memory_allocated`` says the same.)
    """
    gc.collect()
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # PyTorch 2.13 writes two lines of its own debugging to stderr
    cpu = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=cpu, profile_memory=True, acc_events=True) as profiler:
        function()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        highest = max(highest, held)
    return highest
