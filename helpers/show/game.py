"""Guess the caption from the spectrogram: the picture first, the words afterwards, the score of reader and model."""

from __future__ import annotations

import html
import random
from collections.abc import Sequence

from helpers.audio.samples import as_samples
from helpers.metrics.wording import tokenize
from helpers.show.panel import Panel
from helpers.show.pictures import plot_clip
from helpers.show.tables import Page, player


def choices(captions: Sequence[str], number: int, count: int = 4) -> list[str]:
    """The caption of one clip among others', shuffled the same way every time.

    Args:
        captions: of all clips.
        number: of the clip in question.
        count: how many to choose from, if so many different ones are there.
    """
    dice = random.Random(number)  # nosec B311: dice of a game
    others = sorted(set(captions) - {captions[number]})
    options = [captions[number], *dice.sample(others, min(count - 1, len(others)))]
    dice.shuffle(options)
    return options


def closest(answer: str, options: Sequence[str]) -> str:
    """The option that shares most words with an answer, by the F1 of the two sets of words: what the model "chose"."""
    words = set(tokenize(answer))

    def shared(option: str) -> float:
        others = set(tokenize(option))
        return 2 * len(words & others) / max(len(words) + len(others), 1)

    return max(options, key=shared)


def _choice_of_model(answer: str, options: Sequence[str]) -> str:
    return f"The model says “{answer}”, and so chooses “{closest(answer, options)}”."


def guess_caption(clips: Sequence[dict], processor, answers: Sequence[str] | None = None) -> Panel:
    """A game: the spectrogram of a clip without its caption, four captions to choose from, then sound, words and score.

    Args:
        clips: examples with ``audio`` and ``caption``.
        processor: makes the spectrograms.
        answers: what a model says of each clip; it then plays too, choosing the caption that shares most words.

    Raises:
        ValueError: no clips, or not one answer a clip.
    """
    import ipywidgets

    if not clips or answers is not None and len(answers) != len(clips):
        raise ValueError(
            f"There are {len(clips)} clips and {len(answers or [])} answers: give at least one clip, and one answer "
            "a clip, or none at all."
        )
    captions = [clip["caption"] for clip in clips]
    state = {"number": 0, "played": 0, "reader": 0, "model": 0}
    picture, verdict = ipywidgets.HTML(), ipywidgets.HTML()
    following = ipywidgets.Button(description="Next clip", icon="arrow-right")
    buttons = ipywidgets.VBox()

    def ask() -> None:
        number = state["number"]
        picture.value = plot_clip(as_samples(clips[number]["audio"]), processor).to_html()
        verdict.value = f"<p>Clip {number + 1} of {len(clips)}. Which caption belongs to this picture?</p>"
        buttons.children = [_choice(option) for option in choices(captions, number)]
        following.disabled = True

    def _choice(option: str):
        button = ipywidgets.Button(description=option, layout=ipywidgets.Layout(width="auto", max_width="40em"))
        button.on_click(lambda _: answer(option))
        return button

    def answer(option: str) -> None:
        number = state["number"]
        truth = captions[number]
        state["played"] += 1
        state["reader"] += option == truth
        words = "<b>Right.</b>" if option == truth else f"<b>No.</b> You chose “{html.escape(option)}”."
        score = f"You: {state['reader']} of {state['played']}"
        if answers is not None:
            options = choices(captions, number)
            state["model"] += closest(answers[number], options) == truth
            words += f" {html.escape(_choice_of_model(answers[number], options))}"
            score += f". The model: {state['model']} of {state['played']}"
        verdict.value = (
            f"<p>{words} A person wrote “{html.escape(truth)}”.</p>"
            f"{player(as_samples(clips[number]['audio']), truth)}<p>{score}.</p>"
        )
        for button in buttons.children:
            button.disabled = True
        following.disabled = False

    def go_on(_=None) -> None:
        state["number"] = (state["number"] + 1) % len(clips)
        ask()

    following.on_click(go_on)
    ask()
    return Panel(ipywidgets.VBox([picture, verdict, buttons, following]), _static(clips, captions, processor, answers))


def _static(clips, captions, processor, answers) -> Page:
    options = choices(captions, 0)
    listed = "".join(f"<li>{html.escape(option)}</li>" for option in options)
    answer = f"A person wrote “{captions[0]}”."
    if answers is not None:
        answer += f" {_choice_of_model(answers[0], options)}"
    page = (
        f"{plot_clip(as_samples(clips[0]['audio']), processor).to_html()}<p>Which caption belongs to this "
        f"picture?</p><ul>{listed}"
        f"</ul><details><summary>Show the answer</summary>{html.escape(answer)}</details>"
        f"<p>With a running kernel: {len(clips)} clips, buttons, and a score.</p>"
    )
    return Page(page, f"A game: which caption belongs to the spectrogram? {' / '.join(options)}. ({answer})")
