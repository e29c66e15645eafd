"""Which modules an adapter touches, and whether an adapter fits the model it is put on."""

import math
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from helpers.hub import fetch_adapter, is_hub_id
from helpers.model.architecture import build_on_meta
from helpers.model.folders import has_processor
from helpers.model.record import AdapterError, base_version, check_files, read_json

LANGUAGE_MODEL_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
"""Attention and feed-forward projections of the language model, and of nothing else.

A list of suffixes such as ``["q_proj", ...]`` would also match the audio tower, whose attention has ``q_proj``,
``k_proj`` and ``v_proj`` too; ``peft`` matches a string as a regular expression against the whole module name.
"""

PARTS = {"audio_tower": "audio tower", "multi_modal_projector": "projector", "language_model": "language model",
         "lm_head": "output head"}
"""Name inside a model -> what the course calls it, in the order in which a clip passes through."""


@dataclass(frozen=True)
class LoraReport:
    """What is trainable, by part of the model."""

    parameters: dict[str, int]
    """All parameters by part (an adapter's own not counted)."""
    trainable: dict[str, int]
    adapters: dict[str, Counter]
    """Part -> kind of module (``q_proj`` ...) -> how many modules carry an adapter."""

    @property
    def total_trainable(self) -> int:
        return sum(self.trainable.values())

    def __str__(self) -> str:
        rows = [(part, self.parameters[part], self.trainable[part], kinds.total())
                for part, kinds in self.adapters.items()]
        rows.append(("all", *map(sum, list(zip(*rows, strict=True))[1:])))
        lines = [f"{part:<16}{count:>15,}{trained:>13,}{adapters:>10}" for part, count, trained, adapters in rows]
        return "\n".join([f"{'part':<16}{'parameters':>15}{'trainable':>13}{'adapters':>10}", *lines])


