"""One colour for one thing in all notebooks, readable on the pictures' own card, in light and in dark themes.

Okabe and Ito's palette (Color Universal Design, 2008), which readers with any common colour blindness can tell apart.
Nothing is said by colour alone: lines have markers and names, tokens have brackets, words are bold.
"""

from __future__ import annotations

SOUND = "#E69F00"
"""What is heard: waveforms, audio placeholders."""
PERSON = "#2BB98F"
"""What a person wrote: references, the truth."""
BASE = "#B0B4BA"
"""The model before fine-tuning."""
TUNED = "#56B4E9"
"""The model after fine-tuning, the training loss, what is trained."""
HELD_OUT = "#CC79A7"
"""Clips that are not trained on: the evaluation loss."""
ERROR = "#E4572E"
"""What is wrong: a fault, a run that does not learn, what does not fit."""

CYCLE = (TUNED, SOUND, HELD_OUT, PERSON, ERROR, BASE)
"""For several runs in one picture, each with a marker of its own besides."""
MARKERS = "osD^vP"

CARD, INK, GRID = "#23272E", "#E8EAED", "#4A5058"
"""The card that every picture lies on, its text and its lines: the same in every theme, so that a picture is readable
on a white page, on a black one, and on GitHub. Contrast of each colour above with the card is at least 3 to 1 (WCAG
1.4.11), of the text 12 to 1."""

TRAINED_BOX = "background:#0072B2;color:#fff;font-weight:bold;text-decoration:underline"
SOUND_BOX = "background:#E69F00;color:#000"
IGNORED_BOX = "border:1px dotted currentColor"
"""Styles of tokens in a page, where the theme owns the background: what is ignored stands back in both themes."""
