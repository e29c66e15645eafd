"""What can be wrong with a training batch, found in the batch itself before a step is spent on it."""

from collections.abc import Mapping

import torch
from transformers.processing_utils import ProcessorMixin

from helpers.chat import IGNORED, answer_labels, answer_marks
from helpers.families import FAMILIES, family_of

LOUDEST_FEATURE = 2.0
"""Whisper's log-mel features, ``(log10(power) + 4) / 4``, of samples in [-1, 1] stay below 1.75: a spectrum of 400
samples
holds at most 200**2 in one bin under a Hann window, and a mel filter lets at most a fortieth of that through."""


def check_batch(batch: Mapping, processor: ProcessorMixin | None) -> list[str]:
    """What is wrong with a training batch for AF3: labels, padding, features, and how they fit together.

    Args:
        batch: what the collator gives: ``input_ids`` and ``attention_mask`` ``(B, L)``, ``labels`` ``(B, L)``, or
            ``(B, K)`` with ``logits_to_keep=K``, ``input_features`` ``(W, mel bins, frames)`` and its mask.
        processor: the model's processor. Without one, what takes knowledge of its tokens is not looked at.

    Returns:
        One sentence a finding: what is wrong, how that shows, what to do. Empty if all is well.
    """
    names = ("input_ids", "attention_mask", "labels", "input_features", _mask_name(batch, processor))
    missing = [name for name in names if batch.get(name) is None]
    if missing:
        return [f"The batch has no {' and no '.join(missing)}: let the collator return what the processor gives, and "
                "labels beside it."]
    ids, mask, labels = batch["input_ids"], batch["attention_mask"], batch["labels"]
    keep = batch.get("logits_to_keep")
    if labels.shape[0] != ids.shape[0] or labels.shape[1] != (keep or ids.shape[1]):
        return [f"The labels have shape {tuple(labels.shape)}, the input ids {tuple(ids.shape)} and logits_to_keep is "
                f"{keep}: give a label for every position, or for the last K and pass logits_to_keep=K."]
    return [*_padding(ids, mask, keep, processor), *check_labels(ids, mask, labels, processor),
            *_features(batch, processor)]


def _mask_name(batch: Mapping, processor: ProcessorMixin | None) -> str:
    """What the features' mask is called in this batch."""
    if processor is not None:
        return family_of(processor).mask
    return next((family.mask for family in FAMILIES if family.mask in batch), FAMILIES[0].mask)


def _rows(rows: torch.Tensor) -> str:
    """Numbers of the rows in which something is true, the first five of them."""
    numbers = rows.nonzero().flatten().tolist()
    listed = ", ".join(map(str, numbers[:5])) + (" ..." if len(numbers) > 5 else "")
    return f"{len(numbers)} of {len(rows)} rows ({listed})"


def _padding(ids: torch.Tensor, mask: torch.Tensor, keep: int | None, processor: ProcessorMixin | None) -> list[str]:
    findings = []
    ends_in_padding = mask[:, -1] == 0
    if keep and ends_in_padding.any():
        findings.append(f"{_rows(ends_in_padding)} are padded on the right although only the last {keep} positions are "
                        'computed: pad on the left (padding_side="left"), so that all answers end at the right edge.')
    pad = processor.tokenizer.pad_token_id if processor else -1  # no token has this id
    attended = (ids == pad) & (mask == 1)
    if attended.any():
        findings.append(f"The attention mask covers {int(attended.sum())} padding tokens in "
                        f"{_rows(attended.any(dim=1))}, so the model reads them as text: pass the attention_mask that "
                        "the processor gives.")
    return findings