def model_parts(model: torch.nn.Module) -> dict[str, str]:
    """The parts that a model is made of, read from its children: name inside the model -> what the course calls it."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    children = [*base.model.named_children(), *(child for child in base.named_children() if child[0] != "model")]
    names = [name for name, child in children if next(child.parameters(), None) is not None]
    known = [name for name in PARTS if name in names]
    return {name: PARTS.get(name, name.replace("_", " ")) for name in [*known, *(n for n in names if n not in PARTS)]}


def lora_report(model: torch.nn.Module) -> LoraReport:
    """Count parameters, trainable parameters and adapted modules by part of a model, with or without an adapter."""
    parts = model_parts(model)
    parameters, trainable = dict.fromkeys(parts.values(), 0), dict.fromkeys(parts.values(), 0)
    adapters: dict[str, Counter] = {part: Counter() for part in parts.values()}
    for name, parameter in model.named_parameters():
        part = next((title for key, title in parts.items() if f"{key}." in name), None)
        if part is None:
            continue
        if "lora_" not in name:
            # In 4 bits a matrix lies in memory as one column, two numbers a byte.
            parameters[part] += math.prod((getattr(parameter, "quant_state", None) or parameter).shape)
        elif "lora_A" in name:
            adapters[part][re.search(r"(\w+)\.lora_A", name).group(1)] += 1
        if parameter.requires_grad:
            trainable[part] += parameter.numel()
    return LoraReport(parameters, trainable, adapters)


def _same_base(recorded: str | None, loaded: str) -> bool:
    """Hub ids are compared whole, paths by their last three parts: the same folder may sit elsewhere."""
    return isinstance(recorded, str) and Path(recorded).parts[-3:] == Path(loaded).parts[-3:]


def check_adapter(model: torch.nn.Module, folder: str | Path) -> Path:
    """Make sure that ``folder`` holds a whole adapter for ``model``, and its processor; return the folder.

    The Hub id of a shared adapter is as good: it is downloaded, and the folder in the cache is returned.

    ``PeftModel.from_pretrained`` answers an adapter of another base with pages of mismatched sizes, and one of other
    names, or of none, with nothing at all: the model then answers like the base. So this looks at names, shapes and
    numbers first: a tensor for each module that the configuration targets, of the rank that it says, none of them NaN;
    and where `save_adapter` has left its record, that no file has changed since.

    Raises:
        AdapterError: no adapter there, half of one, a damaged one, or one for another base model; the message names the
            file.
        HubError: the Hub did not give it (see `hub_access`).
    """
    if not isinstance(folder, str | os.PathLike):
        raise AdapterError(f"An adapter's folder cannot be {folder!r}: give its path, or the id of one on the Hub.")
    name, folder = (folder, fetch_adapter(folder)) if is_hub_id(folder) else (Path(folder).name, Path(folder))
    config_file, weights_file = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    if not config_file.is_file() or not weights_file.is_file():
        raise AdapterError(f"There is no adapter in {name!r} (adapter_config.json and adapter_model.safetensors): "
                           "train one with notebook 03, or check the folder.")
    config = read_json(config_file, name)
    base = config.get("base_model_name_or_path")
    if not _same_base(base, model.name_or_path):
        raise AdapterError(f"The adapter in {name!r} was trained on {base}, not on {model.name_or_path}: load its "
                           "own base model, or train a new adapter on this one.")
    record = check_files(folder, name)
    now = base_version(model.name_or_path, model.config)
    if record and record.base_version and now and record.base_version != now:
        raise AdapterError(f"The adapter in {name!r} was trained on version {record.base_version[:8]} of "
                           f"{model.name_or_path}, and this is version {now[:8]}: load that version (revision=), or "
                           "train a new adapter on this one.")
    _check_weights(weights_file, _expected_shapes(config, model, name), name)
    missing = [file for file in ("tokenizer.json", "tokenizer_config.json") if not (folder / file).is_file()]
    if not has_processor(folder):
        missing.append("processor_config.json")
    if missing:
        raise AdapterError(f"The adapter in {name!r} has no processor beside it ({', '.join(missing)}): save one with "
                           "processor.save_pretrained into the same folder, or use save_adapter.")
    for file in sorted(folder.glob("*.json")):
        read_json(file, name)
    return folder


def _expected_shapes(config: dict, model: torch.nn.Module, name: str) -> dict[str, tuple[int, ...]]:
    """Name and shape of each tensor that an adapter of this configuration has on this model."""
    from peft import LoraConfig
    from peft.tuners.tuners_utils import check_target_module_exists

    rank, alpha = config.get("r"), config.get("lora_alpha")
    numbers = isinstance(rank, int) and rank > 0 and isinstance(alpha, int | float) and alpha > 0
    if config.get("peft_type") != "LORA" or not numbers:
        raise AdapterError(f"adapter_config.json in {name!r} says type {config.get('peft_type')!r}, rank {rank!r} and "
                           f"alpha {alpha!r}, which is no LoRA adapter: copy the adapter again, or train it anew with "
                           "notebook 03.")
    wanted = {key: config.get(key) for key in ("target_modules", "layers_to_transform", "layers_pattern",
                                               "exclude_modules")}
    shapes = {}
    try:
        targets = LoraConfig(**{key: value for key, value in wanted.items() if value is not None})
        for parameter, tensor in build_on_meta(model.config).named_parameters():
            module = parameter.removesuffix(".weight")
            if tensor.dim() == 2 and module != parameter and check_target_module_exists(targets, module):
                own = (config.get("rank_pattern") or {}).get(module.rpartition(".")[2], rank)
                shapes[f"base_model.model.{module}.lora_A.weight"] = (own, tensor.shape[1])
                shapes[f"base_model.model.{module}.lora_B.weight"] = (tensor.shape[0], own)
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise AdapterError(f"adapter_config.json in {name!r} cannot be understood ({error}): copy the adapter again, "
                           "or train it anew with notebook 03.") from None
    if not shapes:
        raise AdapterError(f"The adapter in {name!r} targets no module of {model.name_or_path} (target_modules is "
                           f"{config.get('target_modules')!r}): it belongs to another model; train it anew.")
    return shapes


def _check_weights(file: Path, expected: dict[str, tuple[int, ...]], name: str) -> None:
    """Compare an adapter's tensors with what they should be, one by one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as weights:
            names = weights.keys()
            found = {key: tuple(weights.get_slice(key).get_shape()) for key in names}
            lacking = sorted(expected.keys() - found.keys())
            if lacking:
                raise AdapterError(f"{file.name} in {name!r} lacks {len(lacking)} of {len(expected)} tensors (first "
                                   f"{lacking[0]}): it is not whole, or of another model; copy it again, or train it "
                                   "anew.")
            surplus = sorted(key for key in found.keys() - expected.keys() if ".lora_" in key)
            if surplus:
                raise AdapterError(f"{file.name} in {name!r} holds {len(surplus)} tensors that adapter_config.json "
                                   f"does not target (first {surplus[0]}): copy both files of one adapter, or train it "
                                   "anew.")
            for key, shape in expected.items():
                module = key.removeprefix("base_model.model.").rpartition(".lora_")[0]
                if found[key] != shape:
                    raise AdapterError(f"The adapter in {name!r} does not fit the base model or its own configuration "
                                       f"(at {module}: {found[key]} instead of {shape}): it belongs to another "
                                       "version; train it anew.")
                tensor = weights.get_tensor(key)
                if not torch.isfinite(tensor).all() or (".lora_A" in key and not tensor.any()):
                    what = "holds NaN or infinite numbers" if not torch.isfinite(tensor).all() else "is all zeros"
                    raise AdapterError(f"A tensor in {file.name} of {name!r} {what} (at {module}): the run went wrong, "
                                       "or the file is damaged; copy it again, or train anew with a lower learning "
                                       "rate.")
    except (SafetensorError, OSError) as error:
        reason = getattr(error, "strerror", None) or "its weights file is cut short or damaged"
        raise AdapterError(f"{file.name} of the adapter in {name!r} is broken ({reason}): copy it again, or train it "
                           "anew with notebook 03.") from None
