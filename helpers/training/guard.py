"""Stops a run that cannot learn: at its first step, with a sentence that says why, instead of after a night."""

from __future__ import annotations

import torch
import torch.distributed
from transformers import TrainerCallback

from helpers.chat import IGNORED


class TrainingError(RuntimeError):
    """A run that cannot learn; the message says what is wrong and what to do."""


class TrainingGuard(TrainerCallback):
    """Raises `TrainingError` as soon as a run shows that it cannot learn.

    Before the first step: nothing is trainable. At each forward pass in training: all labels are masked, the loss is
    not finite, or the loss does not depend on any trainable weight. Before the first update: the gradient of every
    trainable tensor is missing or zero. (LoRA begins with ``B = 0``, so ``A`` has no gradient at first; ``B`` has one.)

    ``Trainer`` itself says nothing about any of these: it even leaves losses that are not finite out of its log
    (``logging_nan_inf_filter``).
    """

    def __init__(self):
        self._hook, self._checked = None, False

    def on_train_begin(self, args, state, control, model=None, **kwargs) -> None:
        """Called by the ``Trainer`` before the first step."""
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise TrainingError(
                "Nothing in the model is trainable: add the adapter with get_peft_model, or load a saved one with "
                "PeftModel.from_pretrained(..., is_trainable=True)."
            )
        self._checked = False
        self._remove_hook()
        # A hook, for the callbacks of the Trainer are told neither the batch nor the loss of a step.
        self._hook = model.register_forward_hook(
            lambda module, args, kwargs, output: self.check_forward(module, kwargs, output, state.global_step + 1),
            with_kwargs=True,
        )

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Called by the ``Trainer`` after the last step."""
        self._remove_hook()

    def _remove_hook(self) -> None:
        if self._hook is not None:
            self._hook.remove()
        self._hook = None

    @staticmethod
    def check_forward(model: torch.nn.Module, inputs: dict, output, step: int) -> None:
        """Look at one forward pass in training: its labels, its loss, and what the loss depends on."""
        loss = output.get("loss") if hasattr(output, "get") else None
        if loss is None or not model.training or not torch.is_grad_enabled():
            return
        labels = inputs.get("labels")
        if labels is not None and not (labels != IGNORED).any():
            raise TrainingError(
                f"All labels of a batch of step {step} are masked ({IGNORED}), so there is nothing to learn from it: "
                "look at the collator's labels, and whether a maximum length cuts the answers off."
            )
        if not torch.isfinite(loss).all():
            raise TrainingError(
                f"The loss of step {step} is {loss.item()}: lower the learning rate, look for damaged weights or "
                "audio, and train in float32 or bfloat16 rather than float16 if it happens at once."
            )
        if not loss.requires_grad:
            raise TrainingError(
                "The loss does not depend on any trainable weight, so the adapter gets no gradient: the adapter is "
                "switched off, or activation checkpointing cuts the graph (call model.enable_input_require_grads())."
            )

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs) -> None:
        """Called by the ``Trainer`` after the backward pass, before the weights change."""
        # DeepSpeed keeps the gradients in partitions of its own; there is nothing to look at here.
        if self._checked or getattr(args, "deepspeed_plugin", None) is not None:
            return
        self._checked = True
        tensors = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        alive = any(tensor.grad is not None and _local(tensor.grad).count_nonzero() > 0 for tensor in tensors)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            # Of weights that are sharded over processes, one process may well hold only those without a gradient.
            votes = torch.tensor(int(alive), device=args.device)
            torch.distributed.all_reduce(votes, op=torch.distributed.ReduceOp.MAX)
            alive = bool(votes)
        if not alive:
            raise TrainingError(
                f"The adapter gets no gradient: after step {state.global_step + 1} the gradients of all {len(tensors)} "
                "trainable tensors are missing or zero; is the adapter on modules that the forward pass uses, and is "
                "it switched on?"
            )


def _local(gradient: torch.Tensor) -> torch.Tensor:
    """This process's part of a gradient that FSDP shards (a ``DTensor``), or the gradient itself."""
    return gradient.to_local() if hasattr(gradient, "to_local") else gradient
