"""What learners look at and listen to in a page: players, tables, captions side by side.

Plain functions that return HTML. It says the same where a page strips styles and sounds, as GitHub does: every player
has a text beside it, and what is marked is marked with ``<b>``.
"""

from __future__ import annotations

import base64
import html
import io
import re
from collections.abc import Callable, Iterable, Sequence
from numbers import Integral, Real

import numpy as np
import soundfile

from helpers.audio.samples import as_samples
from helpers.profiles import SAMPLING_RATE


class Page:
    """HTML for a notebook, and the plain text that stands for it where none is shown."""

    def __init__(self, html: str, text: str):
        self.data, self.text = html, text

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        return {"text/plain": self.text, "text/html": self.data}

    def _repr_html_(self) -> str:
        return self.data

    def __repr__(self) -> str:
        return self.text


def player(samples: np.ndarray, label: str) -> str:
    """HTML of a small audio player: MP3 inside the page (a tenth of the size of WAV), with a spoken label.

    At 140 px Chromium shows all its buttons; a little wider, the time comes in and pushes the last one over the edge.

    Args:
        samples: 16 kHz mono float32, shape ``(samples,)``.
        label: what a screen reader says.
    """
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLING_RATE, format="MP3")
    data = base64.b64encode(file.getvalue()).decode()
    return (
        f'<audio controls preload="metadata" aria-label="{html.escape(label, quote=True)}" '
        f'style="width:140px;height:32px" '
        f'src="data:audio/mpeg;base64,{data}"></audio>'
    )


def play(audio, text: str = "") -> Page:
    """A player for one clip, with ``text`` and the length beside it.

    Args:
        audio: whatever `as_samples` takes.
        text: what is heard, in words.
    """
    samples = as_samples(audio)
    seconds = len(samples) / SAMPLING_RATE
    note = f"{text} ({seconds:.1f} s)" if text else f"{seconds:.1f} s"
    return Page(
        f"<div>{player(samples, text or f'clip of {seconds:.1f} seconds')}<br>{html.escape(note)}</div>",
        f"Sound: {note}",
    )


def _text(value) -> str:
    """A value for people: floats with two decimals, thousands apart, no Python words."""
    if value is None:
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return "–" if np.isnan(value) else f"{float(value):,.2f}"
    return str(value)


_NUMBER = re.compile(r"[-+]?\d[\d,.]*(?:e[-+]?\d+)?%?(?: \[[-+\d., ]+\])?")
"""A number as it is written, with its interval if it has one."""


def _are_numbers(values: Sequence) -> bool:
    """Whether there is nothing but numbers, written or not, and what is unknown."""
    if any(isinstance(value, Page) for value in values):
        return False
    texts = set(map(_text, values)) - {"–", "unknown"}
    return bool(texts) and all(map(_NUMBER.fullmatch, texts))


def show_table(rows: Sequence[dict], audio: str | None = None, mark: Callable[[dict], bool] | None = None) -> Page:
    """Dictionaries as a table, one row each; the keys of the first are the headings.

    Args:
        rows: numbers stand right, written ones and intervals too, floats with two decimals; put units into the
            headings. Text wraps. A value that is a `Page` is shown as it is.
        audio: the key whose values are clips to be shown as players.
        mark: row -> whether it stands out, in bold and with a pointer in front.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("There are no rows to show.")
    numbers = {key for key in rows[0] if key != audio and _are_numbers([row[key] for row in rows])}

    def style(key: str, text: str = "") -> str:
        side = "right" if key in numbers else "left"
        wrap = "nowrap" if text and (key in numbers and " " not in text or key == audio) else "normal"
        if any(len(word) > 28 for word in text.split()):  # "AAAAAAAA…": a broken model must not break the table
            wrap += ";overflow-wrap:anywhere"
        return (
            f'align="{side}" style="text-align:{side};padding:3px 8px;vertical-align:middle;max-width:28em;'
            f'white-space:{wrap}"'
        )

    def written(key: str, row: dict) -> str:
        value = row[key]
        if key == audio:
            return f"{len(as_samples(value)) / SAMPLING_RATE:.1f} s"
        return value.text if isinstance(value, Page) else _text(value)

    def label(row: dict, number: int) -> str:
        words = next((row[key] for key in row if key != audio and isinstance(row[key], str)), "")
        return f"clip {number + 1}: {words}" if words else f"clip {number + 1}"

    def show(key: str, row: dict, number: int) -> str:
        value = row[key]
        if key == audio:
            return f"{player(as_samples(value), label(row, number))}<br>{written(key, row)}"
        shown = value.data if isinstance(value, Page) else html.escape(_text(value))
        return f"<b>{shown}</b>" if marked[number] else shown

    marked = [bool(mark and mark(row)) for row in rows]
    head = "".join(f'<th scope="col" {style(key)}>{html.escape(str(key))}</th>' for key in rows[0])
    body = "".join(
        "<tr>"
        + "".join(
            f"<td {style(key, written(key, row))}>"
            f"{'▸ ' if marked[number] and not column else ''}{show(key, row, number)}</td>"
            for column, key in enumerate(rows[0])
        )
        + "</tr>"
        for number, row in enumerate(rows)
    )
    lines = [" | ".join(map(str, rows[0]))]
    for number, row in enumerate(rows):
        cells = [written(key, row) for key in rows[0]]
        lines.append(("> " if marked[number] else "") + " | ".join(cells))
    return Page(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>", "\n".join(lines))


_WORD = re.compile(r"\w[\w'’-]*")


def mark_changes(text: str, before: str) -> str:
    """HTML of ``text`` with the words in bold that ``before`` does not have, whatever their case."""
    known = {word.lower() for word in _WORD.findall(before)}
    parts, end = [], 0
    for match in _WORD.finditer(text):
        word = html.escape(match.group())
        parts.append(
            html.escape(text[end : match.start()]) + (word if match.group().lower() in known else f"<b>{word}</b>")
        )
        end = match.end()
    return ("".join(parts) + html.escape(text[end:])).replace("</b> <b>", " ")


def compare_captions(examples: Iterable[dict], **columns: Sequence[str]) -> Page:
    """Clips with players, what people wrote, and what each model says, side by side.

    From the second model on, words that the model to its left does not use are bold.

    Args:
        examples: have ``audio`` and ``caption``.
        **columns: heading -> one text a clip; underscores in headings become spaces.
    """
    rows = []
    for number, example in enumerate(examples):
        row = {"clip": example["audio"], "a person wrote": example["caption"]}
        before = None
        for name, texts in columns.items():
            text = texts[number]
            row[name.replace("_", " ")] = text if before is None else Page(mark_changes(text, before), text)
            before = text
        rows.append(row)
    table = show_table(rows, audio="clip")
    if len(columns) < 2:
        return table
    return Page(table.data + "<p>Bold: words that the column to the left does not have.</p>", table.text)
