"""Widgets without a browser: what each says when it is pressed, typed into, or fails."""

from __future__ import annotations

import re

import numpy as np
import pytest

import helpers
from helpers import (
    caption,
)
from helpers.show import calculator, explorer, game, playground, sound


def stripped(page: str) -> str:
    """What GitHub leaves of a page: no styles, no sounds."""
    return re.sub(r"<audio.*?</audio>", "", re.sub(r' style="[^"]*"', "", page), flags=re.S)


def test_answers_token_by_token_are_the_same_answers(processor, base_model, test_clips):
    samples, heard = test_clips[0]["audio"]["array"], []
    tokens = playground.answer_tokens(
        base_model, processor, helpers.make_chat(samples), tell=lambda so_far: heard.append(len(so_far))
    )
    assert playground.answer_text(tokens) == caption(base_model, processor, samples)
    assert heard == list(range(1, len(tokens) + 1)) and all(0 < token.probability <= 1 for token in tokens)
    assert tokens[-1].text == "<|im_end|>"


def test_the_playground_answers_and_shows_errors(processor, base_model, test_clips, monkeypatch):
    panel = helpers.playground(base_model, processor, test_clips[:2])
    ask, talk = panel.children[5].children[0], panel.children[-1]
    ask.click()
    assert "The base model:" in talk.value and "%</small>" in talk.value
    monkeypatch.setattr(playground, "answer_tokens", lambda *a, **k: 1 / 0)
    ask.click()
    assert "ZeroDivisionError" in talk.value and 'role="alert"' in talk.value and not ask.disabled
    assert "Asked “Describe the audio.”" in panel.page.text


def test_the_label_explorer_counts(processor, test_clips):
    samples = test_clips[0]["audio"]["array"]
    costs = {
        way: explorer.label_costs(explorer.label_batch(processor, samples, "A dog barks", way), processor)
        for way in explorer.WAYS.values()
    }
    words = len(processor.tokenizer("A dog barks")["input_ids"])
    assert costs["course"]["trained"] == words + 1 < costs["turns"]["trained"] < costs["guide"]["trained"]
    assert costs["guide"]["trained"] + costs["guide"]["placeholders"] == costs["guide"]["tokens"]
    assert costs["course"]["logits (MB)"] == pytest.approx(costs["course"]["positions with logits"] * 151_672 * 4e-6)
    panel = helpers.explore_labels(processor, test_clips[0])
    panel.children[0].value = "A dog barks"
    assert f"{words + 1} of {costs['course']['tokens']} tokens are trained" in panel.children[-1].value
    panel.children[0].value = "  "
    assert 'role="alert"' in panel.children[-1].value and "caption" in panel.children[-1].value


def test_the_calculator_counts_what_an_adapter_has():
    profile = helpers.get_profile("tiny")
    settings = {
        "rank": 16,
        "targets": "attention and feed-forward",
        "batch": 8,
        "seconds": 4.0,
        "quantize": False,
        "checkpointing": False,
        "gpu": "T4 16 GB",
    }
    plan = calculator.plan_run(profile, **settings)
    assert (
        plan.parameters == 217_088
        and plan.fits
        and plan.memory == helpers.estimate_memory(profile, dtype=__import__("torch").float16, clip_seconds=4.0).total
    )
    half = calculator.plan_run(profile, **{**settings, "rank": 8})
    assert half.parameters * 2 == plan.parameters
    slow = calculator.plan_run(profile, **{**settings, "checkpointing": True})
    assert slow.hours > plan.hours
    panel = helpers.calculator(profile)
    panel.children[0].value = 64
    assert "0.87" in panel.children[-1].value and "verdict" in panel.page.text


