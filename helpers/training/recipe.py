"""The recipe of notebook 03 as functions, for the places that need its result rather than its explanation.

The notebook writes the same calls out for the learner, all but `spare_dropout`, which changes no number; a test holds
the two together.
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from datasets import IterableDataset
from filelock import FileLock
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.processing_utils import ProcessorMixin
from transformers.trainer_utils import IntervalStrategy

from helpers.audio.folder import LONGEST_PIECE
from helpers.audio.lanes import LaneStream
from helpers.audio.order import BLOCK, ClipStream, SkipTrained, SkipUnusable
from helpers.audio.windows import accept_trimmed
from helpers.chat import AudioFlamingo3DataCollator
from helpers.hub import is_hub_id
from helpers.model.checkpointing import choose_checkpointing
from helpers.model.hardware import distributed_rank, loader_workers, precision_arguments
from helpers.model.loading import load_model, load_processor
from helpers.model.lora import LANGUAGE_MODEL_TARGETS, AdapterError, check_adapter
from helpers.model.record import adapter_record
from helpers.model.spare import spare_dropout
from helpers.profiles import SAMPLING_RATE, Profile
from helpers.systems import alone
from helpers.training.guard import TrainingError, TrainingGuard
from helpers.training.resume import CheckpointMarker, StreamPosition
from helpers.training.saving import clear_leftovers, data_of, save_adapter
from helpers.training.splits import load_splits


def lora_config(profile: Profile) -> LoraConfig:
    """Rank, scale and targets of the adapter: the language model alone."""
    return LoraConfig(r=profile.lora_rank, lora_alpha=profile.lora_alpha, lora_dropout=profile.lora_dropout,
                      bias="none", task_type="CAUSAL_LM", target_modules=LANGUAGE_MODEL_TARGETS)


def training_arguments(profile: Profile, model, output: Path, *, clip_seconds: float = 10.0,
                       **overrides) -> TrainingArguments:
    """The guide's training arguments, with the profile's numbers and the precision that fits the model.

    A shorter run, for a trial, warms up for at most half of its steps. Whether activations are checkpointed follows
    from what is free (`choose_checkpointing`), unless ``gradient_checkpointing`` (or its newer name,
    ``activation_checkpointing``) is among the overrides.
    """
    processes = int(os.environ.get("WORLD_SIZE", 1))  # set by torchrun and by `accelerate launch`
    # Taken out: `TrainingArguments` would listen to one of the two names alone.
    names = ("gradient_checkpointing", "activation_checkpointing")
    asked = [overrides.pop(name) for name in names if name in overrides]
    checkpointing, why = (asked[-1], "") if asked else choose_checkpointing(
        model, profile, batch_size=overrides.get("per_device_train_batch_size"), clip_seconds=clip_seconds)
    if why and not distributed_rank():
        print(why)
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
        "dataloader_num_workers": loader_workers(model, processes),
        "report_to": "none",
        "seed": 0,
        # Each process makes its own batches. Accelerate's default for a stream lets the first make all of them, glue
        # them together and cut them up again, which takes tensors of one length and one window a clip.
        "accelerator_config": {"dispatch_batches": False},
        **precision_arguments(model, checkpointing),
    }
    if processes > 1:
        # Every adapter is used in every step; looking for unused ones would cost time, and checkpointing forbids it.
        settings["ddp_find_unused_parameters"] = False
    settings |= overrides
    if "warmup_steps" not in overrides and settings["max_steps"] > 0:
        settings["warmup_steps"] = min(profile.warmup_steps, settings["max_steps"] // 2)
    arguments = TrainingArguments(**settings)
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


def _longest_clip(profile: Profile, train) -> float:
    """Seconds to plan memory for: the longest of decoded clips, a whole piece of a folder's, AudioCaps' 10 s."""
    if isinstance(train, Sequence):
        sounds = [clip.get("audio") for clip in train]
        return max(len(sound["array"]) / sound.get("sampling_rate", SAMPLING_RATE)
                   if isinstance(sound, dict) and "array" in sound else LONGEST_PIECE for sound in sounds)
    return LONGEST_PIECE if _of_a_folder(train) or Path(profile.dataset_id).is_dir() else 10.0


def _of_a_folder(clips) -> bool:
    """Whether a stream is `stream_clips`': its rows hold names and no sound."""
    return isinstance(clips, IterableDataset) and isinstance((clips.features or {}).get("audio"), dict)


