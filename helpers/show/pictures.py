"""Pictures of clips and of numbers: labelled axes with units, the course's palette, alternative text."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from helpers.audio.samples import as_samples
from helpers.metrics.intervals import Interval
from helpers.profiles import SAMPLING_RATE
from helpers.show.figures import Picture, as_picture, new_figure
from helpers.show.palette import INK, SOUND, TUNED


def draw_waveform(axes: Axes, samples: np.ndarray) -> None:
    """Amplitude over time in seconds."""
    seconds = np.arange(len(samples)) / SAMPLING_RATE
    axes.plot(seconds, samples, color=SOUND, linewidth=0.4)
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


def plot_clip(audio, processor, caption: str = "") -> Picture:
    """Waveform above log-mel spectrogram, on one time axis.

    Args:
        audio: whatever `as_samples` takes.
        processor: its feature extractor makes the spectrogram.
        caption: above the picture; without it the picture gives nothing away.

    Raises:
        AudioError: see `as_samples`.
    """
    samples = as_samples(audio)
    log_mel = log_mel_features(processor, samples)
    seconds = log_mel.shape[1] / 100  # ten milliseconds a frame
    figure, (above, below) = new_figure(2, height=1.7, sharex=True)
    draw_waveform(above, samples)
    above.set(xlabel="", title=caption)
    draw_log_mel(below, log_mel, seconds)
    loud = log_mel.mean(axis=1).argmax()
    words = f", captioned “{caption}”" if caption else ""
    return as_picture(figure, f"Waveform and log-mel spectrogram of {seconds:.1f} seconds of audio{words}. The loudest mel "
                              f"bin on average is {loud} of {len(log_mel)}.")


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
        axes.plot([interval.low, interval.high], [row, row], color=TUNED, linewidth=3, solid_capstyle="butt")
        axes.plot(interval.value, row, color=INK, marker="o")
    axes.set_yticks(range(len(intervals)), list(intervals))
    axes.set(xlabel=f"{score}, with the {interval.confidence:.0%} interval", ylim=(len(intervals) - 0.5, -0.5))
    axes.grid(alpha=0.6, axis="x")
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
    bars = axes.barh(range(len(values)), list(values.values()), color=TUNED)
    axes.bar_label(bars, [f"{value / total:.0%}" for value in values.values()], padding=3, color=INK)
    axes.set_yticks(range(len(values)), list(values))
    axes.set(xlabel=quantity, title=title, xlim=(0, 1.12 * max(values.values())), ylim=(len(values) - 0.4, -0.6))
    axes.grid(alpha=0.6, axis="x")
    text = "; ".join(f"{name} {value:.3g} ({value / total:.0%})" for name, value in values.items())
    return as_picture(figure, f"{title or 'Bars'}: {quantity}: {text}.")
