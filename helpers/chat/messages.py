"""Chats, checked: whatever a learner, a table or a client hands over becomes a chat that AF3 understands, or one
sentence."""

from typing import Any

from helpers.audio.samples import as_samples
from helpers.audio.table import CaptionError
from helpers.profiles import DESCRIBE_PROMPT

ROLES = ("system", "user", "assistant")
"""Who speaks in a chat: at most one system prompt, then user and assistant in turn."""


class ChatError(CaptionError):
    """A chat, prompt or caption that the model cannot be given; the message says which, why and what to do."""


def make_chat(audio, prompt: str = DESCRIBE_PROMPT, answer: str | None = None) -> list[dict]:
    """A chat about one clip: the user's turn, and the assistant's if there is an ``answer``.

    Args:
        audio: 16 kHz mono float32 samples, shape ``(samples,)``.
        prompt: what the user asks.
        answer: what the assistant says.
    """
    chat = [{"role": "user", "content": [{"type": "text", "text": prompt}, {"type": "audio", "audio": audio}]}]
    if answer is not None:
        chat.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
    return chat


def check_text(text: Any, name: str) -> str:
    """``text`` if it is a text with something in it that can be encoded.

    Args:
        text: what should be one.
        name: what to call it in the message, such as ``"The prompt"``.

    Raises:
        ChatError: it is not.
    """
    if not isinstance(text, str):
        kind = "missing (None)" if text is None else f"a {type(text).__name__}"
        raise ChatError(f"{name} is {kind}, not a text: write it as a string.")
    if not text.strip():
        raise ChatError(f"{name} is empty: write something, or leave the example out.")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ChatError(f"{name} holds half a character (at position {error.start}): its file was read in the wrong "
                        "encoding; read it again as UTF-8.") from None
    return text


def check_chat(messages: Any, name: str = "the chat", *, clip: Any = None, answered: bool = False,
               longest: float | None = None) -> list[dict]:
    """A copy of a chat in the one form that the rest of the course builds on, or one sentence that says what is wrong.

    Args:
        messages: ``[{"role": ..., "content": text or list of items}, ...]``. Items are ``{"type": "text", "text":
            ...}`` and ``{"type": "audio", "audio": ...}`` (or ``"path"``, ``"url"``), with anything that `as_samples`
            takes.
        name: what to call the chat in the middle of a sentence, such as ``"the chat of rain.wav"``.
        clip: the chat's clip, where it does not lie in the chat itself: an item ``{"type": "audio"}`` says where it
            belongs; without one it joins the first user's turn.
        longest: seconds that the model takes at most (see `as_samples`).
        answered: whether the assistant has the last word, as in training; otherwise the user has, as for a question.

    Returns:
        The chat: each turn's content is a list with its clip, if it has one, as checked samples ``(samples,)``, and one
        text. White space around an assistant's words is gone: nobody wants to train on it.

    Raises:
        ChatError: an unknown role or item, roles out of turn, an empty answer, no clip or more than one, or a clip
            outside a user's turn.
        AudioError: its clip cannot be used (see `as_samples`).
    """
    title = name[:1].upper() + name[1:]
    if not isinstance(messages, list | tuple) or not messages:
        raise ChatError(f"{title} is not a list of messages: write [{{\"role\": \"user\", \"content\": ...}}, ...].")
    chat, clips = [], []
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise ChatError(f"Message {number} of {name} is not {{\"role\": ..., \"content\": ...}}: write both.")
        texts, sounds = _items(message, f"Message {number} of {name}")
        clips += sounds
        text = [{"type": "text", "text": texts}] if texts else []
        chat.append({"role": message["role"], "content": [*sounds, *text]})
    _check_roles([message["role"] for message in chat], title, answered)
    if not clips and clip is not None:
        first = next(message for message in chat if message["role"] == "user")
        clips.append({"type": "audio"})
        first["content"].insert(0, clips[0])
    if len(clips) != 1:
        raise ChatError(f"{title} holds {len(clips)} clips, but AF3 takes exactly one a chat: put one item {{\"type\": "
                        '"audio", "audio": samples or path} into a user\'s turn.')
    given = (clip, *(clips[0].get(key) for key in ("audio", "path", "url")))
    source = next((audio for audio in given if audio is not None), None)
    if source is None:
        raise ChatError(f"{title} has an audio item without audio: give it \"audio\" (samples) or \"path\".")
    sound = {"type": "audio", "audio": as_samples(source, f"The clip of {name}", longest)}
    for message in chat:
        message["content"] = [sound if item is clips[0] else item for item in message["content"]]
    return chat


def _items(message: dict, name: str) -> tuple[str, list[dict]]:
    """The text of a message, its pieces joined, and copies of its audio items.

    Joined, for half a control token in one item and half in the next would make a whole one once they are rendered.
    """
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise ChatError(f"{name} has the role {role!r}: use {', '.join(ROLES)}.")
    items = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(items, list | tuple):
        raise ChatError(f"{name} has content that is a {type(content).__name__}: write a text, or a list of items.")
    texts, sounds = [], []
    for item in items:
        kind = item.get("type") if isinstance(item, dict) else None
        if kind == "text":
            text = item.get("text")
            if not isinstance(text, str) or text.strip():  # whether the whole turn is empty is seen below
                check_text(text, f"A text in {name}")
            texts.append(text)
        elif kind == "audio":
            if role != "user":
                raise ChatError(f"{name} puts a clip into the {role}'s turn: AF3 hears clips in a user's turn alone.")
            sounds.append(dict(item))
        else:
            raise ChatError(f"{name} has an item of type {kind!r}: AF3 takes \"text\" and \"audio\".")
    text = "".join(texts)
    if role == "assistant":
        text = text.strip()
    if not text.strip() and not sounds:
        raise ChatError(f"{name} (the {role}'s) is empty: write something, or take the message out.")
    return text, sounds


def _check_roles(roles: list[str], name: str, answered: bool) -> None:
    turns = roles[1:] if roles[0] == "system" else roles
    expected = [("user", "assistant")[number % 2] for number in range(len(turns))]
    if not turns or turns != expected:
        raise ChatError(f"{name} has the roles {', '.join(roles)}: begin with the user (a system prompt may come "
                        "first), then let assistant and user take turns.")
    last = "assistant" if answered else "user"
    if turns[-1] != last:
        why = "there is nothing to learn otherwise" if answered else "the model is to answer it"
        raise ChatError(f"{name} ends in the {turns[-1]}'s turn: the {last} has to have the last word, for {why}.")
