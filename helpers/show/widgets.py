"""What learners look at and listen to: players, tables, label masks, a browser of clips.

Everything is built by plain functions that return HTML; only `browse_clips` and `upload_clip` need a live kernel. Colours carry
their own text colour, so they read in light and dark themes alike, and no meaning hangs on colour alone.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import soundfile
from IPython.display import HTML

from helpers.audio.samples import AudioError, as_samples, load_audio
from helpers.chat import IGNORED
from helpers.profiles import SAMPLING_RATE


def player(samples: np.ndarray, label: str) -> str:
    """HTML of an audio player: MP3 inside the page (a tenth of the size of WAV), with a spoken label.

    Args:
        samples: 16 kHz mono float32, shape ``(samples,)``.
        label: what a screen reader says.
    """
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLING_RATE, format="MP3")
    data = base64.b64encode(file.getvalue()).decode()
    return (f'<audio controls preload="metadata" aria-label="{html.escape(label, quote=True)}" '
            f'src="data:audio/mpeg;base64,{data}"></audio>')


def play(audio, text: str = "") -> HTML:
    """A player for one clip, with ``text`` and the length beside it.

    Args:
        audio: whatever `as_samples` takes.
        text: what is heard, in words.
    """
    samples = as_samples(audio)
    seconds = len(samples) / SAMPLING_RATE
    note = f"{html.escape(text)} ({seconds:.1f} s)" if text else f"{seconds:.1f} s"
    return HTML(f"<div>{player(samples, text or 'audio clip')}<br>{note}</div>")


def show_table(rows: Sequence[dict], audio: str | None = None) -> HTML:
    """Dictionaries as a table, one row each; the keys of the first are the headings.

    Args:
        rows: values are shown as text, floats with two decimals.
        audio: the key whose values are clips to be shown as players.

    Raises:
        ValueError: there are no rows.
    """
    if not rows:
        raise ValueError("There are no rows to show.")
    cell = "text-align:left;padding:2px 10px;vertical-align:middle"

    def show(key: str, row: dict) -> str:
        value = row[key]
        if key == audio:
            return player(as_samples(value), "audio clip")
        return html.escape(f"{value:.2f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value))

    head = "".join(f'<th scope="col" style="{cell}">{html.escape(str(key))}</th>' for key in rows[0])
    body = "".join("<tr>" + "".join(f'<td style="{cell}">{show(key, row)}</td>' for key in rows[0]) + "</tr>" for row in rows)
    return HTML(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")


_STYLES = {
    "trained": "background:#0072B2;color:#fff;text-decoration:underline",
    "audio": "background:#E69F00;color:#000",
    "ignored": "background:#d9d9d9;color:#333",
}


def label_runs(input_ids: Sequence[int], labels: Sequence[int], tokenizer, audio_token_id: int) -> list[tuple[str, str, int]]:
    """A token sequence as (kind, text, count): kind is ``trained``, ``audio`` or ``ignored``; placeholders run together.

    Args:
        input_ids: token ids of one row, ``(L,)``.
        labels: its labels, the last ``len(labels)`` positions of the row.
        tokenizer: turns ids into text.
        audio_token_id: the placeholder's id.
    """
    full = [IGNORED] * (len(input_ids) - len(labels)) + [int(label) for label in labels]
    runs: list[tuple[str, str, int]] = []
    for token, label in zip((int(token) for token in input_ids), full):
        kind = "trained" if label != IGNORED else "audio" if token == audio_token_id else "ignored"
        text = tokenizer.decode([token])
        # Placeholders and padding come by the hundred: one box and a count says it all.
        if runs and runs[-1][:2] == (kind, text) and (kind == "audio" or token == tokenizer.pad_token_id):
            runs[-1] = (kind, text, runs[-1][2] + 1)
        else:
            runs.append((kind, text, 1))
    return runs


def show_label_mask(batch: dict, processor, row: int = 0) -> HTML:
    """One row of a batch, token by token: what is trained on, what is audio, what the loss ignores."""
    runs = label_runs(batch["input_ids"][row], batch["labels"][row], processor.tokenizer, processor.audio_token_id)
    boxes = []
    for kind, text, count in runs:
        shown = html.escape(text).replace("\n", "⏎") + (f" × {count}" if count > 1 else "")
        boxes.append(f'<span style="{_STYLES[kind]};border-radius:3px;padding:1px 3px;margin:1px;display:inline-block;'
                     f'white-space:pre;font-family:monospace">{shown}</span>' + ("<br>" if "\n" in text else ""))
    key = " ".join(f'<span style="{style};border-radius:3px;padding:1px 5px">{name}</span>' for name, style in _STYLES.items())
    return HTML(f'<div style="line-height:1.9">{"".join(boxes)}</div><p>Key: {key}</p>')


def compare_captions(examples: Iterable[dict], **columns: Sequence[str]) -> HTML:
    """Clips with players, what people wrote, and what each model says, side by side.

    Args:
        examples: have ``audio`` and ``caption``.
        **columns: heading -> one text a clip; underscores in headings become spaces.
    """
    rows = []
    for number, example in enumerate(examples):
        row = {"clip": example["audio"], "a person wrote": example["caption"]}
        rows.append(row | {name.replace("_", " "): texts[number] for name, texts in columns.items()})
    return show_table(rows, audio="clip")


def browse_clips(examples: Sequence[dict], processor):
    """A slider over clips: player, caption, waveform and log-mel of the one that is chosen.

    Returns:
        An ``ipywidgets`` box. Needs a live kernel; without one, look at the clips with `play` and `plot_clip`.
    """
    import ipywidgets

    from helpers.show.pictures import plot_clip

    slider = ipywidgets.IntSlider(value=0, min=0, max=len(examples) - 1, description="clip",
                                  continuous_update=False, layout=ipywidgets.Layout(width="22em"))
    sound, picture = ipywidgets.HTML(), ipywidgets.HTML()

    def update(_change=None) -> None:
        example = examples[slider.value]
        samples = as_samples(example["audio"])
        sound.value = play(samples, example["caption"]).data
        picture.value = plot_clip(samples, processor, example["caption"]).to_html()

    slider.observe(update, names="value")
    update()
    return ipywidgets.VBox([slider, sound, picture])


def uploaded_files(value) -> list[tuple[str, bytes]]:
    """What an ``ipywidgets.FileUpload`` holds, as (name, content): a tuple in ipywidgets 8, a dictionary in 7."""
    if isinstance(value, dict):
        return [(name, bytes(file["content"])) for name, file in value.items()]
    return [(file["name"], bytes(file["content"])) for file in value]


def upload_clip(describe: Callable[[np.ndarray], str]):
    """A button to upload one audio file (on a phone: to record one), and a player with what ``describe`` says of it.

    Args:
        describe: 16 kHz mono float32 samples -> text, for example ``lambda clip: caption(model, processor, clip)``.

    Returns:
        An ``ipywidgets`` box. Needs a live kernel and a front end that shows widgets; everywhere else, give the path
        of a file to `caption`. A file that cannot be used is answered with what is wrong with it.
    """
    import ipywidgets

    button = ipywidgets.FileUpload(accept="audio/*", multiple=False, description="your clip")
    answer = ipywidgets.HTML("<p>Choose a WAV, FLAC, OGG or MP3 file.</p>")

    def update(_change=None) -> None:
        for name, content in uploaded_files(button.value):
            answer.value = "<p>Listening …</p>"
            try:
                samples = load_audio(content, name)
                answer.value = play(samples, f"{name}: {describe(samples)}").data
            except AudioError as error:
                answer.value = f'<p role="alert">{html.escape(str(error))}</p>'

    button.observe(update, names="value")
    return ipywidgets.VBox([button, answer])
