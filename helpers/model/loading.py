"""Processor and model, loaded the way that suits the hardware."""

import dataclasses
import json
import os
import warnings
from contextlib import ExitStack
from pathlib import Path

import torch
from transformers import AutoProcessor, BitsAndBytesConfig, PreTrainedModel
from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging

from helpers.families import FAMILIES, UnknownModel, family_of
from helpers.hub import hub_access, is_hub_id
from helpers.model.architecture import TINY_FOLDER, build_on_meta, quantizable, read_config
from helpers.model.folders import NoSuchModel, check_folder, has_processor
from helpers.model.hardware import Hardware, NotEnoughMemory, choose_hardware, distributed_rank, dtype_name
from helpers.model.spare import spare_work
from helpers.profiles import TINY

TINY_TITLE = "The tiny Audio Flamingo 3"

UNQUANTIZED = ["model.audio_tower", "model.multi_modal_projector", "lm_head"]
"""What stays in 16 bits when a model is loaded in 4. The names are whole on purpose: transformers matches them from the
start of a module's name, so the obvious "audio_tower" would skip nothing (see `check_quantized`)."""


def check_source(model_id: str | os.PathLike, revision: str | None = None) -> dict:
    """Refuse at once what cannot be a model; nothing is asked of the Hub. Gives keyword arguments for
    ``from_pretrained``: ``revision`` is a branch, tag or commit on the Hub.

    Raises:
        NoSuchModel: neither of these, or a folder without a model, or with one of another architecture.
        ValueError: a revision of something that is not on the Hub.
    """
    here = model_id == TINY or (isinstance(model_id, str | os.PathLike) and Path(model_id).is_dir())
    if not here and not is_hub_id(model_id):
        raise NoSuchModel(f"There is no model {model_id!r}: give {TINY!r}, a folder that holds one, or a Hub id such "
                          "as 'nvidia/audio-flamingo-3-hf'.")
    if here and revision is not None:
        raise ValueError(f"revision is {revision!r}, but {model_id!r} is on this machine: only models of the Hub have "
                         "revisions.")
    if here and model_id != TINY:
        name = Path(model_id).name
        try:
            kind = json.loads((Path(model_id) / "config.json").read_text(encoding="utf-8")).get("model_type")
        except (OSError, ValueError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or "no whole JSON text"
            raise NoSuchModel(f"The folder {name!r} holds no model (config.json: {reason}): name the folder that "
                              "save_pretrained has written.") from None
        known = [family.model_type for family in FAMILIES]
        if kind not in known:
            raise NoSuchModel(f"The model in {name!r} is of the type {kind!r}, which the course cannot teach: choose "
                              f"one of the types {', '.join(known)} (see helpers/families.py).")
    return {} if revision is None else {"revision": revision}


def load_processor(model_id: str = TINY, *, revision: str | None = None) -> ProcessorMixin:
    """The processor (feature extractor, tokenizer and chat template) of a model: ``"tiny"``, a Hub id (and perhaps its
    branch, tag or commit as ``revision``), or a folder.

    Raises:
        HubError: the Hub did not give it (see `hub_access`).
        NoSuchModel: see `check_source`; a folder with a processor alone, such as an adapter's, will do.
    """
    with_processor = isinstance(model_id, str | os.PathLike) and has_processor(model_id)
    pinned = {} if with_processor else check_source(model_id, revision)
    check_folder(model_id)
    with hub_access(model_id) as options:
        # Code from a repository is never run, and nobody is asked whether it may be. Revisions are the caller's choice.
        return AutoProcessor.from_pretrained(  # nosec B615: a revision is in `pinned`, if one was asked for
            TINY_FOLDER if model_id == TINY else model_id, trust_remote_code=False, **pinned, **options)


def load_model(model_id: str = TINY, *, device: str | None = None, dtype: torch.dtype | None = None,
               quantize: bool | None = None, revision: str | None = None, quiet: bool = False) -> PreTrainedModel:
    """The model on the best device of this machine, in the dtype that suits it, ready to train or to generate.

    In 4 bits nothing more has to be prepared before an adapter is put on it. ``peft.prepare_model_for_kbit_training``
    would turn everything unquantized into float32, 3.5 GB more for AF3, to steady norms that compute in float32 anyway
    and a head whose loss does.

    Args:
        model_id: ``"tiny"`` for the model shipped with the course, a Hub id, or a folder.
        device, dtype, quantize: overrule the choice (see `choose_hardware`). A merge wants
            ``quantize=False``: adding an adapter to 4-bit matrices rounds most of it away.
        revision: of a model on the Hub, its branch, tag or commit.
        quiet: do not print the line that says what was chosen and why.

    Returns:
        A model of the class that ``config.json`` names, in eval mode: for AF3 an
        ``AudioFlamingo3ForConditionalGeneration``.

    Raises:
        HubError, NoSuchModel: the Hub did not give it, or it is none (see `hub_access` and `check_source`).
        NotEnoughMemory, NoSuchDevice: it does not fit here in any way; a device that is not there.
        UnknownModel: it is of a class that the course does not know, or its weights do not fill that class.
    """
    pinned = check_source(model_id, revision)
    local = model_id == TINY or Path(model_id).is_dir()
    check_folder(model_id)
    stored_in_4_bit = local and getattr(read_config(model_id), "quantization_config", None) is not None
    with hub_access(model_id) as options, ExitStack() as after:
        if local and logging.is_progress_bar_enabled():  # a bar for a load of half a second is noise
            logging.disable_progress_bar()
            after.callback(logging.enable_progress_bar)
        hardware = choose_hardware(device, dtype, model=model_id, quantize=False if stored_in_4_bit else quantize)
        if stored_in_4_bit:
            hardware = dataclasses.replace(hardware, reason=f"{hardware.reason}; the language model stored in 4 bits")
        kind = family_of(read_config(model_id, **pinned, **options)).model_class
        try:
            model = _from_pretrained(TINY_FOLDER if model_id == TINY else model_id, kind, hardware, **pinned, **options)
        except torch.OutOfMemoryError:  # where it was not estimated first
            raise NotEnoughMemory(f"{model_id} does not fit on {hardware.device} in {dtype_name(hardware.dtype)}: "
                                  "close other programs and kernels, or load it with device=\"cpu\". A merge needs no "
                                  "GPU, and the merged folder can be loaded in 4 bits and served.") from None
    spare_work(model)
    if is_quantized(model):
        check_quantized(model)
        # On CPUs with bfloat16 units (AVX512-BF16) bitsandbytes repacks each matrix in eval mode, for a kernel without
        # a backward pass: after an evaluation, the next training step would fail in the middle of autograd.
        for name in quantized_modules(model):
            model.get_submodule(name).support_avx512bf16_for_cpu = False
    if model_id == TINY:
        model.name_or_path = model.config._name_or_path = _relative(TINY_FOLDER)
    # peft 0.21 still reads a name that transformers 5.23 renamed; nothing a learner could do about it.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    if not quiet and not distributed_rank():  # of several processes the first one speaks
        title = TINY_TITLE if model_id == TINY else model_id
        count = model.num_parameters()
        size = f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"
        print(f"{title}: {size} parameters on {hardware}.")
    return model


def _from_pretrained(source: str | Path, kind: type[PreTrainedModel], hardware: Hardware, **options) -> PreTrainedModel:
    """The one call that fetches and reads weights, into the class that the configuration names."""
    if hardware.quantize:
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=hardware.dtype, llm_int8_skip_modules=UNQUANTIZED,
        )
    model, info = kind.from_pretrained(
        source, dtype=hardware.dtype, device_map=hardware.device_map, attn_implementation=hardware.attention,
        output_loading_info=True, ignore_mismatched_sizes=True, **options  # both are looked at below
    )
    missing = sorted(info["missing_keys"]) + sorted(key for key, *_ in info["mismatched_keys"])
    if missing:  # transformers fills them with random numbers, and prints a line
        raise UnknownModel(f"{len(missing)} tensors of the {kind.__name__} are not among the weights in {source} "
                           f"({missing[0]}, for one): its config.json is another model's, or the copy is not whole.")
    return model


