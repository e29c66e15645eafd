"""Where and how a model is loaded (device, dtype, 4-bit or not, attention), and what that means for training."""

import importlib.util
import os
from dataclasses import dataclass

import torch
from transformers.utils import is_flash_attn_2_available

from helpers.families import UnknownModel
from helpers.model.memory import GB, HEADROOM, estimate_memory
from helpers.profiles import TINY, Profile


class NoSuchDevice(ValueError):
    """A device that is not there; the message says what is."""


class NotEnoughMemory(RuntimeError):
    """The model does not fit here in any way; the message says by how much, and what to do."""


@dataclass(frozen=True)
class Hardware:
    """What a model is loaded onto, how, and why."""

    device: str
    """``"cpu"``, ``"mps"``, ``"cuda"``, ``"cuda:1"``, or several: ``"cuda:0,1"``."""
    dtype: torch.dtype
    """Of what is not quantized, and of what is computed."""
    reason: str
    quantize: bool = False
    """The language model's matrices in 4-bit NF4."""
    attention: str = "sdpa"
    device_map: str | dict | None = None
    """As ``from_pretrained`` takes it."""

    def __str__(self) -> str:
        return f"{self.device} in {dtype_name(self.dtype)} ({self.reason})"


def dtype_name(dtype: torch.dtype) -> str:
    """``"bfloat16"`` for ``torch.bfloat16``."""
    return str(dtype).removeprefix("torch.")


def choose_hardware(device: str | None = None, dtype: torch.dtype | None = None, *, model: Profile | str = TINY,
                    quantize: bool | None = None) -> Hardware:
    """The best way to load a model on this machine, judged by what its devices can do and by their free memory.

    - Device: a CUDA GPU, else Apple's GPU, else the CPU. Of several processes (``LOCAL_RANK`` is set) each takes its
      own GPU. A single one that sees several spreads the layers over all of them: left on one, the Trainer would copy
      the model to the others and cut batches apart that have to stay whole.
    - dtype: bfloat16 on GPUs that compute in it (NVIDIA Ampere and later), float32 elsewhere: float16, all that older
      GPUs such as a T4 compute fast in, may overflow, and most CPUs emulate bfloat16, many times slower. Where an older
      GPU has no room for float32, not even beside 4-bit weights, emulated bfloat16.
    - 4-bit NF4 (CUDA alone): if `estimate_memory` says that training unquantized takes more than is free, less
      `HEADROOM`.
    - Attention: FlashAttention 2 where it is installed and the GPU and dtype can use it, else PyTorch's SDPA.

    Args:
        device, dtype, quantize: overrule the choice (``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``; a floating dtype;
            a truth value, and then nothing is estimated).
        model: a profile or a model id, for the estimate.

    Raises:
        NotEnoughMemory: not even in 4 bits can captions be generated on the GPU.
        NoSuchDevice: a device that is not there.
    """
    chosen = device is not None
    device, gpus = _choose_device(device)
    if dtype is not None:
        reason = "you asked for this dtype"
    elif gpus:
        ampere = all(torch.cuda.get_device_capability(gpu)[0] >= 8 for gpu in gpus)
        dtype, reason = ((torch.bfloat16, "this GPU computes in bfloat16") if ampere else
                         _choose_for_an_old_gpu(model, quantize, gpus))
    elif device == "mps":
        dtype, reason = torch.float32, "float32 is the safe choice on Apple's GPU; ask for torch.bfloat16 if it is full"
    else:
        dtype, reason = torch.float32, ("" if chosen else "no GPU here, and ") + "float32 is the safe choice on a CPU"
    if quantize is None and gpus:
        quantize, why = _choose_quantization(model, dtype, gpus)
        reason += f"; {why}" if why else ""
    elif quantize:
        reason += "; the language model in 4-bit NF4, as you asked"
    return Hardware(device=device, dtype=dtype, reason=reason, quantize=bool(quantize),
                    attention=_choose_attention(dtype, gpus),
                    device_map="auto" if len(gpus) > 1 else {"": gpus[0] if gpus else device})


def distributed_rank() -> int | None:
    """This process's number on this machine if a launcher (torchrun, accelerate) has started several, else ``None``."""
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        return int(os.environ.get("LOCAL_RANK", 0))
    return None


def _choose_device(asked: str | None) -> tuple[str, list[int]]:
    """The device's name, and the numbers of the CUDA GPUs in it."""
    if asked is None:
        asked = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if not asked.startswith("cuda"):
        return asked, []
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(asked.partition(":")[2]) if ":" in asked else distributed_rank()
    if number is None and count > 1:
        return f"cuda:{','.join(map(str, range(count)))}", list(range(count))
    if (number or 0) >= count:
        raise NoSuchDevice(f"There is no GPU number {number or 0} here ({count} in all): start at most {count} "
                         "processes, or choose another device.")
    return asked if number is None or ":" in asked else f"cuda:{number}", [number or 0]


