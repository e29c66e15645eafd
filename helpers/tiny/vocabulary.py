"""Everyday words, and sentences made of them: what the tiny language model reads, tied to no sound at all.

A real language model has read about nearly everything before it hears its first clip. So that a learner's own captions
can be spelled in whole words, this one reads sentences from a small grammar over the words of ``words.txt``. They are
grammatical and mostly senseless ("A tired plumber whispers in a barn while two kettles rattle"), which is enough to
learn what kind of word comes next.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

_FILE = Path(__file__).parent / "words.txt"
_ROLES = {"animal": "call", "person": "speaks", "object": "thing_does", "machine": "machine_does",
          "instrument": "plays", "nature": "nature_does"}
_VOWELS = tuple("aeiou")


@lru_cache(maxsize=1)
def words() -> dict[str, list[str]]:
    """The entries of ``words.txt`` by category, as they are written there."""
    found: dict[str, list[str]] = {}
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            category, _, entries = line.partition(":")
            found.setdefault(category, []).extend(entries.split())
    return found


def plural(entry: str) -> str:
    """Plural of a noun's entry: "dog" to "dogs", "mouse/mice" to "mice"."""
    one, _, many = entry.partition("/")
    if one.endswith("y") and one[-2] not in _VOWELS:
        many = many or one[:-1] + "ies"
    return (many or (one if one.endswith("s") else one + "s")).replace("_", " ")


def singular(entry: str) -> str:
    """The noun itself."""
    return entry.partition("/")[0].replace("_", " ")


def present(entry: str) -> str:
    """Third person of a verb's entry: "hum+" to "hums", "cry" to "cries"."""
    verb, _, rest = entry.removesuffix("+").partition("_")
    if verb.endswith(("s", "sh", "ch", "x", "z", "o")):
        verb += "es"
    elif verb.endswith("y") and verb[-2] not in _VOWELS:
        verb = verb[:-1] + "ies"
    else:
        verb += "s"
    return f"{verb} {rest.replace('_', ' ')}".strip()


def gerund(entry: str) -> str:
    """The form in -ing: "hum+" to "humming", "idle" to "idling"."""
    verb, _, rest = entry.removesuffix("+").partition("_")
    if entry.endswith("+"):
        verb += verb[-1]
    elif verb.endswith("e") and not verb.endswith(("ee", "ye", "oe")):
        verb = verb[:-1]
    return f"{verb}ing {rest.replace('_', ' ')}".strip()


def base(entry: str) -> str:
    """The verb as plural subjects take it."""
    return entry.removesuffix("+").replace("_", " ")


def article(noun: str) -> str:
    """ "a" or "an" before ``noun``."""
    return f"{'an' if noun.startswith(_VOWELS) else 'a'} {noun}"


def clause(rng: np.random.Generator, form: str) -> str:
    """One thing that somebody or something does.

    Args:
        rng: draws every word.
        form: ``"p"`` present ("a hen clucks"), ``"i"`` progressive ("a hen is clucking"), ``"g"`` gerund
            ("a hen clucking").
    """
    lists = words()

    def pick(category: str) -> str:
        entries = lists[category]
        return entries[rng.integers(len(entries))]

    kind = str(rng.choice(list(_ROLES), p=[0.2, 0.24, 0.22, 0.16, 0.06, 0.12]))
    noun, draw = pick(kind), rng.uniform()
    many = kind != "nature" and draw < 0.25
    described = f"{pick('adjective')} " if rng.uniform() < 0.35 else ""
    if kind == "nature":
        subject, many = described + singular(noun), noun.endswith("s")
    elif many:
        subject = (f"{pick('number').replace('_', ' ')} " if draw < 0.15 else "") + described + plural(noun)
    else:
        subject = article(described + singular(noun)) if draw < 0.93 else f"the {described}{singular(noun)}"
    verb, rest = pick(_ROLES[kind]), ""
    if kind == "person" and rng.uniform() < 0.45:
        verb, thing = pick("transitive"), rng.uniform()
        if thing < 0.25:
            rest = " " + pick("material")
        else:
            item = pick(str(rng.choice(["object", "instrument", "machine"], p=[0.7, 0.15, 0.15])))
            rest = f" {article(singular(item)) if thing < 0.8 else plural(item)}"
    form_of = {"p": base if many else present, "i": gerund, "g": gerund}[form]
    link = {"p": " ", "i": " are " if many else " is ", "g": " "}[form]
    end, where = "", rng.uniform()
    if where < 0.18:
        end = f" {pick('adverb').replace('_', ' ')}"
    elif where < 0.3:
        end = f" {rng.choice(['in', 'near', 'through', 'across', 'behind', 'outside', 'inside'])} "
        end += f"{rng.choice(['a', 'the'])} {singular(pick('place'))}"
    elif where < 0.37:
        end = f" {rng.choice(['on', 'against', 'onto', 'over', 'under', 'along'])} {pick('surface').replace('_', ' ')}"
    return f"{subject}{link}{form_of(verb)}{rest}{end}".replace("a the", "the")


_SENTENCES = (
    ("{0}", "p", 6), ("{0}", "i", 3), ("{0}", "g", 3), ("{0} followed by {1}", "pg", 4), ("{0} and then {1}", "pp", 4),
    ("{0}, then {1}", "pp", 2), ("{0} while {1}", "pp", 4), ("{0} as {1}", "pp", 4), ("{0} while {1}", "ii", 2),
    ("{0} and {1} at the same time", "pp", 2), ("{0} with {1} in the background", "pg", 2), ("{0} before {1}", "pp", 1),
    ("{0} and {1}", "pp", 1), ("{0}, {1}, and {2}", "ggg", 1), ("{0} after {1}", "pp", 1),
)


def sentence(rng: np.random.Generator) -> str:
    """A caption-like sentence of everyday words: capitalised, without a full stop."""
    weights = np.array([weight for *_, weight in _SENTENCES], dtype=float)
    pattern, forms, _ = _SENTENCES[rng.choice(len(_SENTENCES), p=weights / weights.sum())]
    text = pattern.format(*(clause(rng, form) for form in forms))
    return text[0].upper() + text[1:]


def all_forms() -> set[str]:
    """Every single word that `sentence` can use, in all its forms."""
    lists = words()
    nouns = [entry for category in _ROLES for entry in lists[category]]
    verbs = [entry for category in (*_ROLES.values(), "transitive") for entry in lists[category]]
    texts = [form(entry) for entry in nouns for form in (singular, plural)]
    texts += [form(entry) for entry in verbs for form in (base, present, gerund)]
    texts += [singular(entry) for category in ("place", "surface", "material", "adjective", "adverb", "number")
              for entry in lists[category]]
    return {word for text in texts for word in text.split()}
