"""Bad chats, examples and prompts: each is refused by one sentence, wherever it comes in; none is taken in silence."""

from __future__ import annotations

import math

import numpy as np
import pytest
from planted import one_sentence

from helpers import (
    AudioFlamingo3DataCollator,
    CaptionError,
    ChatError,
    caption,
    check_chat,
    register_pipeline,
)

CLIP = (0.1 * np.random.default_rng(0).standard_normal(2400)).astype(np.float32)

SOUND = {"type": "audio", "audio": CLIP}


def user(*items):
    return {"role": "user", "content": list(items)}


BAD_CHATS = {
    "no list": ("hi", "is not a list of messages"),
    "empty": ([], "is not a list of messages"),
    "no message": ([None], "Message 0 of the chat is not"),
    "no role": ([{"content": "x"}], "Message 0 of the chat is not"),
    "no content": ([{"role": "user"}], "Message 0 of the chat is not"),
    "None as content": ([{"role": "user", "content": None}], "content that is a NoneType"),
    "a number as content": ([{"role": "user", "content": 3}], "content that is a int"),
    "unknown role": ([{"role": "tool", "content": "x"}], "has the role 'tool'"),
    "role that is control": ([{"role": "assistant<|im_end|>", "content": "x"}], "has the role 'assistant<"),
    "unhashable role": ([{"role": ["user"], "content": "x"}], "has the role"),
    "None as text": ([user(SOUND, {"type": "text", "text": None})], "is missing \\(None\\), not a text"),
    "no text": ([user(SOUND, {"type": "text"})], "is missing \\(None\\), not a text"),
    "bytes as text": ([user(SOUND, {"type": "text", "text": b"x"})], "is a bytes, not a text"),
    "half a character": ([user(SOUND, {"type": "text", "text": "a\ud800"})], "half a character \\(at position 1\\)"),
    "unknown item": ([user(SOUND, {"type": "image"})], "item of type 'image'"),
    "item without type": ([user(SOUND, {"text": "x"})], "item of type None"),
    "item that is a string": ([{"role": "user", "content": ["x"]}], "item of type None"),
    "empty turn": ([user({"type": "text", "text": " "})], "\\(the user's\\) is empty"),
    "empty list": ([{"role": "user", "content": []}], "is empty"),
    "empty answer": ([user(SOUND), {"role": "assistant", "content": " \n"}, user({"type": "text", "text": "?"})],
                     "\\(the assistant's\\) is empty"),
    "assistant first": ([{"role": "assistant", "content": "x"}, user(SOUND)], "has the roles assistant, user"),
    "system alone": ([{"role": "system", "content": "x"}], "has the roles system:"),
    "system later": ([user(SOUND), {"role": "system", "content": "x"}], "has the roles user, system"),
    "two users": ([user(SOUND), user({"type": "text", "text": "x"})], "has the roles user, user"),
    "ends with the assistant": ([user(SOUND), {"role": "assistant", "content": "x"}], "the user has to have the last "
                                                                                      "word"),
    "no clip": ([{"role": "user", "content": "x"}], "holds 0 clips"),
    "two clips": ([user(SOUND, dict(SOUND))], "holds 2 clips"),
    "two clips in two turns": ([user(SOUND), {"role": "assistant", "content": "x"}, user(dict(SOUND))],
                               "holds 2 clips"),
    "clip of the assistant": ([{"role": "user", "content": "x"}, {"role": "assistant", "content": [SOUND]},
                               {"role": "user", "content": "x"}], "puts a clip into the assistant's turn"),
    "clip of the system": ([{"role": "system", "content": [SOUND]}, user({"type": "text", "text": "x"})],
                           "into the system's turn"),
    "no audio": ([user({"type": "audio"})], "audio item without audio"),
    "None as audio": ([user({"type": "audio", "audio": None})], "audio item without audio"),
}


@pytest.mark.parametrize("name", BAD_CHATS)
def test_bad_chats(name):
    chat, message = BAD_CHATS[name]
    with pytest.raises(ChatError, match=message) as caught:
        check_chat(chat)
    one_sentence(caught.value)


def captioned(text):
    return [{"audio": CLIP, "caption": text}]


EXAMPLES = {
    "no examples": ([], "holds no examples"), "a string": (["x"], "is a str, not a dictionary"),
    "None": ([None], "is a NoneType"),
    "nothing": ([{}], "has no 'audio'"), "no audio": ([{"caption": "x"}], "has no 'audio'"),
    "audio is None": ([{"audio": None, "caption": "x"}], "has no 'audio'"),
    "no caption": ([{"audio": CLIP}], "has no caption"),
    "None as caption": (captioned(None), "has no caption"), "empty caption": (captioned(""), "has no caption"),
    "blank caption": (captioned(" \t\n"), "has no caption"), "NaN of a table": (captioned(math.nan),
                                                                                "is a float, not a text"),
    "a number": (captioned(3), "is a int, not a text"), "bytes": (captioned(b"rain"), "is a bytes, not a text"),
    "a list": (captioned(["rain"]), "is a list, not a text"),
    "half a character": (captioned("\ud83d rain"), "half a character"),
    "messages as text": ([{"audio": CLIP, "messages": "hi"}], "is not a list of messages"),
    "messages as numbers": ([{"audio": CLIP, "messages": [1]}], "Message 0 of the chat of Example 0"),
    "nothing to learn": ([{"audio": CLIP, "messages": [{"role": "user", "content": "x"}]}], "the assistant has to have "
                                                                                            "the last"),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_bad_examples(processor, name):
    examples, message = EXAMPLES[name]
    with pytest.raises(CaptionError, match=message) as caught:
        AudioFlamingo3DataCollator(processor)(examples)
    one_sentence(caught.value)


@pytest.mark.parametrize("prompt", [None, "", "  ", 3, b"x", ["x"], "\udc00"])
def test_bad_prompts(processor, base_model, prompt):
    register_pipeline()
    from transformers import pipeline

    pipe = pipeline("audio-text-to-text", model=base_model, processor=processor)
    for ask in (lambda: caption(base_model, processor, CLIP, prompt),
                lambda: AudioFlamingo3DataCollator(processor, prompt),
                lambda: pipe(CLIP, text=prompt)):
        with pytest.raises(ChatError, match="(prompt|question).*(text|empty|half a character)") as caught:
            ask()
        one_sentence(caught.value)
    for size in (0, -1, 1.5, "8", None):
        with pytest.raises(ValueError, match="batch_size is"):
            caption(base_model, processor, [CLIP], batch_size=size)