def check_labels(ids: torch.Tensor, mask: torch.Tensor, labels: torch.Tensor,
                 processor: ProcessorMixin | None) -> list[str]:
    """What is wrong with labels ``(B, K)`` for input ids ``(B, L)``, K <= L; see `check_batch`. At most two
    findings."""
    known, size = labels != IGNORED, labels.shape[1]
    if not known.any():
        return [f"All labels of the batch are masked ({IGNORED}), so there is nothing to learn from it: look at the "
                "collator's labels, and whether a maximum length cuts the answers off."]
    empty = ~known.any(dim=1)
    findings = [f"{_rows(empty)} have no label, so nothing is learned from their clips: look at what the collator "
                "makes of them, and whether a maximum length cuts the answers off."] if empty.any() else []
    count, own = int(known.sum()), ids[:, -size:]
    values = labels[known].unique().tolist()
    if set(values) <= {0, 1}:
        return [*findings, f"The {count} labels are {' and '.join(map(str, values))} alone, a mask and no token ids: "
                           "put the "
                "input ids where the mask is 1 and -100 elsewhere (transformers before 5.14 returned such labels)."]
    attended = mask[:, -size:] == 1
    if processor is None:
        if torch.equal(known, attended) and torch.equal(labels[known], own[known]):
            findings.append(_everything(count))
        return findings
    whole = answer_labels(processor, ids, mask)
    expected = whole[:, -size:]
    answer, (_, end) = expected != IGNORED, answer_marks(processor)
    lost = int((whole[:, : ids.shape[1] - size] != IGNORED).sum())
    outside = known & ~answer
    for title, moved, wanted in (("late", labels[:, 1:], expected[:, :-1]), ("early", labels[:, :-1], expected[:, 1:])):
        if torch.equal(moved, wanted) and not torch.equal(labels, expected):
            return [*findings, f"The {count} labels stand one position too {title}: give each position its own token "
                               "as its label, "
                    "for the model itself compares them with the prediction one position before."]
    if lost:
        findings.append(f"{lost} tokens of answers lie before the last {size} positions, for which there are labels: "
                        "let logits_to_keep reach back to the first answer.")
    elif outside.any():
        sounds = int((outside & (own == processor.audio_token_id)).sum())
        padding = int((outside & ~attended).sum())
        if torch.equal(known, attended):
            findings.append(_everything(count))
        else:
            findings.append(f"{int(outside.sum())} of {count} labels are not on an answer ({sounds} on audio "
                            f"placeholders, {padding} on padding, {int(outside.sum()) - sounds - padding} on prompt "
                            "and role tags): set them to -100, so that the loss is about the caption alone.")
    elif (labels != own)[known].any():
        findings.append(f"{int((labels != own)[known].sum())} of {count} labels are other tokens than the input at "
                        "their position: make them from the same input_ids.")
    elif (own[known] == end).all():
        findings.append(f"The {count} labels are on the tokens that end the answers alone, so no word is learned: "
                        "label the answer's own tokens as well.")
    elif (unended := (known & ~empty[:, None]).any(dim=1) & ~((own == end) & known).any(dim=1)).any():
        findings.append(f"In {_rows(unended)} the token that ends the answer has no label, so the model does not learn "
                        "to stop: label it as well.")
    return findings


def _everything(count: int) -> str:
    return (f"The {count} labels are the input ids of every position, prompt and audio placeholders included: set all "
            "but the assistant's answer and its end token to -100.")


def _one_clip(batch: Mapping) -> bool:
    """Whether all rows are the same chat: a short list of clips, passed over again, meets itself in a batch."""
    return bool((batch["input_ids"] == batch["input_ids"][:1]).all())


def _features(batch: Mapping, processor: ProcessorMixin | None) -> list[str]:
    features, heard = batch["input_features"], batch[_mask_name(batch, processor)]
    if not torch.isfinite(features).all():
        bad = int((~torch.isfinite(features)).sum())
        return [f"{bad} of {features.numel()} audio features are NaN or infinite: look at the samples of this batch's "
                "clips (load_audio refuses such clips)."]
    valid = features[(heard == 1)[:, None, :].expand_as(features)]
    findings = []
    if valid.numel() and valid.min() == valid.max():
        findings.append(f"All audio features of the batch are {float(valid[0]):.3g}, so there is nothing to hear: look "
                        "at what is done to the samples or features after loading (or the clips are silent).")
    elif len(features) > 1 and not _one_clip(batch) and (features == features[:1]).all():
        findings.append(f"The audio features of all {len(features)} windows are the same: look at whether the collator "
                        "takes one clip's audio for all of them.")
    elif valid.numel() and valid.max() > LOUDEST_FEATURE:
        findings.append(f"Audio features reach {float(valid.max()):.1f}, and samples in [-1, 1] give 1.75 at most: the "
                        "samples are at integer scale; divide 16-bit integers by 32768.")
    # Several windows of a clip are not told apart here, and GLM-ASR pools over their border.
    if processor is not None and family_of(processor).pooled == 2:
        frames = heard.sum(dim=-1).long()
        # A convolution of stride 2 and a pooling by 2, as in AudioFlamingo3Processor.
        expected = int((((frames - 1) // 2 + 1 - 2) // 2 + 1).sum())
        found = int((batch["input_ids"] == processor.audio_token_id).sum())
        if found != expected:
            findings.append(f"There are {found} audio placeholders for the {expected} frames that the encoder gives: "
                            "use the ids and the features of one and the same call of the processor.")
    return findings
