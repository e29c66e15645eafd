"""Captions while training goes on: the metric beside the loss."""

from collections.abc import Mapping, Sequence

from transformers import TrainerCallback
from transformers.processing_utils import ProcessorMixin

from helpers.captioning.captions import caption
from helpers.metrics import SCORES
from helpers.metrics.cider import cider_d
from helpers.metrics.events import event_counts, event_f1


class CaptionEvaluation(TrainerCallback):
    """Captions the same few clips at every evaluation, and records how good the captions are.

    A loss says how surprised the model is by people's words when it is given all the words before; captions are what
    it says by itself. Each evaluation's row in ``trainer.state.log_history`` gains the keys of `SCORES`, and so do the
    metrics of ``trainer.evaluate()``: ``metric_for_best_model="eval_cider_d"`` works. Services chosen with
    ``report_to`` do not see them, for the Trainer has written its log by then.

    Args:
        examples: a few fixed clips that are not trained on, with ``audio``, ``caption`` and perhaps ``references``.
            CIDEr-D's document frequencies come from these clips alone, so compare it with itself over time only.
        vocabulary: the events that count, as from `load_vocabulary`.
        batch_size, **generate_kwargs: see `caption`.

    Raises:
        ValueError: fewer than two clips; over a single one CIDEr-D is always 0.
    """

    def __init__(self, processor: ProcessorMixin, examples: Sequence[dict], vocabulary: Mapping[str, str],
                 batch_size: int = 8, **generate_kwargs):
        self.processor, self.examples, self.vocabulary = processor, list(examples), vocabulary
        if len(self.examples) < 2:
            raise ValueError(f"There are {len(self.examples)} clips to caption during training: give at least two, and "
                             "some 16 for a curve that is worth looking at.")
        self.options = {"batch_size": batch_size, **generate_kwargs}
        self.captions: list[list[str]] = []
        """What the model said, one list an evaluation."""

    def on_evaluate(self, args, state, control, model=None, metrics=None, **kwargs) -> None:
        """Caption, score, and write the scores into the log's last evaluation. Called by the ``Trainer``."""
        texts = caption(model, self.processor, [example["audio"] for example in self.examples], **self.options)
        references = [example.get("references") or [example["caption"]] for example in self.examples]
        scores = dict(zip(SCORES, (float(cider_d(texts, references).mean()),
                                   float(event_f1(event_counts(texts, self.examples, self.vocabulary)))), strict=True))
        self.captions.append(texts)
        if metrics is not None:
            metrics.update(scores)
        row = next((row for row in reversed(state.log_history) if "eval_loss" in row), None)
        if row is not None and row["step"] == state.global_step:
            row.update(scores)
