"""What one fresh process measures: ``python -m tests.benchmarks.jobs '{"job": "train", ...}' figures.json``.

A process a measurement, because memory that one arm has used and freed would hide what the next one takes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from datasets import load_dataset
from torch.utils.data import DataLoader
from transformers import TrainerCallback, set_seed
from transformers.utils import logging

from helpers.audio.captions import DecodedAudio
from helpers.audio.vocabulary import load_vocabulary
from helpers.captioning.captions import caption
from helpers.chat import IGNORED, AudioFlamingo3DataCollator
from helpers.metrics.cider import cider_d
from helpers.metrics.events import event_counts, event_f1
from helpers.model.loading import load_processor
from helpers.profiles import TINY, get_profile
from helpers.tiny.captions import OVERLAP, parse_caption
from tests.benchmarks import speeds  # noqa: F401  (registers its jobs)
from tests.benchmarks.arms import ARMS, SCALES
from tests.benchmarks.memory import PeakMemory
from tests.benchmarks.registry import JOBS, job


# ------------------------------------------------------------------------------------------------------- training
class StepClock(TrainerCallback):
    """Seconds of every optimizer step, from the end of the step before: batch and collator included.

    Attributes:
        seconds: by the clock on the wall.
    """

    def __init__(self):
        self.seconds: list[float] = []

    def on_train_begin(self, *args, **kwargs) -> None:
        self._last = time.perf_counter()

    def on_step_end(self, *args, **kwargs) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def answer_loss(model, processor, examples: list[dict], batch_size: int = 8) -> float:
    """Mean cross entropy in nats over the tokens of the held-out answers, the same measure for every arm."""
    collate, total, tokens = AudioFlamingo3DataCollator(processor), 0.0, 0
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(examples), batch_size):
            batch = collate(examples[start : start + batch_size])
            batch["input_features"] = batch["input_features"].to(model.dtype)
            count = int((batch["labels"] != IGNORED).sum())
            total, tokens = total + float(model(**batch).loss) * count, tokens + count
    return total / tokens


def matches(text: str, truth: dict) -> bool:
    """Whether a text is a caption in AudioCaps' style that claims the clip's events, all and no others, in their order.

    For two sounds at once either may be named first; that they are at once has to be said.
    """
    claimed = parse_caption(text)
    if claimed is None or claimed.relation != truth["relation"]:
        return False
    labels = tuple(event["label"] for event in truth["events"])
    return sorted(claimed.labels) == sorted(labels) if claimed.relation == OVERLAP else claimed.labels == labels


def caption_scores(model, processor, examples: list[dict]) -> dict[str, float]:
    """Caption held-out clips, greedily, and score the captions: the share that `matches`, event F1 and CIDEr-D."""
    texts = caption(model, processor, [example["audio"] for example in examples], batch_size=32, max_new_tokens=40)
    return {
        "matching": statistics.fmean(matches(text, truth) for text, truth in zip(texts, examples, strict=True)),
        "event_f1": float(event_f1(event_counts(texts, examples, load_vocabulary(TINY)))),
        "cider_d": float(cider_d(texts, [example["references"] for example in examples]).mean()),
    }


@job
def train(
    *,
    scale: str,
    arm: str,
    seed: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    warmup_steps: int = 0,
    clips: int = 1000,
    held_out: Sequence[str] = (),
    captions: bool = False,
    literal: bool = False,
) -> dict:
    """Train one arm; time, memory, loss and captions.

    Args:
        scale: a key of `SCALES`.
        arm: a key of `ARMS`.
        seed: of adapter, dropout and order of clips.
        steps, batch_size, learning_rate, warmup_steps: the same for every arm of a comparison. (Full fine-tuning takes
            a learning rate of its own.)
        clips: how many to train on; in memory, decoded before anything is measured.
        held_out: splits whose clips give the loss after training, and the captions.
        captions: caption the held-out clips too.
        literal: bfloat16 (weights and autocast) and gradient checkpointing, as the guide has them everywhere.

    Returns:
        ``seed``; ``seconds``: median over all steps but the first, which also warms up; ``memory``: bytes by which the
        process's peak over all steps exceeds what it held before the first, with model, adapter and clips in place;
        ``held_out``: split -> ``loss`` and the captions' scores.
    """
    owner, load, hold_out = SCALES[scale]
    profile = dataclasses.replace(
        get_profile(owner), max_steps=steps, batch_size=batch_size, gradient_accumulation_steps=1,
        learning_rate=learning_rate, warmup_steps=warmup_steps, gradient_checkpointing=literal,
    )
    set_seed(seed)
    model, processor, examples = load(clips)
    overrides = {"seed": seed, "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    if literal:
        model = model.to(torch.bfloat16)
        # Without a GPU, TrainingArguments takes the guide's bf16=True only where a CPU is asked for by name.
        overrides |= {"bf16": True, "use_cpu": model.device.type == "cpu"}
    set_seed(seed)  # building a model draws numbers, loading one does not: the adapter starts from the same state
    clock = StepClock()
    with tempfile.TemporaryDirectory() as output:
        trainer = ARMS[arm](profile, model, processor, Path(output), train=examples, **overrides)
        trainer.add_callback(clock)
        with PeakMemory() as memory:
            trainer.train()
    figures = {"seed": seed, "seconds": statistics.median(clock.seconds[1:]), "memory": memory.above, "held_out": {}}
    for split in held_out:
        others = hold_out(split)
        figures["held_out"][split] = {
            "loss": answer_loss(trainer.model, processor, others),
            **(caption_scores(trainer.model, processor, others) if captions else {}),
        }
    return figures


# ------------------------------------------------------------------------------------------------------ streaming
def stream_shards(folder: Path):
    """The training shards of a folder as `load_captions` streams them, without its check of names and sizes, which
    would take shards that were linked over and over for damaged ones."""
    files = sorted(map(str, folder.glob("train-*.parquet")))
    shards = load_dataset("parquet", data_files={"train": files}, split="train", streaming=True)
    return shards.cast_column("audio", DecodedAudio())


@job
def stream(*, clips: int, batch_size: int = 8) -> dict:
    """Stream, decode and collate clips, as a training run does between two steps.

    The shards are those of ``COURSE_CACHE``: see `tests.benchmarks.parts.cycled_shards`.

    Returns:
        ``clips`` that came, ``seconds`` from opening the data set to the last batch, and ``peak``: most memory of the
        process in bytes. All after one batch from another opening, which imports and warms up.
    """
    def batches(count: int) -> DataLoader:
        return DataLoader(stream_shards(shards).take(count), batch_size=batch_size, collate_fn=collate)

    shards = next(Path(os.environ["COURSE_CACHE"]).glob("sounds-*"))
    collate = AudioFlamingo3DataCollator(load_processor())
    list(batches(batch_size))
    came = 0
    with PeakMemory() as memory:
        begun = time.perf_counter()
        for batch in batches(clips):
            came += len(batch["input_ids"])
        seconds = time.perf_counter() - begun
    return {"clips": came, "seconds": seconds, "peak": memory.peak}


def main(arguments: list[str]) -> None:
    """Run the job that the first argument describes, and write its figures to the file that the second names."""
    options = json.loads(arguments[0])
    if threads := options.pop("threads", None):
        torch.set_num_threads(threads)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    figures = JOBS[options.pop("job")](**options)
    Path(arguments[1]).write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
