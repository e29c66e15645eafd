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
from helpers.show import palette
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
    assert "anywhere" not in table.data, "a short word is never broken"
    assert "anywhere" in show_table([{"says": "!" * 30}]).data and "nowrap" not in show_table([{"says": "A"}]).data
    assert table.text.splitlines() == ["GPU | price ($) | fits", "T4 | 0.50 | yes", "> H100 | 12,345 | –"]
    written = show_table([{"rate": "3e-05", "F1": "0.97 [0.95, 0.99]", "id": "7 cats", "share": "45%"},
                          {"rate": "0.003", "F1": "unknown", "id": "8", "share": "–"}])
    assert re.findall(r'<th scope="col" align="(\w+)"', written.data) == ["right", "right", "left", "right"]
    assert "white-space:normal\">0.97 [" in written.data, "an interval may take two lines"
    with pytest.raises(ValueError, match="no rows"):
        show_table([])


def test_players_are_named_by_their_rows_and_have_a_text_beside_them(test_clips):
    table = show_table([{"clip": clip["audio"], "caption": clip["caption"]} for clip in test_clips[:2]], audio="clip")
    labels = re.findall(r'aria-label="([^"]*)"', table.data)
    assert labels == [f"clip {place + 1}: {clip['caption']}" for place, clip in enumerate(test_clips[:2])]
    seconds = len(test_clips[0]["audio"]["array"]) / 16_000
    assert f"{seconds:.1f} s" in stripped(table.data) and "width:140px" in table.data
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


def test_a_thin_line_keeps_its_colour_beside_a_colour_map():
    from io import BytesIO

    from PIL import Image

    from helpers.show.figures import as_picture, new_figure
    from helpers.show.pictures import draw_log_mel, draw_waveform

    clicks = np.zeros(50_000)
    clicks[::9_000] = 0.5
    figure, (left, right) = new_figure(columns=2)
    draw_waveform(left, clicks)
    draw_log_mel(right, np.random.default_rng(0).normal(size=(64, 400)), 4.0)
    picture = np.asarray(Image.open(BytesIO(as_picture(figure, "Clicks beside noise.").png)).convert("RGB")).astype(int)
    wanted = [int(palette.SOUND[place : place + 2], 16) for place in (1, 3, 5)]
    waveform = picture[:, : picture.shape[1] // 2].reshape(-1, 3)
    assert (abs(waveform - wanted).max(axis=1) <= 8).sum() > 60


def test_several_runs_in_one_picture():
    runs = {
        "healthy": [
            {"step": 5, "loss": 5.0},
            {"step": 10, "loss": 1.0},
            {"step": 5, "eval_loss": 2, "eval_event_f1": 0.25, "eval_cider_d": 1.0},
            {"step": 10, "eval_loss": 1, "eval_event_f1": 0.5},
        ],
        "sick": [{"step": 5, "loss": 5.0}, {"step": 10, "loss": 4.5}],
    }
    alt = plot_curves(runs).alt
    assert "healthy: loss 5.00 to 1.00, event F1 0.25 to 0.50;" in alt and "sick: loss 5.00 to 4.50." in alt
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
