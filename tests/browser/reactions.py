"""What a learner does with the widgets of each notebook, and what must be seen to change."""

from __future__ import annotations

import io
import re

import numpy as np
import soundfile
from playwright.sync_api import Locator, expect

from browser.lab import OUTPUT

expect.set_options(timeout=120_000)  # milliseconds: a model that answers on one busy core takes its time


def _shown(page, **has) -> Locator:
    """The output that holds something, which must stay in it whatever is pressed: the locator looks anew every time."""
    return page.locator(OUTPUT).filter(**has).last


def _says(output: Locator, words: str | re.Pattern) -> None:
    expect(output).to_contain_text(words)


def noise(seconds: int) -> bytes:
    """A WAV file as a recorder writes it: 44.1 kHz, stereo, 16 bits, 176 kB a second."""
    file = io.BytesIO()
    samples = np.random.default_rng(0).normal(0, 0.1, (44_100 * seconds, 2))
    soundfile.write(file, samples, 44_100, format="WAV", subtype="PCM_16")
    return file.getvalue()


def make_guesses(page) -> None:
    """Press the first choice of every question, type into every field."""
    questions = page.locator(OUTPUT).filter(has_text="Your guess:")
    for number in range(questions.count()):
        question = questions.nth(number)
        if question.locator("button").count():
            question.locator("button").first.click()
            expect(question.locator("button").first).to_have_class(re.compile("mod-active"))
        else:
            question.locator("input").fill("7")


def upload(page, names: dict[str, int], models: list[str]) -> None:
    """Upload sounds one after the other, of so many seconds each; every model answers, and the old answer goes."""
    sound = _shown(page, has=page.locator("input[type=file]"))
    before = None
    for name, seconds in names.items():
        sound.locator("input[type=file]").set_input_files(
            {"name": name, "mimeType": "audio/wav", "buffer": noise(seconds)}
        )
        _says(sound, f"{name} ({seconds}.0 s)")
        for model in models:
            _says(sound, model)
        expect(sound.locator("td").first).to_have_text(re.compile(r"\w"))
        if before:
            expect(sound).not_to_contain_text(before)
        before = name


def every_sound(page, model: str) -> None:
    """Pick, upload a small and a large file, one that nothing can play, and record."""
    sound = _shown(page, has=page.locator("input[type=file]"))
    sound.locator("select").select_option(index=1)
    _says(sound, model)
    assert len(noise(3)) > 500_000 and len(noise(70)) > 12_000_000
    upload(page, {"small.wav": 3, "large.wav": 70, "again.wav": 3}, [model])
    film = {"name": "film.xyz", "mimeType": "audio/wav", "buffer": bytes(20_000_000)}
    sound.locator("input[type=file]").set_input_files(film)
    _says(sound, "film.xyz is too large to send")
    expect(sound).not_to_contain_text("again.wav")
    sound.get_by_role("button", name="Record").click()
    _says(sound, "Recording")
    page.wait_for_timeout(2500)
    sound.get_by_role("button", name="Stop").click()
    _says(sound, re.compile(r"your recording\.\w+ \(\d\.\d s\)"))
    _says(sound, model)


def _notebook_01(page) -> None:
    game = _shown(page, has=page.get_by_role("button", name="Next clip"))
    game.get_by_role("button").first.click()
    _says(game, "A person wrote")
    _says(game, re.compile(r"The model says .+You: [01] of 1\. The model: [01] of 1\.", re.S))
    game.get_by_role("button", name="Next clip").click()
    _says(game, "Clip 2 of 20")
    every_sound(page, "base model")


def _notebook_02(page) -> None:
    explorer = _shown(page, has=page.get_by_label("caption", exact=True))
    text = explorer.get_by_label("caption", exact=True)
    text.fill("A dog barks")
    text.press("Enter")
    _says(explorer, "tokens are trained: A dog barks")
    explorer.get_by_label("labels", exact=True).select_option("the guide: everything but the sound")
    _says(explorer, re.compile("tokens are trained: .*Describe"))
    explorer.get_by_label("labels", exact=True).select_option("this course: the answer alone")
    _says(explorer, "tokens are trained: A dog barks")
    text.fill("")
    text.press("Enter")
    _says(explorer, "That did not work.")


def _notebook_05(page) -> None:
    talk = _shown(page, has=page.get_by_role("button", name="Ask"))
    talk.get_by_role("button", name="Ask").click()
    _says(talk, "The tuned model:")
    _says(talk, "<|im_end|>")
    talk.get_by_label("question", exact=True).fill("And what else?")
    talk.get_by_label("with the adapter").uncheck()
    talk.get_by_label("choice", exact=True).select_option("temperature 1")
    talk.get_by_role("button", name="Ask").click()
    _says(talk, "You: And what else?")
    _says(talk, "The base model:")
    talk.get_by_role("button", name="New conversation").click()
    expect(talk).not_to_contain_text("The base model:")


def _calculator(page) -> None:
    knobs = _shown(page, has=page.get_by_label("GPU", exact=True))
    cell = knobs.locator("td")
    adapter = cell.nth(0).inner_text()
    knobs.get_by_label("rank", exact=True).select_option("32")
    expect(cell.nth(0)).to_have_text(f"{2 * float(adapter):,.2f}")
    memory = cell.nth(1).inner_text()
    knobs.get_by_label("4-bit weights").check()
    expect(cell.nth(1)).not_to_have_text(memory)
    verdict, price = cell.nth(3).inner_text(), cell.nth(5).inner_text()
    field = knobs.get_by_label("price ($ an hour)")
    field.fill("2")
    field.press("Enter")
    expect(cell.nth(5)).not_to_have_text(price)
    assert verdict in ("fits", "too large")


def _gallery(page) -> None:
    def run_again(code: str) -> Locator:
        cell = page.locator(".jp-CodeCell").filter(has_text=code)
        cell.locator(".jp-InputPrompt").click()
        page.keyboard.press("Control+Enter")
        return cell.locator(OUTPUT)

    _says(run_again('side.compare("no")'), "You guessed yes; the answer: no.")
    _says(run_again("size.compare(40)"), "You guessed 7 MB; it is 40 MB: 33 MB too low")
    sound = _shown(page, has=page.locator("input[type=file]"))
    file = {"name": "a.wav", "mimeType": "audio/wav", "buffer": noise(1)}
    sound.locator("input[type=file]").set_input_files(file)
    _says(sound, "ZeroDivisionError")
    expect(sound).not_to_contain_text("Listening")


REACTIONS = {
    "01_load_audio_captions": _notebook_01,
    "02_collate_conversations": _notebook_02,
    "03_train_with_lora": _calculator,
    "04_caption_new_audio": lambda page: upload(page, {"small.wav": 3}, ["before", "after"]),
    "05_use_a_pipeline": _notebook_05,
    "07_teach_your_own_sounds": lambda page: upload(page, {"small.wav": 3}, ["before", "after"]),
    "09_scale_up": _calculator,
    "gallery": _gallery,
}
"""Notebook -> what is done in it, beside the guesses."""
