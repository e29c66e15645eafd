"""A folder's metadata table: its rows, and what is wrong with each."""

from __future__ import annotations

import json
from pathlib import Path


class CaptionError(ValueError):
    """A caption or a metadata table that cannot be used; the message says which and what to do."""


AUDIO_SUFFIXES = {".wav", ".flac", ".ogg", ".mp3", ".m4a", ".aac", ".wma", ".opus", ".aiff", ".aif"}


def _read_metadata(file: Path) -> list[dict]:
    import csv

    try:
        if file.suffix == ".jsonl":
            return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
        with file.open(newline="", encoding="utf-8-sig") as stream:
            return list(csv.DictReader(stream))
    except UnicodeDecodeError:
        raise CaptionError(f"{file.name} is not UTF-8 text: save it as \"CSV UTF-8\" in your spreadsheet program.") from None
    except (json.JSONDecodeError, csv.Error) as error:
        raise CaptionError(f"{file.name} cannot be read ({error}): each line of it has to be one whole row.") from None


def metadata_rows(folder: Path) -> list[tuple[Path, int, dict]]:
    """All rows of a folder's metadata tables, as (table, number of the row from 1, row).

    Raises:
        CaptionError: there is no table, or one is unreadable, empty, or without ``file_name`` or ``caption``.
    """
    tables = sorted(path for path in folder.rglob("metadata.*") if path.suffix in {".csv", ".jsonl"})
    if not tables:
        raise CaptionError(f"The folder {folder.name!r} has no metadata.csv or metadata.jsonl: add one with the columns "
                           "file_name and caption, one row a clip.")
    found = []
    for table in tables:
        rows = _read_metadata(table)
        if not rows:
            raise CaptionError(f"{table.name} in {table.parent.name!r} has no rows: list each clip's file_name and caption.")
        for column in ("file_name", "caption"):
            if column not in rows[0]:
                raise CaptionError(f"{table.name} in {table.parent.name!r} has no column {column!r} (it has "
                                   f"{', '.join(rows[0])}): rename or add it.")
        found += [(table, number, row) for number, row in enumerate(rows, start=1)]
    return found


def row_problem(table: Path, number: int, row: dict) -> str | None:
    """What is wrong with one row of `metadata_rows`, in one sentence; ``None`` if nothing is."""
    name, text = row.get("file_name"), row.get("caption")
    if not isinstance(name, str) or not name.strip():
        return f"Row {number} of {table.name} names no file: fill in its file_name, or take the row out."
    if not isinstance(text, str) or not text.strip():
        return f"Row {number} of {table.name} ({name}) has no caption: write one, or take the row out."
    if not (table.parent / name).is_file():
        return (f"Row {number} of {table.name} names {name}, which is not in {table.parent.name!r}: add the file, or take "
                "the row out.")
    return None


def check_folder(folder: Path) -> list[str]:
    """Look through a folder's metadata table before anything is loaded from it.

    Returns:
        The splits it offers: names of subfolders that hold a table, or ``["train"]``.

    Raises:
        CaptionError: no table, a missing column, an empty caption, or a file that is not there.
    """
    rows = metadata_rows(folder)
    for row in rows:
        problem = row_problem(*row)
        if problem:
            raise CaptionError(problem)
    return list(dict.fromkeys(table.parent.name for table, _, _ in rows if table.parent != folder)) or ["train"]
