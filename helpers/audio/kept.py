"""Clips of a data set on the Hub, read once and kept on this machine as they came: undecoded, with their revision.

A stream reads what it skips, so without this each evaluation would read all clips to train on once more, and each pass
over them would fetch them anew: 14,500 rows, 13 GB at 0.9 MB a clip, for the 1,100 clips of notebook 03.
"""

import errno
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from datasets import Audio, Features, IterableDataset, SplitDict, SplitInfo, load_dataset
from filelock import FileLock
from tqdm.auto import tqdm

from helpers.hub import hub_access
from helpers.systems import move
from helpers.tiny.dataset import cache_folder
from helpers.tiny.shards import digest

MOST_BYTES = 10 * 10**9
"""Of all that is kept together, about 11,000 clips of AudioCaps; the oldest goes first. A file that grows larger is not
kept at all (it is looked at every `ROWS` rows)."""
ROWS = 50
"""Rows written together: of AudioCaps 45 MB in memory."""


class TooMuch(ValueError):
    """Clips that take more room than the course keeps in all."""


def kept_or_read(source: str, name: str, read: Callable[[str], tuple[Iterable[dict], Features] | None]) -> Path | None:
    """The kept file of these rows; read from the Hub and kept now, if they are not here yet.

    Of several programs that want the same rows at once, one reads them and the others wait for it.

    Args:
        source: id of the data set.
        name: what the rows are, such as ``"train-1100"``.
        read: given the commit, the rows (audio as ``{"bytes", "path"}``) and their columns, or ``None`` if there are no
            such rows there.

    Returns:
        A Parquet file, or ``None`` where ``read`` gave that.

    Raises:
        HubError: the Hub did not give them, and they are not kept either.
        OSError: the cache folder cannot be written, or its disk is full.
    """
    revision = current_revision(source)
    file = _place(source, name, revision)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            if kept(source, name, revision) is None:
                with hub_access(source, "dataset"):
                    found = read(revision)
                    if found is None:
                        return None
                    keep(source, name, revision, *found)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        raise OSError(f"The clips of {source} cannot be kept in {cache_folder()} ({error.strerror}): make room there, "
                      "or set the environment variable COURSE_CACHE to a folder that you can write to.") from error
    return file


def keep(source: str, name: str, revision: str, rows: Iterable[dict], features: Features) -> Path:
    """Write rows to a Parquet file of the cache, whole or not at all, while no other program does.

    Args:
        source: id of the data set.
        name: what the rows are, such as ``"train-1100"``.
        revision: commit that they come from.
        rows: examples, audio as ``{"bytes", "path"}``.
        features: their columns.

    Returns:
        The file; beside it lies its record: size, SHA-256, rows.

    Raises:
        TooMuch: more than `MOST_BYTES`; nothing is kept.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = _place(source, name, revision)
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh, count, piece = file.with_suffix(".part"), 0, []  # what a killed program left of it is written over
    try:
        with pq.ParquetWriter(fresh, features.arrow_schema) as writer:
            for row in rows:
                piece.append(row)
                if len(piece) == ROWS:
                    writer.write_table(pa.Table.from_pylist(piece, schema=features.arrow_schema))
                    count, piece = count + len(piece), []
                    if fresh.stat().st_size > MOST_BYTES:
                        raise TooMuch(f"The clips of {source} that were asked for take more than the "
                                      f"{MOST_BYTES / 1e9:g} GB that the course keeps: the first {count:,} already do. "
                                      "Ask for fewer.")
            writer.write_table(pa.Table.from_pylist(piece, schema=features.arrow_schema))
        record = {"rows": count + len(piece), "bytes": fresh.stat().st_size, "sha256": digest(fresh)}
        _record(file).unlink(missing_ok=True)
        move(fresh, file)
        fresh.write_text(json.dumps(record), encoding="utf-8")
        move(fresh, _record(file))  # last: what has no record was interrupted
    finally:
        fresh.unlink(missing_ok=True)
    _make_room(file)
    return file


def kept(source: str, name: str, revision: str) -> Path | None:
    """A file of `keep`, if it is there and byte for byte what was written; a damaged one is removed."""
    file = _place(source, name, revision)
    try:
        record = json.loads(_record(file).read_text(encoding="utf-8"))
        if file.stat().st_size == record["bytes"] and digest(file) == record["sha256"]:
            return file
    except (OSError, ValueError, KeyError):
        pass
    file.unlink(missing_ok=True)
    _record(file).unlink(missing_ok=True)
    return None


def first_rows(source: str, split: str, count: int, load: Callable[[str], IterableDataset]) -> IterableDataset:
    """The first ``count`` rows of a split on the Hub, or all if there are fewer, as a stream from this machine.

    The first call reads them from the Hub, each once, and shows how far it is; later ones, in this process or another,
    read the file.

    Args:
        source, split: where they are.
        count: how many.
        load: given the commit, opens the split.

    Raises:
        HubError, OSError, TooMuch: as from `kept_or_read` and `keep`.
    """
    def read(revision: str) -> tuple[Iterable[dict], Features]:
        stream = load(revision).cast_column("audio", Audio(decode=False))
        return while_fetching(stream.take(count), source, count), stream.features

    file = kept_or_read(source, f"{split}-{count}", read)
    rows = load_dataset("parquet", data_files={split: [str(file)]}, split=split, streaming=True)  # nosec B615: here
    there = json.loads(_record(file).read_text(encoding="utf-8"))["rows"]
    if there < count:  # then the split has no more; who asks how many there are, is told
        rows.info.splits = SplitDict({split: SplitInfo(name=split, num_examples=there)})
    return rows


def while_fetching(rows: Iterable[dict], source: str, count: int | None) -> Iterable[dict]:
    """The same rows, with a bar that says how many have come."""
    return tqdm(rows, f"Fetching clips of {source} (first use only)", count, unit="clip")


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
