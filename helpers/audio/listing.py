"""A folder's recordings by its own tables: which file has which captions, source and split. Nothing is opened yet."""

import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from helpers.audio.sources import name_sources
from helpers.audio.table import CaptionError, Row, find_tables, read_table

AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".mp3", ".m4a", ".aac", ".wma", ".opus", ".aiff", ".aif", ".webm",
                  ".mp4", ".amr", ".caf", ".3gp", ".mka", ".mov"}

SPLITS = ("train", "validation", "test")

_OURS = {"file_name", "caption", "source", "audio", "references"}


@dataclass
class Recording:
    """One file of a folder, with what the tables say of it."""

    path: Path
    name: str
    """As the folder calls it, with the folders below it."""
    captions: list[str]
    others: dict[str, Any]
    """The table's other columns."""
    source: str = ""
    split: str = "train"


@dataclass
class Listing:
    """A folder as its tables describe it."""

    name: str
    recordings: list[Recording]
    problems: dict[str, str] = field(default_factory=dict)
    """File or row -> one sentence that says why it cannot be used."""
    unlisted: dict[str, str] = field(default_factory=dict)
    """Audio file that no table names -> one sentence."""
    remarks: list[str] = field(default_factory=list)

    @property
    def splits(self) -> list[str]:
        """The splits it offers."""
        return [split for split in SPLITS if any(recording.split == split for recording in self.recordings)]


def _files(folder: Path) -> list[Path]:
    """All files in and below a folder, sorted, without hidden ones (``._a.wav``, ``.git``) and ``__MACOSX``."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        found += [Path(where) / name for name in names if not name.startswith(".")]
    return sorted(found)


def _same(name: str) -> str:
    """One spelling of a name: macOS stores ``ü`` as two signs, which look like the one that is typed elsewhere."""
    return unicodedata.normalize("NFC", name)


class _Folder:
    """The files below a folder, found by the names that a table gives them."""

    def __init__(self, folder: Path, files: list[Path]):
        self.folder, self.real = folder, folder.resolve()
        self.exact = {file.relative_to(folder).as_posix(): file for file in files}
        self.by_spelling = {_same(name): file for name, file in self.exact.items()}
        self.by_case = {_same(name).casefold(): name for name in self.exact}

    def find(self, row: Row) -> tuple[str, Path | None, str | None]:
        """(name below the folder, file, what is wrong): either the file or the fault is ``None``."""
        where, base = f"Row {row.number} of {row.table.name} names {row.file_name}", row.table.parent
        for given in (row.file_name, row.file_name.replace("\\", "/")):  # a table that was made on Windows
            name = (PurePosixPath(base.relative_to(self.folder).as_posix()) / given).as_posix()
            file = self.exact.get(name) or self.by_spelling.get(_same(name))
            if file:
                break
        absolute = PurePosixPath(given).is_absolute() or PureWindowsPath(given).is_absolute()
        if absolute or ".." in PurePosixPath(given).parts:
            return given, None, (f"{where}, which leads out of the folder {self.folder.name!r}: copy the file into it, "
                                 "and name it without its path.")
        if file is None:
            near = self.by_case.get(_same(name).casefold())
            hint = f" (there is {near}; capitals count)" if near else ""
            return name, None, (f"{where}, which is not in {row.table.parent.name!r}{hint}: add the file, correct the "
                                "name, or take the row out.")
        if file.is_symlink() and not file.resolve().is_relative_to(self.real):
            return name, None, (f"{where}, a link that leads out of the folder {self.folder.name!r}: copy the file "
                                "itself into it.")
        return file.relative_to(self.folder).as_posix(), file, None


def list_recordings(folder: str | os.PathLike) -> Listing:
    """Read a folder's tables, once, and find the files that they name.

    A table is ``metadata.csv`` (separated by commas, semicolons or tabs), ``.tsv``, ``.jsonl``, ``.json`` or
    ``.parquet``, in the folder or in folders below it, with the columns ``file_name`` (from where the table lies) and
    ``caption``; a column ``source`` is optional. Rows of one file are captions of one clip. Where every file lies in a
    folder ``train``, ``validation`` or ``test`` at the top, these are splits; all other names of folders mean nothing.

    Raises:
        FileNotFoundError: there is no such folder.
        CaptionError: a table is missing or unusable as a whole.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.name!r}: check the path (the notebook looks from its "
                                "own folder).")
    files = _files(folder)
    index = _Folder(folder, files)
    listing, found, given = Listing(folder.name or folder.resolve().name, []), {}, {}
    for table in find_tables(files, folder):
        rows = read_table(table)
        for column in sorted(_OURS & set().union(*(row.cells for row in rows)) - {"file_name", "caption", "source"}):
            listing.remarks.append(f"The column {column!r} of {table.name} is not used: a clip has something of that "
                                   "name already.")
        for row in rows:
            name, file, why = index.find(row) if row.file_name else (f"row {row.number} of {table.name}", None, None)
            why = row.problem() or why
            if why:
                listing.problems[name] = why
                continue
            others = {key: value for key, value in row.cells.items() if key not in _OURS}
            recording = found.setdefault(file, Recording(file, name, [], others))
            recording.captions += [text for text in row.captions if text not in recording.captions]
            source = row.cells.get("source")
            if source is not None and str(source).strip():
                given[name] = str(source).strip()
    listing.recordings = list(found.values())
    by_name, remark = name_sources({recording.name: recording.captions for recording in listing.recordings
                                    if recording.name not in given})
    listing.remarks += [remark] if remark else []
    tops = {recording.name.partition("/")[0] for recording in listing.recordings if "/" in recording.name}
    has_splits = tops <= set(SPLITS) and all("/" in recording.name for recording in listing.recordings)
    for recording in listing.recordings:
        recording.source = given.get(recording.name) or by_name[recording.name]
        recording.split = recording.name.partition("/")[0] if has_splits else "train"
    named = set(found) | {folder / name for name in listing.problems}
    for file in files:
        if file.suffix.lower() in AUDIO_SUFFIXES and file not in named:
            name = file.relative_to(folder).as_posix()
            listing.unlisted[name] = (f"{name} is in no row of the table: add one with its caption, or move the file "
                                      "away.")
    return listing


def check_rows(listing: Listing) -> None:
    """Raise `CaptionError` with the first fault of a table, if there is one."""
    if listing.problems:
        more = len(listing.problems) - 1
        raise CaptionError(next(iter(listing.problems.values()))
                           + (f" ({more} more rows have faults; read_folder lists them all.)" if more else ""))
