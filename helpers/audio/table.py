"""A folder's metadata table: its rows as text, whatever program wrote it, and what is wrong with each.

The table is read here and not by pandas: ``NA``, ``None``, ``12`` and ``true`` are captions like any other.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any


class CaptionError(ValueError):
    """A caption or a metadata table that cannot be used; the message says which and what to do."""


TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")

_LONGEST_CELL = 1_000_000


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    table: Path
    number: int
    """From 1, without the heading."""
    cells: dict[str, Any]
    extra: int = 0
    """Cells beyond the last column."""

    @property
    def file_name(self) -> str:
        """The file that it is about, or an empty text."""
        value = self.cells.get("file_name")
        return value.strip() if isinstance(value, str) else ""

    @property
    def captions(self) -> list[str]:
        """Its captions, stripped: one, or several where the cell is a list; numbers and booleans as written."""
        value = self.cells.get("caption")
        texts = value if isinstance(value, list | tuple) else [value]
        texts = [json.dumps(text) if isinstance(text, bool | int | float) else text for text in texts]
        return [text.strip() for text in texts if isinstance(text, str) and text.strip()]

    def problem(self) -> str | None:
        """What is wrong with the row itself, in one sentence; ``None`` if nothing is."""
        where = f"Row {self.number} of {self.table.name}"
        if not self.file_name:
            return f"{where} names no file: fill in its file_name, or take the row out."
        if self.extra:
            return f"{where} ({self.file_name}) has more cells than columns: put its caption between double quotes."
        if not self.captions:
            return f"{where} ({self.file_name}) has no caption: write one, or take the row out."
        if any("\ud800" <= sign <= "\udfff" for text in self.captions for sign in text):
            return f"{where} ({self.file_name}) has half a character in its caption: type the caption again."
        return None


def find_tables(files: Sequence[Path], folder: Path) -> list[Path]:
    """The tables among a folder's files: those called ``metadata`` with a suffix of `TABLE_SUFFIXES`, in any case.

    Raises:
        CaptionError: there is none, or two lie side by side.
    """
    tables = [file for file in files if file.stem.lower() == "metadata" and file.suffix.lower() in TABLE_SUFFIXES]
    if not tables:
        raise CaptionError(f"The folder {folder.name!r} has no metadata.csv or metadata.jsonl: add one with the "
                           "columns file_name and caption, one row a clip.")
    beside: dict[Path, Path] = {}
    for table in tables:
        if table.parent in beside:
            raise CaptionError(f"{table.parent.name!r} has two tables, {beside[table.parent].name} and "
                               f"{table.name}: keep one.")
        beside[table.parent] = table
    return tables


def read_table(table: Path) -> list[Row]:
    """All rows of one table.

    Raises:
        CaptionError: it is unreadable, empty, has two columns of one name, or lacks ``file_name`` or ``caption``.
    """
    try:
        rows = _READERS.get(table.suffix.lower(), _read_separated)(table)
    except UnicodeDecodeError:
        raise CaptionError(f"{table.name} is not UTF-8 text: save it as \"CSV UTF-8\" in your spreadsheet "
                           "program.") from None
    if not rows:
        raise CaptionError(f"{table.name} in {table.parent.name!r} has no rows: list each clip's file_name and "
                           "caption.")
    columns = list(dict.fromkeys(key for row in rows for key in row.cells))
    for column in ("file_name", "caption"):
        if column not in columns:
            raise CaptionError(f"{table.name} in {table.parent.name!r} has no column {column!r} (it has "
                               f"{', '.join(columns)}): rename or add it.")
    return rows


def _text(table: Path) -> str:
    content = table.read_bytes()
    # Excel's "Unicode text" is UTF-16 with a mark; its "CSV UTF-8", and some editors' JSON, begin with a mark too.
    return content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def _unique(table: Path, columns: Sequence[str]) -> None:
    named = [column for column in columns if column]
    twice = next((column for column in named if named.count(column) > 1), None)
    if twice:
        raise CaptionError(f"{table.name} in {table.parent.name!r} has two columns called {twice!r}: rename or "
                           "remove one.")


def _read_separated(table: Path) -> list[Row]:
    """Separated by commas, or by semicolons or tabs, as Excel does in half of Europe: whichever the heading has."""
    text = _text(table)
    heading = text.lstrip().split("\n", 1)[0]
    separator = max(",;\t", key=lambda mark: ("file_name" in [cell.strip(' "\r') for cell in heading.split(mark)],
                                              heading.count(mark)))
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        lines = [line for line in reader if any(cell.strip() for cell in line)]
    except csv.Error as error:
        raise CaptionError(f"{table.name} cannot be read at line {reader.line_num} ({error}): is there a double quote "
                           "that is never closed, or one inside a caption that is not written twice?") from None
    columns = [cell.strip() for cell in lines[0]] if lines else []
    _unique(table, columns)
    rows = []
    for number, line in enumerate(lines[1:], start=1):
        cells = {column: cell for column, cell in zip_longest(columns, line[:len(columns)], fillvalue="") if column}
        rows.append(Row(table, number, cells, extra=sum(bool(cell.strip()) for cell in line[len(columns):])))
    return rows


def _read_json(table: Path) -> list[Row]:
    """One object a line, or one array of objects."""
    text = _text(table)

    def cells(pairs: list[tuple[str, Any]]) -> dict:
        _unique(table, [key for key, _ in pairs])
        return dict(pairs)

    example, array, found = '{"file_name": "a.wav", "caption": "A dog barks"}', text.lstrip().startswith("["), []
    # Split at line feeds alone: captions may hold other signs that Python takes for the end of a line.
    for number, line in enumerate([text] if array else text.split("\n"), start=1):
        try:
            found += [json.loads(line, object_pairs_hook=cells)] if line.strip() else []
        except (json.JSONDecodeError, RecursionError) as error:
            raise CaptionError(f"{table.name} cannot be read at line {number} ({error}): each line of it has to be "
                               f"one whole row, such as {example}.") from None
    found = found[0] if array else found
    for number, row in enumerate(found, start=1):
        if not isinstance(row, dict):
            raise CaptionError(f"Row {number} of {table.name} is {json.dumps(row)[:40]}, not an object: write each row "
                               f"as {example}.")
    return [Row(table, number, row) for number, row in enumerate(found, start=1)]


def _read_parquet(table: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        content = pyarrow.parquet.ParquetFile(table).read()
    except (pyarrow.ArrowException, OSError) as error:
        raise CaptionError(f"{table.name} cannot be read ({str(error).splitlines()[0]}): write it again.") from None
    _unique(table, content.column_names)
    return [Row(table, number, row) for number, row in enumerate(content.to_pylist(), start=1)]


_READERS = {".jsonl": _read_json, ".json": _read_json, ".parquet": _read_parquet}
