"""What learners look at, without a browser: guesses, tables, masks, pictures, widgets and their static forms."""

from __future__ import annotations

import re

import numpy as np
import pytest

import helpers
from helpers import (
    AudioFlamingo3DataCollator,
    caption,
    compare_captions,
    play,
    plot_clip,
    plot_curves,
    predict,
    show_label_mask,
    show_table,
)
from helpers.show import calculator, explorer, game, palette, playground, sound
from helpers.show.tables import mark_changes


def stripped(page: str) -> str:
    """What GitHub leaves of a page: no styles, no sounds."""
    return re.sub(r"<audio.*?</audio>", "", re.sub(r' style="[^"]*"', "", page), flags=re.S)


# ---------------------------------------------------------------------------------------------------------- guesses
@pytest.mark.parametrize(
    ("guess", "truth", "line"),
    [
        (None, 40, "You made no guess. It is 40 MB."),
        (..., 40, "You made no guess. It is 40 MB."),
        ("about 30 MB", 40, "You guessed 30 MB; it is 40 MB: 10 MB too low (25%)."),
        ("1,000", 500, "You guessed 1,000 MB; it is 500 MB: 500 MB too high (100%)."),
        ("0,5", 0.5, "You guessed 0.5 MB: right."),
        ("lots", 40, "There is no number in your guess 'lots'. It is 40 MB."),
        (0, 0, "You guessed 0 MB: right."),
        (5, np.int64(0), "You guessed 5 MB; it is 0 MB: 5 MB too high."),
    ],
)
def test_a_guess_is_answered_in_one_line(guess, truth, line, capsys):
    made = predict("How large?", unit="MB").of(guess)
    capsys.readouterr()
    made.compare(truth)
    assert capsys.readouterr().out == line + "\n"


def test_a_choice(capsys):
    guess = predict("Frozen?", ["yes", "no"])
    assert (
        capsys.readouterr().out == "Your guess: Frozen? (yes / no) Not made yet: use the buttons, or guess.of(...).\n"
    )
    guess.compare(False)
    guess.of("yes").compare(False)
    guess.of("no").compare(False)
    assert capsys.readouterr().out.splitlines() == [
        "You made no guess. The answer: no.",
        "You guessed yes; the answer: no.",
        "Right: no.",
    ]


def test_the_buttons_make_the_guess():
    guess = predict("Frozen?", ["yes", "no"])
    bundle = guess._repr_mimebundle_()
    assert (
        bundle["text/plain"].startswith("Your guess: Frozen?") and "application/vnd.jupyter.widget-view+json" in bundle
    )
    guess._widget.children[1].value = "no"
    assert guess.value == "no"


# ------------------------------------------------------------------------------------------------- tables and masks
def test_numbers_stand_right_and_text_wraps():
    table = show_table(
        [{"GPU": "T4", "price ($)": 0.5, "fits": True}, {"GPU": "H100", "price ($)": 12345, "fits": None}],
        mark=lambda row: row["GPU"] == "H100",
    )
    assert re.findall(r'align="(\w+)"', table.data)[:3] == ["left", "right", "left"]
    assert "overflow-wrap:anywhere" in table.data
    assert table.text.splitlines() == ["GPU | price ($) | fits", "T4 | 0.50 | yes", "> H100 | 12,345 | –"]
    with pytest.raises(ValueError, match="no rows"):
        show_table([])


def test_players_are_named_by_their_rows_and_have_a_text_beside_them(test_clips):
    table = show_table([{"clip": clip["audio"], "caption": clip["caption"]} for clip in test_clips[:2]], audio="clip")
    labels = re.findall(r'aria-label="([^"]*)"', table.data)
    assert labels == [f"clip {place + 1}: {clip['caption']}" for place, clip in enumerate(test_clips[:2])]
    seconds = len(test_clips[0]["audio"]["array"]) / 16_000
    assert f"{seconds:.1f} s" in stripped(table.data) and "width:160px" in table.data
    assert "A hum (" in stripped(play(test_clips[0]["audio"], "A hum").data)


def test_changed_words_are_bold():
    assert mark_changes("A dog & a cat", "The dog") == "<b>A</b> dog &amp; <b>a cat</b>"
    page = compare_captions(
        [{"audio": np.zeros(3200, np.float32) + 0.1, "caption": "A hum"}], before=["A cow"], after=["A frog croaks"]
    )
    assert "A <b>frog croaks</b>" in page.data and "A cow" in page.data and "A frog croaks" in page.text


