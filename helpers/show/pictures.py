"""Pictures: labelled axes with units, a palette that colour-blind readers can tell apart, alternative text."""

from __future__ import annotations

import io
from base64 import b64encode
from dataclasses import dataclass
from html import escape

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from helpers.audio.samples import as_samples
from helpers.metrics import SCORES
from helpers.metrics.intervals import Interval
from helpers.profiles import SAMPLING_RATE

BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#666666"
"""Okabe and Ito's palette (Color Universal Design, 2008): distinguishable with any common colour blindness."""

_DPI = 144


def new_figure(rows: int = 1, width: float = 8.0, height: float = 2.4, **kwargs) -> tuple[Figure, list[Axes]]:
    """A figure that belongs to no pyplot state: nothing to close, nothing shown twice."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, 1, squeeze=False, **kwargs)[:, 0]
    return figure, list(axes)


@dataclass(frozen=True)
class Picture:
    """A rendered figure that is never shown without its description.

    JupyterLab (4.6) drops the ``alt`` that IPython's own ``Image`` puts beside a PNG, so that screen readers find a
    nameless picture. In HTML the description stays with it, and as plain text it stands for the picture where none can
    be shown. The PNG itself is for front ends and exports that take no HTML.
    """

    png: bytes
    alt: str
    width: int
    """On the page, in CSS pixels; a narrow page makes it smaller."""

    def to_html(self) -> str:
        """An ``<img>`` with the PNG inside."""
        return (f'<img src="data:image/png;base64,{b64encode(self.png).decode()}" alt="{escape(self.alt, quote=True)}" '
                f'style="width:{self.width}px;max-width:100%">')

    def _repr_mimebundle_(self, include=None, exclude=None) -> tuple[dict, dict]:
        data = {"text/plain": self.alt, "text/html": self.to_html(), "image/png": b64encode(self.png).decode()}
        return data, {"image/png": {"alt": self.alt, "width": self.width}}


def as_picture(figure: Figure, alt: str) -> Picture:
    """Render a figure, with the text that stands for it."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=_DPI, format="png", facecolor="white", pil_kwargs={"optimize": True})
    return Picture(buffer.getvalue(), alt, width=int(figure.get_figwidth() * _DPI / 1.5))


def draw_waveform(axes: Axes, samples: np.ndarray) -> None:
    """Amplitude over time in seconds."""
    seconds = np.arange(len(samples)) / SAMPLING_RATE
    axes.plot(seconds, samples, color=BLUE, linewidth=0.4)
    axes.set(xlim=(0, len(samples) / SAMPLING_RATE), ylim=(-1, 1), xlabel="time (s)", ylabel="amplitude")


def draw_log_mel(axes: Axes, log_mel: np.ndarray, seconds: float) -> None:
    """Log-mel energies ``(mel bins, frames)`` as an image; brighter is louder."""
    axes.imshow(log_mel, origin="lower", aspect="auto", cmap="magma", extent=(0, seconds, 0, len(log_mel)),
                interpolation="nearest")
    axes.set(xlabel="time (s)", ylabel="mel bin")


def log_mel_features(processor, samples: np.ndarray) -> np.ndarray:
    """What the encoder sees of the first window: log-mel energies ``(mel bins, frames)``, padding cut off."""
    extractor = processor.feature_extractor
    window = samples[: extractor.chunk_length * SAMPLING_RATE]
    features = extractor(window, sampling_rate=SAMPLING_RATE, return_attention_mask=True, return_tensors="np")
    return features["input_features"][0][:, : int(features["attention_mask"][0].sum())]


def plot_clip(audio, processor, caption: str = "the clip") -> Picture:
    """Waveform above log-mel spectrogram, on one time axis.

    Args:
        audio: whatever `as_samples` takes.
        processor: its feature extractor makes the spectrogram.
        caption: the title.

    Raises:
        AudioError: see `as_samples`.
    """
    samples = as_samples(audio)
    log_mel = log_mel_features(processor, samples)
    seconds = log_mel.shape[1] / 100  # ten milliseconds a frame
    figure, (above, below) = new_figure(2, height=1.9, sharex=True)
    draw_waveform(above, samples)
    above.set(xlabel="", title=caption)
    draw_log_mel(below, log_mel, seconds)
    loud = log_mel.mean(axis=1).argmax()
    return as_picture(figure, f"Waveform and log-mel spectrogram of {seconds:.1f} seconds of audio, captioned "
                            f"“{caption}”. The loudest mel bin on average is {loud} of {len(log_mel)}.")