def test_the_game_keeps_the_caption_to_itself(processor, test_clips):
    clips = test_clips[:5]
    captions = [clip["caption"] for clip in clips]
    panel = helpers.guess_caption(clips, processor, captions)
    picture, verdict, buttons, following = panel.children
    assert captions[0] not in picture.value + verdict.value and captions[0] in [
        button.description for button in buttons.children
    ]
    next(button for button in buttons.children if button.description != captions[0]).click()
    assert "You: 0 of 1" in verdict.value and "The model: 1 of 1" in verdict.value and captions[0] in verdict.value
    following.click()
    assert "Clip 2 of 5" in verdict.value
    assert f"The model says “{captions[0]}”, and so chooses “{captions[0]}”." in panel.page.text
    assert game.closest("a dog is barking", ["A dog barks", "Rain falls on a roof"]) == "A dog barks"
    with pytest.raises(ValueError, match="one answer a clip"):
        helpers.guess_caption(clips, processor, captions[:2])


def _wav(seconds: float = 1.0) -> bytes:
    import io

    import soundfile

    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(int(44_100 * seconds))), 44_100, format="WAV")
    return file.getvalue()


def _send(recorder, name: str, content: bytes) -> None:
    """As the browser does: two messages, and what is in the second comes as a memoryview."""
    recorder.set_state({"name": "", "data": memoryview(b""), "beginning": recorder.beginning + 1})
    recorder.set_state({"name": name, "data": memoryview(content), "count": recorder.count + 1})


def test_a_sound_from_the_browser_is_played_and_described(processor, test_clips):
    heard = []
    panel = helpers.your_sound(
        {"model": lambda samples: heard.append(samples.shape) or "A <hum>"}, processor, test_clips[:2]
    )
    recorder, pick, answer = panel.children
    _send(recorder, "mine.wav", _wav())
    assert heard[-1] == (16_000,) and "A &lt;hum&gt;" in answer.value and "mine.wav (1.0 s)" in answer.value
    recorder.beginning += 1
    assert answer.value == "", "the old answer goes as soon as another sound is chosen"
    pick.value = 1
    assert test_clips[1]["caption"] in answer.value
    recorder.beginning += 1
    assert answer.value == "" and pick.label == "– pick a clip –"
    assert "record or upload" in panel.page.text


def test_whatever_goes_wrong_is_said(processor):
    panel = helpers.your_sound({"a model that fails": lambda samples: 1 / 0})
    recorder, answer = panel.children
    _send(recorder, "mine.wav", _wav())
    assert "ZeroDivisionError" in answer.value and 'role="alert"' in answer.value
    _send(recorder, "text.wav", b"something else")
    assert "text.wav" in answer.value and 'role="alert"' in answer.value and "ZeroDivision" not in answer.value
    assert sound.MESSAGE_LIMIT < 10 * 2**20, "Jupyter's server closes the connection above"


def test_progress_is_silent_without_a_notebook(capsys):
    assert list(helpers.progress("Counting")(range(3))) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")


def test_the_progress_board_replaces_the_trainers_own(processor, base_model, tmp_path, capsys):
    from helpers.training.recipe import make_trainer

    profile = helpers.get_profile("tiny")
    clips = list(helpers.load_captions("tiny", "train").take(4))
    trainer = helpers.show_progress(
        make_trainer(
            profile,
            helpers.load_model(quiet=True),
            processor,
            tmp_path,
            train=clips,
            max_steps=2,
            logging_steps=1,
            per_device_train_batch_size=2,
            save_strategy="no",
            disable_tqdm=True,
        )
    )
    pages = []
    board = next(one for one in trainer.callback_handler.callbacks if type(one).__name__ == "TrainingProgress")
    original = board.on_train_begin

    def begin(*args, **kwargs):
        original(*args, **kwargs)
        board._board.write = pages.append

    board.on_train_begin = begin
    trainer.train()
    assert "step 2 of 2, loss" in pages[-1] and "Epoch" not in pages[-1]
    assert capsys.readouterr().out == ""


def test_an_evaluation_before_any_training_shows_its_numbers_and_no_bar():
    from transformers import TrainerState

    board, pages = helpers.TrainingProgress(), []
    board.on_prediction_step(None, TrainerState(), None)
    board._board.write = pages.append
    board.on_evaluate(None, TrainerState(), None, metrics={"eval_loss": 5.25, "eval_runtime": 3.0})
    assert "evaluation loss" in pages[-1] and "5.25" in pages[-1] and "<progress" not in pages[-1]
