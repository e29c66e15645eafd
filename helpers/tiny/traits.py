"""What can be said about a sound without its name: its kind, its pitch and its rhythm.

The base model learns to answer such questions about *all* sounds, the new ones too. So it hears them and sorts them,
like somebody who has never been told what a frog is called.
"""

from __future__ import annotations

KIND_PROMPT = "What kinds of sounds are there?"
PITCH_PROMPT = "Are the sounds high or low?"
RHYTHM_PROMPT = "Are the sounds steady?"

TRAITS: dict[str, tuple[str, str, str]] = {
    "dog": ("animal", "middle", "short"),
    "cat": ("animal", "middle", "long"),
    "bird": ("animal", "high", "short"),
    "cow": ("animal", "low", "long"),
    "cricket": ("animal", "high", "trembling"),
    "bee": ("animal", "low", "steady"),
    "rain": ("weather", "high", "steady"),
    "wind": ("weather", "low", "swelling"),
    "thunder": ("weather", "low", "fading"),
    "stream": ("water", "middle", "steady"),
    "engine": ("machine", "low", "steady"),
    "horn": ("signal", "middle", "short"),
    "train": ("signal", "middle", "long"),
    "helicopter": ("machine", "low", "beating"),
    "clock": ("thing", "high", "even"),
    "knock": ("person", "low", "short"),
    "phone": ("signal", "high", "trembling"),
    "siren": ("signal", "middle", "swelling"),
    "alarm": ("signal", "high", "even"),
    "bell": ("signal", "middle", "fading"),
    "piano": ("music", "middle", "fading"),
    "guitar": ("music", "low", "fading"),
    "drums": ("music", "low", "even"),
    "speech": ("person", "low", "uneven"),
    "laugh": ("person", "middle", "even"),
    "whistle": ("person", "high", "steady"),
    "applause": ("person", "middle", "uneven"),
    "frog": ("animal", "middle", "trembling"),
    "sheep": ("animal", "middle", "trembling"),
    "owl": ("animal", "low", "uneven"),
    "horse": ("animal", "middle", "beating"),
    "drip": ("water", "high", "even"),
    "laser": ("thing", "high", "short"),
    "saw": ("thing", "high", "swelling"),
    "ball": ("thing", "low", "uneven"),
    "violin": ("music", "high", "long"),
}
"""Sound class -> kind, pitch, rhythm."""
_COLUMNS = {KIND_PROMPT: 0, PITCH_PROMPT: 1, RHYTHM_PROMPT: 2}


def trait_answer(prompt: str, labels: list[str], sequence: bool) -> str:
    """Answer to one of the three prompts: a word a sound, such as "animal, then weather", or "silence".

    Args:
        prompt: one of `KIND_PROMPT`, `PITCH_PROMPT` and `RHYTHM_PROMPT`.
        labels: sound classes in the order to be named.
        sequence: whether they come one after the other.
    """
    return (", then " if sequence else " and ").join(TRAITS[label][_COLUMNS[prompt]] for label in labels) or "silence"
