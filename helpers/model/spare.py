"""What a model need not compute or keep, left out: its answers and its gradients stay what they were.

`spare_gate` and `spare_dropout` give the same numbers bit for bit on a CPU; where the order of a sum changes
(`spare_head`, `helpers.audio.windows`), they are the same up to rounding.
"""

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


class _DroppedLinear(torch.autograd.Function):
    """``linear(dropout(x), weight)`` that keeps ``x`` and a byte for each of its numbers, and drops again in the
    backward pass. ``x``: ``(..., inputs)``; ``weight``: ``(rank, inputs)``."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, probability: float) -> torch.Tensor:
        dropped, kept = torch.native_dropout(x, probability, True)
        ctx.save_for_backward(x, kept, weight)
        ctx.scale = 1 / (1 - probability) if probability < 1 else 0.0
        return linear(dropped, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, None]:
        x, kept, weight = ctx.saved_tensors
        dropped = torch.ops.aten.native_dropout_backward(x, kept, ctx.scale).flatten(0, -2)
        to_weight = gradient.flatten(0, -2).T @ dropped
        return torch.ops.aten.native_dropout_backward(gradient @ weight, kept, ctx.scale), to_weight, None


class SparingLinear(torch.nn.Linear):
    """An adapter's first matrix with its dropout before it.

    Attributes:
        probability: of dropping a number, while in training mode.
    """

    probability = 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        device = x.device.type
        if not self.training or not self.probability:
            return super().forward(x)
        if device not in ("cpu", "cuda") or torch.is_autocast_enabled(device):  # autocast makes a copy of x in any case
            dropped = (torch.native_dropout(x, self.probability, True)[0] if device == "cpu" else
                       torch.nn.functional.dropout(x, self.probability))
            return super().forward(dropped)
        return _DroppedLinear.apply(x, self.weight, self.probability)


def spare_dropout(adapted: torch.nn.Module) -> torch.nn.Module:
    """The same model with adapters of peft's, whose dropout keeps less for the backward pass.

    Queries, keys and values hear one input, and so do gate and "up": it is kept once, not once an adapter with other
    numbers dropped. What was dropped is a byte a number on a CPU too, where PyTorch's own dropout keeps a float. The
    same numbers are dropped, to the same result and the same gradients.
    """
    for layer in adapted.modules():
        for name, dropout in getattr(layer, "lora_dropout", {}).items():
            first = dict(layer.lora_A.items()).get(name)  # an adapted embedding has none
            if type(dropout) is torch.nn.Dropout and type(first) is torch.nn.Linear:
                first.__class__, first.probability = SparingLinear, dropout.p
                layer.lora_dropout[name] = torch.nn.Identity()
    return adapted
