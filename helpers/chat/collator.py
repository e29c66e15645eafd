"""From examples to a training batch: token ids, log-mel features, and labels on the assistant's words alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.processing_utils import ProcessorMixin

from helpers.audio.samples import as_samples
from helpers.audio.table import CaptionError
from helpers.chat.messages import check_chat, check_text, make_chat
from helpers.chat.tokens import IGNORED, encode_chats
from helpers.families import family_of
from helpers.profiles import DESCRIBE_PROMPT


def longest_clip(processor: ProcessorMixin) -> float:
    """Seconds of a clip that a processor passes on to its model: whole windows, 10 minutes of them in AF3."""
    window = processor.feature_extractor.chunk_length
    return float(window if family_of(processor).one_window else processor.max_audio_len // window * window)


@dataclass
class AudioFlamingo3DataCollator:
    """Make a training batch of captioned clips or of whole chats.

    Each example has ``audio`` (as `load_captions` gives it, or whatever `as_samples` takes) and either ``caption``
    or ``messages``. A caption becomes the chat "user: prompt + clip, assistant: caption". ``messages`` is a chat of
    any number of turns (``[{"role": ..., "content": text or list of items}, ...]``); the clip joins its first user
    turn unless an item ``{"type": "audio"}`` already says where it belongs. Whatever a caption or message says is plain
    text to the model, the names of control tokens too (see `encode_chat`); white space around an answer is left out.

    Only the assistant's words and the token that ends them carry labels; all else is `IGNORED`: a model trained on
    prompts and role tags spends its steps on text that is the same every time.

    Args:
        processor: the model's. Batches are padded on the left, so all answers end at their right edge.
        prompt: the user's question for examples with a caption.
        trim_logits: give labels for the last K positions only, where K reaches back to the first answer in the batch,
            and pass ``logits_to_keep=K``: no logits are computed for prompt and audio, and the loss is the same. Left
            out where ``forward`` of the processor's model takes no ``logits_to_keep``.
        trim_windows: features no longer than the longest clip needs (see `helpers.audio.windows`). A model from
            `load_model` takes them; to one that was loaded in another way, give `accept_trimmed` first.

    Returns (from a call with a list of ``B`` examples):
        ``input_ids``, ``attention_mask``: ``(B, L)`` int64;
        ``input_features``: ``(W, mel bins, frames)`` float32, one row a window, at least one window a clip;
        ``input_features_mask``: ``(W, frames)``;
        ``labels``: ``(B, K)`` int64 (``(B, L)`` without trimming), and ``logits_to_keep``: K.

    Raises:
        AudioError, CaptionError: an example cannot be used; the message names it.
    """

    processor: ProcessorMixin
    prompt: str = DESCRIBE_PROMPT
    trim_logits: bool = True
    trim_windows: bool = True

    def __post_init__(self) -> None:
        check_text(self.prompt, "The collator's prompt")

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        if not examples:
            raise CaptionError("The batch holds no examples: give the collator at least one.")
        chats = [self.chat(example, number) for number, example in enumerate(examples)]
        batch = dict(encode_chats(self.processor, chats, trim=self.trim_windows))
        if self.trim_logits and family_of(self.processor).keeps_logits:
            # One more position than the first answer begins at: its logits predict the answer's first token.
            labels = batch.pop("labels")
            first = int((labels != IGNORED).any(dim=0).nonzero()[0])
            keep = labels.shape[1] - first + 1
            batch["logits_to_keep"], batch["labels"] = keep, labels[:, -keep:]
        return batch

    def chat(self, example: dict[str, Any], number: int = 0) -> list[dict]:
        """The chat of one example, checked, with its clip as samples."""
        if not isinstance(example, Mapping):
            raise CaptionError(f"Example {number} of the batch is a {type(example).__name__}, not a dictionary: give "
                               "one with 'audio', and 'caption' or 'messages'.")
        audio = example.get("audio")
        path = audio.get("path") if isinstance(audio, dict) else None
        name = Path(path).name if path else f"Example {number} of the batch"
        if audio is None:
            raise CaptionError(f"{name} has no 'audio': the collator needs it beside 'caption' or 'messages'; was the "
                               "column removed? Set remove_unused_columns=False in TrainingArguments.")
        samples = as_samples(audio, name, longest_clip(self.processor))
        if example.get("messages"):
            return check_chat(example["messages"], f"the chat of {name}", clip=samples, answered=True)
        text = example.get("caption")
        if text is None or (isinstance(text, str) and not text.strip()):
            raise CaptionError(f"{name} has no caption: write one, or filter such clips out before training.")
        check_text(text, f"The caption of {name}")
        return check_chat(make_chat(samples, self.prompt, text), f"the chat of {name}", answered=True)
