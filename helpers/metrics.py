"""How good a caption is: which events it names, and in what order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from helpers.tiny.captions import SEQUENCE, mentioned_labels


@dataclass(frozen=True)
class EventScores:
    """Scores over a set of clips; every one is between 0 and 1."""

    precision: float
    """Of the events that captions name, the share that is really there."""
    recall: float
    """Of the events that are really there, the share that captions name."""
    f1: float
    """Harmonic mean of both."""
    order: float
    """Of the clips with two events in a row whose caption names both, the share that has them in the right order."""
    style: float
    """Share of the texts that read like AudioCaps (see `reads_like_audiocaps`)."""

    def __str__(self) -> str:
        return (f"event F1 {self.f1:.2f} (precision {self.precision:.2f}, recall {self.recall:.2f}), "
                f"order {self.order:.2f}, AudioCaps style {self.style:.0%}")


def reads_like_audiocaps(text: str) -> bool:
    """One short sentence that begins with a capital and has no full stop, as nearly all of AudioCaps' captions do.

    The tiny data set's own grammar is stricter: see `helpers.tiny.captions.parse_caption`.
    """
    return bool(text) and text[0].isupper() and "." not in text and 2 <= len(text.split()) <= 40


def event_scores(texts: Sequence[str], truths: Sequence[dict]) -> EventScores:
    """Compare what texts claim with what is in the clips.

    Args:
        texts: one text a clip: a caption, a long answer or tags.
        truths: one example a clip. The tiny data set brings the truth: ``events``, a list of ``{"label": ...}`` in the
            order in which they begin, and ``relation``. An example without them counts the events that its own
            ``caption`` names, as far as they are classes of the tiny data set.

    Returns:
        Micro-averaged scores: each event counts once, whatever its clip.

    Raises:
        ValueError: not one text a clip, or no clips at all.
    """
    if len(texts) != len(truths) or not texts:
        raise ValueError(f"There are {len(texts)} texts for {len(truths)} clips: give one text a clip, and at least one.")
    hits = claimed = present = in_order = both_named = in_style = 0
    for text, truth in zip(texts, truths):
        named = mentioned_labels(text)
        labels = [event["label"] for event in truth["events"]] if "events" in truth else mentioned_labels(truth["caption"])
        hits += len(set(named) & set(labels))
        claimed += len(named)
        present += len(labels)
        in_style += reads_like_audiocaps(text)
        if truth.get("relation") == SEQUENCE and set(labels) <= set(named):
            both_named += 1
            in_order += [label for label in named if label in labels] == labels
    precision, recall = hits / max(claimed, 1), hits / max(present, 1)
    return EventScores(precision, recall, 2 * hits / max(claimed + present, 1), in_order / max(both_named, 1),
                       in_style / len(texts))
