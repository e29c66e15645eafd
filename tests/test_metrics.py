"""Metrics against a reference implementation, against numbers worked out by hand, and against the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pycocoevalcap.cider.cider import Cider

from helpers import (
    bootstrap_by_group,
    bootstrap_difference,
    bootstrap_interval,
    caption_statistics,
    cider_d,
    claimed_relation,
    event_confusions,
    event_counts,
    event_f1,
    event_scores,
    order_accuracy,
    true_relation,
)
from helpers.metrics.intervals import Interval
from helpers.metrics.wording import tokenize
from helpers.tiny.captions import EVENTS, OVERLAP, PHRASES, SEQUENCE, SINGLE, write_captions


# -------------------------------------------------------------------------------------------------------- CIDEr-D
def _reference(captions, references):
    """The COCO evaluation code's scorer; it takes texts that are tokenized already, words between spaces."""
    words = [" ".join(tokenize(text)) for text in captions]
    truths = {number: [" ".join(tokenize(text)) for text in texts] for number, texts in enumerate(references)}
    return Cider().compute_score(truths, {number: [text] for number, text in enumerate(words)})


def _random_corpus(seed, clips=400):
    """Captions of 1 to 14 words from few enough words that n-grams of all lengths meet, and 1 to 5 references."""
    rng = np.random.default_rng(seed)
    words = ["a", "dog", "barks", "rain", "falls", "the", "cat", "while", "and", "then", "loudly", "man", "speaks",
             "bird", "isn't", "two-stroke"]

    def write():
        return " ".join(rng.choice(words, rng.integers(1, 15)))

    captions = [write() for _ in range(clips)]
    references = [[write() for _ in range(rng.integers(1, 6))] for _ in range(clips)]
    for number in range(0, clips, 4):
        references[number][0] = captions[number]  # some that people wrote word for word
    return captions, references


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cider_d_agrees_with_the_reference_implementation(seed):
    captions, references = _random_corpus(seed)
    mean, per_clip = _reference(captions, references)
    ours = cider_d(captions, references)
    np.testing.assert_allclose(ours, per_clip, rtol=0, atol=1e-6)
    assert ours.mean() == pytest.approx(mean, abs=1e-6) and ours.std() > 0.5


def test_cider_d_agrees_on_the_tiny_captions_too():
    rng = np.random.default_rng(0)
    clips = [(list(rng.choice(list(PHRASES), size, replace=False)), relation)
             for size, relation in [(1, SINGLE), (2, SEQUENCE), (2, OVERLAP)] * 60]
    written = [write_captions(labels, relation, 6, rng) for labels, relation in clips]
    captions, references = [texts[0] for texts in written], [texts[1:] for texts in written]
    np.testing.assert_allclose(cider_d(captions, references), _reference(captions, references)[1], rtol=0, atol=1e-6)


def test_cider_d_at_its_ends():
    texts = [["A dog barks in the yard"], ["Rain falls on a tin roof"]]
    assert cider_d([own for own, in texts], texts) == pytest.approx([10, 10])  # people's own words
    assert cider_d([texts[1][0], texts[0][0]], texts).max() < 1  # somebody else's
    assert list(cider_d(["", "A siren wails"], texts)) == [0, 0]
    assert list(cider_d(["A dog barks"], [["A dog barks"]])) == [0], "one clip has no document frequencies"


def test_cider_d_by_hand():
    """Two clips, words alone (n = 1), one reference each: 'a' is in both (weight log 2 - log 2 = 0), the rest in
    one."""
    score = cider_d(["a dog dog", "a cat"], [["a dog"], ["a bird"]], n=1)
    assert score == pytest.approx([5, 0])  # clipped: min(2, 1) * 1 / (2 * 1), times 10


def test_a_difference_in_length_costs_as_the_formula_says():
    references = [["rain falls on the old tin roof"], ["a dog barks"]]
    short, long = (cider_d([text, "a cat"], references, n=2, sigma=sigma)[0] for text, sigma in
                   (("rain falls", 6.0), ("rain falls", 1e9)))
    assert short / long == pytest.approx(math.exp(-(5**2) / (2 * 6.0**2)))


@pytest.mark.parametrize(
    "captions, references, message",
    [
        (["A dog barks"], [], "1 texts for 0"),
        ([], [], "at least one"),
        ("A dog barks", ["A dog barks"], "one string"),
        (["A dog barks"], ["A dog barks"], "references of clip 0 are one string"),
        (["A dog barks"], [[]], "clip 0 are empty"),
    ],
)
def test_cider_d_says_what_is_wrong(captions, references, message):
    with pytest.raises(ValueError, match=message):
        cider_d(captions, references)


# What the Stanford tokenizer that ships with pycocoevalcap 1.2 (Java) makes of these, its own punctuation rule applied.
_STANFORD = {
    "A man's dog isn't barking, then it's quiet.": "a man 's dog is n't barking then it 's quiet",
    "Mid-size motor vehicle and/or truck": "mid-size motor vehicle and/or truck",
    "They're running; we'll see, I'd go": "they 're running we 'll see i 'd go",
    'He says "hello" at 3.5 kHz and 10:30': "he says hello at 3.5 khz and 10:30",
    "A beep...then buzz": "a beep then buzz",
    "Dogs' barks": "dogs barks",
    "cannot hear": "can not hear",
    "woman's, men’s café": "woman 's men 's café",
    "A 5,000 Hz tone": "a 5,000 hz tone",
    "50's music -- o'clock": "50 's music o'clock",
}


@pytest.mark.parametrize("text", _STANFORD)
def test_tokens_are_those_of_the_coco_evaluation_code(text):
    assert " ".join(tokenize(text)) == _STANFORD[text]


