"""What the stand-in for the Hub holds: repositories, how the Hub describes them, and faults on demand."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, field

TOKEN = "a-token-of-the-tests"
"""What `Authorization` must bear where a token is needed; it looks like no real one."""
USER = "learner"
"""Whose token it is."""


@dataclass(frozen=True)
class Request:
    """One request, as it came in."""

    method: str
    path: str
    range: str | None
    authorized: bool


@dataclass
class Repository:
    """One repository; its fields may be changed while it is served."""

    id: str
    files: dict[str, bytes]
    type: str = "model"
    gated: bool = False
    """Whether files are only for those who bear `TOKEN`. As on the real Hub, the repository's own page stays open."""
    commits: int = 0
    send: dict[str, Callable[[bytes], object]] = field(default_factory=dict)
    """Faults by file name: turns a response's body into what is really sent, as pieces, and then hangs up."""

    @property
    def sha(self) -> str:
        """A commit hash that changes with every commit."""
        return hashlib.sha1(f"{self.type} {self.id} {self.commits}".encode()).hexdigest()


def cut_short(share: float = 0.5) -> Callable[[bytes], object]:
    """The connection breaks after this share of the file, every time (a continued download gets nothing more)."""
    return lambda body, start=0, total=0: [body[: max(0, int(total * share) - start)]]


def stall(seconds: float = 60.0, after: int = 0) -> Callable[[bytes], object]:
    """The answer begins, and after so many bytes nothing follows."""
    def pieces(body, start=0, total=0):
        yield body[:after]
        time.sleep(seconds)
    return pieces


def info(repository: Repository) -> dict:
    return {"_id": "0", "id": repository.id, f"{repository.type}Id": repository.id, "sha": repository.sha, "tags": [],
            "private": False, "gated": "manual" if repository.gated else False, "disabled": False, "downloads": 0,
            "lastModified": "2026-01-01T00:00:00.000Z", "createdAt": "2026-01-01T00:00:00.000Z", "likes": 0,
            "siblings": [{"rfilename": path} for path in repository.files]}


def entry(repository: Repository, path: str) -> dict:
    content = repository.files[path]
    return {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}


def tree(repository: Repository, folder: str, recursive: bool) -> list[dict]:
    """What lies in a folder: files, and folders before what is in them."""
    inside = f"{folder}/" if folder else ""
    entries = {}
    for path in sorted(path for path in repository.files if path.startswith(inside)):
        parts = path[len(inside) :].split("/")
        parents = itertools.accumulate(parts[:-1], lambda a, b: f"{a}/{b}")
        for parent in parents if recursive else list(parents)[:1]:
            entries.setdefault(parent, {"type": "directory", "path": inside + parent, "size": 0, "oid": "0" * 40})
        if recursive or len(parts) == 1:
            entries[path] = entry(repository, path)
    return list(entries.values())


def listing(repository: Repository, path: str) -> list[dict]:
    """What ``path`` is: a file, a folder, or nothing."""
    if path in repository.files:
        return [entry(repository, path)]
    if any(file.startswith(f"{path}/") for file in repository.files):
        return [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40}]
    return []
