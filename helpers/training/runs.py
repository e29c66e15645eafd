"""What can be wrong with adapters and with a training run as a whole, for a learner's own project and for the guard."""

import math
import re
from collections import defaultdict
from itertools import islice

import torch
from transformers import Trainer
from transformers.trainer_utils import IntervalStrategy

from helpers.model.lora import PARTS
from helpers.training.batches import check_batch

LANGUAGE_MODEL = PARTS["language_model"]


def local(tensor: torch.Tensor) -> torch.Tensor:
    """This process's part of a tensor that FSDP shards (a ``DTensor``), or the tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def all_finite(tensors) -> bool:
    """Whether no number of some tensors is NaN or infinite; looks at the device once."""
    finite = [torch.isfinite(local(tensor)).all() for tensor in tensors]
    return not finite or bool(torch.stack([part.cpu() for part in finite]).all())


def _part(name: str) -> str:
    return next((title for key, title in PARTS.items() if f"{key}." in name), "rest of the model")


def _some(names: list) -> str:
    return ", ".join(map(str, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def check_adapters(model: torch.nn.Module) -> list[str]:
    """What is wrong with the LoRA adapters on a model that is about to be trained, or has been.

    Args:
        model: an AF3 after ``get_peft_model``.

    Returns:
        One sentence a finding: what is wrong, how that shows, what to do. Empty if all is well.
    """
    parameters = dict(model.named_parameters())
    adapters = [name for name in parameters if "lora_" in name]
    trainable = [name for name, parameter in parameters.items() if parameter.requires_grad]
    if not trainable:
        return ["Nothing in the model is trainable: add the adapter with get_peft_model, or load a saved one with "
                "PeftModel.from_pretrained(..., is_trainable=True)."]
    if not adapters:
        return [f"There is no LoRA adapter on the model, and {len(trainable)} of its {len(parameters)} tensors are "
                "trainable: add one with get_peft_model."]
    findings = []
    outside = [name for name in trainable if _part(name) != LANGUAGE_MODEL]
    if outside:
        parts = sorted({_part(name) for name in outside})
        count = sum(parameters[name].numel() for name in outside)
        findings.append(f"{len(outside)} trainable tensors ({count:,} parameters) lie outside the language model, in "
                        f"the {' and the '.join(parts)} ({_some(outside)}): target the language model alone, as "
                        "LANGUAGE_MODEL_TARGETS does.")
    findings += _uncovered_layers(model, adapters)
    frozen = [name for name in adapters if not parameters[name].requires_grad]
    if frozen:
        findings.append(f"{len(frozen)} of {len(adapters)} adapter tensors are frozen ({_some(frozen)}): load the "
                        "adapter with is_trainable=True, or set requires_grad on all of them.")
    broken = [name for name in adapters if not torch.isfinite(local(parameters[name])).all()]
    if broken:
        findings.append(f"{len(broken)} of {len(adapters)} adapter tensors hold NaN or infinite numbers "
                        f"({_some(broken)}): train anew, with a lower learning rate.")
    layers = [(name, module) for name, module in model.named_modules() if hasattr(module, "lora_A")]
    idle = [name for name, module in layers if module.disable_adapters or module.merged]
    if idle:
        findings.append(f"{len(idle)} of {len(layers)} adapters are switched off or merged into their matrices "
                        f"({_some(idle)}): call enable_adapter_layers() or unmerge_adapter() before training.")
    return findings


def _uncovered_layers(model: torch.nn.Module, adapters: list[str]) -> list[str]:
    """Layers of the language model without an adapter, or without one that others have."""
    kinds: dict[int, set] = defaultdict(set)
    for name in adapters:
        if match := re.search(r"language_model\..*?layers\.(\d+)\..*?(\w+)\.lora_A", name):
            kinds[int(match[1])].add(match[2])
    count = model.config.text_config.num_hidden_layers
    every = set().union(*kinds.values()) if kinds else set()
    lacking = [layer for layer in range(count) if kinds[layer] != every or not every]
    if not lacking:
        return []
    missing = sorted(every - set.intersection(*(kinds[layer] for layer in lacking))) or ["adapters"]
    return [f"{len(lacking)} of the {count} layers of the language model lack adapters that others have (layers "
            f"{_some(lacking)}: {', '.join(missing)}): look at target_modules and layers_to_transform."]


def check_settings(args, max_steps: int) -> list[str]:
    """What is wrong with the numbers of a run: ``TrainingArguments`` and how many updates there will be."""
    findings = []
    if not (args.learning_rate > 0 and math.isfinite(args.learning_rate)):
        findings.append(f"The learning rate is {args.learning_rate}, so no weight would change as it should: set one "
                        "above 0, such as 1e-4.")
    warm_up = args.get_warmup_steps(max_steps)
    if warm_up > max_steps > 0:
        findings.append(f"The warm-up of {warm_up} steps is longer than the run of {max_steps}, so the learning rate "
                        "never arrives: shorten it, to a tenth of the run for example.")
    return findings


def find_processor(collator):
    """The processor inside a collator or what is wrapped around one; ``None`` if there is none to be found."""
    for _ in range(4):
        if collator is None or hasattr(collator, "processor"):
            break
        collator = getattr(collator, "collate", None) or getattr(collator, "data_collator", None)
    return getattr(collator, "processor", None)


def check_training(trainer: Trainer) -> list[str]:
    """What is wrong with a run: its adapters, its numbers, its first batch, its clips; before it and after it.

    Reads one batch of each data set; the run itself is not touched.

    Args:
        trainer: ready to train, or done.

    Returns:
        One sentence a finding: what is wrong, how that shows, what to do. Empty if all is well.
    """
    args, state = trainer.args, trainer.state
    findings = [*check_adapters(trainer.model), *check_settings(args, args.max_steps)]
    try:
        examples = list(islice(iter(trainer.train_dataset), args.per_device_train_batch_size))
        findings += check_batch(trainer.data_collator(examples), find_processor(trainer.data_collator))
    except (ValueError, IndexError) as error:
        findings.append(f"The first batch cannot be made: {error}")
    if args.eval_strategy != IntervalStrategy.NO:
        evaluation = trainer.eval_dataset
        if evaluation is None or not list(islice(iter(evaluation), 1)):
            findings.append("There are no clips to evaluate on, and the run would stop at its first evaluation: hold "
                            "some out, or "
                            'set eval_strategy="no".')
        else:
            findings += _shared_clips(trainer.train_dataset, evaluation)
    if trainer.optimizer is not None:
        held = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
        left = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad
                and id(parameter) not in held]
        if left and not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
            findings.append(f"The optimizer does not hold {len(left)} trainable tensors ({_some(left)}): make the "
                            "trainer after the adapter.")
    for key in ("loss", "grad_norm", "eval_loss"):
        bad = [row["step"] for row in state.log_history if key in row and not math.isfinite(row[key])]
        if bad:
            findings.append(f"The log's {key} is not finite at {len(bad)} steps (first at step {bad[0]}): lower the "
                            "learning rate, and look for damaged audio.")
    return findings


def _shared_clips(train, evaluation) -> list[str]:
    """Clips of the evaluation that are trained on; known for lists alone, as a stream would have to be read."""
    if not (isinstance(train, list) and isinstance(evaluation, list)):
        return []

    def samples(clip: dict) -> int:
        audio = clip["audio"]
        audio = audio.get("array", audio.get("bytes")) if isinstance(audio, dict) else audio
        return hash(audio.tobytes() if hasattr(audio, "tobytes") else audio if isinstance(audio, bytes | str)
                    else id(audio))

    known = {samples(clip) for clip in train}
    shared = [number for number, clip in enumerate(evaluation) if samples(clip) in known]
    if not shared:
        return []
    return [f"{len(shared)} of the {len(evaluation)} clips to evaluate on are trained on as well (number "
            f"{_some(shared)}): take them out of one of the two."]
