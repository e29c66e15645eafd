"""Files and consoles of the system: names and locks that several programs want, full disks, signs that do not print.

Systems differ: Windows holds a file fast while anybody reads it, and not every console prints every sign.
"""

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

WINDOWS = os.name == "nt"

FULL_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What a system says where there is no room: the disk is full, one's share of it, or the largest size of a file."""

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


@contextmanager
def alone(lock: str | os.PathLike, waiting: str) -> Iterator[None]:
    """Do what only one program at a time may do; others wait for it.

    Args:
        lock: a file that all of them name; it is made, and stays.
        waiting: printed by a program that has to wait.
    """
    lock = FileLock(lock)
    try:
        held = lock.acquire(timeout=0)
    except Timeout:
        print(waiting)
        held = lock.acquire()
    with held:
        yield


def print_anything() -> None:
    """From here on, signs that the console or a log file has no code for (cp1252 on Windows, ASCII under ``LANG=C``)
    are printed as escapes; by default the first of them ends the program, after hours of training too."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not in a notebook, which prints everything anyway
            stream.reconfigure(errors="backslashreplace")
