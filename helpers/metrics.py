"""How good captions are: agreement with what people wrote, which events they name, and how sure the numbers are.

Every score comes per clip too, because that is what a confidence interval is made of: `bootstrap_interval` draws
clips again and again, and `bootstrap_difference` does so for two models at once.

CIDEr-D is written out here because the packages that have it bring much more: pycocoevalcap 100 MB of Java for its
other metrics, aac-metrics an older transformers. A test holds it against pycocoevalcap's scorer. For METEOR, SPICE
and the model-based scores use aac-metrics, in an environment of its own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from helpers.tiny.captions import OVERLAP, SEQUENCE, SINGLE, mentioned_labels


# ------------------------------------------------------------------------------------------------------- events
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
    """Of the clips with two events in a row whose caption names both, the share that has them in the right order;
    NaN where there is no such clip."""
    style: float
    """Share of the texts that read like AudioCaps (see `reads_like_audiocaps`)."""

    def __str__(self) -> str:
        order = "unknown" if math.isnan(self.order) else f"{self.order:.2f}"
        return (f"event F1 {self.f1:.2f} (precision {self.precision:.2f}, recall {self.recall:.2f}), "
                f"order {order}, AudioCaps style {self.style:.0%}")


def reads_like_audiocaps(text: str) -> bool:
    """One short sentence that begins with a capital and has no full stop, as nearly all of AudioCaps' captions do.

    The tiny data set's own grammar is stricter: see `helpers.tiny.captions.parse_caption`.
    """
    return bool(text) and text[0].isupper() and "." not in text and 2 <= len(text.split()) <= 40


def _one_each(texts: Sequence[str], others: Sequence, what: str = "clips") -> None:
    if isinstance(texts, str):
        raise ValueError("The captions are one string: give a list with one caption a clip.")
    if len(texts) != len(others) or not len(texts):
        raise ValueError(f"There are {len(texts)} texts for {len(others)} {what}: give one text a clip, and at least one.")


def true_labels(truth: dict) -> list[str]:
    """Sound classes in a clip, in the order in which they begin.

    Args:
        truth: an example. The tiny data set brings ``events``, a list of ``{"label": ...}``. Without them, the events
            are those that its ``caption`` names, as far as they are classes of the tiny data set.
    """
    return [event["label"] for event in truth["events"]] if "events" in truth else mentioned_labels(truth["caption"])


HITS, CLAIMED, PRESENT, IN_ORDER, BOTH_NAMED, IN_STYLE = range(6)
"""Columns of `event_counts`."""


def event_counts(texts: Sequence[str], truths: Sequence[dict]) -> np.ndarray:
    """What `event_scores` adds up, clip by clip: the stuff of which intervals of ratios are made.

    Args:
        texts: one text a clip.
        truths: one example a clip (see `true_labels`), with ``relation`` where it is known.

    Returns:
        Integers, shape ``(clips, 6)``: events named rightly, events named, events there, two in a row named in
        order, two in a row both named, written in AudioCaps' style.

    Raises:
        ValueError: not one text a clip, or no clips at all.
    """
    _one_each(texts, truths)
    counts = np.zeros((len(texts), 6), dtype=int)
    for row, text, truth in zip(counts, texts, truths):
        named, labels = mentioned_labels(text), true_labels(truth)
        row[HITS] = len(set(named) & set(labels))
        row[CLAIMED], row[PRESENT] = len(named), len(labels)
        if truth.get("relation") == SEQUENCE and set(labels) <= set(named):
            row[BOTH_NAMED] = 1
            row[IN_ORDER] = [label for label in named if label in labels] == labels
        row[IN_STYLE] = reads_like_audiocaps(text)
    return counts


def event_f1(counts: np.ndarray) -> float:
    """F1 over the events of the clips in ``counts`` (from `event_counts`): a statistic for `bootstrap_interval`."""
    return 2 * counts[:, HITS].sum() / max(counts[:, CLAIMED].sum() + counts[:, PRESENT].sum(), 1)


def order_accuracy(counts: np.ndarray) -> float:
    """Share in the right order among two events in a row that are both named: a statistic, as `event_f1` is.

    NaN where no caption names both events of such a clip.
    """
    both = counts[:, BOTH_NAMED].sum()
    return counts[:, IN_ORDER].sum() / both if both else float("nan")


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
    counts = event_counts(texts, truths)
    total = counts.sum(axis=0)
    return EventScores(total[HITS] / max(total[CLAIMED], 1), total[HITS] / max(total[PRESENT], 1), event_f1(counts),
                       order_accuracy(counts), total[IN_STYLE] / len(texts))


def event_confusions(texts: Sequence[str], truths: Sequence[dict]) -> list[tuple[str, str, int]]:
    """What was heard as what: (sound that is there but not named, sound named in its stead, how often), commonest first.

    ``"(nothing)"`` stands for a sound that was missed without a wrong one, or named without a missed one. A clip with
    two missed and two wrong sounds counts all four pairs: which was taken for which, nobody knows.

    Raises:
        ValueError: not one text a clip, or no clips at all.
    """
    _one_each(texts, truths)
    pairs: Counter = Counter()
    for text, truth in zip(texts, truths):
        named, labels = mentioned_labels(text), true_labels(truth)
        missed = [label for label in labels if label not in named]
        wrong = [label for label in named if label not in labels]
        if missed or wrong:
            pairs.update((there, heard) for there in missed or ["(nothing)"] for heard in wrong or ["(nothing)"])
    return [(there, heard, count) for (there, heard), count in sorted(pairs.items(), key=lambda item: (-item[1], item[0]))]


_IN_A_ROW = re.compile(r"\b(?:followed by|then|before|after|afterwards|later)\b")
_AT_ONCE = re.compile(r"\b(?:while|as|at the same time|together|during|over|with|and|in the background)\b")


def claimed_relation(text: str) -> str:
    """What a text says about time: ``"sequence"`` (followed by, then ...), ``"overlap"`` (while, as ...) or ``"single"``.

    Read off the linking words, sequence first; "A dog barks and then rain falls" is a sequence.
    """
    lowered = text.lower()
    return SEQUENCE if _IN_A_ROW.search(lowered) else OVERLAP if _AT_ONCE.search(lowered) else SINGLE


def true_relation(truth: dict) -> str:
    """How the sounds of a clip relate: its ``relation`` where the data set says so, else what its caption claims."""
    return truth["relation"] if truth.get("relation") else claimed_relation(truth["caption"])


# ------------------------------------------------------------------------------------------------------- wording
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
    """Words of the shortest caption."""
    longest: int
    """Words of the longest caption."""
    vocabulary: int
    """Different words over all captions."""
    distinct: float
    """Different captions, as a share of all: near 0 for a model that says the same of every clip."""


def caption_statistics(captions: Sequence[str]) -> CaptionStatistics:
    """Length and variety of captions; words as `tokenize` finds them.

    Raises:
        ValueError: there are no captions.
    """
    _one_each(captions, captions)
    words = [tokenize(text) for text in captions]
    lengths = [len(tokens) for tokens in words]
    return CaptionStatistics(sum(lengths) / len(lengths), min(lengths), max(lengths),
                             len({token for tokens in words for token in tokens}), len(set(captions)) / len(captions))


# -------------------------------------------------------------------------------------------------------- CIDEr-D
def _ngrams(tokens: Sequence[str], n: int) -> list[Counter]:
    """Counts of the n-grams of each length from 1 to ``n``."""
    return [Counter(zip(*(tokens[start:] for start in range(length)))) for length in range(1, n + 1)]


def cider_d(
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    n: int = 4,
    sigma: float = 6.0,
    tokenizer: Callable[[str], list[str]] = tokenize,
) -> np.ndarray:
    """CIDEr-D of each caption: do its n-grams agree with people's, weighted by how telling each n-gram is?

    Vedantam, Zitnick and Parikh, "CIDEr: Consensus-based Image Description Evaluation", CVPR 2015, sections 3 and 5
    (CIDEr-D, the variant that all captioning benchmarks report). For each length of n-gram, caption and reference
    become vectors of counts times inverse document frequency, ``log(clips) - log(clips whose references have it)``;
    their clipped cosine is multiplied by ``exp(-(difference in length)**2 / (2 sigma**2))``, averaged over the
    references and over the lengths 1 to ``n``, and multiplied by 10.

    The document frequencies come from ``references`` themselves, so a score belongs to a set of clips: the same
    caption scores differently in another set, and over a single clip every score is 0.

    Args:
        captions: one a clip.
        references: what people wrote, one or more texts a clip.
        n: longest n-gram.
        sigma: tolerance for a difference in length, in words.
        tokenizer: text to words. `tokenize` needs no Java; see there.

    Returns:
        Scores from 0 to 10, shape ``(clips,)``, float64. Their mean is the score that papers print.

    Raises:
        ValueError: not one caption a clip, no clips, or a clip without references.
    """
    _one_each(captions, references, "lists of references")
    for number, texts in enumerate(references):
        if isinstance(texts, str) or not len(texts):
            raise ValueError(f"The references of clip {number} are {'one string' if len(texts) else 'empty'}: give a list "
                             "of one or more texts a clip.")
    cooked = [[_ngrams(tokenizer(text), n) for text in texts] for texts in references]
    frequency = Counter(gram for texts in cooked for gram in set().union(*(grams for text in texts for grams in text)))
    clips = np.log(len(captions))
    idf = {gram: clips - np.log(count) for gram, count in frequency.items()}

    def weigh(counts: list[Counter]) -> tuple[list[dict], list[float], int]:
        """Weighted vectors, their norms, and the length, which the reference code takes as the number of pairs."""
        vectors = [{gram: count * idf.get(gram, clips) for gram, count in grams.items()} for grams in counts]
        pairs = sum(counts[1].values()) if len(counts) > 1 else 0
        return vectors, [np.sqrt(sum(value * value for value in vector.values())) for vector in vectors], pairs

    scores = np.zeros(len(captions))
    for clip, (text, texts) in enumerate(zip(captions, cooked)):
        ours, our_norms, our_length = weigh(_ngrams(tokenizer(text), n))
        for theirs, their_norms, their_length in map(weigh, texts):
            penalty = np.exp(-((our_length - their_length) ** 2) / (2 * sigma**2))
            for mine, my_norm, other, other_norm in zip(ours, our_norms, theirs, their_norms):
                # Clipping: saying a word five times cannot earn more than the reference has of it.
                product = sum(min(value, other[gram]) * other[gram] for gram, value in mine.items() if gram in other)
                if my_norm and other_norm:
                    scores[clip] += penalty * product / (my_norm * other_norm)
        scores[clip] *= 10 / (n * len(texts))
    return scores


# ------------------------------------------------------------------------------------------------------ intervals
@dataclass(frozen=True)
class Interval:
    """A number and where it may lie, had other clips of the same kind been drawn."""

    value: float
    low: float
    high: float
    confidence: float = 0.95

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "unknown"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @property
    def excludes_zero(self) -> bool:
        """For a difference: whether chance in the choice of clips is an unlikely explanation."""
        return self.low > 0 or self.high < 0


def _resample(draw: Callable[[np.ndarray], float], clips: int, value: float, confidence: float, resamples: int,
              seed: int) -> Interval:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, but it has to lie between 0 and 1, such as 0.95.")
    rng = np.random.default_rng(seed)
    # NaN: a resample without any clip that the statistic can be computed on says nothing and is left out.
    drawn = [draw(rng.integers(clips, size=clips)) for _ in range(resamples)]
    if np.isnan(drawn).all():
        return Interval(float(value), float("nan"), float("nan"), confidence)
    low, high = np.nanquantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(value), float(low), float(high), confidence)


def bootstrap_interval(
    per_clip: Sequence | np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A confidence interval by drawing clips with replacement (the percentile bootstrap; Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 13).

    Args:
        per_clip: one row a clip, shape ``(clips,)`` or ``(clips, columns)``: from `cider_d` or `event_counts`.
        statistic: rows -> the number of interest: the mean, `event_f1`, `order_accuracy`.
        confidence: how often such an interval holds the true value.
        resamples: how many times clips are drawn.
        seed: the same interval every time.

    Raises:
        ValueError: fewer than two clips, or a confidence outside 0 to 1.
    """
    rows = np.asarray(per_clip)
    if len(rows) < 2:
        raise ValueError(f"There are scores of {len(rows)} clips: an interval takes at least two, and says little below 30.")
    return _resample(lambda chosen: statistic(rows[chosen]), len(rows), statistic(rows), confidence, resamples, seed)


