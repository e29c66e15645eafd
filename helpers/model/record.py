"""What made an adapter: a file beside its weights that later notebooks read, and that shows damage to any other
file."""

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from helpers.model.architecture import TINY_FOLDER
from helpers.systems import move
from helpers.tiny.shards import digest

RECORD = "training.json"


class AdapterError(ValueError):
    """An adapter that cannot be used or saved; the message says why and what to do."""


@dataclass(frozen=True)
class AdapterRecord:
    """What made an adapter; printed, it is one line."""

    steps_done: int
    steps_asked: int
    base: str
    """Name of the base model, as in ``adapter_config.json``."""
    base_version: str | None = None
    """Which weights had that name (see `base_version`)."""
    profile: str | None = None
    data: str | None = None
    data_version: str | None = None
    processes: int = 1
    numbers: dict = field(default_factory=dict)
    """The numbers of the run by their names in `Profile`."""
    files: dict = field(default_factory=dict)
    """File -> SHA-256 of its content when the adapter was saved."""

    @property
    def finished(self) -> bool:
        """Whether the run made all the steps it was asked for."""
        return 0 < self.steps_asked <= self.steps_done

    def __str__(self) -> str:
        data = self.data or "unknown"
        if self.data_version:
            data += f" (version {self.data_version})"
        # A path shows its last part alone: outputs are stored, and folders are private.
        base = Path(self.base).name if self.base.count("/") > 1 else self.base
        return (f"{self.steps_done} of {self.steps_asked} steps, profile {self.profile or 'unknown'}, data {data}, on "
                f"{'the tiny model' if is_tiny(self.base) else base}")


def is_tiny(base: str) -> bool:
    """Whether a base model's name is the folder of the tiny model, on whatever machine."""
    return Path(base).parts[-3:] == TINY_FOLDER.parts[-3:]


def base_version(name: str, config) -> str | None:
    """Which weights a model's ``name_or_path`` stands for: of the tiny model eight hex digits of them, of one of the
    Hub its commit, otherwise ``None``."""
    if is_tiny(name):
        return digest(TINY_FOLDER / "model.safetensors")[:8]
    return getattr(config, "_commit_hash", None)


def read_json(file: Path, folder_name: str) -> dict:
    """A JSON file of an adapter; `AdapterError` if it cannot be read, or holds something else than an object."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or "no whole JSON text"
        raise AdapterError(f"{file.name} of the adapter in {folder_name!r} cannot be read ({reason}): copy the adapter "
                           "again, or train it anew with notebook 03.") from None
    if not isinstance(content, dict):
        raise AdapterError(f"{file.name} of the adapter in {folder_name!r} holds a {type(content).__name__} where an "
                           "object should be: copy the adapter again, or train it anew with notebook 03.")
    return content


def adapter_record(folder: str | Path) -> AdapterRecord:
    """What made the adapter in ``folder``; ``print`` it for one line. `AdapterError` where `save_adapter` has left no
    record, or it cannot be read."""
    if not isinstance(folder, str | os.PathLike):
        raise AdapterError(f"An adapter's folder cannot be {folder!r}: give its path.")
    folder = Path(folder)
    if not (folder / RECORD).is_file():
        raise AdapterError(f"The adapter in {folder.name!r} has no {RECORD}, so nobody knows what made it: save "
                           "adapters with save_adapter, or train it anew with notebook 03.")
    content = read_json(folder / RECORD, folder.name)
    try:
        record = AdapterRecord(**content)
        if not (isinstance(record.files, dict) and isinstance(record.numbers, dict) and isinstance(record.base, str)):
            raise TypeError
        record.finished  # noqa: B018  (compares two numbers)
    except TypeError:
        raise AdapterError(f"{RECORD} of the adapter in {folder.name!r} is not what save_adapter writes: train the "
                           "adapter anew with notebook 03.") from None
    return record


def write_record(folder: Path, record: AdapterRecord) -> None:
    """Write ``record`` into ``folder``, with the digests of all files that are there now."""
    files = {file.relative_to(folder).as_posix(): digest(file) for file in sorted(folder.rglob("*"))
             if file.suffix in {".json", ".jinja", ".safetensors"} and file.name != RECORD}  # as `fetch_adapter`
    whole = dataclasses.replace(record, files=files)
    fresh = folder / f"{RECORD}.unfinished"
    fresh.write_text(json.dumps(dataclasses.asdict(whole), indent=1), encoding="utf-8")
    move(fresh, folder / RECORD)


def check_files(folder: Path, folder_name: str) -> AdapterRecord | None:
    """Compare an adapter's files with its record, if it has one; adapters made elsewhere have none.

    Raises:
        AdapterError: a file is missing or has changed since it was saved.
    """
    if not (folder / RECORD).is_file():
        return None
    record = adapter_record(folder)
    for name, expected in record.files.items():
        try:
            changed = digest(folder / name) != expected
        except OSError:
            raise AdapterError(f"{name} of the adapter in {folder_name!r} is missing or cannot be read: copy the "
                               "adapter again, or train it anew with notebook 03.") from None
        if changed:
            raise AdapterError(f"{name} of the adapter in {folder_name!r} has changed since it was saved: copy the "
                               "adapter again, or train it anew with notebook 03.")
    return record
