"""Stops a run that cannot learn: at its first step, with a sentence that says why, instead of after a night."""

import torch
import torch.distributed
from transformers import TrainerCallback
from transformers.processing_utils import ProcessorMixin

from helpers.chat import IGNORED
from helpers.training.batches import check_batch
from helpers.training.runs import all_finite, check_adapters, check_settings, find_processor, local

MOST_SKIPPED = 20
"""Updates in a row that a float16 gradient scaler may skip. It starts at 2**16 and halves its factor each time, so
sixteen are enough for gradients of any healthy size."""

LEAST_DEPENDENCE = 0.03
"""By which share of the loss wrong clips must make it worse. Measured on the tiny AF3 over batches of eight: 0.13 and
0.26 before training, 0.9 and 1.9 after 16 steps; 0.00 at ten times the learning rate and without audio."""

LEAST_CLIPS, MOST_BATCHES = 8, 4
"""How many clips it takes to tell, and how many batches of an evaluation are kept for it."""


class TrainingError(RuntimeError):
    """A run that cannot learn; the message says what is wrong and what to do."""


class TrainingGuard(TrainerCallback):
    """Raises `TrainingError` as soon as a run shows that it cannot learn.

    - Before the first step: what `check_adapters` and the numbers of the run show.
    - At each forward pass in training: labels that are all masked, a loss that is not finite or does not depend on any
      trainable weight; in the first step also all that `check_batch` shows.
    - Before each update: gradients that are not finite; before the first: none, or all zero. (LoRA begins with ``B =
      0``, so ``A`` has no gradient at first; ``B`` has one.) After the first: not a weight has changed. After each: a
      weight is not finite, so nothing of it is saved.
    - At the first evaluation in training: with the clips of its batches swapped in some way the loss is no worse, so
      the answers do not depend on the audio.

    ``Trainer`` itself says nothing about any of these: it even leaves losses that are not finite out of its log
    (``logging_nan_inf_filter``).

    Args:
        processor: the model's processor; by default the one that the run's collator holds.
    """

    def __init__(self, processor: ProcessorMixin | None = None):
        self.processor, self._hook = processor, None
        self._begin()

    def _begin(self) -> None:
        self._alive = self._moved = self._listened = False
        self._before, self._heard, self._unmoving, self._skipped = [], [], 0, 0

    def on_train_begin(self, args, state, control, model=None, train_dataloader=None, **kwargs) -> None:
        """Called by the ``Trainer`` before the first step."""
        # Without LoRA the whole model may be trained, and that is a choice too.
        lora = any("lora_" in name for name, _ in model.named_parameters())
        adapters = check_adapters(model) if lora or not any(p.requires_grad for p in model.parameters()) else []
        _stop_for([*adapters, *check_settings(args, state.max_steps)])
        self._begin()
        self._remove_hook()
        processor = self.processor or find_processor(getattr(train_dataloader, "collate_fn", None))
        first = state.global_step + 1

        def look(module, inputs, kwargs, output):
            if module.training:
                self.check_forward(module, kwargs, output, state.global_step + 1)
                if state.global_step + 1 == first and torch.is_grad_enabled():
                    _stop_for(check_batch(kwargs, processor), f"In step {first}: ")
            elif not self._listened and len(self._heard) < MOST_BATCHES and kwargs.get("labels") is not None:
                self._heard.append((kwargs, output.loss.detach().clone()))  # Trainer multiplies it in place

        # A hook, for the callbacks of the Trainer are told neither the batch nor the loss of a step.
        self._hook = model.register_forward_hook(look, with_kwargs=True)

    def on_train_end(self, args, state, control, **kwargs) -> None:
        """Called by the ``Trainer`` after the last step."""
        self._remove_hook()
        self._heard, self._before = [], []

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
            raise TrainingError(f"All labels of a batch of step {step} are masked ({IGNORED}), so there is nothing to "
                                "learn from it: look at the collator's labels, and whether a maximum length cuts the "
                                "answers off.")
        if not torch.isfinite(loss).all():
            raise TrainingError(f"The loss of step {step} is {loss.item()}: lower the learning rate, look for damaged "
                                "weights or audio, and train in float32 or bfloat16 rather than float16 if it happens "
                                "at once.")
        if not loss.requires_grad:
            raise TrainingError("The loss does not depend on any trainable weight, so the adapter gets no gradient: "
                                "the adapter is switched off, or activation checkpointing cuts the graph (call "
                                "model.enable_input_require_grads()).")

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs) -> None:
        """Called by the ``Trainer`` after the backward pass, before the weights change."""
        # DeepSpeed keeps the gradients in partitions of its own; there is nothing to look at here.
        if getattr(args, "deepspeed_plugin", None) is not None:
            return
        step = state.global_step + 1
        tensors = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        with_gradient = [tensor for tensor in tensors if tensor.grad is not None]
        if not _everywhere(all_finite([tensor.grad for tensor in with_gradient]), args.device):
            self._skipped += 1  # the scaler of float16 skips such an update, and tries the next with smaller numbers
            if args.fp16 and self._skipped <= MOST_SKIPPED:
                return
            again = f" in {self._skipped} updates in a row" if args.fp16 else ""
            raise TrainingError(f"Gradients of step {step} are NaN or infinite{again}: lower the learning rate, look "
                                "for damaged audio, and train in bfloat16 or float32 rather than float16.")
        self._skipped = 0
        if not self._alive:
            # Of weights that are sharded over processes, one process may well hold only those without a gradient.
            self._alive = _somewhere(any(_has_gradient(tensor) for tensor in with_gradient), args.device)
        if not self._alive:
            raise TrainingError(f"The adapter gets no gradient: after step {step} the gradients of all {len(tensors)} "
                                "trainable tensors are missing or zero; is the adapter on modules that the forward "
                                "pass uses, and is it switched on?")
        if not self._moved and any(group["lr"] > 0 for group in optimizer.param_groups):
            moving = [tensor for tensor in with_gradient if _has_gradient(tensor)][:8]  # one that moves is enough
            self._before = [(tensor, local(tensor.detach()).clone()) for tensor in moving]
        elif not self._moved:
            self._unmoving += 1  # a warm-up begins with an update at rate 0
            if self._unmoving > 1:
                raise TrainingError(f"The learning rate is 0 in {self._unmoving} updates, the last in step {step}, so "
                                    "no weight changes: look at the schedule.")

    def on_optimizer_step(self, args, state, control, **kwargs) -> None:
        """Called by the ``Trainer`` right after an update."""
        if getattr(args, "deepspeed_plugin", None) is not None or self._moved or self._skipped:
            return
        if _somewhere(bool(self._before), args.device):
            self._moved = _somewhere(any(not torch.equal(local(tensor.detach()), old) for tensor, old in self._before),
                                     args.device)
            if not self._moved:
                raise TrainingError(f"The update of step {state.global_step + 1} changed no weight: the learning rate "
                                    "is too small for the weights' dtype, or the optimizer holds other tensors than "
                                    "the model.")
        self._before = []

    def on_step_end(self, args, state, control, model=None, **kwargs) -> None:
        """Called by the ``Trainer`` after each update, before it evaluates or saves."""
        weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not _everywhere(all_finite(weights), args.device):
            raise TrainingError(f"After step {state.global_step} trainable weights are NaN or infinite, and nothing of "
                                "them is saved: lower the learning rate, and go on from an earlier checkpoint or begin "
                                "anew.")

    def on_evaluate(self, args, state, control, model=None, **kwargs) -> None:
        """Called by the ``Trainer`` after an evaluation: the first in training is repeated with clips swapped."""
        if self._listened or self._hook is None:
            return
        heard = [pair for pair in self._heard if len(pair[0].get("input_features", ())) > 1]
        self._heard, self._listened = [], True
        heard = heard[: int(_reduced(len(heard), args.device, "MIN"))]
        if not _everywhere(sum(len(inputs["input_ids"]) for inputs, _ in heard) >= LEAST_CLIPS, args.device):
            return  # two clips of the same sound may be swapped without harm
        right = self._mean([loss for _, loss in heard], args.device)
        was_training = model.training
        model.eval()
        with torch.no_grad():
            wrong = min(self._mean([model(**_swapped(inputs, way)).loss for inputs, _ in heard], args.device)
                        for way in range(3))
        model.train(was_training)
        if wrong - right < LEAST_DEPENDENCE * right:
            raise TrainingError(f"The answers do not depend on the audio: at step {state.global_step} the loss of "
                                f"{len(heard)} batches is {right:.3f} with their clips and {wrong:.3f} with clips "
                                "swapped; look at whether captions belong to their clips, whether the features are the "
                                "clips' own, and lower the learning rate.")

    @staticmethod
    def _mean(losses: list[torch.Tensor], device) -> float:
        """Of some batches of all processes."""
        total, count = sum(float(loss) for loss in losses), len(losses)
        return _reduced(total, device, "SUM") / _reduced(count, device, "SUM")


