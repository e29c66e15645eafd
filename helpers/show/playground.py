"""A conversation about a clip: the answer token by token, each with the probability that the model gave it."""

from __future__ import annotations

import contextlib
import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from helpers.audio.samples import as_samples
from helpers.captioning.captions import GREEDY, encode_questions
from helpers.chat import check_chat, make_chat
from helpers.profiles import DESCRIBE_PROMPT
from helpers.show.panel import Panel, problem
from helpers.show.tables import Page, play, show_table


@dataclass(frozen=True)
class Token:
    """A piece of an answer, and how probable the model found it before any temperature or cut-off."""

    text: str
    probability: float


class _Scores(LogitsProcessor):
    """Keeps the scores of the next token as the model gave them; changes nothing."""

    def __call__(self, input_ids, scores):
        self.last = scores[0].float().softmax(-1)
        return scores


class _Listener(StoppingCriteria):
    """Hears of each token that was chosen; never stops anything."""

    def __init__(self, processor, start: int, scores: _Scores, tell: Callable[[list[Token]], None] | None):
        self.tokenizer, self.start, self.scores, self.tell = processor.tokenizer, start, scores, tell
        self.tokens: list[Token] = []

    def __call__(self, input_ids, scores, **kwargs):
        # Decoded together with what came before: a character may take several tokens.
        before, now = (self.tokenizer.decode(input_ids[0, self.start : end]) for end in (input_ids.shape[1] - 1, None))
        self.tokens.append(Token(now[len(before) :], float(self.scores.last[input_ids[0, -1]])))
        if self.tell:
            self.tell(self.tokens)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def answer_tokens(model, processor, chat: list[dict], temperature: float = 0.0,
                  tell: Callable[[list[Token]], None] | None = None) -> list[Token]:
    """Continue a chat by one answer, and keep how probable each token was.

    Args:
        model: an AF3, with or without an adapter.
        processor: its processor.
        chat: ends in a user's turn; the clip as 16 kHz mono float32 samples.
        temperature: 0 is greedy.
        tell: called after each token with all tokens so far.

    Returns:
        The tokens, the end token among them.
    """
    inputs = encode_questions(model, processor, [check_chat(chat)])
    scores = _Scores()
    listener = _Listener(processor, inputs["input_ids"].shape[1], scores, tell)
    options = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else GREEDY
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            model.generate(**inputs, **options, max_new_tokens=100, logits_processor=LogitsProcessorList([scores]),
                           stopping_criteria=StoppingCriteriaList([listener]))
    finally:
        model.train(was_training)
    return listener.tokens


def answer_text(tokens: Sequence[Token]) -> str:
    """The words of an answer, without the token that ends it."""
    text = "".join(token.text for token in tokens)
    return text.split("<|im_end|>")[0].split("<|endoftext|>")[0].strip()


def show_tokens(tokens: Sequence[Token]) -> Page:
    """Tokens with their probabilities below, those under one half in bold: where the model hesitated."""
    cells = []
    for token in tokens:
        text = html.escape(token.text.replace("\n", "⏎"))
        shown = f"<b>{text}</b>" if token.probability < 0.5 else text
        cells.append(
            '<span style="display:inline-block;text-align:center;white-space:pre;margin:0 2px;font-family:monospace">'
            f"{shown}<br><small>{token.probability:.0%}</small></span> "
        )
    return Page(
        f"<div>{''.join(cells)}</div>", " ".join(f"{token.text.strip()} ({token.probability:.0%})" for token in tokens)
    )


def adapter_off(model):
    """A context in which the adapter is off; without an adapter it changes nothing."""
    return model.disable_adapter() if hasattr(model, "disable_adapter") else contextlib.nullcontext()


def playground(model, processor, clips: Sequence[dict]) -> Panel:
    """Choose a clip, ask, go on asking: adapter on or off, greedy or with a temperature, each token with its
    probability.

    Args:
        model: an AF3, best with an adapter that is not merged, so that it can be switched off.
        processor: its processor.
        clips: examples with ``audio`` and ``caption``.
    """
    import ipywidgets

    wide = ipywidgets.Layout(width="auto", max_width="42em")
    names = [f"{number + 1}: {clip['caption']}" for number, clip in enumerate(clips)]
    clip = ipywidgets.Dropdown(
        options=[(name, number) for number, name in enumerate(names)], description="clip", layout=wide
    )
    question = ipywidgets.Text(value=DESCRIBE_PROMPT, description="question", layout=wide)
    adapter = ipywidgets.Checkbox(
        value=True, description="with the adapter", disabled=not hasattr(model, "disable_adapter")
    )
    heat = ipywidgets.Dropdown(
        options=[("greedy", 0.0), ("temperature 0.7", 0.7), ("temperature 1", 1.0), ("temperature 1.5", 1.5)],
        description="choice",
        layout=wide,
    )
    ask, fresh = ipywidgets.Button(description="Ask"), ipywidgets.Button(description="New conversation")
    sound, talk = ipywidgets.HTML(), ipywidgets.HTML()
    chat, said = [], []

    def restart(_=None) -> None:
        chat.clear()
        said.clear()
        talk.value = ""
        samples = as_samples(clips[clip.value]["audio"])
        sound.value = play(samples, names[clip.value]).data

    def answer(_=None) -> None:
        words = question.value.strip()
        if not words:
            talk.value = "".join(said) + "<p>Type a question first.</p>"
            return
        turn = (
            make_chat(as_samples(clips[clip.value]["audio"]), words)
            if not chat
            else [{"role": "user", "content": [{"type": "text", "text": words}]}]
        )
        asked = f"<p><b>You:</b> {html.escape(words)}</p>"
        who = "The tuned model" if adapter.value and not adapter.disabled else "The base model"
        ask.disabled = True

        def tell(tokens) -> None:
            talk.value = "".join(said) + asked + f"<p><b>{who}:</b></p>{show_tokens(tokens).data}"

        try:
            with contextlib.nullcontext() if adapter.value else adapter_off(model):
                tokens = answer_tokens(model, processor, chat + turn, heat.value, tell)
            chat.extend([*turn, {"role": "assistant", "content": [{"type": "text", "text": answer_text(tokens)}]}])
            said.append(asked + f"<p><b>{who}:</b> {html.escape(answer_text(tokens))}</p>{show_tokens(tokens).data}")
            talk.value = "".join(said)
        except Exception as error:
            talk.value = "".join(said) + asked + problem(error)
        finally:
            ask.disabled = False

    clip.observe(restart, names="value")
    fresh.on_click(restart)
    ask.on_click(answer)
    restart()
    box = ipywidgets.VBox([clip, sound, question, adapter, heat, ipywidgets.HBox([ask, fresh]), talk])
    return Panel(box, _static(model, processor, clips[0]))


def _static(model, processor, clip: dict) -> Page:
    samples = as_samples(clip["audio"])
    rows = []
    for who, context in (("base", adapter_off(model)), ("tuned", contextlib.nullcontext())):
        if who == "tuned" and not hasattr(model, "disable_adapter"):
            continue
        with context:
            tokens = answer_tokens(model, processor, make_chat(samples))
        rows.append({"model": who, "its answer, token by token, with its probability": show_tokens(tokens)})
    table = show_table(rows)
    note = f"Asked “{DESCRIBE_PROMPT}” about a clip that a person captioned “{clip['caption']}”."
    return Page(f"<p>{html.escape(note)}</p>{play(samples, clip['caption']).data}{table.data}", f"{note}\n{table.text}")
