"""Will it fit? What a model, its adapter and a training step take, counted before anything is downloaded.

Weights and adapters are counted on the meta device, to the byte; what a step needs besides, `helpers.model.activations`
adds up. ``tests/test_model_memory.py`` holds the sum against a measured peak.
"""

import math
import re
from dataclasses import dataclass
from functools import lru_cache

import torch
from transformers import PreTrainedConfig

from helpers.model import architecture
from helpers.model.activations import encoder_bytes, generating_bytes, training_bytes
from helpers.model.architecture import FULL_SIZE, count_audio_tokens, count_windows
from helpers.model.lora import LANGUAGE_MODEL_TARGETS
from helpers.profiles import Profile, get_profile

GB = 10**9
GIB = 2**30

PROMPT_TOKENS, ANSWER_TOKENS = 40, 40
"""Text around the audio, and positions whose logits are kept: the system prompt, role tags and question, which take
about 30, and the longest caption of a batch, which few in AudioCaps exceed."""

GPU_MEMORY = {"T4 16 GB": 14.56 * GIB, "L4 24 GB": 22.03 * GIB, "A100 40 GB": 39.50 * GIB, "A100 80 GB": 79.14 * GIB,
              "H100 80 GB": 79.10 * GIB}
"""Bytes that PyTorch can address on each GPU, as its own out-of-memory messages report them ("GPU 0 has a total
capacity of ..."): less than on the box, because of error correction and the driver."""

BF16_GPUS = ("L4", "A100", "H100")
"""Those of `GPU_MEMORY` that compute in bfloat16."""

HEADROOM = 0.10
"""Share of the free memory that is left alone: the CUDA context, the libraries' workspaces, and gaps between blocks.
transformers leaves the same share free when it spreads a quantized model (``Bnb4BitHfQuantizer.adjust_max_memory``)."""

# bitsandbytes' NF4 with double quantization (Dettmers et al. 2023, QLoRA, section 3): a 4-bit code for each weight, an
# 8-bit scale for each block of 64, a float32 scale for each 256 of those, and for each matrix a float32 offset and the
# two tables that codes and scales are looked up in, of 16 and of 256 float32 values.
NF4_BLOCK, NF4_SCALES_BLOCK, NF4_TABLES = 64, 256, 4 * (1 + 16 + 256)


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes, by what they are for. The first four last through the whole run, the others come and go with each step."""

    weights: int
    """Parameters and buffers as they lie in memory; a 4-bit matrix with its scales and tables."""
    adapters: int
    """LoRA's matrices. peft keeps them in float32 whatever the model is in, and float16 training relies on it."""
    gradients: int
    """One for each adapter parameter; 0 when nothing is trained."""
    optimizer: int
    """AdamW's two running means for each adapter parameter, and a step counter for each tensor."""
    encoder: int
    """The audio tower's and the projector's largest layer at work. They are frozen, so nothing of it is kept."""
    activations: int
    """What the language model keeps for the backward pass, or, when it generates, its key-value cache."""
    working: int
    """What one layer of the language model needs on top while it computes; with checkpointing, all that it keeps
    too, for it is computed again just before its backward pass."""
    logits: int
    """Scores over the vocabulary, and what the loss makes of them."""

    @property
    def step(self) -> int:
        """The peak of one step above what lasts: encoder, layers and loss work in turn, so the highest counts."""
        return max(self.encoder, self.activations + max(self.working, self.logits))

    @property
    def total(self) -> int:
        """The peak of everything."""
        return self.weights + self.adapters + self.gradients + self.optimizer + self.step

    def __str__(self) -> str:
        rows = {"weights": self.weights, "adapters": self.adapters, "gradients": self.gradients,
                "optimizer state": self.optimizer, "one step, at its peak": self.step, "all": self.total}
        lines = [f"{name:<22}{size / GB:>9.3f} GB" for name, size in rows.items()]
        parts = ("encoder", "activations", "working", "logits")
        lines.insert(5, f"  ({', '.join(f'{name} {getattr(self, name) / GB:.3f}' for name in parts)})")
        return "\n".join(lines)


def quantized_bytes(elements: int) -> int:
    """Bytes of one matrix in NF4 with double quantization."""
    scales = math.ceil(elements / NF4_BLOCK)
    return math.ceil(elements / 2) + scales + 4 * math.ceil(scales / NF4_SCALES_BLOCK) + NF4_TABLES


def _shapes_of(config: PreTrainedConfig | str) -> tuple[PreTrainedConfig, int, int, list[int], list[tuple[int, int]]]:
    """A model's configuration, elements of its parameters, bytes of its buffers (rotary tables, float32), elements of
    each matrix that can be 4-bit, and inputs and outputs of each with an adapter."""
    config = architecture.read_config(config) if isinstance(config, str) else config
    architecture.check_estimated(config)
    model = architecture.build_on_meta(config)
    adapted = [(module.in_features, module.out_features) for name, module in model.named_modules()
               if re.fullmatch(LANGUAGE_MODEL_TARGETS, name)]
    return (model.config, sum(parameter.numel() for parameter in model.parameters()),
            sum(buffer.numel() * 4 for buffer in model.buffers()),
            [module.weight.numel() for module in architecture.quantizable(model).values()], adapted)


_known_shapes = lru_cache(maxsize=4)(_shapes_of)


