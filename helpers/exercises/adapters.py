"""Notebook 03: what moves, and why a falling loss is not learning."""

import functools
import json
import random
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from helpers.exercises.checking import Wrong, call, exercise, number
from helpers.profiles import Profile

RECORDED = Path(__file__).with_name("runs.json")
"""Runs of the tiny profile that differ in one thing each, as ``python -m tools.record_runs`` recorded them."""

_CURVES = {"A": "healthy", "B": "too fast", "C": "too slow"}


@functools.cache
def recorded_runs() -> dict[str, dict]:
    """Name -> ``rate``, ``history`` and what the captions of held-out clips were like."""
    return json.loads(RECORDED.read_text(encoding="utf-8"))


@exercise
def check_lora_parameters(lora_parameters: Callable, model) -> str:
    """LoRA's numbers for one matrix, against a real adapter.

    Args:
        lora_parameters: the reader's function: (inputs, outputs, rank) -> parameters of the two thin matrices.
        model: a model with an adapter.
    """
    total, true, matrices = 0, 0, 0
    for module in model.modules():
        for adapter, down in getattr(module, "lora_A", {}).items():
            inputs, outputs, rank = module.in_features, module.out_features, down.out_features
            real = down.weight.numel() + module.lora_B[adapter].weight.numel()
            said = number(call(lora_parameters, inputs, outputs, rank), f"lora_parameters({inputs}, {outputs}, {rank})")
            if said == rank * inputs * outputs:
                raise Wrong("you multiply the two sides: that is more than the whole matrix has; A is rank × inputs, B "
                            "is outputs × rank.")
            if said == inputs * outputs:
                raise Wrong("that is the frozen matrix: LoRA leaves it alone and adds two thin ones.")
            if said == 2 * rank * inputs and inputs != outputs:
                raise Wrong("you take both as wide as the inputs: B has one row for each output.")
            if said != real:
                raise Wrong(f"for {inputs} inputs, {outputs} outputs and rank {rank} you say {said:,.0f}, the adapter "
                            f"has {real:,}: count A and B one by one.")
            total, true, matrices = total + said, true + real, matrices + 1
    if not matrices:
        raise Wrong("the model has no adapter: run the cell that puts it on.")
    return f"over {matrices} matrices they sum to {true:,}."


def unlabelled_curves() -> dict[str, list[dict]]:
    """Three recorded runs that differ in their learning rate alone, under the names A, B and C: for `plot_curves`."""
    return {name: recorded_runs()[run]["history"] for name, run in _CURVES.items()}


def curve_rates() -> list[float]:
    """The rates of `unlabelled_curves`, the smallest first."""
    return sorted(recorded_runs()[run]["rate"] for run in _CURVES.values())


@exercise
def check_whose_curve(rates: Mapping[str, float]) -> str:
    """Which of the `unlabelled_curves` belongs to which learning rate. ``rates``: ``"A"``, ``"B"``, ``"C"`` -> rate."""
    true = {name: recorded_runs()[run]["rate"] for name, run in _CURVES.items()}
    if set(rates) != set(true):
        raise Wrong(f"name a rate for each of {', '.join(true)}.")
    said = {name: number(rate, name) for name, rate in rates.items()}
    if sorted(said.values()) != sorted(true.values()):
        raise Wrong(f"the rates are {', '.join(f'{rate:g}' for rate in curve_rates())}, each used once.")
    if said == true:
        texts = {name: recorded_runs()[run]["commonest"] for name, run in _CURVES.items()}
        commonest = {name: f"“{text}”" if text else "not a single word" for name, text in texts.items()}
        found = (f"at {true[name]:g} ({name}) the commonest caption is {commonest[name]}" for name in true)
        return "; ".join(found) + "."
    fast = max(true, key=true.get)
    if said[fast] != true[fast]:
        claimed = next(name for name in said if said[name] == true[fast])
        raise Wrong(f"{claimed} was not the fastest, {fast} was: far too high a rate throws the weights about, so the "
                    "loss jumps up and does not come down again.")
    raise Wrong("the two smaller rates are exchanged: too small a rate goes the same way, only slower.")


def shuffled_captions(examples: list[dict], seed: int = 0) -> list[dict]:
    """The same clips and the same captions, but none with its own: what a table that slipped by some rows does."""
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)  # nosec B311: an order of clips, no secret
    # Each clip gets the caption of the next in a random circle, so none keeps its own place.
    following = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [{**example, "caption": examples[following[place]]["caption"]} for place, example in enumerate(examples)]


@functools.lru_cache(maxsize=1)
def deaf_student(profile: Profile, steps: int = 50, clips: int = 400) -> dict[str, float]:
    """Train on shuffled captions and measure: loss before and after, F1 and style on held-out clips.

    Takes about half a minute in the tiny profile; done once, then remembered.
    """
    from transformers import PrinterCallback

    from helpers.audio.captions import load_captions
    from helpers.audio.vocabulary import load_vocabulary
    from helpers.captioning.captions import caption
    from helpers.metrics.events import event_scores
    from helpers.model.loading import load_model, load_processor
    from helpers.training.recipe import make_trainer

    stream = load_captions(profile.dataset_id, split="train", keep=profile.train_clips + profile.eval_clips)
    train = shuffled_captions(list(stream.take(clips)))
    held_out = list(stream.skip(profile.train_clips).take(40))
    processor, model = load_processor(profile.model_id), load_model(profile.model_id, quiet=True)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(profile, model, processor, Path(folder), train=train, max_steps=steps,
                               save_strategy="no", logging_steps=10, disable_tqdm=True)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    texts = caption(trainer.model, processor, [clip["audio"] for clip in held_out],
                    batch_size=profile.caption_batch_size)
    scores = event_scores(texts, held_out, load_vocabulary(profile.dataset_id))
    return {"first loss": losses[0], "last loss": losses[-1], "f1": scores.f1, "style": scores.style}


@exercise
def check_deaf_student(prediction: Mapping[str, float], profile: Profile) -> str:
    """Train on captions that belong to other clips, and compare with what the reader expected of loss and F1.

    Args:
        prediction: the reader's ``{"last loss": ..., "f1": ...}``.
        profile: whose model, data and rates.
    """
    if set(prediction) != {"last loss", "f1"}:
        raise Wrong('predict two numbers: {"last loss": ..., "f1": ...}.')
    loss, f1 = number(prediction["last loss"], "the loss"), number(prediction["f1"], "F1")
    if not 0 <= f1 <= 1:
        raise Wrong(f"F1 lies between 0 and 1, and you say {f1:g}.")
    got = deaf_student(profile)
    found = (f"the loss fell from {got['first loss']:.2f} to {got['last loss']:.2f}, {got['style']:.0%} of the "
             f"captions are in style, and F1 is {got['f1']:.2f}")
    if loss > (got["first loss"] + got["last loss"]) / 2:
        raise Wrong(f"{found}: most of a loss is style, and style can be learned without listening.")
    if f1 > got["f1"] + 0.25:
        raise Wrong(f"{found}: a low loss does not mean that the model listens; nothing here rewarded listening.")
    return f"{found}; the loss looks healthy, and the model is deaf."
