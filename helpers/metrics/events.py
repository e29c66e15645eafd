"""Which sounds captions name, whether rightly and in the right order, and what was heard as what."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.metrics.wording import one_each

SILENCE, SINGLE, SEQUENCE, OVERLAP = "silence", "single", "sequence", "overlap"
"""How the sounds of a clip relate in time: none, one, two in a row, two at once."""


@dataclass(frozen=True)
class EventScores:
    """Scores over a set of clips, between 0 and 1; ``f1`` is the harmonic mean of precision and recall."""

    precision: float
    """Of the events that captions name, the share that is really there."""
    recall: float
    """Of the events that are really there, the share that captions name."""
    f1: float
    order: float
    """Of the clips with two events in a row whose caption names both, the share that has them in the right order;
    NaN where there is no such clip."""
    style: float
    """Share of the texts that read like AudioCaps (see `reads_like_audiocaps`)."""

    def __str__(self) -> str:
        f1, order = ("unknown" if math.isnan(score) else f"{score:.2f}" for score in (self.f1, self.order))
        return (f"event F1 {f1} (precision {self.precision:.2f}, recall {self.recall:.2f}), "
                f"order {order}, AudioCaps style {self.style:.0%}")


def reads_like_audiocaps(text: str) -> bool:
    """One short sentence that begins with a capital and has no full stop, as nearly all of AudioCaps' captions do (the
    tiny data set's own grammar is stricter: `helpers.tiny.captions.parse_caption`)."""
    return bool(text) and text[0].isupper() and "." not in text and 2 <= len(text.split()) <= 40


def mentioned_events(text: str, vocabulary: Mapping[str, str]) -> list[str]:
    """Events that a free text names, in the order of first mention; works on captions, long answers and tags.

    Args:
        text: of any length.
        vocabulary: name of an event -> regular expression over lower-case text, as from `load_vocabulary`.
    """
    lowered = text.lower()
    found = [(match.start(), event) for event, words in vocabulary.items() if (match := re.search(words, lowered))]
    return [event for _, event in sorted(found)]


def true_events(truth: dict, vocabulary: Mapping[str, str]) -> list[str]:
    """Events in a clip, in the order in which they begin.

    The tiny data set brings ``events``, a list of ``{"label": ...}``, of which those in the ``vocabulary`` count.
    Elsewhere the events are those of the vocabulary that the example's ``caption`` names.
    """
    if "events" in truth:
        return [event["label"] for event in truth["events"] if event["label"] in vocabulary]
    return mentioned_events(truth["caption"], vocabulary)


HITS, CLAIMED, PRESENT, IN_ORDER, BOTH_NAMED, IN_STYLE = range(6)
"""Columns of `event_counts`."""


def event_counts(texts: Sequence[str], truths: Sequence[dict], vocabulary: Mapping[str, str]) -> np.ndarray:
    """What `event_scores` adds up, clip by clip: the stuff of which intervals of ratios are made.

    Args:
        texts: one text a clip.
        truths: one example a clip (see `true_events`), with ``relation`` where it is known.
        vocabulary: see `mentioned_events`.

    Returns:
        Integers, shape ``(clips, 6)``: events named rightly, events named, events there, two in a row named in
        order, two in a row both named, written in AudioCaps' style. A ``ValueError`` where there is not one text a
        clip, or no clip.
    """
    one_each(texts, truths)
    counts = np.zeros((len(texts), 6), dtype=int)
    for row, text, truth in zip(counts, texts, truths, strict=True):
        named, labels = mentioned_events(text, vocabulary), true_events(truth, vocabulary)
        row[HITS] = len(set(named) & set(labels))
        row[CLAIMED], row[PRESENT] = len(named), len(labels)
        if truth.get("relation") == SEQUENCE and len(labels) > 1 and set(labels) <= set(named):
            row[BOTH_NAMED] = 1
            row[IN_ORDER] = [label for label in named if label in labels] == labels
        row[IN_STYLE] = reads_like_audiocaps(text)
    return counts


def event_f1(counts: np.ndarray) -> float:
    """F1 over the events of the clips in ``counts`` (from `event_counts`): a statistic for `bootstrap_interval`. NaN,
    that is unknown, where none of the clips holds an event that the vocabulary knows."""
    if not counts[:, PRESENT].any():
        return float("nan")
    return 2 * counts[:, HITS].sum() / (counts[:, CLAIMED].sum() + counts[:, PRESENT].sum())


def order_accuracy(counts: np.ndarray) -> float:
    """Share in the right order among two events in a row that are both named, a statistic as `event_f1` is; NaN where
    no caption names both."""
    both = counts[:, BOTH_NAMED].sum()
    return counts[:, IN_ORDER].sum() / both if both else float("nan")


def event_scores(texts: Sequence[str], truths: Sequence[dict], vocabulary: Mapping[str, str]) -> EventScores:
    """Compare what texts claim with what is in the clips; micro-averaged: each event counts once, whatever its clip.

    Args and errors: see `event_counts`.
    """
    counts = event_counts(texts, truths, vocabulary)
    total = counts.sum(axis=0)
    return EventScores(total[HITS] / max(total[CLAIMED], 1), total[HITS] / max(total[PRESENT], 1), event_f1(counts),
                       order_accuracy(counts), total[IN_STYLE] / len(texts))


def event_confusions(texts: Sequence[str], truths: Sequence[dict],
                     vocabulary: Mapping[str, str]) -> list[tuple[str, str, int]]:
    """What was heard as what: (sound that is there but not named, sound named in its stead, how often), commonest
    first.

    ``"(nothing)"`` stands for a sound that was missed without a wrong one, or named without a missed one. A clip with
    two missed and two wrong sounds counts all four pairs: which was taken for which, nobody knows.
    """
    one_each(texts, truths)
    pairs: Counter = Counter()
    for text, truth in zip(texts, truths, strict=True):
        named, labels = mentioned_events(text, vocabulary), true_events(truth, vocabulary)
        missed = [label for label in labels if label not in named]
        wrong = [label for label in named if label not in labels]
        if missed or wrong:
            pairs.update((there, heard) for there in missed or ["(nothing)"] for heard in wrong or ["(nothing)"])
    return sorted(((*pair, count) for pair, count in pairs.items()), key=lambda row: (-row[2], row))


_IN_A_ROW = re.compile(r"\b(?:followed by|then|before|after|afterwards|later)\b")
_NOTHING = re.compile(r"\b(?:silen\w*|nothing|no sounds?|quiet (?:room|place))\b")
_AT_ONCE = re.compile(r"\b(?:while|as|at the same time|together|during|over|with|and|in the background)\b")


def claims_silence(text: str) -> bool:
    """Whether a text says that there is nothing to hear: "Nothing can be heard", "A quiet room"."""
    return _NOTHING.search(text.lower()) is not None


def claimed_relation(text: str) -> str:
    """What a text says about time: ``"silence"``, ``"sequence"`` (followed by, then ...), ``"overlap"`` (while, as ...)
    or ``"single"``.

    Read off the linking words, sequence first; "A dog barks and then rain falls" is a sequence.
    """
    lowered = text.lower()
    if claims_silence(text):
        return SILENCE
    return SEQUENCE if _IN_A_ROW.search(lowered) else OVERLAP if _AT_ONCE.search(lowered) else SINGLE


def true_relation(truth: dict) -> str:
    """How the sounds of a clip relate: its ``relation`` where the data set says so, else what its caption claims."""
    return truth["relation"] if truth.get("relation") else claimed_relation(truth["caption"])
