"""From examples to a batch: chats, token ids, log-mel features, and labels on the assistant's words alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers.processing_utils import ProcessorMixin

from helpers.audio.samples import as_samples
from helpers.audio.table import CaptionError
from helpers.profiles import DESCRIBE_PROMPT

IGNORED = -100
"""Label of a position that the loss skips: the ``ignore_index`` of PyTorch's cross entropy."""


def longest_clip(processor: ProcessorMixin) -> float:
    """Seconds of a clip that a processor passes on to its model: whole windows, 10 minutes of them in AF3."""
    window = processor.feature_extractor.chunk_length
    return float(processor.max_audio_len // window * window)


def make_chat(audio, prompt: str = DESCRIBE_PROMPT, answer: str | None = None) -> list[dict]:
    """A chat about one clip: the user's turn, and the assistant's if there is an ``answer``.

    Args:
        audio: 16 kHz mono float32 samples, shape ``(samples,)``.
        prompt: what the user asks.
        answer: what the assistant says.
    """
    chat = [{"role": "user", "content": [{"type": "text", "text": prompt}, {"type": "audio", "audio": audio}]}]
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return chat


@dataclass
class AudioFlamingo3DataCollator:
    """Make a training batch of captioned clips or of whole chats.

    Each example has ``audio`` (as `load_captions` gives it, or whatever `as_samples` takes) and either ``caption``
    or ``messages``. A caption becomes the chat "user: prompt + clip, assistant: caption". ``messages`` is a chat of
    any number of turns (``[{"role": ..., "content": text or list of items}, ...]``); the clip joins its first user
    turn unless an item ``{"type": "audio"}`` already says where it belongs.

    Only the assistant's words and the token that ends them carry labels. Prompt, system prompt, role tags, audio
    placeholders and padding are `IGNORED`: a model trained on them spends its steps on text that is the same every
    time.

    Args:
        processor: an AF3 processor. It pads on the left, so all answers end at the right edge of the batch.
        prompt: the user's question for examples with a caption.
        trim_logits: give labels for the last K positions only, where K reaches back to the first answer in the
            batch, and pass ``logits_to_keep=K``: the model then computes no logits for the prompt and the audio.
            The loss is the same; over AF3's 151,672 tokens the saving in memory is several times the answer's.

    Returns (from a call with a list of ``B`` examples):
        ``input_ids``, ``attention_mask``: ``(B, L)`` int64;
        ``input_features``: ``(W, mel bins, frames)`` float32, one row a window, at least one window a clip;
        ``input_features_mask``: ``(W, frames)``;
        ``labels``: ``(B, K)`` int64 (``(B, L)`` without trimming), and ``logits_to_keep``: K.

    Raises:
        AudioError, CaptionError: an example cannot be used, or has no label left; the message names it.
    """

    processor: ProcessorMixin
    prompt: str = DESCRIBE_PROMPT
    trim_logits: bool = True
    _header: list[int] = field(init=False, repr=False)
    _end: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        # Both marks are read off the chat template itself, so that a model with other role tags works too.
        user = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
        answer = {"role": "assistant", "content": [{"type": "text", "text": "answer"}]}
        asked = self.processor.apply_chat_template(user, tokenize=False)
        opened = self.processor.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
        closed = self.processor.apply_chat_template([*user, answer], tokenize=False)
        encode = self.processor.tokenizer.encode
        self._header = encode(opened[len(asked) :], add_special_tokens=False)
        self._end = encode(closed[len(opened) + len("answer") :], add_special_tokens=False)[0]

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        chats = [self.chat(example, number) for number, example in enumerate(examples)]
        batch = dict(self.processor.apply_chat_template(
            chats, tokenize=True, return_dict=True,
            processor_kwargs={"text_kwargs": {"padding": True, "padding_side": "left"}},
        ))
        labels = self.label(batch["input_ids"], batch["attention_mask"])
        silent = (labels == IGNORED).all(dim=1).nonzero().flatten().tolist()
        if silent:
            raise CaptionError(
                f"Example {silent[0]} of the batch has no label: no assistant's turn was found among its tokens; "
                "was it "
                "cut off by a maximum length, or has the chat template other role tags inside a chat than at its end?"
            )
        if self.trim_logits:
            # One more position than the first answer begins at: its logits predict the answer's first token.
            first = int((labels != IGNORED).any(dim=0).nonzero()[0])
            keep = labels.shape[1] - first + 1
            labels = labels[:, -keep:]
            batch["logits_to_keep"] = keep
        batch["labels"] = labels
        return batch

    def chat(self, example: dict[str, Any], number: int = 0) -> list[dict]:
        """The chat of one example, with its clip as checked samples."""
        audio = example.get("audio")
        path = audio.get("path") if isinstance(audio, dict) else None
        name = Path(path).name if path else f"Example {number} of the batch"
        if audio is None:
            raise CaptionError(f"{name} has no 'audio': the collator needs it beside 'caption' or 'messages'; was the "
                               "column removed? Set remove_unused_columns=False in TrainingArguments.")
        samples = as_samples(audio, name, longest_clip(self.processor))
        if example.get("messages"):
            return self._with_audio(example["messages"], samples, name)
        text = example.get("caption")
        if not isinstance(text, str) or not text.strip():
            raise CaptionError(f"{name} has no caption: write one, or filter such clips out before training.")
        return make_chat(samples, self.prompt, text)

    @staticmethod
    def _with_audio(messages: list[dict], samples, name: str) -> list[dict]:
        chat, placed = [], False
        for message in messages:
            content = message["content"]
            items = [{"type": "text", "text": content}] if isinstance(content, str) else list(map(dict, content))
            for item in items:
                if item["type"] == "audio":
                    if placed:
                        raise CaptionError(f"{name} puts its clip into the chat twice: AF3 takes one clip a chat.")
                    item["audio"], placed = samples, True
            chat.append({"role": message["role"], "content": items})
        first_user = next((message for message in chat if message["role"] == "user"), None)
        if first_user is None or not any(message["role"] == "assistant" for message in chat):
            raise CaptionError(f"{name} has a chat without a user turn or without an assistant turn: it needs both, "
                               "for "
                               "there is nothing to learn otherwise.")
        if not placed:
            first_user["content"].append({"type": "audio", "audio": samples})
        return chat

    def label(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Labels ``(B, L)``: the token id inside an assistant's answer and on its end token, `IGNORED` elsewhere."""
        header = torch.tensor(self._header, device=input_ids.device)
        size = len(header)
        labels = torch.full_like(input_ids, IGNORED)
        starts = (input_ids.unfold(1, size, 1) == header).all(dim=-1).nonzero().tolist()
        for row, start in starts:
            begin = start + size
            ends = (input_ids[row, begin:] == self._end).nonzero()
            stop = begin + int(ends[0]) + 1 if len(ends) else input_ids.shape[1]
            labels[row, begin:stop] = input_ids[row, begin:stop]
        return labels.masked_fill(attention_mask == 0, IGNORED)