def test_a_mask_says_what_is_trained_without_any_style(processor, test_clips):
    batch = AudioFlamingo3DataCollator(processor)(test_clips[:2])
    page = show_label_mask(batch, processor)
    count = int((batch["labels"][0] != -100).sum())
    length = batch["input_ids"].shape[1]
    first = page.text.splitlines()[0]
    assert first == f"{count} of {length} tokens are trained: {test_clips[0]['caption']}<|im_end|>"
    plain = stripped(page.data)
    assert plain.count("<b><ins>") == count and "[&lt;|im_end|&gt;]" in plain and f"{count} of {length} tokens" in plain


# --------------------------------------------------------------------------------------------------------- pictures
def _luminance(color: str) -> float:
    channels = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]  # WCAG 2.1, "relative luminance"


def test_every_colour_stands_out_from_the_card():
    def contrast(color):
        return (_luminance(color) + 0.05) / (_luminance(palette.CARD) + 0.05)

    assert contrast(palette.INK) > 12 and all(contrast(color) >= 3 for color in palette.CYCLE)
    assert len(set(palette.CYCLE)) == len(palette.MARKERS) == len(palette.CYCLE)


def test_a_picture_is_stored_once_and_gives_nothing_away(processor, test_clips):
    samples = test_clips[0]["audio"]["array"]
    picture = plot_clip(samples, processor)
    bundle = picture._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"} and bundle["text/html"].count("base64") == 1
    assert "captioned" not in picture.alt and "captioned “A hum”" in plot_clip(samples, processor, "A hum").alt
    assert len(picture.png) < 60_000


def test_several_runs_in_one_picture():
    runs = {
        "healthy": [
            {"step": 5, "loss": 5.0},
            {"step": 10, "loss": 1.0},
            {"step": 10, "eval_loss": 1, "eval_event_f1": 0.5},
        ],
        "sick": [{"step": 5, "loss": 5.0}, {"step": 10, "loss": 4.5}],
    }
    alt = plot_curves(runs).alt
    assert "healthy: loss 5.00 to 1.00, event F1 0.50 to 0.50" in alt and "sick: loss 5.00 to 4.50." in alt
    with pytest.raises(ValueError, match="'empty' holds no training loss"):
        plot_curves({"empty": []})
    with pytest.raises(ValueError, match="0 runs"):
        plot_curves({})


def test_the_machine_has_this_clips_shapes(processor, base_model, test_clips):
    samples = test_clips[1]["audio"]["array"]
    alt = helpers.plot_machine(processor, base_model, test_clips[1]).alt
    chat = processor.apply_chat_template(
        [helpers.make_chat(samples)], tokenize=True, add_generation_prompt=True, return_dict=True
    )
    heard = int((chat["input_ids"] == processor.audio_token_id).sum())
    width = base_model.config.text_config.hidden_size
    assert f"waveform: {len(samples)} (samples)" in alt
    assert f"projector: {heard} by {width} (" in alt and f"1 by {chat['input_ids'].shape[1]} by {width} (chats" in alt
    assert f"“{caption(base_model, processor, samples)}”" in alt


# ---------------------------------------------------------------------------------------------------------- widgets
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
    assert game.closest("a dog is barking", ["A dog barks", "Rain falls on a roof"]) == "A dog barks"
    with pytest.raises(ValueError, match="one answer a clip"):
        helpers.guess_caption(clips, processor, captions[:2])


def test_the_browser_of_clips_moves_and_reveals(processor, test_clips):
    panel = helpers.browse_clips(test_clips[:3], processor)
    (_, forward, reveal), sound_, _, words = panel.children[0].children, *panel.children[1:]
    forward.click()
    assert "Clip 2 of 3" in sound_.value and not words.value
    reveal.click()
    assert test_clips[1]["caption"] in words.value


def _wav(seconds: float = 1.0) -> bytes:
    import io

    import soundfile

    file = io.BytesIO()
    soundfile.write(file, 0.1 * np.sin(np.arange(int(44_100 * seconds))), 44_100, format="WAV")
    return file.getvalue()


def _send(recorder, name: str, content: bytes) -> None:
    """As the browser does."""
    recorder.beginning += 1
    recorder.name, recorder.data = name, content
    recorder.count += 1


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
    assert "record or upload" in panel.page.text


def test_whatever_goes_wrong_is_said(processor):
    panel = helpers.upload_clip(lambda samples: 1 / 0)
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
