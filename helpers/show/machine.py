"""The whole machine in one picture: a clip on its way from samples to words, with the shape of every tensor."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.patches import ConnectionPatch

from helpers.audio.samples import as_samples
from helpers.captioning.captions import caption
from helpers.chat import make_chat
from helpers.show.figures import Picture, as_picture, new_figure
from helpers.show.palette import INK, SOUND, TUNED
from helpers.show.pictures import log_mel_features


@dataclass(frozen=True)
class Stage:
    """One station of the way."""

    name: str
    shape: tuple[int, ...]
    meaning: str
    """Of each axis of the shape, in words."""
    values: np.ndarray
    """To be drawn: one row for each feature, one column for each moment."""


def machine_stages(processor, model, samples: np.ndarray) -> tuple[list[Stage], str]:
    """Run one clip through the model and look at every station; return the stations and the words that come out.

    Args:
        processor: an AF3 processor.
        model: an AF3, with or without an adapter.
        samples: 16 kHz mono float32, ``(samples,)``.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    inputs = processor.apply_chat_template(
        [make_chat(samples)], tokenize=True, add_generation_prompt=True, return_dict=True
    ).to(base.device, base.dtype)
    features, mask = inputs["input_features"], inputs["input_features_mask"]
    with torch.inference_mode():
        heard = base.model.audio_tower(features, input_features_mask=mask).last_hidden_state
        projected = base.get_audio_features(features, mask).pooler_output
        states = model(**inputs, output_hidden_states=True, logits_to_keep=1).hidden_states
    log_mel = log_mel_features(processor, samples)

    def drawn(tensor) -> np.ndarray:
        return tensor.float().cpu().numpy().T

    stages = [
        Stage("waveform", samples.shape, "samples", samples),
        Stage("log-mel", tuple(features.shape), "windows, mel bins, frames", log_mel),
        Stage("encoder", tuple(heard.shape), "windows, frames, features", drawn(heard[0])),
        Stage("projector", tuple(projected.shape), "placeholders, features", drawn(projected)),
        Stage("language model", tuple(states[-1].shape), "chats, tokens, features", drawn(states[-1][0])),
    ]
    return stages, caption(model, processor, samples)


def _draw(axes: Axes, stage: Stage) -> None:
    if stage.values.ndim == 1:
        axes.plot(stage.values, color=SOUND, linewidth=0.3)
        axes.set(ylim=(-1, 1), xlim=(0, len(stage.values)))
    else:
        low, high = np.quantile(stage.values, [0.02, 0.98])
        axes.imshow(
            stage.values, aspect="auto", origin="lower", cmap="magma", vmin=low, vmax=high, interpolation="nearest"
        )
    axes.set(xticks=[], yticks=[])
    axes.set_title(stage.name, fontsize=10)
    shape = " × ".join(f"{size:,}" for size in stage.shape)
    axes.set_xlabel(f"{shape}\n{fill(stage.meaning, 13)}", fontsize=9)


def plot_machine(processor, model, clip) -> Picture:
    """One clip on its way: waveform, log-mel, encoder, projector, language model, words. Shapes and pictures are
    this clip's.

    Args:
        processor: an AF3 processor.
        model: an AF3, with or without an adapter.
        clip: whatever `as_samples` takes, or an example with ``audio``.
    """
    samples = as_samples(clip["audio"] if isinstance(clip, dict) and "audio" in clip else clip)
    stages, words = machine_stages(processor, model, samples)
    figure, axes = new_figure(1, height=2.6, columns=len(stages))
    figure.get_layout_engine().set(wspace=0.1)
    for panel, stage in zip(axes, stages, strict=True):
        _draw(panel, stage)
    for left, right in zip(axes, axes[1:], strict=False):
        figure.add_artist(
            ConnectionPatch(
                (1.0, 0.5),
                (0.0, 0.5),
                "axes fraction",
                "axes fraction",
                axesA=left,
                axesB=right,
                arrowstyle="-|>",
                color=INK,
                mutation_scale=12,
            )
        )
    figure.supxlabel(fill(f"words: {words}", 85), color=TUNED, fontsize=10)
    way = "; ".join(f"{stage.name}: {' by '.join(map(str, stage.shape))} ({stage.meaning})" for stage in stages)
    return as_picture(figure, f"The way of one clip through the model, left to right. {way}; and the words “{words}”.")