def bootstrap_difference(
    ours: Sequence | np.ndarray,
    theirs: Sequence | np.ndarray,
    statistic: Callable[[np.ndarray], float] = np.mean,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """A confidence interval of ``statistic(ours) - statistic(theirs)`` over the same clips.

    Each draw takes the same clips for both: a clip that is hard for one model is mostly hard for the other, so the
    difference is far surer than the two numbers are.

    Args:
        ours, theirs: as ``per_clip`` of `bootstrap_interval`, the same clips in the same order.
        statistic, confidence, resamples, seed: as in `bootstrap_interval`.

    Raises:
        ValueError: not the same number of clips, or fewer than two.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if len(ours) != len(theirs) or len(ours) < 2:
        raise ValueError(f"There are scores of {len(ours)} and of {len(theirs)} clips: compare two models on the same clips, "
                         "at least two.")
    return _resample(lambda chosen: statistic(ours[chosen]) - statistic(theirs[chosen]), len(ours),
                     statistic(ours) - statistic(theirs), confidence, resamples, seed)


def bootstrap_by_group(
    per_clip: Sequence | np.ndarray,
    groups: Sequence[str],
    statistic: Callable[[np.ndarray], float] = np.mean,
    **options,
) -> dict[str, Interval]:
    """`bootstrap_interval` within each group of clips, the groups in sorted order.

    Args:
        per_clip: as in `bootstrap_interval`.
        groups: one name a clip, such as ``"quiet"``; a group of a single clip has no interval and is left out.
        statistic, **options: as in `bootstrap_interval`.

    Raises:
        ValueError: not one group a clip.
    """
    rows, names = np.asarray(per_clip), np.asarray(groups)
    if len(rows) != len(names):
        raise ValueError(f"There are {len(names)} groups for {len(rows)} clips: give one group a clip.")
    return {str(name): bootstrap_interval(rows[names == name], statistic, **options)
            for name in sorted(set(groups)) if (names == name).sum() > 1}
