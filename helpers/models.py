"""Processor and model for the hardware at hand: which device, which dtype, and what training needs to be told."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor, TrainingArguments
from transformers.processing_utils import ProcessorMixin
from transformers.utils import logging

from helpers.hub import hub_access

TINY = "tiny"
TINY_FOLDER = Path(__file__).parent / "tiny" / "weights"
TINY_TITLE = "The tiny Audio Flamingo 3"


@dataclass(frozen=True)
class Hardware:
    """What a model is loaded onto, and why."""

    device: str
    dtype: torch.dtype
    reason: str


def choose_hardware(device: str | None = None, dtype: torch.dtype | None = None) -> Hardware:
    """Device and dtype for this machine.

    Args:
        device: ``"cpu"``, ``"cuda"`` or ``"mps"`` to overrule the choice.
        dtype: a floating dtype to overrule the choice.

    Returns:
        bfloat16 on GPUs that compute in it (NVIDIA Ampere and later), float16 on older ones such as a T4, float32
        elsewhere: a CPU without bfloat16 units emulates it many times slower, and Apple's GPU is safest in float32.
    """
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if dtype is not None:
        return Hardware(device, dtype, "you asked for this dtype")
    if device.startswith("cuda"):
        if torch.cuda.get_device_capability(device)[0] >= 8:
            return Hardware(device, torch.bfloat16, "this GPU computes in bfloat16")
        return Hardware(device, torch.float16, "this GPU has no bfloat16 units, but fast float16")
    if device == "mps":
        return Hardware(device, torch.float32, "float32 is the safe choice on Apple's GPU")
    return Hardware(device, torch.float32, "no GPU here, and a CPU is fastest in float32")


def load_processor(model_id: str = TINY) -> ProcessorMixin:
    """The processor (feature extractor, tokenizer and chat template) of a model.

    Args:
        model_id: ``"tiny"``, a Hub id, or a folder.

    Raises:
        HubError: the Hub did not give it (see `hub_access`).
    """
    with hub_access(model_id) as options:
        return AutoProcessor.from_pretrained(TINY_FOLDER if model_id == TINY else model_id, **options)


def load_model(
    model_id: str = TINY,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    quiet: bool = False,
) -> AudioFlamingo3ForConditionalGeneration:
    """The model on the best device of this machine, in the dtype that suits it, ready to train or to generate.

    Args:
        model_id: ``"tiny"`` for the model shipped with the course, a Hub id, or a folder.
        device: overrules the device (see `choose_hardware`).
        dtype: overrules the dtype.
        quiet: do not print the line that says what was chosen and why.

    Returns:
        An ``AudioFlamingo3ForConditionalGeneration`` in eval mode.

    Raises:
        HubError: the Hub did not give it (see `hub_access`).
    """
    hardware = choose_hardware(device, dtype)
    bars = logging.is_progress_bar_enabled()
    if Path(model_id).is_dir() or model_id == TINY:
        logging.disable_progress_bar()  # a bar for a load of half a second is noise
    try:
        with hub_access(model_id) as options:
            model = AudioFlamingo3ForConditionalGeneration.from_pretrained(
                TINY_FOLDER if model_id == TINY else model_id, dtype=hardware.dtype, device_map=hardware.device, **options
            )
    finally:
        if bars:
            logging.enable_progress_bar()
    if model_id == TINY:
        # What an adapter records as its base. A relative path keeps the machine out of it, and an existing one
        # keeps peft from asking the Hub about it.
        model.name_or_path = model.config._name_or_path = Path(os.path.relpath(TINY_FOLDER)).as_posix()
    # peft 0.21 still reads a name that transformers 5.23 renamed; nothing a learner could do about it.
    warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
    if not quiet:
        title = TINY_TITLE if model_id == TINY else model_id
        count = model.num_parameters()
        size = f"{count / 1e9:.2f} B" if count >= 1e9 else f"{count / 1e6:.2f} M"
        print(f"{title}: {size} parameters on {hardware.device} in "
              f"{str(hardware.dtype).removeprefix('torch.')} ({hardware.reason}).")
    return model


def hardware_settings(model: torch.nn.Module, checkpointing: bool = False) -> dict:
    """The ``TrainingArguments`` that follow from where the model was loaded, and are never written by hand.

    ``bf16=True`` on a CPU is refused by ``TrainingArguments``, and float16 needs the gradient scaling that
    ``fp16=True`` switches on.

    Args:
        model: the loaded model.
        checkpointing: recompute activations in the backward pass: less memory, about a third more time.

    Returns:
        Keyword arguments: precision flags, pinned memory, and checkpointing under the name that the installed
        transformers knows it by (``gradient_checkpointing`` until 5.22, ``activation_checkpointing`` since).
    """
    on_gpu = model.device.type == "cuda"
    name = "activation_checkpointing"
    if name not in TrainingArguments.__dataclass_fields__:
        name = "gradient_checkpointing"
    return {
        "bf16": on_gpu and model.dtype == torch.bfloat16,
        "fp16": on_gpu and model.dtype == torch.float16,
        "dataloader_pin_memory": on_gpu,
        name: checkpointing,
    }