def make_trainer(profile: Profile, model, processor: ProcessorMixin, output: Path, *, train=None, evaluation=None,
                 callbacks: list[TrainerCallback] | None = None, **overrides) -> Trainer:
    """A stock ``Trainer``; by default over the profile's stream: the first clips to train on, the next to evaluate on.

    Streams are read as `ClipStream` says: the training clips over and over, shuffled by the seed, those to evaluate on
    in their order; clips that cannot be used are left out with a sentence each (`SkipUnusable`). The same seed gives
    the same adapter, bit for bit, on one machine. With ``save_only_model=False``,
    ``trainer.train(resume_from_checkpoint=last_whole_checkpoint(output))`` goes on exactly where a run was interrupted.
    Several processes (torchrun, ``accelerate launch``) make the same trainer, and a step takes ``batch_size`` clips of
    each.

    Args:
        model: without an adapter, which is added here.
        output: folder for checkpoints.
        train: other clips to train on: a stream, or a list of examples with ``audio`` and ``caption``.
        evaluation: other clips to evaluate on. With ``train`` but without this there is nothing to evaluate on.
        callbacks: told of every step, for example a `CaptionEvaluation`.
        **overrides: for ``TrainingArguments``.
    """
    for clips, what in ((train, "to train on"), (evaluation, "to evaluate on")):
        if isinstance(clips, Sequence) and not clips:
            raise TrainingError(f"There are no clips {what} (an empty list): give at least one, or leave the argument "
                                "away.")
    arguments = training_arguments(profile, model, output, clip_seconds=_longest_clip(profile, train), **overrides)
    clips_a_pass = arguments.train_batch_size * arguments.world_size
    lanes, by_files = clips_a_pass * arguments.gradient_accumulation_steps, False
    if train is None:
        with arguments.main_process_first(desc="opening the data"):  # the tiny data set may have to be made
            train, held_out = load_splits(profile, lanes)
        # Such a stream is the whole split, file by file; any other lies on this machine.
        by_files = is_hub_id(profile.dataset_id) and held_out is None and train.num_shards >= lanes
        evaluation = held_out if evaluation is None else evaluation
    if evaluation is None and "eval_strategy" not in overrides:
        arguments.eval_strategy, arguments.do_eval = IntervalStrategy.NO, False
    callbacks = [*(callbacks or []), TrainingGuard(processor), CheckpointMarker()]
    collator = AudioFlamingo3DataCollator(processor, trim_windows=accept_trimmed(model))
    if isinstance(train, IterableDataset):
        block = None if _of_a_folder(train) else BLOCK  # names alone can all be shuffled together
        collator = SkipTrained(SkipUnusable(collator, train))
        if by_files:
            train = LaneStream(train, clips_a_pass, lanes, arguments.seed, arguments.process_index,
                               arguments.world_size)
            arguments.dataloader_num_workers = min(1, arguments.dataloader_num_workers)
        else:
            train = ClipStream(train, clips_a_pass, endless=True, seed=arguments.seed, block=block)
        callbacks.append(StreamPosition(train))
    if isinstance(evaluation, IterableDataset):
        evaluation = ClipStream(evaluation, arguments.eval_batch_size * arguments.world_size)
    set_seed(arguments.seed)  # an adapter's first matrices are random
    adapted = spare_dropout(get_peft_model(model, lora_config(profile)))
    return Trainer(model=adapted, args=arguments, train_dataset=train, eval_dataset=evaluation, data_collator=collator,
                   callbacks=callbacks)


_DEMANDED = ("learning_rate", "batch_size", "gradient_accumulation_steps", "lora_rank", "lora_alpha", "lora_dropout")
"""Numbers of a profile that make another adapter; beside them the steps, the data and its version count."""


def unfit(model, profile: Profile) -> str | None:
    """Why the adapter in the profile's folder is not the one that the profile's recipe makes; ``None`` if it is."""
    try:
        record = adapter_record(check_adapter(model, profile.adapter))
    except AdapterError as error:
        return str(error)
    if not record.finished:
        return f"The adapter in {profile.adapter.name!r} is of a run that was stopped after {record.steps_done} of " \
               f"{record.steps_asked} steps."
    wanted = {"steps": profile.max_steps, **{name: getattr(profile, name) for name in _DEMANDED}, **data_of(profile)}
    found = {"steps": record.steps_asked, **record.numbers, "data": record.data or wanted["data"],
             "data_version": record.data_version or wanted["data_version"]}
    changed = [f"{name} {found.get(name)} instead of {value}" for name, value in wanted.items()
               if found.get(name) != value]
    return f"The adapter in {profile.adapter.name!r} is of another run ({', '.join(changed)})." if changed else None


def ensure_adapter(profile: Profile, prepare: Callable[[Trainer], Trainer] | None = None) -> Path:
    """The folder of a whole adapter that the profile's recipe has made for its model, trained now if there is none.

    An adapter of a run that was stopped, or that had other numbers, does not count. Says how long it takes when it has
    to train: about a minute for the tiny profile on two cores. While another program trains it, this one waits.

    Args:
        profile: the recipe's numbers.
        prepare: what is done to the trainer before it trains, such as `show_progress`.
    """
    model, folder = load_model(profile.model_id, quiet=True), profile.adapter
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        clear_leftovers(folder)
    if unfit(model, profile) is None:
        return folder
    with alone(f"{folder}.training.lock", "Another program trains this adapter now: waiting for it."):
        why = unfit(model, profile)
        if why is None:
            return folder
        if (folder / "adapter_config.json").is_file():
            print(why)
        print("There is no adapter yet, so the recipe of notebook 03 runs first (about a minute in the tiny profile, "
              "hours in the full one).")
        processor = load_processor(profile.model_id)
        with tempfile.TemporaryDirectory() as checkpoints:
            trainer = make_trainer(profile, model, processor, Path(checkpoints), eval_strategy="no", save_strategy="no")
            if prepare:
                trainer = prepare(trainer)
            trainer.train()
            return save_adapter(trainer, processor, folder, profile)
