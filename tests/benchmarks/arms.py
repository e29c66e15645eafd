"""What is compared, and at which scale: the guide's recipe, this course's, and full fine-tuning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from transformers import Trainer

from helpers.audio.captions import load_captions
from helpers.chat import AudioFlamingo3DataCollator
from helpers.model.loading import load_model, load_processor
from helpers.model.spare import spare_work
from helpers.profiles import Profile
from helpers.training.guard import TrainingGuard
from helpers.training.recipe import make_trainer, training_arguments
from tests.benchmarks import mid_size
from tests.benchmarks.guide import GuideDataCollator, make_guide_trainer


def _full_fine_tuning(profile: Profile, model, processor, output: Path, train, **overrides) -> Trainer:
    """Every parameter of the language model and its head, no adapter; audio tower and projector frozen."""
    model.requires_grad_(False)
    model.model.language_model.requires_grad_(True)
    model.lm_head.requires_grad_(True)
    return Trainer(model=model, args=training_arguments(profile, model, output, eval_strategy="no", **overrides),
                   train_dataset=train, data_collator=AudioFlamingo3DataCollator(processor))


def _guide_labels(profile: Profile, model, processor, output: Path, train, **overrides) -> Trainer:
    trainer = make_trainer(profile, model, processor, output, train=train, **overrides)
    trainer.data_collator = GuideDataCollator(processor)
    trainer.remove_callback(TrainingGuard)  # it refuses labels on the prompt
    return trainer


def _course(profile: Profile, model, processor, output: Path, train, **overrides) -> Trainer:
    spare_work(model)  # as `load_model` does; it does not load the mid-size model
    return make_trainer(profile, model, processor, output, train=train, **overrides)


ARMS: dict[str, Callable[..., Trainer]] = {
    "guide": make_guide_trainer,  # suffix-list LoRA, whole-sequence labels, logits everywhere
    # the course's LoRA with the guide's labels: what the labels alone do (mid-size: on the library's model as it is)
    "guide labels": _guide_labels,
    "course": _course,
    "full": _full_fine_tuning,
}


def _tiny(clips: int):
    return load_model(quiet=True), load_processor(), list(load_captions("tiny", "train").take(clips))


def _mid_size(clips: int):
    processor = mid_size.build_processor()
    return mid_size.build_model(processor).eval(), processor, mid_size.make_clips(clips, "train")


SCALES = {
    "tiny": ("tiny", _tiny, lambda split: list(load_captions("tiny", split))),
    "mid-size": ("full", _mid_size, lambda split: mid_size.make_clips(8, split)),
}
"""Name -> whose profile supplies the adapter's numbers; what makes model, processor and clips; clips held out."""