def plot_curve(history: list[dict]) -> Picture:
    """Training and evaluation loss over optimizer steps, from ``trainer.state.log_history``.

    Where a `CaptionEvaluation` recorded scores beside the loss, each has a panel of its own below.

    Raises:
        ValueError: the history holds no training loss yet.
    """
    train = [(row["step"], row["loss"]) for row in history if "loss" in row]
    evaluation = [(row["step"], row["eval_loss"]) for row in history if "eval_loss" in row]
    if not train:
        raise ValueError("The log holds no training loss: train first, for at least logging_steps steps.")
    scores = {title: [(row["step"], row[key]) for row in history if key in row] for key, title in SCORES.items()}
    scores = {title: points for title, points in scores.items() if points}
    figure, (axes, *panels) = new_figure(1 + len(scores), height=3.2 if not scores else 2.2, sharex=True)
    axes.plot(*zip(*train), color=BLUE, label="training", marker=".")
    if evaluation:
        axes.plot(*zip(*evaluation), color=ORANGE, label="evaluation", marker="s", linestyle="--")
    axes.set(ylabel="loss (nats a token)", ylim=(0, None))
    axes.legend()
    text = f"Training loss falls from {train[0][1]:.2f} to {train[-1][1]:.2f} over {train[-1][0]} steps"
    if evaluation:
        text += f"; evaluation loss ends at {evaluation[-1][1]:.2f}"
    for panel, (title, points) in zip(panels, scores.items()):
        panel.plot(*zip(*points), color=GREEN, marker="D")
        panel.set(ylabel=title, ylim=(0, 1.1 * max(score for _, score in points) or 1))
        text += f"; {title} of the captions goes from {points[0][1]:.2f} to {points[-1][1]:.2f}"
    for panel in (axes, *panels):
        panel.grid(alpha=0.3)
    (panels or [axes])[-1].set(xlabel="optimizer step")
    return as_picture(figure, text + ".")


def plot_intervals(intervals: dict[str, Interval], score: str) -> Picture:
    """Scores with their confidence intervals, one row each.

    Args:
        intervals: name -> interval, drawn from top to bottom.
        score: what is measured, for the axis.

    Raises:
        ValueError: there is nothing to draw.
    """
    if not intervals:
        raise ValueError("There are no intervals to draw.")
    figure, (axes,) = new_figure(1, height=0.6 + 0.4 * len(intervals))
    for row, interval in enumerate(intervals.values()):
        axes.plot([interval.low, interval.high], [row, row], color=BLUE, linewidth=2, solid_capstyle="butt")
        axes.plot(interval.value, row, color=ORANGE, marker="o", markeredgecolor="black")
    axes.set_yticks(range(len(intervals)), list(intervals))
    axes.set(xlabel=f"{score}, with the {interval.confidence:.0%} interval", ylim=(len(intervals) - 0.5, -0.5))
    axes.grid(alpha=0.3, axis="x")
    return as_picture(figure, f"{score}: " + "; ".join(f"{name} {interval}" for name, interval in intervals.items()) + ".")


def plot_bars(values: dict[str, float], quantity: str, title: str = "") -> Picture:
    """One horizontal bar a name, from top to bottom, with its value and its share of the sum.

    Args:
        values: name -> value, none below zero.
        quantity: what is measured, with its unit, for the axis.
        title: above the picture.

    Raises:
        ValueError: there is nothing to draw.
    """
    total = sum(values.values())
    if not total > 0:
        raise ValueError("There are no bars to draw: all values together are 0.")
    figure, (axes,) = new_figure(1, height=0.8 + 0.34 * len(values))
    bars = axes.barh(range(len(values)), list(values.values()), color=BLUE)
    axes.bar_label(bars, [f"{value / total:.0%}" for value in values.values()], padding=3)
    axes.set_yticks(range(len(values)), list(values))
    axes.set(xlabel=quantity, title=title, xlim=(0, 1.12 * max(values.values())), ylim=(len(values) - 0.4, -0.6))
    axes.grid(alpha=0.3, axis="x")
    text = "; ".join(f"{name} {value:.3g} ({value / total:.0%})" for name, value in values.items())
    return as_picture(figure, f"{title or 'Bars'}: {quantity}: {text}.")
