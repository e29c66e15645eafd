"""What a model need not compute or keep, left out: its answers and its gradients stay what they were.

`spare_gate` and `spare_dropout` give the same numbers bit for bit on a CPU; where the order of a sum changes
(`spare_head`, `helpers.audio.windows`), they are the same up to rounding.
"""

from types import MethodType

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear, silu
from transformers import PreTrainedModel
from transformers.activations import SiLUActivation
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP

from helpers.audio.windows import accept_trimmed


def spare_work(model: PreTrainedModel) -> None:
    """Let a model of the library's do nothing that nobody needs."""
    spare_audio_tower(model)
    spare_cache(model)
    spare_head(model)
    spare_gate(model)
    accept_trimmed(model)


def spare_audio_tower(model: PreTrainedModel) -> None:
    """Keep the backward pass out of the frozen audio tower when activations are checkpointed.

    transformers (``enable_input_require_grads``) then makes the first layer of every sub-model ask for a gradient, so
    that one reaches the adapters. The tower would compute its layers a second time, for a backward pass that trains
    nothing. With no input layer to name, it is passed over; the token embeddings are enough.
    """
    model.model.audio_tower.get_input_embeddings = lambda: None


def spare_cache(model: PreTrainedModel) -> None:
    """Keep no keys and values for later while the model is in training mode, unless they are asked for.

    `Trainer` means to see to that, but says so in the model's own configuration; the language model looks into its own.
    """
    def without(language_model: torch.nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        spared = language_model.training and kwargs.get("past_key_values") is None  # `generate` brings its own
        return args, {**kwargs, "use_cache": False} if spared else kwargs

    model.model.language_model.register_forward_pre_hook(without, with_kwargs=True)


def spare_head(model: PreTrainedModel) -> None:
    """Multiply the last positions of all clips by the output head at once.

    They are a slice of all positions, and PyTorch reads the head's whole matrix once for each clip of such a slice.
    """
    model.lm_head.register_forward_pre_hook(lambda head, args: (args[0].contiguous(), *args[1:]))


class _Gate(torch.autograd.Function):
    """``silu(gate) * up`` that keeps ``gate`` and ``up``, ``(B, L, intermediate)``, for the backward pass, and computes
    the activated gate again there; as PyTorch writes it, that one is kept too."""

    @staticmethod
    def forward(ctx, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return silu(gate).mul_(up)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        gate, up = ctx.saved_tensors
        to_gate = torch.ops.aten.silu_backward(gradient * up, gate)
        return to_gate, silu(gate).mul_(gradient)


class SparingMLP(Qwen2MLP):
    """The language model's feed-forward part, which keeps two wide tensors a layer for the backward pass, not three."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(_Gate.apply(self.gate_proj(x), self.up_proj(x)))


def spare_gate(model: torch.nn.Module) -> None:
    """Keep the activated gates of Qwen2's feed-forward parts no longer than they are needed (see `SparingMLP`)."""
    for module in model.modules():
        if type(module) is Qwen2MLP and isinstance(module.act_fn, SiLUActivation | torch.nn.SiLU):
            module.__class__ = SparingMLP
            if hasattr(module, "_old_forward"):  # accelerate's hooks, on several devices, hold the method itself
                module._old_forward = MethodType(SparingMLP.forward, module)


def _drop(x: torch.Tensor, probability: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | float]:
    """What PyTorch's dropout leaves of ``x``, which numbers it kept, as booleans, and what it multiplies them by."""
    if x.device.type != "cpu":
        return *torch.native_dropout(x, probability, True), 1 / (1 - probability) if probability < 1 else 0.0
    kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1 - probability)
    scale = torch.ones((), dtype=x.dtype).div_(1 - probability) if probability < 1 else 0.0  # rounded as it is there
    return x.mul(kept).mul_(scale), kept, scale


class _DroppedLinear(torch.autograd.Function):
    """``linear(dropout(x), weight)`` that keeps ``x`` and a byte for each of its numbers, and drops again in the
    backward pass. ``x``: ``(..., inputs)``; ``weight``: ``(rank, inputs)``."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, probability: float) -> torch.Tensor:
        dropped, kept, ctx.scale = _drop(x, probability)
        ctx.save_for_backward(x, kept, weight)
        return linear(dropped, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        x, kept, weight = ctx.saved_tensors
        to_x = to_weight = None
        if ctx.needs_input_grad[1]:
            dropped = x.mul(kept).mul_(ctx.scale).reshape(-1, x.shape[-1])
            to_weight = gradient.reshape(-1, gradient.shape[-1]).T @ dropped
            del dropped  # as wide as what comes next
        if ctx.needs_input_grad[0]:
            to_x = (gradient @ weight).mul_(kept).mul_(ctx.scale)
        return to_x, to_weight, None


class LaterDropout(torch.nn.Dropout):
    """An adapter's dropout, left to the matrix after it, which asks this for the probability (see `SparingLinear`)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class SparingLinear(torch.nn.Linear):
    """An adapter's first matrix with its dropout before it.

    Attributes:
        dropouts: the `LaterDropout` before it; in a list, so that it is no part of this module too.
    """

    dropouts: list[LaterDropout]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        (dropout,), device = self.dropouts, x.device.type
        if not dropout.training or not dropout.p:
            return super().forward(x)
        if device not in ("cpu", "cuda") or torch.is_autocast_enabled(device):  # autocast makes a copy of x in any case
            return super().forward(_drop(x, dropout.p)[0] if device == "cpu" else torch.dropout(x, dropout.p, True))
        return _DroppedLinear.apply(x, self.weight, dropout.p)


def spare_dropout(adapted: torch.nn.Module) -> torch.nn.Module:
    """The same model with plain LoRA adapters of peft's, whose dropout keeps less for the backward pass.

    Queries, keys and values hear one input, and so do gate and "up". Without autocast it is kept once, not once an
    adapter with other numbers dropped (autocast copies it for each in any case). What was dropped is a byte a number on
    a CPU too, where PyTorch's own dropout keeps a float. The same numbers are dropped, to the same result and the same
    gradients. Variants such as DoRA, which use the dropout in other ways, are left as they are.
    """
    for layer in adapted.modules():
        for name, dropout in getattr(layer, "lora_dropout", {}).items():
            first = dict(layer.lora_A.items()).get(name)  # an adapted embedding has none
            plain = name not in getattr(layer, "lora_variant", {})
            if plain and type(dropout) is torch.nn.Dropout and type(first) is torch.nn.Linear:
                dropout.__class__, first.__class__ = LaterDropout, SparingLinear
                first.dropouts = [dropout]
    return adapted