def _swapped(inputs: dict, way: int) -> dict:
    """A batch in which the windows have moved on to other rows, in one of three ways; ids and labels are as they were.

    As many frames as before fill the same placeholders. Windows of long clips move by half of all.
    """
    windows = len(inputs["input_features"])
    shift = (1, 2, windows - 1)[way] if windows == len(inputs["input_ids"]) else windows // 2
    moved = {name: inputs[name].roll(shift % windows or 1, 0) for name in ("input_features", "input_features_mask")}
    return {**inputs, **moved}


def _stop_for(findings: list[str], where: str = "") -> None:
    if findings:
        raise TrainingError(where + " ".join(findings))


def _has_gradient(tensor: torch.Tensor) -> bool:
    return bool(local(tensor.grad).count_nonzero() > 0)


def _reduced(value: float, device, operation: str) -> float:
    """A number that all processes of a run agree on: they have to stop together, or the others wait for ever."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return float(value)
    votes = torch.tensor(float(value), device=device)
    torch.distributed.all_reduce(votes, op=getattr(torch.distributed.ReduceOp, operation))
    return float(votes)


def _somewhere(true: bool, device) -> bool:
    return bool(_reduced(true, device, "MAX"))


def _everywhere(true: bool, device) -> bool:
    return bool(_reduced(true, device, "MIN"))
