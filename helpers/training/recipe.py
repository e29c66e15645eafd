"""The recipe of notebook 03 as functions, for the places that need its result rather than its explanation.

The notebook writes the same calls out for the learner; a test holds the two together.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from datasets import IterableDataset
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.processing_utils import ProcessorMixin
from transformers.trainer_utils import IntervalStrategy

from helpers.audio.captions import load_captions
from helpers.audio.folder import FolderReport, scan_folder, stream_clips
from helpers.audio.order import BLOCK, ClipStream, SkipSeen, SkipUnusable
from helpers.audio.sources import split_by_source
from helpers.audio.table import CaptionError
from helpers.chat import AudioFlamingo3DataCollator
from helpers.model.hardware import precision_arguments
from helpers.model.loading import load_model, load_processor
from helpers.model.lora import LANGUAGE_MODEL_TARGETS, AdapterError, check_adapter
from helpers.profiles import Profile
from helpers.training.guard import TrainingError, TrainingGuard
from helpers.training.resume import CheckpointMarker, StreamPosition


def lora_config(profile: Profile) -> LoraConfig:
    """Rank, scale and targets of the adapter: the language model alone."""
    return LoraConfig(
        r=profile.lora_rank, lora_alpha=profile.lora_alpha, lora_dropout=profile.lora_dropout, bias="none",
        task_type="CAUSAL_LM", target_modules=LANGUAGE_MODEL_TARGETS,
    )


def training_arguments(profile: Profile, model, output: Path, **overrides) -> TrainingArguments:
    """The guide's training arguments, with the profile's numbers and the precision that fits the model."""
    settings = {
        "output_dir": str(output),
        "max_steps": profile.max_steps,
        "per_device_train_batch_size": profile.batch_size,
        "per_device_eval_batch_size": profile.batch_size,
        "gradient_accumulation_steps": profile.gradient_accumulation_steps,
        "learning_rate": profile.learning_rate,
        "warmup_steps": profile.warmup_steps,
        "logging_steps": profile.logging_steps,
        "eval_strategy": "steps",
        "eval_steps": profile.eval_steps,
        "save_steps": profile.save_steps,
        "save_total_limit": 2,
        "save_only_model": True,
        "remove_unused_columns": False,
        "dataloader_num_workers": 0,
        "report_to": "none",
        "seed": 0,
        # Each process makes its own batches. Accelerate's default for a stream lets the first make all of them, glue
        # them together and cut them up again, which takes tensors of one length and one window a clip.
        "accelerator_config": {"dispatch_batches": False},
        **precision_arguments(model, profile.gradient_checkpointing),
    }
    processes = int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun and by `accelerate launch`
    if processes > 1:
        # Every adapter is used in every step; looking for unused ones would cost time, and checkpointing forbids it.
        settings["ddp_find_unused_parameters"] = False
    arguments = TrainingArguments(**{**settings, **overrides})
    if arguments.world_size != processes:
        raise TrainingError(f"{processes} processes were launched, but they do not work together on "
                            f"{model.device.type}: each would train a model of its own; launch one process.")
    if arguments.n_gpu > 1:
        # One process that sees several GPUs: the model is spread over them, or on one of them. `Trainer` would multiply
        # the batch by their number, and wrap a model on one of them in DataParallel, which cuts AF3's batches apart.
        arguments._n_gpu = 1
    spread = getattr(model, "hf_device_map", None) is not None
    if model.device.type == "cuda" and not spread and model.device != arguments.device:
        raise TrainingError(f"The model is on {model.device}, but a single process trains on {arguments.device}: set "
                            f"CUDA_VISIBLE_DEVICES={model.device.index} before the kernel starts, and name no device.")
    return arguments


def load_splits(profile: Profile) -> tuple[IterableDataset, IterableDataset | None]:
    """The profile's streams: clips to train on, and clips to evaluate on if there are any.

    Of the tiny data set and of one on the Hub: the first ``train_clips`` of its training split, and the next
    ``eval_clips``; if there are no more than ``train_clips``, all of them and none. Of a folder: see `folder_splits`.
    """
    if Path(profile.dataset_id).is_dir():
        train, held_out = folder_splits(scan_folder(profile.dataset_id), profile)
        return stream_clips(train), stream_clips(held_out) if held_out else None
    stream = load_captions(profile.dataset_id, split="train")
    known = (stream.info.splits or {}).get("train")
    if known is not None and known.num_examples is not None and known.num_examples <= profile.train_clips:
        return stream, None  # the Hub says how many there are, and they are all needed
    return stream.take(profile.train_clips), stream.skip(profile.train_clips).take(profile.eval_clips)


def folder_splits(report: FolderReport, profile: Profile) -> tuple[list[dict], list[dict]]:
    """Clips of a folder to train on, and at most ``eval_clips`` to evaluate on.

    These are its validation part if it has one; otherwise a fifth of its training part, by source, so that no recording
    is on both sides. The second list is empty where all clips come from one source. A part ``test`` is left alone.

    Raises:
        CaptionError: the folder has no clips to train on.
    """
    train, held_out = ([clip for clip in report.clips if clip["split"] == split] for split in ("train", "validation"))
    if not train:
        raise CaptionError(f"The folder {report.name!r} has no usable clips in its part 'train': it offers "
                           f"{', '.join(sorted({clip['split'] for clip in report.clips}))} alone.")
    if not held_out and len({clip["source"] for clip in train}) > 1:
        train, held_out = split_by_source(train)
    return train, held_out[: profile.eval_clips]


def make_trainer(
    profile: Profile,
    model,
    processor: ProcessorMixin,
    output: Path,
    *,
    train=None,
    evaluation=None,
    callbacks: list[TrainerCallback] | None = None,
    **overrides,
) -> Trainer:
    """A stock ``Trainer``; by default over the profile's stream: the first clips to train on, the next to evaluate on.

    Streams are read as `ClipStream` says: the training clips over and over, shuffled by the seed, those to evaluate on
    in their order; clips that cannot be used are left out with a sentence each (`SkipUnusable`). `TrainingGuard` stops
    a run that cannot learn, and `CheckpointMarker` tells whole checkpoints from interrupted saves. The same
    seed gives the same adapter, bit for bit, on one machine. With ``save_only_model=False``,
    ``trainer.train(resume_from_checkpoint=last_whole_checkpoint(output))`` goes on exactly where a run was interrupted.

    Under torchrun or ``accelerate launch`` all processes make the same trainer, and each step takes ``batch_size``
    clips a process.

    Args:
        profile: supplies data, sizes and rates.
        model: an AF3 without an adapter; the adapter is added here.
        processor: its processor.
        output: folder for checkpoints.
        train: other clips to train on: a stream, or a list of examples with ``audio`` and ``caption``.
        evaluation: other clips to evaluate on. With ``train`` but without this there is nothing to evaluate on.
        callbacks: told of every step, for example a `CaptionEvaluation`.
        **overrides: for ``TrainingArguments``.
    """
    arguments = training_arguments(profile, model, output, **overrides)
    if train is None:
        with arguments.main_process_first(desc="opening the data"):  # the tiny data set may have to be made
            train, held_out = load_splits(profile)
        evaluation = held_out if evaluation is None else evaluation
    if evaluation is None and "eval_strategy" not in overrides:
        arguments.eval_strategy, arguments.do_eval = IntervalStrategy.NO, False
    callbacks = [*(callbacks or []), TrainingGuard(), CheckpointMarker()]
    collator = AudioFlamingo3DataCollator(processor)
    if isinstance(train, IterableDataset):
        # Rows of a folder hold names alone, so that all of them can be shuffled together.
        block = None if isinstance((train.features or {}).get("audio"), dict) else BLOCK
        collator = SkipSeen(SkipUnusable(collator, train))
        train = ClipStream(train, arguments.train_batch_size * arguments.world_size, endless=True, seed=arguments.seed,
                           block=block)
        callbacks.append(StreamPosition(train))
    if isinstance(evaluation, IterableDataset):
        evaluation = ClipStream(evaluation, arguments.eval_batch_size * arguments.world_size)
    set_seed(arguments.seed)  # an adapter's first matrices are random
    return Trainer(
        model=get_peft_model(model, lora_config(profile)),
        args=arguments,
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=collator,
        callbacks=callbacks,
    )


def save_adapter(trainer: Trainer, processor: ProcessorMixin, folder: Path) -> Path:
    """Save adapter and processor into ``folder`` so that the folder is always whole: old or new, never half.

    Both are written next to it first and moved into place at the end. Every process of a run has to call this, for
    weights that are sharded over processes are gathered; the first process writes.
    """
    fresh, old = (folder.with_name(f"{folder.name}.{state}-{trainer.state.global_step}") for state in ("saving", "old"))
    first, whole = trainer.is_world_process_zero(), False
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    try:
        if first:
            shutil.rmtree(fresh, ignore_errors=True)
            folder.parent.mkdir(parents=True, exist_ok=True)
        trainer.save_model(str(fresh))
        if first:
            processor.save_pretrained(fresh)
            (fresh / "training_args.bin").unlink(missing_ok=True)  # a pickle, and of no use to the adapter
            whole = True
            shutil.rmtree(old, ignore_errors=True)
            if folder.exists():
                folder.rename(old)
            fresh.rename(folder)
    finally:
        if first:
            if old.exists() and not folder.exists():  # stopped between the two moves, or the second was refused
                old.rename(folder)
            shutil.rmtree(old, ignore_errors=True)
            if not whole:  # a whole one that could not be moved into place stays where it is
                shutil.rmtree(fresh, ignore_errors=True)
    trainer.accelerator.wait_for_everyone()
    return folder


def ensure_adapter(profile: Profile) -> Path:
    """The folder of a whole adapter for the profile's model, trained now if there is none.

    Says how long it takes when it has to train: about a minute for the tiny profile on two cores.
    """
    model = load_model(profile.model_id, quiet=True)
    try:
        return check_adapter(model, profile.adapter)
    except AdapterError:
        pass
    print("There is no adapter yet, so the recipe of notebook 03 runs first (about a minute in the tiny profile, "
          "hours in the full one).")
    processor = load_processor(profile.model_id)
    with tempfile.TemporaryDirectory() as checkpoints:
        trainer = make_trainer(profile, model, processor, Path(checkpoints), eval_strategy="no", save_strategy="no")
        trainer.train()
        return save_adapter(trainer, processor, profile.adapter)
