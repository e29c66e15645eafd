"""Your own sound: record it, upload it or pick one, and see what each model makes of it."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from helpers.audio.samples import as_samples, load_audio
from helpers.profiles import SAMPLING_RATE
from helpers.show.panel import Panel, problem
from helpers.show.pictures import plot_clip
from helpers.show.tables import Page, player, show_table

MESSAGE_LIMIT = 9_000_000
"""Bytes that may be sent to the kernel at once. Jupyter's server closes a connection that sends more than 10 MiB
(tornado's ``websocket_max_message_size``), and then says nothing; the browser says so before."""


def microphone():
    """A widget that records or reads a sound and shrinks it in the browser to 16 kHz mono.

    Its traits: ``beginning`` counts up when a sound is chosen, ``count`` when it has arrived as ``data`` (the bytes
    of a file) with its ``name``. Anything the browser can play is decoded there; what it cannot play is sent as it
    is, up to `MESSAGE_LIMIT`.
    """
    import anywidget
    import traitlets

    class Microphone(anywidget.AnyWidget):
        _esm = Path(__file__).with_name("microphone.js")
        beginning = traitlets.Int(0).tag(sync=True)
        count = traitlets.Int(0).tag(sync=True)
        name = traitlets.Unicode("").tag(sync=True)
        # Buffers come from the browser as memoryviews, which the trait refuses, and nobody sees its error.
        data = traitlets.Bytes(b"").tag(sync=True, from_json=lambda value, widget: bytes(value))
        limit = traitlets.Int(MESSAGE_LIMIT).tag(sync=True)

    return Microphone()


def describe_sound(samples: np.ndarray, name: str, models: Mapping[str, Callable], processor=None) -> Page:
    """A player, the spectrogram, and what each model says of a sound, side by side.

    Args:
        samples: 16 kHz mono float32, ``(samples,)``.
        name: what to call it.
        models: heading -> samples to text.
        processor: makes the spectrogram; none without it.
    """
    picture = plot_clip(samples, processor).to_html() if processor is not None else ""
    answers = {heading: str(describe(samples)) for heading, describe in models.items()}
    table = show_table([answers]) if answers else Page("", "")
    seconds = len(samples) / SAMPLING_RATE
    return Page(
        f"<p>{html.escape(name)} ({seconds:.1f} s)</p>{player(samples, name)}<br>{picture}{table.data}",
        f"{name} ({seconds:.1f} s): " + "; ".join(f"{heading}: {text}" for heading, text in answers.items()),
    )


def your_sound(models: Mapping[str, Callable], processor=None, clips: Sequence[dict] = ()) -> Panel:
    """Record, upload or pick a sound; player, log-mel picture and the caption of each model.

    The browser decodes and shrinks what it can play (a phone's recordings too): a minute of sound is 2 MB to send.

    Args:
        models: heading -> 16 kHz mono float32 samples to text, such as
            ``{"base": lambda clip: caption(base, processor, clip)}``.
        processor: makes the spectrogram.
        clips: examples with ``audio`` and ``caption`` to pick from.
    """
    import ipywidgets

    recorder, answer = microphone(), ipywidgets.HTML()
    names = [
        ("– pick a clip –", -1),  # a value of None would be shown as an empty line
        *((f"{place + 1}: {clip['caption']}", place) for place, clip in enumerate(clips)),
    ]
    layout = ipywidgets.Layout(width="auto", max_width="42em")
    pick = ipywidgets.Dropdown(options=names, description="or pick", layout=layout)

    def show(load: Callable[[], np.ndarray], name: str) -> None:
        answer.value = f"<p>Listening to {html.escape(name)} …</p>"
        try:
            answer.value = describe_sound(load(), name, models, processor).data
        except Exception as error:  # whatever it is, the reader has to see it: a callback's traceback is shown nowhere
            answer.value = problem(error)

    def clear(_=None) -> None:
        answer.value = ""
        pick.value = -1

    def heard(_=None) -> None:
        show(lambda: load_audio(bytes(recorder.data), recorder.name), recorder.name)

    def picked(change) -> None:
        if change["new"] >= 0:
            clip = clips[change["new"]]
            show(lambda: as_samples(clip["audio"]), clip["caption"])

    recorder.observe(clear, names="beginning")
    recorder.observe(heard, names="count")
    pick.observe(picked, names="value")
    box = ipywidgets.VBox([recorder, *([pick] if clips else []), answer])
    if not clips:
        return Panel(
            box,
            Page(
                "<p>With a running kernel: record or upload a sound, and hear what the models say.</p>",
                "With a running kernel: record or upload a sound, and hear what the models say.",
            ),
        )
    first = describe_sound(as_samples(clips[0]["audio"]), f"A person wrote: {clips[0]['caption']}", models, processor)
    note = "With a running kernel: record or upload a sound of your own."
    return Panel(box, Page(f"{first.data}<p>{note}</p>", f"{first.text}\n{note}"))
