"""The words of captions: how metrics cut them out of text, and how long and varied captions are."""

import re
from collections.abc import Sequence
from dataclasses import dataclass


def one_each(texts: Sequence[str], others: Sequence, what: str = "clips") -> None:
    """Raise ``ValueError`` unless there is one text for each of ``others``, and at least one."""
    if isinstance(texts, str):
        raise ValueError("The captions are one string: give a list with one caption a clip.")
    if len(texts) != len(others) or not len(texts):
        raise ValueError(f"There are {len(texts)} texts for {len(others)} {what}: give one text a clip, and at least "
                         "one.")


_SPLIT = re.compile(r"(?<=\w)(n't|'s|'re|'ve|'ll|'d|'m)\b|(?<=\bcan)(not)\b")
_TOKEN = re.compile(r"n't\b|'(?:s|re|ve|ll|d|m)\b|\w+(?:[-'./]\w+|(?<=\d)[,:]\d+)*")


def tokenize(text: str) -> list[str]:
    """Words as the metrics see them: lower case, punctuation dropped, "isn't" as "is" and "n't".

    This is what the Penn Treebank tokenizer of the COCO evaluation code (a Java program) does with captions, without
    Java. It differs on what captions hardly ever contain: brackets, symbols such as &, abbreviations such as e.g.
    """
    return _TOKEN.findall(_SPLIT.sub(lambda match: " " + match.group(), text.lower().replace("’", "'")))


@dataclass(frozen=True)
class CaptionStatistics:
    """What captions look like, whatever the clips."""

    words: float
    """Words a caption, on average."""
    shortest: int
    longest: int
    vocabulary: int
    """Different words over all captions."""
    distinct: float
    """Different captions, as a share of all: near 0 for a model that says the same of every clip."""


def caption_statistics(captions: Sequence[str]) -> CaptionStatistics:
    """Length and variety of captions; words as `tokenize` finds them. A ``ValueError`` where there are no captions."""
    one_each(captions, captions)
    words = [tokenize(text) for text in captions]
    lengths = [len(tokens) for tokens in words]
    return CaptionStatistics(sum(lengths) / len(lengths), min(lengths), max(lengths),
                             len({token for tokens in words for token in tokens}), len(set(captions)) / len(captions))
