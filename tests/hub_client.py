"""The learner's side of the tests with the stand-in Hub: a process of its own, told what to run line by line.

``HF_ENDPOINT`` and ``HF_HOME`` are read when the libraries are imported, so they cannot be set in pytest's own process.
One process serves many tests: the libraries are slow to import, and a kernel in which something has failed before is
what learners have.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Outcome:
    """How a piece of code ended."""

    result: object
    """What it left in ``result``, if that is plain data."""
    error: str | None
    """Name of the class of the exception that ended it."""
    message: str
    seconds: float
    chain: int
    """How many exceptions a traceback would show."""
    output: str


def environment(endpoint: str, home: Path, **more: str) -> dict[str, str]:
    """Environment of a process whose Hub is at ``endpoint`` and whose caches, tokens and results are in ``home``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "COURSE_RUNS"))}
    return {**kept, "HF_ENDPOINT": endpoint, "HF_HOME": str(home / "huggingface"), "COURSE_RUNS": str(home / "runs"),
            "COURSE_CACHE": str(home / "course"), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1", **more}


class Client:
    """A Python process that runs what it is given, in one namespace."""

    def __init__(self, env: dict[str, str]) -> None:
        self._process = subprocess.Popen([sys.executable, __file__], env=env, cwd=ROOT, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def run(self, code: str) -> Outcome:
        """Run ``code``; whatever it raises is in the outcome."""
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, "the process died"
        return Outcome(**json.loads(line))

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def _serve() -> None:
    import contextlib
    import io

    answers, namespace = sys.stdout, {}
    for line in sys.stdin:
        started, error, output = time.perf_counter(), None, io.StringIO()
        namespace.pop("result", None)
        with contextlib.redirect_stdout(output):
            try:
                exec(json.loads(line), namespace)
            except Exception as raised:
                error = raised
        seconds, chain, shown = time.perf_counter() - started, 0, error
        while shown is not None:
            chain += 1
            shown = shown.__cause__ or (None if shown.__suppress_context__ else shown.__context__)
        answer = Outcome(namespace.get("result"), type(error).__name__ if error else None, str(error or ""), seconds,
                         chain, output.getvalue())
        print(json.dumps(vars(answer)), file=answers, flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    _serve()
