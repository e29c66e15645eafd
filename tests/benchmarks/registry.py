"""The measurements by name, each of which runs in a process of its own."""

from __future__ import annotations

from collections.abc import Callable

JOBS: dict[str, Callable[..., dict]] = {}
"""Name -> function; its keyword arguments and its result are plain JSON."""


def job(function: Callable[..., dict]) -> Callable[..., dict]:
    """Register a measurement under its own name."""
    JOBS[function.__name__] = function
    return function
