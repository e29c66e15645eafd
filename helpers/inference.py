"""Captions for one clip or many."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
import torch
from transformers.processing_utils import ProcessorMixin

from helpers.collator import DESCRIBE_PROMPT, make_chat
from helpers.data import as_samples

GREEDY = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
"""Greedy decoding. The Hub checkpoint's own configuration samples, and its knobs would be warned about unused."""


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


def generate_answers(model, processor: ProcessorMixin, chats: list[list[dict]], **generate_kwargs) -> list[str]:
    """Continue each chat with one answer of the assistant.

    Args:
        model: an AF3, with or without an adapter, on any device.
        processor: its processor.
        chats: chats that end in a user's turn, clips as 16 kHz mono float32 arrays.
        **generate_kwargs: passed to ``model.generate``.

    Returns:
        One text a chat: the new tokens only, special tokens removed.
    """
    return _decode(processor, _generate(model, _prepare(model, processor, chats), generate_kwargs))


def _prepare(model, processor: ProcessorMixin, chats: list[list[dict]]):
    """What ``model.generate`` takes, on the model's device."""
    inputs = processor.apply_chat_template(chats, tokenize=True, add_generation_prompt=True, return_dict=True)
    # Floats take the model's dtype, integers keep theirs: that is what BatchFeature.to does with both arguments.
    return inputs.to(model.device, model.dtype)


def _generate(model, inputs, generate_kwargs: dict) -> torch.Tensor:
    """The new tokens only, shape ``(chats, longest answer)``."""
    with torch.inference_mode():  # holds for the thread that enters it
        return model.generate(**inputs, **generate_kwargs)[:, inputs["input_ids"].shape[1] :]


def _decode(processor: ProcessorMixin, tokens: torch.Tensor) -> list[str]:
    return processor.batch_decode(tokens, skip_special_tokens=True)


MAX_WORKERS = 4
"""Batches generated side by side at most: each holds its own activations, keys and values."""


def _answer_batches(model, processor: ProcessorMixin, batches: list[list[list[dict]]], options: dict) -> Iterator[list[str]]:
    """`generate_answers` of many batches, in their order, as they are finished.

    This thread prepares batches ahead and decodes the answers; other threads generate. On a CPU several batches are
    generated side by side, with a share of PyTorch's threads each: the small matrices of a decoding step gain
    nothing from a second thread, so this finishes sooner than one batch after the other on all threads. A GPU takes
    one batch at a time, and so does sampling, whose draws come from one random state.
    """
    if len(batches) == 1:  # nothing to overlap
        yield generate_answers(model, processor, batches[0], **options)
        return
    threads = torch.get_num_threads()
    alone = model.device.type != "cpu" or options.get("do_sample")
    workers = 1 if alone else max(1, min(threads, len(batches), MAX_WORKERS))
    waiting, ahead = iter(batches), deque()
    torch.set_num_threads(threads // workers)  # before the workers start: a new thread takes what is set then
    pool = ThreadPoolExecutor(workers)

    def send(count: int) -> None:
        for chats in itertools.islice(waiting, count):
            # The processor never leaves this thread: a tokenizer does not bear two at once.
            ahead.append(pool.submit(_generate, model, _prepare(model, processor, chats), options))

    try:
        send(workers + 1)  # one more than can run: no worker waits for the features of its next batch
        while ahead:
            tokens = ahead.popleft().result()
            send(1)
            yield _decode(processor, tokens)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def caption(
    model,
    processor: ProcessorMixin,
    audio: np.ndarray | str | os.PathLike | dict | Sequence,
    prompt: str = DESCRIBE_PROMPT,
    batch_size: int = 8,
    progress: Callable | None = None,
    **generate_kwargs,
) -> str | list[str]:
    """Ask the model about one clip or many; greedy unless told otherwise.

    Args:
        model: an AF3, with or without an adapter.
        processor: its processor.
        audio: samples (16 kHz mono float), a path, an example's ``audio`` dictionary, or a list of these.
        prompt: the question.
        batch_size: clips at once. Clips are sorted by length first, so that little is padded; the answers come
            back in the order of the clips. On a CPU up to `MAX_WORKERS` batches are under way at the same time.
        progress: wraps the iterable of batches, for example ``tqdm``.
        **generate_kwargs: for ``model.generate``, such as ``max_new_tokens`` (default 100) or ``num_beams``.

    Returns:
        The answer to one clip as text; to a list of clips as a list of texts.

    Raises:
        AudioError: a clip cannot be used (see `as_samples`). All clips are checked before the first is captioned.
        ValueError: ``batch_size`` is less than 1.
        CaptioningInterrupted: stopped by hand while a list was under way; its ``answers`` keep what was finished.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, but it takes at least one clip to make a batch.")
    options = {"max_new_tokens": 100, **({} if generate_kwargs.get("do_sample") else GREEDY), **generate_kwargs}
    clips = [as_samples(clip, f"Clip {number}") for number, clip in enumerate(audio)] if is_many(audio) else [as_samples(audio)]
    order = sorted(range(len(clips)), key=lambda number: len(clips[number]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    answers: list[str | None] = [None] * len(clips)
    was_training = model.training
    model.eval()  # dropout would make every answer a different one
    try:
        chats = [[make_chat(clips[number], prompt) for number in batch] for batch in batches]
        with closing(_answer_batches(model, processor, chats, options)) as finished:
            for batch, texts in zip(progress(batches) if progress else batches, finished):
                for number, text in zip(batch, texts):
                    answers[number] = text
    except KeyboardInterrupt:
        raise CaptioningInterrupted(answers) from None
    finally:
        model.train(was_training)
    return answers if is_many(audio) else answers[0]
