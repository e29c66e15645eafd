"""Clips of a data set on the Hub, read once and kept on this machine as they came: undecoded, with their revision.

A stream reads what it skips, so without this each evaluation would read all clips to train on once more, and each pass
over them would fetch them anew: 14,500 rows, 13 GB at 0.9 MB a clip, for the 1,100 clips of notebook 03.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from datasets import Audio, Features, IterableDataset, SplitDict, SplitInfo, load_dataset

from helpers.hub import hub_access
from helpers.tiny.dataset import cache_folder

MOST_BYTES = 10 * 10**9
"""Of all that is kept together; the oldest goes first. About 11,000 clips of AudioCaps."""

ROWS = 50
"""Rows written together: of AudioCaps 45 MB in memory."""


def keep(source: str, name: str, revision: str, rows: Iterable[dict], features: Features) -> Path:
    """Write rows to a Parquet file of the cache, whole or not at all.

    Args:
        source: id of the data set.
        name: what the rows are, such as ``"train-1100"``.
        revision: commit that they come from.
        rows: examples, audio as ``{"bytes", "path"}``.
        features: their columns.

    Returns:
        The file; beside it lies its record: size, SHA-256, rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = _place(source, name, revision)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh, count, piece = file.with_name(f"{file.name}.{os.getpid()}"), 0, []
    try:
        with pq.ParquetWriter(fresh, features.arrow_schema) as writer:
            for row in rows:
                piece.append(row)
                if len(piece) == ROWS:
                    writer.write_table(pa.Table.from_pylist(piece, schema=features.arrow_schema))
                    count, piece = count + len(piece), []
            writer.write_table(pa.Table.from_pylist(piece, schema=features.arrow_schema))
        record = {"rows": count + len(piece), "bytes": fresh.stat().st_size, "sha256": _digest(fresh)}
        _record(file).unlink(missing_ok=True)
        os.replace(fresh, file)
        fresh.write_text(json.dumps(record), encoding="utf-8")
        os.replace(fresh, _record(file))  # last: what has no record was interrupted
    finally:
        fresh.unlink(missing_ok=True)
    _make_room(file)
    return file


def kept(source: str, name: str, revision: str) -> Path | None:
    """A file of `keep`, if it is there and byte for byte what was written; a damaged one is removed."""
    file = _place(source, name, revision)
    try:
        record = json.loads(_record(file).read_text(encoding="utf-8"))
        if file.stat().st_size == record["bytes"] and _digest(file) == record["sha256"]:
            return file
    except (OSError, ValueError, KeyError):
        pass
    file.unlink(missing_ok=True)
    _record(file).unlink(missing_ok=True)
    return None


def first_rows(source: str, split: str, count: int) -> IterableDataset:
    """The first ``count`` rows of a split on the Hub, or all if there are fewer, as a stream from this machine.

    The first call reads them from the Hub, each once; later ones, in this process or another, read the file. Of several
    processes let one go first.

    Raises:
        HubError: the Hub did not give them, and they are not kept either.
    """
    revision, name = current_revision(source), f"{split}-{count}"
    file = kept(source, name, revision)
    if file is None:
        with hub_access(source, "dataset"):
            stream = load_dataset(source, split=split, streaming=True, revision=revision)
            stream = stream.cast_column("audio", Audio(decode=False))
            file = keep(source, name, revision, stream.take(count), stream.features)
    local = {split: [str(file)]}
    rows = load_dataset("parquet", data_files=local, split=split, streaming=True)  # nosec B615: a local file
    there = json.loads(_record(file).read_text(encoding="utf-8"))["rows"]
    if there < count:  # then the split has no more; who asks how many there are, is told
        rows.info.splits = SplitDict({split: SplitInfo(name=split, num_examples=there)})
    return rows


def current_revision(source: str) -> str:
    """The commit that the Hub has now; where it cannot be reached, the one that was kept last."""
    from huggingface_hub import HfApi

    from helpers.hub import HubError

    try:
        with hub_access(source, "dataset"):
            return HfApi().dataset_info(source).sha
    except HubError as error:
        folders = sorted(_place(source, "", "any").parent.parent.glob("*/"), key=lambda folder: folder.stat().st_mtime)
        if error.reason not in ("unreachable", "offline") or not folders:
            raise
        print(f"The Hub cannot be reached: {source} is what was kept of it (commit {folders[-1].name[:7]}).")
        return folders[-1].name


def _place(source: str, name: str, revision: str) -> Path:
    return cache_folder() / "hub" / source.replace("/", "--") / revision / f"{name}.parquet"


def _record(file: Path) -> Path:
    return file.with_suffix(".json")


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _kept_files() -> Iterator[Path]:
    yield from (cache_folder() / "hub").rglob("*.parquet")


def _make_room(newest: Path) -> None:
    """Remove the oldest files until all together are no larger than `MOST_BYTES`; never the newest one."""
    files = sorted((file for file in _kept_files() if file != newest), key=lambda file: file.stat().st_mtime)
    total = newest.stat().st_size + sum(file.stat().st_size for file in files)
    for file in files:
        if total <= MOST_BYTES:
            return
        total -= file.stat().st_size
        _record(file).unlink(missing_ok=True)
        file.unlink(missing_ok=True)