def _relative(folder: Path) -> str:
    """What an adapter records as its base: an existing path, so that peft does not ask the Hub about it, and a relative
    one, which keeps the machine out of it. From another drive of Windows there is none."""
    try:
        return Path(os.path.relpath(folder)).as_posix()
    except ValueError:
        return folder.as_posix()


def is_quantized(model: torch.nn.Module) -> bool:
    """Whether matrices of the model are in 4 bits; with an adapter on it or without."""
    return bool(getattr(model, "is_loaded_in_4bit", False))


def quantized_modules(model: torch.nn.Module) -> list[str]:
    """Names of the modules whose matrix is in 4 bits."""
    import bitsandbytes

    return [name for name, module in model.named_modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]


def check_quantized(model: torch.nn.Module) -> None:
    """Make sure that exactly the language model's matrices are in 4 bits.

    A list of modules to skip that matches nothing is no error to transformers: it quantizes the audio tower too, and
    the model merely hears worse. ``model`` is as it was loaded, without an adapter.

    Raises:
        RuntimeError: others are, or some are not.
    """
    found, wanted = set(quantized_modules(model)), set(quantizable(build_on_meta(model.config)))
    if found != wanted:
        example = sorted(found ^ wanted)[0]
        raise RuntimeError(f"{len(found)} matrices are in 4 bits, but {len(wanted)} should be, those of the language "
                           f"model ({example}, for one, is wrong): this release of transformers reads the names to "
                           "skip in another way; install the versions of constraints.txt.")
