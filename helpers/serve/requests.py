"""What a client may ask: its messages become chats of checked samples, or one sentence that says what is wrong."""

import base64
import binascii
import math
from typing import Any

from helpers.audio.samples import AudioError, load_audio
from helpers.chat.messages import ROLES

NUMBERS = {"temperature": (float, 0, 2), "top_p": (float, 0, 1), "max_tokens": (int, 1, 4096),
           "max_completion_tokens": (int, 1, 4096), "seed": (int, 0, 2**63 - 1)}
"""Field of a request -> its kind, the least and the greatest value."""

KINDS = {"model": (str, "a text"), "stream": (bool, "true or false"), "stop": (str | list, "a text or a list of texts")}
"""Field of a request -> its type in Python, and in words."""

REACHING_INSIDE = ("generation_config", "chat_template_kwargs", "tools", "logit_bias", "frequency_penalty")
"""Fields that transformers' server hands on to the tokenizer's template or to ``generate`` as they are."""

URL_SECONDS, URL_BYTES = 20, 150_000_000
"""How long and how much is read from an address, where that is allowed at all."""


class BadRequest(ValueError):
    """The client's mistake, in one sentence: the server answers with a 4xx status, 400 unless told otherwise."""

    def __init__(self, sentence: str, status: int = 400):
        super().__init__(sentence)
        self.status = status


def check_fields(body: dict[str, Any]) -> None:
    """Look at everything in a request but its messages.

    Raises:
        BadRequest: a number is none or out of its range, a field is of the wrong kind, or reaches inside the server.
    """
    for name in REACHING_INSIDE:
        if body.get(name) is not None:
            raise BadRequest(f"This server does not take {name!r}: leave it out.")
    for name, (kind, least, greatest) in NUMBERS.items():
        value = body.get(name)
        if value is None:
            continue
        right_kind = isinstance(value, int | kind) and not isinstance(value, bool)
        if not right_kind or not math.isfinite(value) or not least <= value <= greatest:
            number = "a whole number" if kind is int else "a number"
            raise BadRequest(f"{name!r} is {_short(value)}: give {number} from {least} to {greatest}.")
    for name, (kind, words) in KINDS.items():
        if body.get(name) is not None and not isinstance(body[name], kind):
            raise BadRequest(f"{name!r} is {_short(body[name])}: give {words}.")
    stops = body.get("stop") or []
    if isinstance(stops, list) and not all(isinstance(stop, str) and stop for stop in stops):
        raise BadRequest("'stop' holds something that is no text: give a text or a list of texts.")


def read_messages(messages: Any, allow_paths: bool = False, allow_urls: bool = False) -> list[dict]:
    """OpenAI's messages as the chat that a processor takes, the clip decoded by the course's own gate.

    Args:
        messages: ``[{"role": ..., "content": text or parts}]``. A part is ``{"type": "text", "text": ...}``,
            ``{"type": "input_audio", "input_audio": {"data": base64, "format": ...}}`` or ``{"type": "audio_url",
            "audio_url": {"url": ...}}``; the url is ``data:...;base64,...`` unless more is allowed.
        allow_paths: also read files of this machine that a client names.
        allow_urls: also fetch addresses that a client names.

    Returns:
        Messages with ``{"type": "text"}`` and ``{"type": "audio", "audio": samples}`` items; samples are 16 kHz mono
        float32, shape ``(samples,)``.

    Raises:
        BadRequest: anything else, or audio that cannot be used.
    """
    if not isinstance(messages, list) or not messages:
        raise BadRequest("'messages' is empty: send at least one message of the user.")
    chat, clips = [], 0
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise BadRequest(f"Message {number} has no role: give one of {', '.join(ROLES)}.")
        content = message.get("content")
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(parts, list) or not parts:
            raise BadRequest(f"Message {number} has no content: give a text, or a list of parts.")
        items = [_item(part, number, allow_paths, allow_urls) for part in parts]
        clips += sum(item["type"] == "audio" for item in items)
        chat.append({"role": message["role"], "content": items})
    if chat[-1]["role"] != "user":
        raise BadRequest(f"The last message is the {chat[-1]['role']}'s: end with one of the user, for it is what gets "
                         "answered.")
    if clips > 1:
        raise BadRequest(f"The messages hold {clips} clips: the model takes one a chat, so ask about each on its own.")
    return chat


def _item(part: Any, number: int, allow_paths: bool, allow_urls: bool) -> dict:
    """One part of a message."""
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    if kind in ("input_audio", "audio_url"):
        field = "data" if kind == "input_audio" else "url"
        inner = part.get(kind)
        source = inner.get(field) if isinstance(inner, dict) else None
        if not isinstance(source, str) or not source:
            raise BadRequest(f"The {kind} of message {number} has no {field!r}: send the base64 of a whole WAV, "
                             "FLAC, OGG or MP3 file in it.")
        content = _decode(source) if kind == "input_audio" else _open(source, allow_paths, allow_urls)
        try:
            return {"type": "audio", "audio": load_audio(content)}
        except AudioError as error:
            raise BadRequest(str(error)) from None
    raise BadRequest(f"Message {number} has a part of type {_short(kind)}: this server takes text, input_audio and "
                     "audio_url with their fields.")


def _open(url: str, allow_paths: bool, allow_urls: bool) -> bytes | str:
    """What an address stands for: its bytes, or the path of a file."""
    scheme, _, rest = url.partition(":")
    if scheme.lower() == "data":
        return _decode(rest.partition(",")[2])
    if scheme.lower() in ("http", "https"):
        if not allow_urls:
            raise BadRequest("This server fetches no addresses: send the file itself as base64, or start the server "
                             "with --allow-urls.", status=403)
        return _fetch(url)
    if not allow_paths:
        raise BadRequest("This server reads no files of its machine: send the file itself as base64, or start the "
                         "server with --allow-paths.", status=403)
    return url.removeprefix("file://")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("The audio is no valid base64: encode the bytes of the file with base64.b64encode.") from None


def _fetch(url: str) -> bytes:
    import httpx

    content = bytearray()
    try:
        with httpx.stream("GET", url, timeout=URL_SECONDS, follow_redirects=True) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > URL_BYTES:
                    raise BadRequest(f"The file behind the address is larger than {URL_BYTES // 1_000_000} MB: "
                                     "cut it first.")
    except httpx.HTTPStatusError as error:
        raise BadRequest(f"The address answered with status {error.response.status_code}: check it, or send the file "
                         "as base64.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise BadRequest(f"The address could not be fetched ({type(error).__name__}): check it, or send the file as "
                         "base64.") from None
    return bytes(content)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
