"""The public task guide's recipe for Audio Flamingo 3, as far as it differs from the course's.

Three things differ: the loss covers every token that is not audio or padding (system prompt, question and role tags
too), logits are computed for every position, and the list of module suffixes also puts adapters into the audio tower.
All else is shared on purpose: chat, rank, scale, dropout, batch, learning rate, steps, optimizer, dtype. The guide
itself runs in bfloat16 with gradient checkpointing everywhere; see ``literal`` in `jobs.train`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from peft import LoraConfig, get_peft_model
from transformers import Trainer
from transformers.processing_utils import ProcessorMixin

from helpers.chat import make_chat
from helpers.profiles import DESCRIBE_PROMPT, Profile
from helpers.training.recipe import training_arguments

GUIDE_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""The guide's suffixes. The first three are also the names of the audio tower's attention projections."""


@dataclass
class GuideDataCollator:
    """Chats with the labels that the processor makes: every token but audio placeholders and padding.

    Args:
        processor: an AF3 processor.

    Returns (from a call with a list of ``B`` examples, each with ``audio`` and ``caption``):
        ``input_ids``, ``attention_mask``, ``labels``: ``(B, L)``; ``input_features``, ``input_features_mask``.
    """

    processor: ProcessorMixin

    def __call__(self, examples: list[dict]) -> dict:
        chats = [make_chat(example["audio"]["array"], DESCRIBE_PROMPT, example["caption"]) for example in examples]
        # The guide passes output_labels directly, which does the same and warns on every batch.
        return dict(self.processor.apply_chat_template(
            chats, tokenize=True, add_generation_prompt=False, return_dict=True,
            processor_kwargs={"output_labels": True},
        ))


def guide_lora_config(profile: Profile) -> LoraConfig:
    """The guide's adapter: rank, scale and dropout as in the course, modules by suffix."""
    return LoraConfig(
        r=profile.lora_rank, lora_alpha=profile.lora_alpha, lora_dropout=profile.lora_dropout, bias="none",
        task_type="CAUSAL_LM", target_modules=GUIDE_TARGETS,
    )


def make_guide_trainer(profile: Profile, model, processor: ProcessorMixin, output: Path, train, **overrides) -> Trainer:
    """The guide's ``Trainer``: the counterpart of `helpers.training.recipe.make_trainer`, with the same arguments."""
    return Trainer(
        model=get_peft_model(model, guide_lora_config(profile)),
        args=training_arguments(profile, model, output, eval_strategy="no", **overrides),
        train_dataset=train,
        data_collator=GuideDataCollator(processor),
    )