def estimate_memory(model: Profile | PreTrainedConfig | str = FULL_SIZE, *, dtype: torch.dtype = torch.bfloat16,
                    quantize: bool = False, training: bool = True, batch_size: int | None = None,
                    clip_seconds: float = 10.0, checkpointing: bool | None = None, trim_logits: bool = True,
                    prompt_tokens: int = PROMPT_TOKENS, answer_tokens: int = ANSWER_TOKENS, rank: int | None = None,
                    dropout: float | None = None, new_tokens: int = 100, device: str = "cuda") -> MemoryEstimate:
    """Count the bytes of a run on one device. Nothing is downloaded, and no weight is made.

    Args:
        model: a profile, or a model id (see `read_config`) or configuration with the ``full`` profile's numbers.
        dtype: of the weights; in 16 bits the step runs under autocast, as `precision_arguments` has it.
        quantize: the language model's matrices in 4-bit NF4 with double quantization.
        training: a step of LoRA training; otherwise captions are generated with an unmerged adapter.
        batch_size, checkpointing, rank, dropout: by default the profile's (for captions its ``caption_batch_size``).
        clip_seconds: length of the longest clip of a batch, to which all are padded.
        trim_logits: keep the logits of ``answer_tokens`` positions (see `AudioFlamingo3DataCollator`), not of all.
        prompt_tokens, answer_tokens: text of a chat besides the audio; ``new_tokens`` are generated at most.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``: on the last the adapters' dropout keeps more (see `spare_dropout`).

    Raises:
        ValueError, UnknownModel: a size that is not positive; a model that is not of AF3's family.
    """
    profile = model if isinstance(model, Profile) else get_profile("full")
    if batch_size is None:
        batch_size = profile.batch_size if training else profile.caption_batch_size
    if batch_size < 1 or clip_seconds <= 0:
        raise ValueError(f"A batch of {batch_size} clips of {clip_seconds:g} s holds nothing: give at least one clip, "
                         "and a length in seconds.")
    rank = profile.lora_rank if rank is None else rank
    described = profile.model_id if isinstance(model, Profile) else model
    look = _known_shapes if isinstance(described, str) else _shapes_of
    config, parameters, buffers, matrices, adapted = look(described)
    size, quantized = dtype.itemsize, matrices if quantize else []
    adapters = 4 * rank * sum(inputs + outputs for inputs, outputs in adapted)
    weights = (parameters - sum(quantized)) * size + buffers + sum(map(quantized_bytes, quantized))
    length = count_audio_tokens(clip_seconds, config) + prompt_tokens + (answer_tokens if training else 0)
    unpacked = max(quantized, default=0) * size  # one 4-bit matrix at a time, into the dtype it is multiplied in
    windows = batch_size * count_windows(clip_seconds, config)
    encoder = encoder_bytes(config, windows, architecture.count_positions(clip_seconds, config), size)
    if not training:
        step = generating_bytes(config, batch_size, length, new_tokens, size, unpacked)
        return MemoryEstimate(weights, adapters, 0, 0, encoder, *step)
    kept, working, logits = training_bytes(config, batch_size, length, answer_tokens if trim_logits else length, size,
                                           unpacked,
                                           profile.gradient_checkpointing if checkpointing is None else checkpointing,
                                           rank, profile.lora_dropout if dropout is None else dropout, device)
    if size < 4:
        kept += adapters // 2  # autocast makes a 16-bit copy of each adapter matrix and keeps it for the step
    optimizer = 2 * adapters + 4 * 2 * len(adapted)
    return MemoryEstimate(weights, adapters, adapters, optimizer, encoder, kept, working, logits)


@dataclass(frozen=True)
class Fit:
    """One way of loading a model on one GPU."""

    gpu: str
    loading: str
    """``"float32"``, ``"bfloat16"`` or ``"4-bit"``."""
    usable: int
    """Bytes of the GPU, less `HEADROOM`."""
    training: MemoryEstimate
    captioning: MemoryEstimate

    @property
    def trains(self) -> bool:
        return self.training.total <= self.usable

    @property
    def captions(self) -> bool:
        return self.captioning.total <= self.usable

    def row(self) -> dict[str, str | float]:
        """For `show_table`."""
        return {"GPU": self.gpu, "loaded in": self.loading, "usable (GB)": self.usable / GB,
                "training (GB)": self.training.total / GB, "captions (GB)": self.captioning.total / GB,
                "fits": "both" if self.trains else "captions" if self.captions else "nothing"}


def memory_table(model: Profile | PreTrainedConfig | str = FULL_SIZE, **settings) -> list[Fit]:
    """Which way of loading fits which GPU, to train and to caption: two rows a GPU, in the dtype that `choose_hardware`
    takes there and in 4 bits. ``show_table([fit.row() for fit in ...])`` shows them; ``settings``: of
    `estimate_memory`."""
    rows = []
    for gpu, memory in GPU_MEMORY.items():
        dtype = torch.bfloat16 if gpu.startswith(BF16_GPUS) else torch.float32
        for quantize, loading in ((False, str(dtype).removeprefix("torch.")), (True, "4-bit")):
            options = {"dtype": dtype, "quantize": quantize, **settings}
            training, captioning = (estimate_memory(model, training=use, **options) for use in (True, False))
            rows.append(Fit(gpu, loading, int(memory * (1 - HEADROOM)), training, captioning))
    return rows
