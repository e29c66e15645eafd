"""Which modules an adapter touches, and whether an adapter fits the model it is put on."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from helpers.hub import fetch_adapter, is_hub_id

LANGUAGE_MODEL_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Attention and feed-forward projections of the language model, and of nothing else.

A list of suffixes such as ``["q_proj", ...]`` would also match the audio tower, whose attention has ``q_proj``,
``k_proj`` and ``v_proj`` too; ``peft`` matches a string as a regular expression against the whole module name.
"""

PARTS = {"audio_tower": "audio tower", "multi_modal_projector": "projector", "language_model": "language model",
         "lm_head": "output head"}
"""Name inside AF3 -> what the course calls it, in the order in which a clip passes through."""


@dataclass(frozen=True)
class LoraReport:
    """What is trainable, by part of the model and by kind of module."""

    parameters: dict[str, int]
    """All parameters by part (an adapter's own not counted)."""
    trainable: dict[str, int]
    """Trainable parameters by part."""
    adapters: dict[str, Counter]
    """Part -> kind of module (``q_proj`` ...) -> how many modules carry an adapter."""

    @property
    def total_trainable(self) -> int:
        return sum(self.trainable.values())

    def __str__(self) -> str:
        lines = [f"{'part':<16}{'parameters':>15}{'trainable':>13}{'adapters':>10}"]
        for part in self.parameters:
            lines.append(f"{part:<16}{self.parameters[part]:>15,}{self.trainable[part]:>13,}"
                         f"{sum(self.adapters[part].values()):>10}")
        lines.append(f"{'all':<16}{sum(self.parameters.values()):>15,}{self.total_trainable:>13,}"
                     f"{sum(sum(kinds.values()) for kinds in self.adapters.values()):>10}")
        return "\n".join(lines)


def full_shape(parameter: torch.nn.Parameter) -> tuple[int, ...]:
    """Shape of a matrix as it is multiplied; in 4 bits it lies in memory as one column, two numbers a byte."""
    state = getattr(parameter, "quant_state", None)
    return tuple(parameter.shape if state is None else state.shape)


def lora_report(model: torch.nn.Module) -> LoraReport:
    """Count parameters, trainable parameters and adapted modules by part of an AF3, with or without an adapter."""
    parameters, trainable = dict.fromkeys(PARTS.values(), 0), dict.fromkeys(PARTS.values(), 0)
    adapters: dict[str, Counter] = {part: Counter() for part in PARTS.values()}
    for name, parameter in model.named_parameters():
        part = next((title for key, title in PARTS.items() if f"{key}." in name), None)
        if part is None:
            continue
        if "lora_" not in name:
            parameters[part] += math.prod(full_shape(parameter))
        elif "lora_A" in name:
            adapters[part][re.search(r"(\w+)\.lora_A", name).group(1)] += 1
        if parameter.requires_grad:
            trainable[part] += parameter.numel()
    return LoraReport(parameters, trainable, adapters)


class AdapterError(ValueError):
    """An adapter that cannot be put on this model; the message says why and what to do."""


def _same_base(recorded: str | None, loaded: str) -> bool:
    """Hub ids are compared whole, paths by their last three parts: the same folder may sit elsewhere."""
    def ending(name: str) -> list[str]:
        return Path(name).parts[-3:]

    return recorded is not None and ending(recorded) == ending(loaded)


def check_adapter(model: torch.nn.Module, folder: str | Path) -> Path:
    """Make sure that ``folder`` holds a whole adapter for ``model``; return the folder.

    The Hub id of a shared adapter is as good: it is downloaded, and the folder in the cache is returned.

    ``PeftModel.from_pretrained`` answers an adapter of another base with pages of mismatched sizes, or, where the
    sizes happen to agree, with nothing at all. This compares names and shapes first.

    Raises:
        AdapterError: no adapter there, half of one, or one for another base model.
        HubError: the Hub did not give it (see `hub_access`).
    """
    from safetensors import SafetensorError, safe_open

    name, folder = (folder, fetch_adapter(folder)) if is_hub_id(folder) else (Path(folder).name, Path(folder))
    config_file, weights_file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not config_file.is_file() or not weights_file.is_file():
        raise AdapterError(f"There is no adapter in {name!r} (adapter_config.json and adapter_model.safetensors): "
                           "train one with notebook 03, or check the folder.")
    base = json.loads(config_file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    if not _same_base(base, model.name_or_path):
        raise AdapterError(f"The adapter in {name!r} was trained on {base}, not on {model.name_or_path}: load its "
                           "own base model, or train a new adapter on this one.")
    shapes = {name: full_shape(parameter) for name, parameter in model.named_parameters()}
    try:
        with safe_open(weights_file, "pt") as file:
            for key in file.keys():  # noqa: SIM118 (a file of safetensors is no dictionary)
                match = re.fullmatch(r"base_model\.model\.(.+)\.lora_([AB])\.weight", key)
                if not match:
                    continue
                target = shapes.get(f"{match.group(1)}.weight")
                side = 1 if match.group(2) == "A" else 0
                if target is None or file.get_slice(key).get_shape()[side] != target[side]:
                    raise AdapterError(f"The adapter in {name!r} does not fit {model.name_or_path} (at "
                                       f"{match.group(1)}): it belongs to another version of the base model; train it "
                                       "anew.")
    except SafetensorError:
        raise AdapterError(f"The adapter in {name!r} is broken (its weights file is cut short): copy it again, or "
                           "train it anew with notebook 03.") from None
    return folder
