"""Captions for one clip or many."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from helpers.audio.samples import as_samples
from helpers.audio.windows import accept_trimmed
from helpers.captioning.decoding import GREEDY
from helpers.captioning.overflow import check_scores
from helpers.chat import check_text, encode_chats, longest_clip, make_chat
from helpers.profiles import DESCRIBE_PROMPT


class CaptioningInterrupted(KeyboardInterrupt):
    """Captioning was stopped by hand; ``answers`` holds what was finished, with ``None`` for the rest."""

    def __init__(self, answers: list[str | None]):
        done = sum(answer is not None for answer in answers)
        super().__init__(f"Stopped after {done} of {len(answers)} clips; the finished captions are in this exception's "
                         "'answers'.")
        self.answers = answers


def is_many(audio: Any) -> bool:
    """Whether ``audio`` is a list of clips rather than one clip."""
    return isinstance(audio, list | tuple)


def in_batches(clips: Sequence, batch_size: int) -> list[Sequence]:
    """Clips, so many at a time; a ``ValueError`` where that is no number of clips."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}, but it takes at least one clip, a whole number, to make a "
                         "batch.")
    return [clips[start : start + batch_size] for start in range(0, len(clips), batch_size)]


def encode_questions(model, processor: ProcessorMixin, chats: list[list[dict]]) -> BatchFeature:
    """Checked chats that end in a user's turn as what ``model.generate`` takes: see `encode_chats`."""
    inputs = encode_chats(processor, chats, ask=True, trim=accept_trimmed(model))
    # Floats take the model's dtype, integers keep theirs: that is what BatchFeature.to does with both arguments.
    return inputs.to(model.device, model.dtype)


def new_tokens(model, inputs: BatchFeature, **generate_kwargs) -> torch.Tensor:
    """Ids ``(B, new tokens)`` of an answer to each question; greedy and at most 100 unless told otherwise."""
    greedy = {} if generate_kwargs.get("do_sample") else GREEDY
    with torch.inference_mode():
        tokens = model.generate(**inputs, **{"max_new_tokens": 100, **greedy, **check_scores(model), **generate_kwargs})
    return tokens[:, inputs["input_ids"].shape[1] :]


def caption(model, processor: ProcessorMixin, audio: np.ndarray | str | os.PathLike | dict | Sequence,
            prompt: str = DESCRIBE_PROMPT, batch_size: int = 8, progress: Callable | None = None,
            **generate_kwargs) -> str | list[str]:
    """Ask the model about one clip or many; greedy unless told otherwise.

    Args:
        model: with or without an adapter.
        audio: whatever `as_samples` takes, or a list of such clips.
        batch_size: clips at once. They are sorted by length first, so that little is padded; the answers come back in
            the order of the clips.
        progress: wraps the iterable of batches, for example ``tqdm``.
        **generate_kwargs: for ``model.generate``, such as ``max_new_tokens`` (default 100) or ``num_beams``.

    Returns:
        The answer to one clip as text; to a list of clips as a list of texts.

    Raises:
        AudioError: a clip cannot be used (see `as_samples`). All clips are checked before the first is captioned.
        ChatError: the prompt is no text.
        ValueError: ``batch_size`` is less than 1, or no whole number.
        CaptioningInterrupted: stopped by hand while a list was under way; its ``answers`` keep what was finished.
    """
    check_text(prompt, "The prompt")
    longest, many = longest_clip(processor), is_many(audio)
    named = [(clip, f"Clip {number}") for number, clip in enumerate(audio)] if many else [(audio, "The clip")]
    clips = [as_samples(clip, name, longest) for clip, name in named]
    order = sorted(range(len(clips)), key=lambda number: len(clips[number]))
    batches = in_batches(order, batch_size)
    answers: list[str | None] = [None] * len(clips)
    was_training = model.training
    model.eval()  # dropout would make every answer a different one
    try:
        for batch in progress(batches) if progress else batches:
            inputs = encode_questions(model, processor, [make_chat(clips[number], prompt) for number in batch])
            texts = processor.batch_decode(new_tokens(model, inputs, **generate_kwargs), skip_special_tokens=True)
            for number, text in zip(batch, texts, strict=True):
                answers[number] = text
    except KeyboardInterrupt:
        raise CaptioningInterrupted(answers) from None
    finally:
        model.train(was_training)
    return answers if many else answers[0]