def test_caption_statistics():
    found = caption_statistics(["A dog barks", "A dog barks", "Rain falls, then a man speaks."])
    assert (found.words, found.shortest, found.longest, found.vocabulary) == (4, 3, 6, 8)
    assert found.distinct == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="at least one"):
        caption_statistics([])


# --------------------------------------------------------------------------------------------------------- events
def _truth(*labels, relation="sequence"):
    return {"events": [{"label": label} for label in labels], "relation": relation if len(labels) > 1 else "single"}


TEXTS = ["A dog barks followed by rain falling", "Rain falls followed by a dog barking", "A cat meows", "It is silent."]
TRUTHS = [_truth("dog", "rain"), _truth("dog", "rain"), _truth("cat", "bell", relation="overlap"), _truth("siren")]


def test_counts_add_up_to_the_scores():
    counts, scores = event_counts(TEXTS, TRUTHS, EVENTS), event_scores(TEXTS, TRUTHS, EVENTS)
    assert event_f1(counts) == scores.f1 == pytest.approx(10 / 12)
    assert order_accuracy(counts) == scores.order == 0.5
    assert math.isnan(order_accuracy(counts[2:])), "no two in a row among them"


def test_confusions():
    texts = ["A cat meows", "A cat meows", "A cat meows and rain falls", "Nothing"]
    truths = [_truth("dog"), _truth("dog"), _truth("cat"), _truth("bell", "siren")]
    assert event_confusions(texts, truths, EVENTS) == [
        ("dog", "cat", 2), ("(nothing)", "rain", 1), ("bell", "(nothing)", 1), ("siren", "(nothing)", 1)]


@pytest.mark.parametrize("relation", [SINGLE, SEQUENCE, OVERLAP])
def test_the_relation_is_read_off_every_caption_of_the_grammar(relation):
    rng = np.random.default_rng(0)
    for label in PHRASES:
        labels = [label] if relation == SINGLE else [label, "dog" if label != "dog" else "cat"]
        for text in write_captions(labels, relation, 5, rng):
            assert claimed_relation(text) == relation, text
            assert true_relation({"caption": text}) == relation == true_relation({"caption": "?", "relation": relation})


@pytest.mark.slow
# ------------------------------------------------------------------------------------------------------ intervals
def test_intervals_cover():
    """Of 95 % intervals, about 95 % hold the truth: skewed scores, as captions have, 100 clips at a time."""
    rng, trials = np.random.default_rng(0), 300
    mean = ratio = paired = 0
    for trial in range(trials):
        scores = rng.gamma(1.5, 2.0, size=100)  # true mean 3
        mean += _holds(bootstrap_interval(scores, resamples=400, seed=trial), 3.0)
        there = rng.integers(1, 3, size=100)  # one or two events, each named with 80 %, and nothing wrong is named
        named = rng.binomial(there, 0.8)
        counts = np.stack([named, named, there, 0 * there, 0 * there, 0 * there], axis=1)
        ratio += _holds(bootstrap_interval(counts, event_f1, resamples=400, seed=trial), 2 * 0.8 / 1.8)
        better = scores + rng.normal(0.2, 0.5, size=100)
        paired += _holds(bootstrap_difference(better, scores, resamples=400, seed=trial), 0.2)
    for held in (mean, ratio, paired):
        # 4 standard errors of a share of 0.95 over 300 trials, and the bootstrap's own slight optimism
        assert 0.90 - 0.01 <= held / trials <= 1.0 and held / trials < 0.995


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


@pytest.mark.slow
def test_narrower_confidence_covers_less():
    rng, trials = np.random.default_rng(1), 300
    held = sum(_holds(bootstrap_interval(rng.normal(size=100), confidence=0.5, resamples=400, seed=trial), 0.0)
               for trial in range(trials))
    assert 0.38 < held / trials < 0.62


def test_pairing_makes_a_difference_sure():
    rng = np.random.default_rng(0)
    theirs = rng.gamma(1.5, 2.0, size=200)
    ours = theirs + rng.normal(0.2, 0.3, size=200)
    paired, shuffled = bootstrap_difference(ours, theirs), bootstrap_difference(rng.permutation(ours), theirs)
    assert paired.excludes_zero and not shuffled.excludes_zero
    assert paired.value == pytest.approx(shuffled.value) and shuffled.high - shuffled.low > 3 * (
        paired.high - paired.low
    )
    assert not bootstrap_difference(theirs, theirs).excludes_zero


def test_intervals_are_repeatable_and_say_what_they_need():
    scores = np.random.default_rng(0).normal(size=50)
    assert bootstrap_interval(scores) == bootstrap_interval(list(scores)) != bootstrap_interval(scores, seed=1)
    with pytest.raises(ValueError, match="1 clips: an interval takes at least two"):
        bootstrap_interval([1.0])
    with pytest.raises(ValueError, match="50 and of 49 clips"):
        bootstrap_difference(scores, scores[1:])
    with pytest.raises(ValueError, match="confidence is 95"):
        bootstrap_interval(scores, confidence=95)


def test_groups_have_their_own_intervals():
    found = bootstrap_by_group([1, 1, 1, 5, 5, 9], ["b", "b", "b", "a", "a", "alone"])
    assert list(found) == ["a", "b"] and found["b"] == Interval(1, 1, 1) and found["a"].value == 5
    with pytest.raises(ValueError, match="1 groups for 2 clips"):
        bootstrap_by_group([1, 2], ["a"])
    nothing = bootstrap_by_group(event_counts(TEXTS[2:], TRUTHS[2:], EVENTS), ["x", "x"], order_accuracy)
    assert math.isnan(nothing["x"].value) and math.isnan(nothing["x"].low) and str(nothing["x"]) == "unknown"
