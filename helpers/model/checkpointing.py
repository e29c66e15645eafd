"""Whether a run has to compute its activations twice, decided by what is free."""

import torch

from helpers.families import family_of
from helpers.model.hardware import free_memory
from helpers.model.loading import is_quantized
from helpers.model.memory import GB, HEADROOM, estimate_memory
from helpers.profiles import Profile


def choose_checkpointing(model: torch.nn.Module, profile: Profile) -> tuple[bool, str]:
    """Whether to checkpoint activations, and why; nothing to say where nothing was decided.

    Checkpointing saves memory by computing each layer once more in the backward pass: over a quarter of a step's
    operations. A profile that asks for it gets it only if a step does not fit without; one that does not, never. The
    model's weights, on its device by now, are no longer part of what is free.
    """
    if not profile.gradient_checkpointing:
        return False, ""
    if model.device.type != "cuda" or not family_of(model.config).estimated:
        return True, ""
    places = (getattr(model, "hf_device_map", None) or {}).values()
    gpus = sorted({place for place in places if isinstance(place, int)})
    free = free_memory(gpus or [model.device.index or 0])
    needed = estimate_memory(profile, dtype=model.dtype, quantize=is_quantized(model), checkpointing=False)
    step = needed.total - needed.weights
    fits = step <= free * (1 - HEADROOM)
    return not fits, (f"Activation checkpointing is {'off' if fits else 'on'}: without it a step takes {step / GB:.1f} "
                      f"GB beside the weights, and {free / GB:.1f} GB are free.")
