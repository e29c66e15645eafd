"""The tiny world of the course: procedural sounds, their captions, and a tiny Audio Flamingo 3 that hears them.

``KNOWN_SOUNDS`` are the sounds that the shipped base model names; ``NEW_SOUNDS`` are those it has heard but never
been told the names of, which is what the course teaches it.
"""

from __future__ import annotations

__all__ = ["KNOWN_SOUNDS", "NEW_SOUNDS"]


def __getattr__(name: str) -> tuple[str, ...]:
    """The two lists, read from `helpers.tiny.sounds` only once somebody asks: importing the package stays cheap."""
    if name in __all__:
        from helpers.tiny import sounds

        return getattr(sounds, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
