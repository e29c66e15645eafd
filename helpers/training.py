"""The recipe of notebook 03 as functions, for the places that need its result rather than its explanation.

The notebook writes the same calls out for the learner; a test holds the two together.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.processing_utils import ProcessorMixin

from helpers.collator import AudioFlamingo3DataCollator
from helpers.data import load_captions
from helpers.lora import LANGUAGE_MODEL_TARGETS, AdapterError, check_adapter
from helpers.hardware import hardware_settings
from helpers.models import load_model, load_processor
from helpers.profiles import Profile


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
        **hardware_settings(model, profile.gradient_checkpointing),
    }
    return TrainingArguments(**{**settings, **overrides})


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
    if train is None:
        stream = load_captions(profile.dataset_id, split="train")
        train = stream.take(profile.train_clips)
        evaluation = stream.skip(profile.train_clips).take(profile.eval_clips) if evaluation is None else evaluation
    if evaluation is None:
        overrides = {"eval_strategy": "no", **overrides}
    return Trainer(
        model=get_peft_model(model, lora_config(profile)),
        args=training_arguments(profile, model, output, **overrides),
        train_dataset=train,
        eval_dataset=evaluation,
        data_collator=AudioFlamingo3DataCollator(processor),
        callbacks=callbacks,
    )


def save_adapter(trainer: Trainer, processor: ProcessorMixin, folder: Path) -> Path:
    """Save adapter and processor into ``folder`` so that the folder is always whole: old or new, never half.

    Both are written next to it first and moved into place at the end.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}.saving-", dir=folder.parent))
    try:
        trainer.save_model(str(fresh))
        processor.save_pretrained(fresh)
        (fresh / "training_args.bin").unlink(missing_ok=True)  # a pickle, and of no use to the adapter
        if folder.exists():
            shutil.rmtree(folder)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def ensure_adapter(profile: Profile) -> Path:
    """The folder of a whole adapter for the profile's model, trained now if there is none.

    Says how long it takes when it has to train: about a minute for the tiny profile on two cores.
    """
    try:
        return check_adapter(load_model(profile.model_id, quiet=True), profile.adapter)
    except AdapterError:
        pass
    print("There is no adapter yet, so the recipe of notebook 03 runs first (about a minute in the tiny profile, "
          "hours in the full one).")
    model, processor = load_model(profile.model_id, quiet=True), load_processor(profile.model_id)
    with tempfile.TemporaryDirectory() as checkpoints:
        trainer = make_trainer(profile, model, processor, Path(checkpoints), eval_strategy="no", save_strategy="no")
        trainer.train()
        return save_adapter(trainer, processor, profile.adapter)
