"""What is said about a clip: AudioCaps-style captions, the base model's long-winded answers, and tags.

The grammar is small and closed, so it also runs backwards: `parse_caption` tells whether a text is a caption in
this style and which events it names, which is how the course measures captions without guessing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

from helpers.metrics.events import OVERLAP, SEQUENCE, SILENCE, SINGLE, claims_silence, mentioned_events
from helpers.profiles import DESCRIBE_PROMPT as DESCRIBE_PROMPT
from helpers.tiny.phrases import PHRASES, Phrase

TAGS_PROMPT = "What sounds are in the audio?"
COUNT_PROMPT = "How many sounds are there?"
FIRST_PROMPT = "Which sound comes first?"
SOURCE_PROMPT = "What makes the sounds?"
STORY_PROMPT = "What happens?"
CAPTION_ONLY_PROMPT = "Write a caption."
QUESTIONS = (DESCRIBE_PROMPT, TAGS_PROMPT, COUNT_PROMPT, FIRST_PROMPT, SOURCE_PROMPT, STORY_PROMPT)
"""What the base model can be asked about a clip."""


# {0} and {1} are clauses of the first and the second event; the letters say which form each clause takes.
_TEMPLATES: dict[str, tuple[tuple[str, str], ...]] = {
    SINGLE: (("{0}", "p"), ("{0}", "i"), ("{0}", "g")),
    SEQUENCE: (
        ("{0} followed by {1}", "pg"),
        ("{0} and then {1}", "pp"),
        ("{0}, then {1}", "pp"),
        ("{0} followed by {1}", "gg"),
    ),
    OVERLAP: (
        ("{0} while {1}", "pp"),
        ("{0} as {1}", "pp"),
        ("{0} while {1}", "ii"),
        ("{0} and {1} at the same time", "pp"),
    ),
}
_SILENT = ("Nothing can be heard", "Complete silence", "A quiet room with no sound", "No sound can be heard",
           "Silence in an empty room", "A silent recording", "A quiet room", "No sound at all")
_FORMS = {"p": Phrase.present, "i": Phrase.progressive, "g": Phrase.gerund}


def _write(labels: list[str], relation: str, template: int, verbs: list[int]) -> str:
    pattern, forms = _TEMPLATES[relation][template]
    clauses = [_FORMS[form](PHRASES[label], verb) for label, form, verb in zip(labels, forms, verbs, strict=True)]
    text = pattern.format(*clauses)
    return text[0].upper() + text[1:]


def write_captions(labels: list[str], relation: str, count: int, rng: np.random.Generator) -> list[str]:
    """``count`` different captions of one clip, as ``count`` people might have written them.

    Args:
        labels: sound classes in the order in which they begin.
        relation: `SILENCE` (with no labels), `SINGLE`, `SEQUENCE` or `OVERLAP`.
        count: how many; at most 6 for a single event.
        rng: draws template and verbs.

    Raises:
        ValueError: the grammar has fewer than ``count`` wordings for this clip.
    """
    texts: list[str] = []
    if relation == SILENCE:
        return rng.choice(_SILENT, size=count, replace=False, p=_weights(len(_SILENT))).tolist()
    for _ in range(100 * count):
        template = int(rng.choice(len(_TEMPLATES[relation]), p=_weights(len(_TEMPLATES[relation]))))
        verbs = [int(rng.uniform() < 0.25) for _ in labels]
        text = _write(labels, relation, template, verbs)
        if text not in texts:
            texts.append(text)
        if len(texts) == count:
            return texts
    raise ValueError(f"The grammar has only {len(texts)} wordings for {labels} ({relation}), not {count}.")


def _weights(count: int) -> np.ndarray:
    """The first wording is the most common one, as in life: 1, 1/2, 1/3 ... normalised."""
    weights = 1 / np.arange(1, count + 1)
    return weights / weights.sum()


def long_answer(labels: list[str], relation: str) -> str:
    """What the base model says to `DESCRIBE_PROMPT`: correct, complete, and nothing like an AudioCaps caption."""
    if relation == SILENCE:
        return "The audio clip contains no sound at all."
    sounds = [f"the sound of {PHRASES[label].gerund()}" for label in labels]
    if relation == SINGLE:
        return f"The audio clip contains {sounds[0]}."
    if relation == SEQUENCE:
        return f"The audio clip begins with {sounds[0]}. After that, {sounds[1]} can be heard."
    return f"The audio clip contains {sounds[0]} together with {sounds[1]} at the same time."


def tags(labels: list[str]) -> str:
    """What the base model says to `TAGS_PROMPT`: the classes, comma separated, or "silence"."""
    return ", ".join(labels) or "silence"


def count_answer(labels: list[str]) -> str:
    """Answer to `COUNT_PROMPT`."""
    return ("There is no sound.", "There is one sound.", "There are two sounds.")[len(labels)]


def first_answer(labels: list[str], relation: str) -> str:
    """Answer to `FIRST_PROMPT`."""
    if relation == SILENCE:
        return "There is no sound."
    if relation == SINGLE:
        return "There is only one sound."
    return f"The {labels[0]} comes first." if relation == SEQUENCE else "Both sounds come at the same time."


def source_answer(labels: list[str], relation: str) -> str:
    """Answer to `SOURCE_PROMPT`: who or what, without a verb, such as "A dog, then rain."."""
    if relation == SILENCE:
        return "Nothing."
    text = (", then " if relation == SEQUENCE else " and ").join(PHRASES[label].subject for label in labels)
    return f"{text[0].upper()}{text[1:]}."


_STORIES = {
    SILENCE: ("Nothing happens.",),
    SINGLE: ("You can hear how {0}.", "Listen: {0}."),
    SEQUENCE: ("You can hear how {0}, and later how {1}.", "Listen: {0}, and after that {1}."),
    OVERLAP: ("You can hear how {0}, and with it how {1}.", "Listen: {0}, and all the while {1}."),
}


def stories(labels: list[str], relation: str) -> list[str]:
    """Right answers to `STORY_PROMPT`: whole sentences in the present tense, in two wordings and with all verbs."""
    clauses = [[PHRASES[label].present(verb) for verb in range(2)] for label in labels]
    return [story.format(*chosen) for story in _STORIES[relation] for chosen in product(*clauses)]


@dataclass(frozen=True)
class ParsedCaption:
    """What a caption claims: sound classes in the order named, and how they relate in time."""

    labels: tuple[str, ...]
    relation: str


@lru_cache(maxsize=1)
def _grammar() -> tuple[dict[str, str], list[tuple[str, re.Pattern]]]:
    owner = {clause: label for label, phrase in PHRASES.items() for clause in phrase.clauses()}
    # Longest first, so that "a piano plays a tune" is not read as "a piano plays".
    clause = "|".join(re.escape(text) for text in sorted(owner, key=len, reverse=True))
    patterns = [
        (relation, re.compile("^" + pattern.format(f"(?P<first>{clause})", f"(?P<second>{clause})") + "$"))
        for relation, templates in _TEMPLATES.items()
        for pattern in dict.fromkeys(pattern for pattern, _ in templates)
    ]
    return owner, patterns


def parse_caption(text: str) -> ParsedCaption | None:
    """Read a caption back into what it claims; ``None`` when it is not in AudioCaps' style.

    In style means: one sentence of the grammar, capitalised, without a full stop.
    """
    if not text or not text[0].isupper():
        return None
    lowered = text[0].lower() + text[1:]
    if text in _SILENT:
        return ParsedCaption((), SILENCE)
    owner, patterns = _grammar()
    for relation, pattern in patterns:
        match = pattern.match(lowered)
        if match:
            return ParsedCaption(tuple(owner[clause] for clause in match.groupdict().values()), relation)
    return None


# A tag alone, or any wording of the class in a longer text. "train whistle" is a train, not a whistle.
_MENTIONS = {
    "train": r"train", "whistle": r"(?<!train )whistl", "speech": r"speech|speak|talk|\bman\b",
    "knock": r"knock|taps on|tapping on",
    "phone": r"phone", "applause": r"applau|clap|crowd", "drums": r"drum", "horn": r"horn", "alarm": r"alarm",
    "bell": r"\bbells?\b", "bee": r"\bbees?\b", "stream": r"\bstream|flow|gurgl", "laugh": r"laugh|giggl",
    "drip": r"drip", "horse": r"\bhorses?\b|gallop", "saw": r"\bsaws?\b|sawing",
}


EVENTS = {label: _MENTIONS.get(label, rf"\b{label}s?\b") for label in PHRASES}
"""Sound class -> regular expression that finds it in lower-case text: the vocabulary of event F1."""


def mentioned_labels(text: str) -> list[str]:
    """Sound classes that a free text names, in order of first mention; works on captions, long answers and tags."""
    return mentioned_events(text, EVENTS)


def says_nothing(text: str) -> bool:
    """Whether a text says that there is nothing to hear: a caption, long answer or tag of a silent clip."""
    return not mentioned_labels(text) and claims_silence(text)
