"""Requests to the captioning server, as a client makes them: shared by its tests."""

from __future__ import annotations

import base64
import io

import numpy as np
import soundfile

QUESTION = {"type": "text", "text": "Describe the audio."}


def encoded(samples: np.ndarray, kind: str = "wav") -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format=kind.upper())
    return base64.b64encode(file.getvalue()).decode()


def sound(samples: np.ndarray, kind: str = "wav") -> dict:
    return {"type": "input_audio", "input_audio": {"data": encoded(samples, kind), "format": kind}}


def messages(*parts: dict) -> list[dict]:
    return [{"role": "user", "content": [QUESTION, *parts]}]


TONE = (0.3 * np.sin(np.arange(16_000) * 0.2)).astype(np.float32)
NOT_AUDIO = base64.b64encode(b"These are words and no sound." * 20).decode()


def features(processor, clip):
    from helpers import make_chat

    return processor.apply_chat_template([make_chat(clip)], tokenize=True, return_dict=True, add_generation_prompt=True)
