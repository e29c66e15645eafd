"""Which tokens are trained, which are sound, which the loss passes over: readable without colours and without
styles."""

from __future__ import annotations

import html
from collections.abc import Sequence

from helpers.chat import IGNORED
from helpers.show.palette import IGNORED_BOX, SOUND_BOX, TRAINED_BOX
from helpers.show.tables import Page

_STYLES = {"trained": TRAINED_BOX, "audio": SOUND_BOX, "ignored": IGNORED_BOX}


def label_runs(
    input_ids: Sequence[int], labels: Sequence[int], tokenizer, audio_token_id: int
) -> list[tuple[str, str, int]]:
    """A token sequence as (kind, text, count): kind is ``trained``, ``audio`` or ``ignored``; placeholders run
    together.

    Args:
        input_ids: token ids of one row, ``(L,)``.
        labels: its labels, the last ``len(labels)`` positions of the row.
        tokenizer: turns ids into text.
        audio_token_id: the placeholder's id.
    """
    full = [IGNORED] * (len(input_ids) - len(labels)) + [int(label) for label in labels]
    runs: list[tuple[str, str, int]] = []
    for token, label in zip((int(token) for token in input_ids), full, strict=True):
        kind = "trained" if label != IGNORED else "audio" if token == audio_token_id else "ignored"
        text = tokenizer.decode([token])
        # Placeholders and padding come by the hundred: one box and a count says it all.
        if runs and runs[-1][:2] == (kind, text) and (kind == "audio" or token == tokenizer.pad_token_id):
            runs[-1] = (kind, text, runs[-1][2] + 1)
        else:
            runs.append((kind, text, 1))
    return runs


def summarize_labels(runs: Sequence[tuple[str, str, int]]) -> str:
    """One line: how many tokens are trained, of how many, and which."""
    trained = [text for kind, text, _ in runs if kind == "trained"]
    return f"{len(trained)} of {sum(count for *_, count in runs)} tokens are trained: {''.join(trained)}".replace(
        "\n", "⏎"
    ).strip()


def _shown(kind: str, text: str, count: int) -> str:
    text = text.replace("\n", "⏎") + (f" × {count}" if count > 1 else "")
    return f"[{text}]" if kind == "trained" else text


def mask_page(runs: Sequence[tuple[str, str, int]]) -> Page:
    """`label_runs` as a page: trained tokens in brackets, bold and underlined, and the summary above."""
    boxes, lines = [], [""]
    for kind, text, count in runs:
        shown = _shown(kind, text, count)
        box = (
            f'<span style="{_STYLES[kind]};border-radius:3px;padding:1px '
            f'3px;margin:1px;display:inline-block;white-space:pre;'
            f'font-family:monospace">{html.escape(shown)}</span>'
        )
        boxes.append((f"<b><ins>{box}</ins></b>" if kind == "trained" else box) + (" <br>" if "\n" in text else " "))
        lines[-1] += shown + ("" if kind == "trained" else " ")
        if "\n" in text:
            lines.append("")
    key = " ".join(
        f'<span style="{_STYLES[kind]};border-radius:3px;padding:1px 5px">{words}</span>'
        for kind, words in {"trained": "[trained]", "audio": "audio × how many", "ignored": "ignored"}.items()
    )
    summary = summarize_labels(runs)
    return Page(
        f'<p>{html.escape(summary)}</p><div style="line-height:1.9">{"".join(boxes)}</div><p>Key: {key}</p>',
        "\n".join([summary, *(line.rstrip() for line in lines if line.strip())]),
    )


def show_label_mask(batch: dict, processor, row: int = 0) -> Page:
    """One row of a batch, token by token: what is trained on (in brackets), what is audio, what the loss ignores.

    Args:
        batch: ``input_ids`` ``(B, L)`` and ``labels`` ``(B, K)``, of the last K positions, as the collator or the
            processor makes them.
        processor: an AF3 processor.
        row: which of the B.
    """
    return mask_page(
        label_runs(batch["input_ids"][row], batch["labels"][row], processor.tokenizer, processor.audio_token_id)
    )
