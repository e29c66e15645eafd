"""Bad clips: arrays, tensors, dictionaries, paths and files, through every way in: each is refused by one sentence."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers import (
    AudioError,
    AudioFlamingo3DataCollator,
    CaptionError,
    ChatError,
    as_samples,
    caption,
    load_audio,
    play,
    plot_clip,
    register_pipeline,
)

GOOD = (0.1 * np.sin(np.arange(8000) / 5)).astype(np.float32)

ARRAYS = {
    "None": None, "a number": 3, "a list": [0.0] * 8000, "a tuple with its rate": (GOOD, 16_000), "a set": {1},
    "a generator": (sample for sample in GOOD), "a memory view": memoryview(b"abc"), "complex": GOOD.astype(complex),
    "truth values": GOOD > 0, "objects": GOOD.astype(object), "texts": np.array(["a"] * 8000),
    "a NumPy number": np.float32(0.1), "no dimension": np.array(0.1), "three dimensions": GOOD.reshape(2, 2, -1),
    "a column": GOOD[:, None], "a row": GOOD[None], "ten samples": GOOD[:10], "no samples": GOOD[:0],
    "NaN": GOOD * np.nan, "infinite": GOOD * np.inf, "infinite in float32": GOOD.astype(np.float64) * 1e300,
    "16-bit": GOOD.astype(np.int16), "8-bit": np.zeros(8000, np.uint8), "integers as floats": GOOD * 32_768 * 9,
    "masked": np.ma.array(GOOD, mask=True), "a tensor of integers": torch.zeros(8000, dtype=torch.int16),
    "a tensor of two channels": torch.zeros(2, 8000), "a tensor without numbers": torch.zeros(8000, device="meta"),
    "a sparse tensor": torch.zeros(8000).to_sparse(), "an empty dictionary": {}, "no audio in it": {"caption": "x"},
    "no array": {"array": None, "sampling_rate": 16_000}, "no bytes and no path": {"bytes": None, "path": None},
    "rate 0": {"array": GOOD, "sampling_rate": 0}, "rate as text": {"array": GOOD, "sampling_rate": "16000"},
    "rate unknown": {"array": GOOD, "sampling_rate": None}, "another rate": {"array": GOOD, "sampling_rate": 44_100},
    "rate that is no number": {"array": GOOD, "sampling_rate": math.nan},
}
PATHS = {
    "no such file": "missing.wav", "no such path": Path("no/where.wav"), "no name": "", "a folder": "folder.wav",
    "text": "text.wav", "empty": "empty.wav", "header alone": "header.wav", "a link to itself": "loop.wav",
    "a pipe": "pipe.wav", "a null in the name": "a\0b.wav", "an address": "http://127.0.0.1/a.wav",
    "bytes of no file": b"abc", "no bytes": b"", "an array of bytes": bytearray(b"RIFF"),
    "a path in a dictionary": {"path": "missing.wav"}, "bytes in a dictionary": {"bytes": b"x", "path": None},
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.wav").mkdir()
    for name, content in {"text": b"this is text", "empty": b"", "header": b"RIFF\x24\0\0\0WAVE"}.items():
        (tmp_path / f"{name}.wav").write_bytes(content)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.wav")
        (tmp_path / "loop.wav").symlink_to("loop.wav")


@pytest.fixture(scope="module")
def ways(processor, base_model):
    register_pipeline()
    from transformers import pipeline

    pipe = pipeline("audio-text-to-text", model=base_model, processor=processor)
    return {"as_samples": as_samples, "caption": lambda clip: caption(base_model, processor, [GOOD, clip]),
            "collator": lambda clip: AudioFlamingo3DataCollator(processor)([{"audio": clip, "caption": "Rain"}]),
            "play": play, "plot_clip": lambda clip: plot_clip(clip, processor), "pipeline": pipe}


@pytest.mark.parametrize("name", [*ARRAYS, *PATHS])
def test_a_bad_clip_is_refused_by_every_way_in(files, ways, name):
    clip = {**ARRAYS, **PATHS}[name]
    for way, take in ways.items():
        with pytest.raises((AudioError, CaptionError, ChatError)) as caught:
            take(clip)
        text = str(caught.value)
        assert "\n" not in text and 20 < len(text) < 500 and (":" in text), f"{way}: {text}"


@pytest.mark.parametrize("name", [*ARRAYS, *PATHS])
def test_a_bad_file_is_refused_by_the_decoder(files, name):
    with pytest.raises(AudioError) as caught:
        load_audio({**ARRAYS, **PATHS}[name])
    assert "\n" not in str(caught.value)


def test_a_tensor_is_taken_as_what_it_is():
    for tensor in (torch.from_numpy(GOOD), torch.from_numpy(GOOD).requires_grad_(), torch.from_numpy(GOOD).double()):
        assert np.array_equal(as_samples(tensor), GOOD)
