"""Captions from numbers that have overflowed, caught at the first token instead of read as ``!!!!!!!!``.

float16 ends at 65,504. Language models of Qwen2's size reach numbers beyond that inside their layers (QwenLM/Qwen3
issues 761 and 868, huggingface/transformers issue 33294), and what comes out is not a number: the highest score is then
token 0, an exclamation mark, again and again, and nothing raises an error.
"""

import torch
from transformers import LogitsProcessor


class FloatOverflow(ArithmeticError):
    """The scores of the first token are no numbers; the message says why and what to do."""


class CheckFirstScores(LogitsProcessor):
    """Looks at the scores of the first new token, once in each call of ``generate``; ``dtype`` is the model's."""

    def __init__(self, dtype: torch.dtype):
        self.dtype, self._checked = dtype, False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Scores ``(B, vocabulary)`` as they are; `FloatOverflow` if a row holds NaN, infinity, or one value alone.

        Minus infinity is no fault: it is how ``generate`` forbids a token, for example the end where there is a
        ``min_new_tokens``."""
        if not self._checked:
            self._checked = True
            highest = scores.amax(dim=-1, keepdim=True)  # NaN if there is one
            sound = (highest.isfinite() & (scores.isfinite() & (scores < highest)).any(dim=-1, keepdim=True)).flatten()
            if not sound.all():
                name = str(self.dtype).removeprefix("torch.")
                raise FloatOverflow(f"The scores of the first token are no numbers in {int((~sound).sum())} of "
                                    f"{len(sound)} clips: the model's numbers are too large for {name}, or its weights "
                                    "are damaged; load it with load_model(..., dtype=torch.float32), with "
                                    "quantize=True besides where memory is short, or with dtype=torch.bfloat16, which "
                                    "reaches as far as float32.")
        return scores


def check_scores(model: torch.nn.Module) -> dict:
    """Arguments for ``model.generate`` that check a model in 16 bits; none for others."""
    return {"logits_processor": [CheckFirstScores(model.dtype)]} if model.dtype.itemsize == 2 else {}
