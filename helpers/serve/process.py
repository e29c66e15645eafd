"""The server as a process of its own, started and stopped from Python: what notebook 10 and the tests do."""

import atexit
import os
import re
import subprocess  # nosec B404: starts a module of the course
import sys
import tempfile
import time
from pathlib import Path
from typing import Self

from helpers.profiles import ROOT

READY = "Ready at "
"""What the server's line begins with that says that it answers; the address follows."""

PATIENCE = 600
"""Seconds to wait for that: a large model takes minutes to load."""


class ServerProcess:
    """A running ``python -m helpers.serve``: use it in ``with``, or call `stop`. It ends with this Python at the last.

    Attributes:
        url: what an OpenAI client takes as ``base_url``.
        command: the command that was run, as one would type it.
    """

    def __init__(self, source: str | os.PathLike, *options: str):
        """Start it and wait until it answers.

        Args:
            source: what the command takes as FOLDER.
            *options: more of its options, such as ``"--allow-paths"``; it takes a free port unless they name one.

        Raises:
            RuntimeError: it ended by itself, with what it said last; or it was not ready in `PATIENCE` seconds.
        """
        source = str(Path(source).resolve()) if Path(source).is_dir() else str(source)
        arguments = ["-m", "helpers.serve", source, "--port", "0", *options]
        self.command = " ".join(["python", *arguments[:2], Path(source).name, *arguments[3:]])
        arguments.append("--end-with-input")
        self._folder = tempfile.TemporaryDirectory(prefix="captions-server-", ignore_cleanup_errors=True)
        self._log = Path(self._folder.name) / "log.txt"
        # A file, not a pipe: a pipe that nobody reads fills up, and a notebook shows what a child prints in its cells.
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # nosec B603: this Python, without a shell
                [sys.executable, *arguments], cwd=ROOT, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT)
        atexit.register(self.stop)
        self.url = self._wait()

    def _wait(self) -> str:
        end = time.monotonic() + PATIENCE
        while True:
            running = self._process.poll() is None
            if ready := re.search(rf"^{READY}(\S+)", self.log, re.MULTILINE):
                return ready[1]
            if not running or time.monotonic() > end:
                said = self.log.strip().splitlines()[-1:] or ["it said nothing"]
                self.stop()
                what = f"was not ready after {PATIENCE} s" if running else "ended before it was ready"
                raise RuntimeError(f"The server {what}: {said[0]}")
            time.sleep(0.05)

    @property
    def log(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        """End the process; doing it twice changes nothing."""
        self._process.stdin.close()  # the server takes it as its end, on every system, and if this Python is killed too
        if self.running:
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._folder.cleanup()
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception) -> None:
        self.stop()
