"""Labels on the last positions alone, with as many logits: the stock ``Trainer`` trains and evaluates as with all."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from helpers import get_profile, load_model
from helpers.chat import IGNORED
from helpers.training.recipe import make_trainer

pytestmark = pytest.mark.usefixtures("one_thread")

# Batches of two with answers of different lengths: K differs from batch to batch, and the last one is short.
SHORT = dataclasses.replace(
    get_profile("tiny"),
    max_steps=2,
    batch_size=2,
    gradient_accumulation_steps=3,
    warmup_steps=0,
    eval_steps=1,
    logging_steps=1,
)


def hits(prediction) -> dict:
    """What a learner's ``compute_metrics`` would do: compare each token with the logits one position before."""
    guesses, labels = prediction.predictions[:, :-1], prediction.label_ids[:, 1:]
    known = labels != IGNORED
    return {"tokens": int(known.sum()), "hits": int((guesses == labels)[known].sum())}


@pytest.fixture(scope="module")
def trained(one_thread, processor, test_clips, tmp_path_factory):
    trainers = {}
    for trim in (True, False):
        trainer = make_trainer(
            SHORT,
            load_model(quiet=True),
            processor,
            tmp_path_factory.mktemp("run"),
            train=test_clips[:11],
            evaluation=test_clips[17:24],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer.data_collator.trim_logits = trim
        trainer.compute_metrics = hits
        # AF3 hands its audio hidden states over beside the logits; neither is worth keeping for all clips.
        trainer.preprocess_logits_for_metrics = lambda outputs, labels: outputs[0].argmax(dim=-1)
        trainer.train()
        trainers[trim] = trainer
    return trainers


@pytest.mark.parametrize("key", ["loss", "grad_norm", "eval_loss"])
def test_the_same_losses_with_accumulation_and_evaluation(trained, key):
    trimmed, whole = ([row[key] for row in trained[trim].state.log_history if key in row] for trim in (True, False))
    assert len(trimmed) == 2 and trimmed == pytest.approx(whole, rel=2e-5)


def test_the_same_metrics_from_gathered_labels(trained):
    trimmed, whole = (
        [(row["eval_tokens"], row["eval_hits"]) for row in trained[trim].state.log_history if "eval_hits" in row]
        for trim in (True, False)
    )
    assert trimmed == whole and trimmed[-1][1] > 0


def test_gathered_predictions_and_labels_have_one_shape_though_k_differs(trained, test_clips, processor):
    trainer = trained[True]
    lengths = {trainer.data_collator(test_clips[start : start + 2])["logits_to_keep"] for start in (17, 19, 21)}
    assert len(lengths) > 1
    output = trainer.predict(test_clips[17:24])
    assert output.predictions.shape == output.label_ids.shape and output.label_ids.shape[1] == max(
        trainer.data_collator(test_clips[start : start + 2])["logits_to_keep"] for start in (17, 19, 21, 23))
    captions = [processor.tokenizer.decode(row[row != IGNORED], skip_special_tokens=True) for row in output.label_ids]
    assert captions == [clip["caption"] for clip in test_clips[17:24]]


def test_the_number_of_items_is_the_number_of_trained_tokens(trained, test_clips):
    counts = []
    for trim in (True, False):
        trainer = trained[trim]
        assert trainer.model_accepts_loss_kwargs and trainer._loss_shifts_labels
        batches = [trainer.data_collator(test_clips[start : start + 2]) for start in (0, 2, 4)]
        counts.append(int(trainer._get_num_items_in_batch(batches, trainer.args.device)))
    expected = sum(int((trained[False].data_collator([clip])["labels"] != IGNORED).sum()) for clip in test_clips[:6])
    assert counts == [expected, expected]


@pytest.mark.slow
def test_accumulating_equals_one_larger_batch(processor, test_clips, tmp_path):
    """Each token counts the same, whichever micro-batch it comes in."""
    norms = []
    for batch, accumulate in ((6, 1), (2, 3)):
        profile = dataclasses.replace(SHORT, max_steps=1, batch_size=batch, gradient_accumulation_steps=accumulate,
                                      lora_dropout=0.0)
        trainer = make_trainer(
            profile,
            load_model(quiet=True),
            processor,
            tmp_path,
            train=test_clips[:6],
            save_strategy="no",
            disable_tqdm=True,
        )
        trainer.train()
        norms.append([trainer.state.log_history[0][key] for key in ("loss", "grad_norm")])
    assert np.allclose(norms[0], norms[1], rtol=2e-5)
