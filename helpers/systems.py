"""Where systems differ: Windows holds a file fast while anybody reads it, and not every console prints every sign."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

WINDOWS = os.name == "nt"

PAUSES = (0.1, 0.4, 1.5)
"""Seconds between tries: scanners and indexers open what is new for a moment, and let go of it again."""


def move(old: Path, new: Path) -> None:
    """Give a file or a folder its final name; a file that has the name already is replaced.

    Raises:
        OSError: the system refuses it; on Windows also after `PAUSES`, while another program has a file of it open.
    """
    for pause in PAUSES if WINDOWS else ():
        try:
            old.replace(new)
            return
        except PermissionError:
            time.sleep(pause)
    old.replace(new)


def print_anything() -> None:
    """From here on, signs that the console or a log file has no code for (cp1252 on Windows, ASCII under ``LANG=C``)
    are printed as escapes; by default the first of them ends the program, after hours of training too."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not in a notebook, which prints everything anyway
            stream.reconfigure(errors="backslashreplace")
