"""Which words name which event: what event F1 counts, for each source of captioned clips.

A vocabulary is a dictionary from the name of an event to a regular expression that finds it in lower-case text.
"""

from pathlib import Path

from helpers.profiles import TINY

AUDIOSET = Path(__file__).with_name("audioset.txt")
"""Sound classes of AudioSet (Gemmeke et al. 2017, "Audio Set: An ontology and human-labeled dataset for audio events"),
those that captions of AudioCaps speak of, by their display names shortened to one word or two. The expressions, which
words name each, are this course's own reading of such captions."""


def load_vocabulary(source: str) -> dict[str, str]:
    """The events of a source of clips, as `load_captions` takes it: the tiny world's own, AudioSet's for any other.

    For clips of your own give the metrics a dictionary of your own, such as ``{"kettle": r"kettle|whistl"}``.
    """
    if source == TINY:
        from helpers.tiny.captions import EVENTS

        return EVENTS
    return dict(line.split(": ", 1) for line in AUDIOSET.read_text(encoding="utf-8").splitlines())


def split_vocabulary(source: str) -> tuple[dict[str, str], dict[str, str]]:
    """`load_vocabulary` in two parts: events that the profile's base model was taught to name, and those it was not.

    Of the tiny world that is known. Of a model from the Hub nobody knows it, so the second part is empty.
    """
    events = load_vocabulary(source)
    if source != TINY:
        return events, {}
    from helpers.tiny import NEW_SOUNDS

    return ({name: words for name, words in events.items() if name not in NEW_SOUNDS},
            {name: words for name, words in events.items() if name in NEW_SOUNDS})
