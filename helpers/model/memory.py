"""Will it fit? What a model, its adapter and a training step take, counted before anything is downloaded.

Weights and adapters are counted on the meta device, to the byte. Activations are added up from the tensors that autograd
keeps in each layer, in the manner of Korthikanti et al. (2022, "Reducing Activation Recomputation in Large Transformer
Models", section 4.1), with the terms that are different here: LoRA's inputs, grouped key-value heads, attention that
never stores its scores, and a gated feed-forward. ``tests/test_memory.py`` holds the sum against a measured peak.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from transformers import AudioFlamingo3Config

from helpers.model.architecture import FULL_SIZE, build_on_meta, count_audio_tokens, count_windows, quantizable
from helpers.model.lora import LANGUAGE_MODEL_TARGETS
from helpers.profiles import Profile, get_profile

GB = 10**9
GIB = 2**30

PROMPT_TOKENS, ANSWER_TOKENS = 40, 40
"""Text around the audio, and positions whose logits are kept: the system prompt, role tags and question, which take
about 30, and the longest caption of a batch, which few in AudioCaps exceed."""

GPU_MEMORY = {
    "T4 16 GB": 14.56 * GIB, "L4 24 GB": 22.03 * GIB, "A100 40 GB": 39.50 * GIB, "A100 80 GB": 79.14 * GIB,
    "H100 80 GB": 79.10 * GIB,
}
"""Bytes that PyTorch can address on each GPU, as its own out-of-memory messages report them ("GPU 0 has a total capacity
of ..."): less than on the box, because of error correction and the driver."""

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
        """The peak of one step above everything that lasts. Encoder, layers and loss work one after another: the
        highest of them counts, not their sum."""
        return max(self.encoder, self.activations + max(self.working, self.logits))

    @property
    def total(self) -> int:
        """The peak of everything."""
        return self.weights + self.adapters + self.gradients + self.optimizer + self.step

    def __str__(self) -> str:
        rows = {"weights": self.weights, "adapters": self.adapters, "gradients": self.gradients,
                "optimizer state": self.optimizer, "one step, at its peak": self.step, "all": self.total}
        lines = [f"{name:<22}{size / GB:>9.3f} GB" for name, size in rows.items()]
        parts = ", ".join(f"{name} {getattr(self, name) / GB:.3f}" for name in ("encoder", "activations", "working", "logits"))
        lines.insert(5, f"  ({parts})")
        return "\n".join(lines)


def quantized_bytes(elements: int) -> int:
    """Bytes of one matrix in NF4 with double quantization."""
    scales = math.ceil(elements / NF4_BLOCK)
    return math.ceil(elements / 2) + scales + 4 * math.ceil(scales / NF4_SCALES_BLOCK) + NF4_TABLES


@dataclass(frozen=True)
class _Shapes:
    """What has to be known of a model to count its bytes."""

    config: AudioFlamingo3Config
    parameters: int
    buffers: int
    """In bytes: the rotary tables, which stay in float32."""
    quantizable: tuple[int, ...]
    """Elements of each matrix that 4-bit loading quantizes."""
    adapted: tuple[tuple[int, int], ...]
    """Inputs and outputs of each matrix that carries an adapter."""


def _shapes_of(config: AudioFlamingo3Config | str) -> _Shapes:
    model = build_on_meta(config)
    return _Shapes(
        config=model.config,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        buffers=sum(buffer.numel() * 4 for buffer in model.buffers()),
        quantizable=tuple(module.weight.numel() for module in quantizable(model).values()),
        adapted=tuple((module.in_features, module.out_features) for name, module in model.named_modules()
                      if re.fullmatch(LANGUAGE_MODEL_TARGETS, name)),
    )


_known_shapes = lru_cache(maxsize=4)(_shapes_of)


def estimate_memory(
    model: Profile | AudioFlamingo3Config | str = FULL_SIZE,
    *,
    dtype: torch.dtype = torch.bfloat16,
    quantize: bool = False,
    training: bool = True,
    batch_size: int | None = None,
    clip_seconds: float = 10.0,
    checkpointing: bool | None = None,
    trim_logits: bool = True,
    prompt_tokens: int = PROMPT_TOKENS,
    answer_tokens: int = ANSWER_TOKENS,
    rank: int | None = None,
    dropout: float | None = None,
    new_tokens: int = 100,
    device: str = "cuda",
) -> MemoryEstimate:
    """Count the bytes of a run on one device. Nothing is downloaded, and no weight is made.

    Args:
        model: a profile, a model id (see `read_config`) or a configuration.
        dtype: of the weights; in 16 bits the step runs under autocast, as `hardware_settings` has it.
        quantize: the language model's matrices in 4-bit NF4 with double quantization.
        training: a step of LoRA training; otherwise captions are generated with an unmerged adapter.
        batch_size: clips at once; by default the profile's (for captions its ``caption_batch_size``).
        clip_seconds: length of the longest clip of a batch, to which all are padded.
        checkpointing: recompute activations; by default the profile's choice.
        trim_logits: keep the logits of ``answer_tokens`` positions (see `AudioFlamingo3DataCollator`), not of all.
        prompt_tokens, answer_tokens: text of a chat besides the audio.
        rank, dropout: of the adapters; by default the profile's.
        new_tokens: generated at most.
        device: ``"cuda"``, ``"cpu"`` or ``"mps"``: dropout remembers a byte a number on the first, a whole number
            elsewhere.

    Returns:
        A `MemoryEstimate`. A model id or a configuration takes its defaults from the ``full`` profile.

    Raises:
        ValueError: a size that is not positive.
    """
    profile = model if isinstance(model, Profile) else get_profile("full")
    if batch_size is None:
        batch_size = profile.batch_size if training else profile.caption_batch_size
    if batch_size < 1 or clip_seconds <= 0:
        raise ValueError(f"A batch of {batch_size} clips of {clip_seconds:g} s holds nothing: give at least one clip, "
                         "and a length in seconds.")
    checkpointing = profile.gradient_checkpointing if checkpointing is None else checkpointing
    rank = profile.lora_rank if rank is None else rank
    dropout = profile.lora_dropout if dropout is None else dropout

    described = profile.model_id if isinstance(model, Profile) else model
    shapes = _known_shapes(described) if isinstance(described, str) else _shapes_of(described)
    size = dtype.itemsize
    adapters = 4 * rank * sum(inputs + outputs for inputs, outputs in shapes.adapted)
    plain = shapes.parameters - (sum(shapes.quantizable) if quantize else 0)
    weights = plain * size + shapes.buffers + (sum(map(quantized_bytes, shapes.quantizable)) if quantize else 0)
    audio = count_audio_tokens(clip_seconds, shapes.config)
    windows = count_windows(clip_seconds, shapes.config)
    step = _Step(
        config=shapes.config, clips=batch_size, windows=batch_size * windows,
        # Trimmed to the longest clip (see helpers/audio/windows.py); a clip of several windows fills one.
        window=shapes.config.audio_config.max_source_positions if windows > 1
        else min(shapes.config.audio_config.max_source_positions, 2 * audio + 1),
        length=audio + prompt_tokens + (answer_tokens if training else 0), size=size,
        # 4-bit matrices are unpacked one at a time, into the dtype they are multiplied in.
        unpacked=max(shapes.quantizable) * size if quantize else 0,
    )
    if not training:
        return MemoryEstimate(
            weights=weights, adapters=adapters, gradients=0, optimizer=0, encoder=step.encoder(),
            activations=step.cache(new_tokens), working=step.generate(), logits=step.scores(),
        )
    layer = step.kept_by_layer(rank, dropout, device)
    layers = shapes.config.text_config.num_hidden_layers
    kept = layers * (step.layer_input() if checkpointing else layer) + step.kept_once()
    if size < 4:
        kept += adapters // 2  # autocast makes a 16-bit copy of each adapter matrix and keeps it for the step
    return MemoryEstimate(
        weights=weights, adapters=adapters, gradients=adapters, optimizer=2 * adapters + 4 * 2 * len(shapes.adapted),
        encoder=step.encoder(), activations=kept, working=step.backward() + (layer if checkpointing else 0),
        logits=step.loss(answer_tokens if trim_logits else step.length),
    )


@dataclass(frozen=True)
class _Step:
    """Bytes of the tensors in one step. ``h``, ``i``: width of the language model and of its feed-forward part; ``a``:
    width of all attention heads together; ``n``: positions of the whole batch."""

    config: AudioFlamingo3Config
    clips: int
    windows: int
    window: int
    """Positions in one encoder window."""
    length: int
    """Positions of one clip's chat."""
    size: int
    """Bytes of a number in the model's dtype."""
    unpacked: int
    """Bytes of the largest 4-bit matrix once unpacked; 0 without quantization."""

    @property
    def n(self) -> int:
        return self.clips * self.length

    @property
    def h(self) -> int:
        return self.config.text_config.hidden_size

    @property
    def i(self) -> int:
        return self.config.text_config.intermediate_size

    @property
    def head(self) -> int:
        text = self.config.text_config
        return getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads

    @property
    def a(self) -> int:
        return self.config.text_config.num_attention_heads * self.head

    @property
    def mask(self) -> int:
        """Elements of the attention mask; all heads share it."""
        return self.clips * self.length**2

    def encoder(self) -> int:
        """A layer of the audio tower, or the projector if that is wider; forward alone. In a layer's feed-forward
        part the stream, its norm, and the inner numbers before and after the activation live at once, beside the
        mask as booleans and as numbers. In the projector it is its input, and its inner numbers before and after the
        activation."""
        audio = self.config.audio_config
        positions = self.windows * self.window
        layer = positions * (2 * audio.hidden_size + 2 * audio.intermediate_size) * self.size
        mask = self.windows * self.window**2 * (1 + self.size)
        projector = positions // 2 * (audio.hidden_size + 2 * self.h) * self.size
        return max(layer + mask, projector)

    def kept_by_layer(self, rank: int, dropout: float, device: str) -> int:
        """What autograd keeps of one layer of the language model.

        Two norms keep their input in float32. Attention keeps queries, keys and values (repeated for all heads, as
        they are wherever a mask is given), its output, a log-sum a head and position, and the mask as numbers. The
        gated feed-forward keeps gate, activated gate and "up". Frozen matrices keep nothing. Each of the seven
        adapters keeps its input (five as wide as the stream, one as the heads, one as the feed-forward part) and its
        inner ``rank`` numbers; with dropout the input is a copy of its own, and dropout keeps what it dropped.

        A mask is given whenever one clip is shorter than another. With FlashAttention 2 there is none, and the heads share
        their keys and values: then this is too much.
        """
        heads = self.config.text_config.num_attention_heads
        if dropout:
            adapter_inputs = (5 * self.h + self.a + self.i) * (self.size + (1 if device == "cuda" else 4))
        elif self.size < 4:  # autocast casts the float32 input down again for each adapter
            adapter_inputs = (5 * self.h + self.a + self.i) * self.size
        else:  # query, key and value share one input, gate and "up" another
            adapter_inputs = (2 * self.h + self.a + self.i) * self.size
        norms, attention = 2 * self.h * 4, 4 * self.a * self.size + 4 * heads
        feed_forward, inner = 3 * self.i * self.size, 7 * rank * self.size
        return self.n * (norms + attention + feed_forward + adapter_inputs + inner) + self.mask * self.size

    def layer_input(self) -> int:
        """What checkpointing keeps of a layer instead."""
        return self.n * self.h * self.size

    def kept_once(self) -> int:
        """The last norm's input in float32, and the mask as booleans."""
        return self.n * self.h * 4 + self.mask

    def backward(self) -> int:
        """Gradients at the widest moment of the backward pass, inside the feed-forward part: one of its width and
        three of the stream's, and in 16 bits the adapter's float32 gradient before and after dropout beside them."""
        return self.n * (self.size * (self.i + 3 * self.h) + (8 * self.i if self.size < 4 else 0)) + self.unpacked

    def loss(self, positions: int) -> int:
        """Over the logits of so many positions a clip: their log-softmax, its gradient, and theirs, all in float32."""
        return 3 * 4 * self.clips * positions * self.config.text_config.vocab_size

    def cache(self, new_tokens: int) -> int:
        """Keys and values of every layer and position (Pope et al. 2022, "Efficiently Scaling Transformer Inference")."""
        text = self.config.text_config
        positions = self.clips * (self.length + new_tokens)
        return 2 * text.num_hidden_layers * text.num_key_value_heads * self.head * positions * self.size

    def generate(self) -> int:
        """A layer over the whole prompt, at the sum of an unmerged adapter and the "up" matrix beside it: the
        stream, its norm and what came before them; the activated gate and the matrix's own result; the adapter's,
        and the sum, in float32. The mask is there as booleans and as numbers."""
        layer = self.n * (self.size * (3 * self.h + 2 * self.i) + 8 * self.i)
        return layer + self.mask * (1 + self.size) + self.unpacked

    def scores(self) -> int:
        """Of the next token alone, in the model's dtype and in float32."""
        return self.clips * self.config.text_config.vocab_size * (self.size + 4)


@dataclass(frozen=True)
class Fit:
    """One way of loading a model on one GPU."""

    gpu: str
    loading: str
    """``"float16"``, ``"bfloat16"`` or ``"4-bit"``."""
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

    def row(self) -> dict[str, str]:
        """The same as text, for `show_table`."""
        def verdict(fits: bool, estimate: MemoryEstimate) -> str:
            return f"{'fits' if fits else 'too large'}: {estimate.total / GB:.1f} GB"

        return {"GPU": self.gpu, "usable": f"{self.usable / GB:.1f} GB", "loaded in": self.loading,
                "training": verdict(self.trains, self.training), "captions": verdict(self.captions, self.captioning)}


def memory_table(
    model: Profile | AudioFlamingo3Config | str = FULL_SIZE, gpus: Sequence[str] = tuple(GPU_MEMORY), **settings
) -> list[Fit]:
    """Which way of loading fits which GPU, to train and to caption.

    Args:
        model: as for `estimate_memory`.
        gpus: keys of `GPU_MEMORY`.
        **settings: for `estimate_memory`, such as ``clip_seconds`` or ``checkpointing``.

    Returns:
        Two rows a GPU, in 16 bits and in 4; ``show_table([fit.row() for fit in ...])`` shows them.

    Raises:
        ValueError: a GPU that is not in `GPU_MEMORY`.
    """
    rows = []
    for gpu in gpus:
        if gpu not in GPU_MEMORY:
            raise ValueError(f"There is no memory size on record for the GPU {gpu!r}: choose among "
                             f"{', '.join(GPU_MEMORY)}, or add it to GPU_MEMORY.")
        dtype = torch.bfloat16 if gpu.startswith(BF16_GPUS) else torch.float16
        for quantize, loading in ((False, str(dtype).removeprefix("torch.")), (True, "4-bit")):
            training, captioning = (
                estimate_memory(model, dtype=dtype, quantize=quantize, training=training, **settings)
                for training in (True, False)
            )
            rows.append(Fit(gpu, loading, int(GPU_MEMORY[gpu] * (1 - HEADROOM)), training, captioning))
    return rows