def _choose_attention(dtype: torch.dtype, gpus: list[int]) -> str:
    # FlashAttention 2 has kernels for 16 bits on Ampere and later alone (its README, "NVIDIA CUDA Support").
    usable = gpus and dtype.itemsize == 2 and all(torch.cuda.get_device_capability(gpu)[0] >= 8 for gpu in gpus)
    return "flash_attention_2" if usable and is_flash_attn_2_available() else "sdpa"


def free_memory(gpus: list[int]) -> int:
    """Free bytes of CUDA GPUs together; what PyTorch holds but does not use is free for the next model too."""
    return sum(torch.cuda.mem_get_info(gpu)[0] + torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
               for gpu in gpus)


def _choose_for_an_old_gpu(model: Profile | str, quantize: bool | None, gpus: list[int]) -> tuple[torch.dtype, str]:
    """A dtype for a GPU without bfloat16 units. Not float16, the fastest there: numbers inside language models such as
    Qwen2-7B are larger than it can hold (see `helpers.captioning.overflow`)."""
    usable = free_memory(gpus) * (1 - HEADROOM)
    try:
        fits = [way for way in (False, True) if quantize in (None, way)
                and estimate_memory(model, dtype=torch.float32, quantize=way).total <= usable]
    except UnknownModel:
        fits = [True]
    if fits:
        return torch.float32, "this GPU has no bfloat16 units, and float16 may overflow: computed in float32"
    return torch.bfloat16, ("this GPU has no bfloat16 units, and float16 may overflow, but float32 does not fit: "
                            "bfloat16, which PyTorch emulates here, slowly")


def _choose_quantization(model: Profile | str, dtype: torch.dtype, gpus: list[int]) -> tuple[bool, str]:
    """Whether to load in 4 bits, and why; nothing to say where the whole model fits."""
    free = free_memory(gpus)
    usable = free * (1 - HEADROOM)
    try:
        plain, quantized, captioning = (
            estimate_memory(model, dtype=dtype, quantize=quantize, training=training).total
            for quantize, training in ((False, True), (True, True), (True, False)))
    except UnknownModel:
        return False, "what this model takes is not estimated: ask for quantize=True if it does not fit"
    if plain <= usable:
        return False, ""
    there = f"{free / GB:.1f} GB of the GPU's memory are free"
    if not importlib.util.find_spec("bitsandbytes"):
        raise NotEnoughMemory(f"Training in {dtype_name(dtype)} takes {plain / GB:.1f} GB and {there}: run `pip "
                              "install bitsandbytes` and restart the kernel, then the model is loaded in 4 bits.")
    why = (f"the language model in 4-bit NF4, as training takes {plain / GB:.1f} GB without and {quantized / GB:.1f} "
           "GB with it, ")
    if quantized <= usable:
        return True, f"{why}and {free / GB:.1f} GB are free"
    if captioning <= usable:
        return True, f"{why}but {free / GB:.1f} GB are free: enough to caption, not to train"
    raise NotEnoughMemory(f"Even in 4 bits the model takes {captioning / GB:.1f} GB to caption and "
                          f"{quantized / GB:.1f} GB to train, and {there}: close other programs and kernels, choose a "
                          "larger GPU, or use the tiny profile (leave COURSE_PROFILE unset).")


def loader_workers(model, processes: int = 1) -> int:
    """Processes that decode clips and compute features while the GPU works: at most 4, and one processor core for each.

    None on a CPU, where they would take the cores that train. Their number changes neither the order of the clips nor
    where a resumed run goes on (see `ClipStream`).

    Args:
        model: the loaded model.
        processes: training processes on this machine, which share its cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(4, cores // processes - 1)) if model.device.type == "cuda" else 0


def precision_arguments(model: torch.nn.Module, checkpointing: bool = False) -> dict:
    """The ``TrainingArguments`` that follow from where the model was loaded, and are never written by hand.

    ``bf16=True`` on a CPU is refused by ``TrainingArguments``. float16 needs the gradient scaling of ``fp16=True``, for
    its smallest numbers are too large for many gradients; the scaler in turn refuses gradients in float16, which is why
    adapters stay in float32 (peft sees to it: ``autocast_adapter_dtype``).

    ``checkpointing`` (before transformers 5.23 ``gradient_checkpointing``) takes less memory and about a third more
    time. It is the kind without reentrance: it needs no input that asks for a gradient to reach the adapters, and it is
    the one that several processes can train with.
    """
    on_gpu = model.device.type == "cuda"
    settings = {
        "bf16": on_gpu and model.dtype == torch.bfloat16,
        "fp16": on_gpu and model.dtype == torch.float16,
        "dataloader_pin_memory": on_gpu,
        "use_cpu": model.device.type == "cpu",  # a model that was put on the CPU stays there, beside a GPU too
        "activation_checkpointing": checkpointing,
    }
    if checkpointing:
        settings["activation_checkpointing_kwargs"] = {"use_reentrant": False}
    return settings
