"""The words of the tiny world: those that it can spell, and captions written and read back."""

from __future__ import annotations

import numpy as np
import pytest

from helpers.tiny import captions, vocabulary


def test_there_are_a_few_thousand_everyday_words():
    forms = vocabulary.all_forms()
    assert len(forms) >= 2500 and all(word == word.strip() and "_" not in word and "+" not in word for word in forms)
    assert {"mice", "hums", "humming", "cries", "waltz"} - forms == {"waltz"}


@pytest.mark.parametrize("entry, forms", [
    ("hum+", ("hum", "hums", "humming")), ("cry", ("cry", "cries", "crying")), ("idle", ("idle", "idles", "idling")),
    ("hiss", ("hiss", "hisses", "hissing")),
    ("clear_her_throat", ("clear her throat", "clears her throat", "clearing her throat")),
])
def test_verbs_are_inflected(entry, forms):
    assert (vocabulary.base(entry), vocabulary.present(entry), vocabulary.gerund(entry)) == forms


def test_everyday_sentences_are_in_the_manner_of_captions():
    rng = np.random.default_rng(0)
    written = [vocabulary.sentence(rng) for _ in range(300)]
    assert len(set(written)) > 290
    for text in written:
        assert text[0].isupper() and "." not in text and "_" not in text and "  " not in text, text


def _pairs():
    names = list(captions.PHRASES)
    for first in names:
        yield [first], captions.SINGLE
        for second in names:
            if first != second:
                yield [first, second], captions.SEQUENCE
                yield [first, second], captions.OVERLAP


def test_captions_read_back_what_was_written():
    rng = np.random.default_rng(0)
    for labels, relation in _pairs():
        written = captions.write_captions(labels, relation, 5, rng)
        assert len(set(written)) == 5
        for text in written:
            claim = captions.parse_caption(text)
            assert claim is not None and claim.relation == relation, text
            assert sorted(claim.labels) == sorted(labels), text
            if relation == captions.SEQUENCE:
                assert list(claim.labels) == labels, text
            assert sorted(captions.mentioned_labels(text)) == sorted(labels), text


def test_answers_of_the_base_are_no_captions_but_name_the_events():
    for labels, relation in _pairs():
        long = captions.long_answer(labels, relation)
        assert captions.parse_caption(long) is None and captions.parse_caption(captions.tags(labels)) is None
        assert captions.mentioned_labels(long) == labels
        assert sorted(captions.mentioned_labels(captions.tags(labels))) == sorted(labels)


@pytest.mark.parametrize("text", ["", "a dog barks", "A dog barks.", "A dog", "A dog barks and", "A zebra barks"])
def test_what_is_not_a_caption(text):
    assert captions.parse_caption(text) is None
