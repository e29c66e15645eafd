"""Notebook 05: merging is addition, and one question in training narrows a model."""

from collections.abc import Callable, Mapping, Sequence

import torch

from helpers.exercises.checking import Wrong, call, close, exercise
from helpers.metrics.events import event_counts, event_f1, mentioned_events, true_events
from helpers.metrics.intervals import Interval, bootstrap_difference


@exercise
def check_merge(merge: Callable, model) -> str:
    """One layer merged by hand, against the library.

    Args:
        merge: the reader's function: (frozen ``W`` ``(out, in)``, ``A`` ``(rank, in)``, ``B`` ``(out, rank)``, alpha,
            rank) -> the merged matrix.
        model: a model with an adapter that is not merged.
    """
    layers = [module for module in model.modules() if getattr(module, "lora_A", None) and not module.merged]
    if not layers:
        raise Wrong("the model has no unmerged adapter left: load it again.")
    layer = max(layers, key=lambda module: abs(module.in_features - module.out_features))
    adapter = next(iter(layer.lora_A))
    w, a, b = (module.weight.detach().float()
               for module in (layer.base_layer, layer.lora_A[adapter], layer.lora_B[adapter]))
    alpha, rank = layer.lora_alpha[adapter], layer.r[adapter]
    if not b.any():  # an adapter that was never trained changes nothing, and any answer would be right
        b = torch.randn_like(b)
    try:
        said = call(merge, w.clone(), a.clone(), b.clone(), alpha, rank)
    except Wrong as wrong:
        if "shapes cannot be multiplied" in str(wrong) or "size" in str(wrong):
            raise Wrong(f"the shapes do not fit: W is {tuple(w.shape)}, A {tuple(a.shape)}, B {tuple(b.shape)}; B "
                        "stands on the left, for the clip meets A first.") from None
        raise
    if not isinstance(said, torch.Tensor) or said.shape != w.shape:
        raise Wrong(f"the result has to be a tensor of W's shape, {tuple(w.shape)}.")
    true = w + alpha / rank * b @ a
    if torch.allclose(said, true, atol=1e-5):
        return f"equal to the library's layer of {tuple(w.shape)}, {alpha / rank:g} times B A added."
    for scale, words in ((rank / alpha, "the scale is upside down: alpha / rank"),
                         (1.0, "the scale alpha / rank is missing"),
                         (alpha, "the scale has to be divided by the rank")):
        if torch.allclose(said, w + scale * b @ a, atol=1e-5):
            raise Wrong(f"{words}, here {alpha} / {rank}.")
    if torch.allclose(said, alpha / rank * b @ a, atol=1e-5):
        raise Wrong("that is the correction alone: add it to W.")
    raise Wrong("the matrix is another: W + alpha / rank · B A.")


@exercise
def check_forgetting(forgetting: Callable, base_tags: Sequence[str], tuned_tags: Sequence[str], clips: Sequence[dict],
                     vocabulary: Mapping[str, str]) -> str:
    """What fine-tuning cost on another question, with an interval.

    Args:
        forgetting: the reader's function: (answers of the base, answers of the tuned model, clips) -> `Interval` of the
            event F1, tuned minus base.
        base_tags, tuned_tags: what each answers to "What sounds are in the audio?", one a clip.
        clips: the same clips, with their truth.
        vocabulary: the events that count.
    """
    said = call(forgetting, list(base_tags), list(tuned_tags), list(clips))
    if not isinstance(said, Interval):
        raise Wrong("return the Interval of the difference: four clips without one say nothing.")
    base, tuned = (event_counts(tags, clips, vocabulary) for tags in (base_tags, tuned_tags))
    true = bootstrap_difference(tuned, base, event_f1)
    if close(said.value, true.value, 1e-6) and close(said.high - said.low, true.high - true.low, 0.05):
        cost = "the loss is real" if true.high < 0 else "no loss that so many clips can show"
        cost = "it gained" if true.low > 0 else cost
        return f"{true} over {len(clips)} clips: {cost}."
    if close(said.value, -true.value, 1e-6) and true.value:
        raise Wrong("it is base minus tuned: turn it round, so that forgetting is negative.")
    few = bootstrap_difference(tuned[:4], base[:4], event_f1)
    if close(said.value, few.value, 1e-6):
        raise Wrong(f"that is the difference on four clips, {few}: take all {len(clips)}.")
    raise Wrong(f"you have {said}, but over all {len(clips)} clips it is another: bootstrap_difference of the "
                "event_counts, tuned first, with event_f1.")


@exercise
def check_mix(mix: Callable, examples: Sequence[dict], vocabulary: Mapping[str, str]) -> str:
    """Half of the clips as captions, half as the other question: what keeps a model from forgetting it.

    Args:
        mix: the reader's function: (examples, question) -> examples, every second one with ``messages`` in place of
            its caption.
        examples: clips with captions and truth.
        vocabulary: the events that count.
    """
    question = "What sounds are in the audio?"
    mixed = list(call(mix, [dict(example) for example in examples], question))
    if len(mixed) != len(examples):
        raise Wrong(f"there were {len(examples)} examples and now there are {len(mixed)}: none may be lost, none "
                    "doubled.")
    chats = [place for place, example in enumerate(mixed) if example.get("messages")]
    if abs(len(chats) - len(examples) / 2) > 1:
        raise Wrong(f"{len(chats)} of {len(examples)} are chats: half of them is the task, so that both questions are "
                    "trained.")
    for place in chats:
        said = [turn["content"] for turn in mixed[place]["messages"]]
        turns = [text if isinstance(text, str) else " ".join(item.get("text", "") for item in text) for text in said]
        if len(turns) != 2 or turns[0] != question:
            raise Wrong(f"example {place} does not ask {question!r} and answer it once.")
        if turns[1].strip() == examples[place]["caption"]:
            raise Wrong(f"example {place} answers with the caption: that teaches the model to caption whatever it is "
                        "asked; name the events.")
        there = sorted(true_events(examples[place], vocabulary))
        if sorted(mentioned_events(turns[1], vocabulary)) != there:
            raise Wrong(f"example {place} answers {turns[1]!r}, but its events are {', '.join(there)}: does each "
                        "answer belong to its clip?")
    return f"{len(chats)} of {len(examples)} clips ask for their events, the others for a caption."
