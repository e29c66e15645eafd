"""Notebook 02: which positions carry a loss."""

from collections.abc import Callable, Sequence

import torch
from transformers import BatchFeature

from helpers.chat import IGNORED, AudioFlamingo3DataCollator, answer_marks
from helpers.exercises.checking import Wrong, call, exercise, number


@exercise
def check_label_count(counts: Sequence[int], processor, examples: Sequence[dict]) -> str:
    """How many labels the collator gives to each of a few captions.

    Args:
        counts: the reader's numbers, one a caption.
        processor: an AF3 processor.
        examples: the clips with their captions, in the same order.
    """
    true = (AudioFlamingo3DataCollator(processor)(list(examples))["labels"] != IGNORED).sum(dim=1).tolist()
    said = [number(count) for count in counts]
    if len(said) != len(true):
        raise Wrong(f"there are {len(true)} captions, and you give {len(said)} numbers.")
    if said == true:
        return f"{', '.join(map(str, true))}: the tokens of each caption, and the one that ends it."
    if all(count == label - 1 for count, label in zip(said, true, strict=True)):
        raise Wrong("each is one too few: the token that ends the answer is trained too, or the model never learns to "
                    "stop.")
    words = [len(example["caption"].split()) for example in examples]
    if said in (words, [count + 1 for count in words]):
        raise Wrong("you counted words: a word may be several tokens; ask processor.tokenizer.")
    wrong = next(place for place, pair in enumerate(zip(said, true, strict=True)) if pair[0] != pair[1])
    raise Wrong(f"caption {wrong + 1} does not have {said[wrong]:g} labels: count its tokens with processor.tokenizer, "
                "and add the end.")


def _rows(processor, examples: Sequence[dict]):
    """Rows to label: captions, and a chat with two answers."""
    collator = AudioFlamingo3DataCollator(processor, trim_logits=False)
    turns = ["What sounds are in the audio?", examples[0]["caption"], "Describe the audio.", examples[-1]["caption"]]
    messages = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(turns)]
    for example in [*examples, {"audio": examples[0]["audio"], "messages": messages}]:
        batch = collator([example])
        yield batch["input_ids"][0].tolist(), batch["labels"][0].tolist()


@exercise
def check_answer_labels(answer_labels: Callable, processor, examples: Sequence[dict]) -> str:
    """Labels on the assistant's words and their ends, written by hand, against the collator.

    Args:
        answer_labels: the reader's function: (token ids of one row, ids that open an answer, id that ends one) ->
            labels, -100 wherever the loss looks away.
        processor: an AF3 processor.
        examples: clips with captions.
    """
    (header, end), rows = answer_marks(processor), list(_rows(processor, examples))
    for ids, true in rows:
        said = [int(label) for label in call(answer_labels, list(ids), header, end)]
        if said == true:
            continue
        if len(said) != len(true):
            raise Wrong(f"the row has {len(true)} tokens and your labels are {len(said)}: give one label a token.")
        ends = [place for place, label in enumerate(true) if label == end]
        if all(said[place] == IGNORED for place in ends) and _without(said, ends) == _without(true, ends):
            raise Wrong("the token that ends an answer has no label: without it the model never learns to stop.")
        if said[:-1] == true[1:] or said[1:] == true[:-1]:
            raise Wrong("the labels stand one place off: the model shifts them itself, so each stands at its own "
                        "token.")
        last = len(true) - 1 - true[::-1].index(IGNORED, true[::-1].index(end)) if end in true else 0
        if all(label == IGNORED for label in said[:last]) and said[last:] == true[last:]:
            raise Wrong("in a chat with two answers only the last has labels: go on looking after the first.")
        place = next(place for place, pair in enumerate(zip(said, true, strict=True)) if pair[0] != pair[1])
        raise Wrong(f"at position {place} the label is {said[place]}, not {true[place]}: the token there is "
                    f"{processor.tokenizer.decode([ids[place]])!r}.")
    return f"equal to the collator's on {len(rows)} rows, one of them with two answers."


def _without(labels: list[int], places: list[int]) -> list[int]:
    return [label for place, label in enumerate(labels) if place not in places]


@exercise
def check_smallest_k(k: int, model, processor, examples: Sequence[dict]) -> str:
    """The fewest positions with logits that leave the loss as it is.

    Args:
        k: the reader's number.
        model: an AF3.
        processor: its processor.
        examples: the batch in question.
    """
    batch = AudioFlamingo3DataCollator(processor, trim_logits=False)(list(examples))
    inputs = BatchFeature(batch).to(model.device, model.dtype)
    answer = batch["labels"].shape[1] - int((batch["labels"] != IGNORED).any(dim=0).nonzero()[0])

    def loss(kept: int) -> float:
        with torch.no_grad():
            return model(**{**inputs, "labels": inputs["labels"][:, -kept:], "logits_to_keep": kept}).loss.item()

    k = int(number(k, "K"))
    if not 1 <= k <= batch["labels"].shape[1]:
        raise Wrong(f"the batch has {batch['labels'].shape[1]} positions: K lies between 1 and that.")
    whole = loss(batch["labels"].shape[1])
    tolerance = 1e-4 if model.dtype == torch.float32 else 1e-2
    if abs(loss(k) - whole) > tolerance:
        if k == answer:
            raise Wrong(f"with K = {k} the loss is {loss(k):.4f}, not {whole:.4f}: the longest answer reaches back so "
                        "far, but its first token is predicted at the position before it.")
        raise Wrong(f"with K = {k} the loss is {loss(k):.4f}, not {whole:.4f}: an answer is cut off.")
    if k > 1 and abs(loss(k - 1) - whole) <= tolerance:
        raise Wrong(f"with K = {k} the loss is right, and with {k - 1} it still is: go on.")
    return f"K = {k} gives the whole batch's loss of {whole:.4f}, and {k - 1} does not."
