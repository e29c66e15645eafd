"""Type a caption and see its tokens, its labels, and what they cost."""

from __future__ import annotations

import html

from helpers.audio.samples import as_samples
from helpers.chat import IGNORED, AudioFlamingo3DataCollator, make_chat
from helpers.show.labels import label_runs, mask_page
from helpers.show.panel import Panel, problem
from helpers.show.tables import Page, show_table

WAYS = {
    "the guide: everything but the sound": "guide",
    "this course: the answer alone": "course",
    "a chat of two answers": "turns",
}
"""What the menu says -> how the batch is labelled."""

AF3_VOCABULARY = 151_672
"""Tokens of AF3's vocabulary at full size (its ``text_config.vocab_size``)."""


def label_batch(processor, samples, caption: str, way: str) -> dict:
    """One clip and one caption as a batch of one, with labels.

    Args:
        processor: an AF3 processor.
        samples: 16 kHz mono float32, ``(samples,)``.
        caption: what the assistant answers.
        way: ``"guide"`` (the processor's own labels), ``"course"`` (the collator's), or ``"turns"`` (the collator's,
            after a first question about the sounds).
    """
    if way == "guide":
        return dict(
            processor.apply_chat_template(
                [make_chat(samples, answer=caption)],
                tokenize=True,
                return_dict=True,
                processor_kwargs={"output_labels": True},
            )
        )
    example = {"audio": samples, "caption": caption}
    if way == "turns":
        words = caption.split()
        example = {
            "audio": samples,
            "messages": [
                {"role": "user", "content": "What do you hear first?"},
                {"role": "assistant", "content": " ".join(words[:2]) or caption},
                {"role": "user", "content": "Describe the audio."},
                {"role": "assistant", "content": caption},
            ],
        }
    return AudioFlamingo3DataCollator(processor)([example])


def label_costs(batch: dict, processor) -> dict[str, float]:
    """What a batch of one holds, and how large its logits are over AF3's vocabulary, in float32."""
    ids, kept = batch["input_ids"][0], batch.get("logits_to_keep", batch["labels"].shape[1])
    megabytes = AF3_VOCABULARY * 4 / 1e6
    return {
        "tokens": len(ids),
        "placeholders": int((ids == processor.audio_token_id).sum()),
        "trained": int((batch["labels"][0] != IGNORED).sum()),
        "positions with logits": int(kept),
        "logits (MB)": kept * megabytes,
        "logits of all positions (MB)": len(ids) * megabytes,
    }


def _token_table(batch: dict, processor) -> str:
    ids = batch["input_ids"][0].tolist()
    labels = [IGNORED] * (len(ids) - batch["labels"].shape[1]) + batch["labels"][0].tolist()
    rows = [
        {
            "position": place,
            "token": repr(processor.tokenizer.decode([token]))[1:-1],
            "id": str(token),
            "label": str(label),
        }
        for place, (token, label) in enumerate(zip(ids, labels, strict=True))
        if token != processor.audio_token_id
    ]
    title = "Every token but the placeholders, with its id and its label"
    return f"<details><summary>{title}</summary>{show_table(rows).data}</details>"


def explain_labels(processor, samples, caption: str, way: str) -> Page:
    """The label mask of one caption, its counts, and all its tokens, as a page."""
    batch = label_batch(processor, samples, caption, way)
    mask = mask_page(
        label_runs(batch["input_ids"][0], batch["labels"][0], processor.tokenizer, processor.audio_token_id)
    )
    costs = show_table([label_costs(batch, processor)])
    return Page(mask.data + costs.data + _token_table(batch, processor), f"{mask.text}\n{costs.text}")


def explore_labels(processor, clip, caption: str = "A bird tweets as a siren wails") -> Panel:
    """Type a caption and choose how it is labelled: tokens, ids, placeholders and labels, with counts and megabytes.

    Args:
        processor: an AF3 processor.
        clip: whatever `as_samples` takes, or an example with ``audio``.
        caption: to begin with.
    """
    import ipywidgets

    samples = as_samples(clip["audio"] if isinstance(clip, dict) and "audio" in clip else clip)
    text = ipywidgets.Text(
        value=caption, description="caption", continuous_update=False, layout=ipywidgets.Layout(width="32em")
    )
    way = ipywidgets.Dropdown(
        options=list(WAYS.items()), value="course", description="labels", layout=ipywidgets.Layout(width="32em")
    )
    result = ipywidgets.HTML()

    def update(_=None) -> None:
        try:
            result.value = explain_labels(processor, samples, text.value, way.value).data
        except Exception as error:
            result.value = problem(error)

    for field in (text, way):
        field.observe(update, names="value")
    update()
    pages = {words: explain_labels(processor, samples, caption, key) for words, key in WAYS.items()}
    static = Page(
        "".join(f"<h4>{html.escape(words)}</h4>{page.data}" for words, page in pages.items()),
        "\n\n".join(f"{words}\n{page.text}" for words, page in pages.items()),
    )
    return Panel(ipywidgets.VBox([text, way, result]), static)
