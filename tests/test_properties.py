"""Clips of any length, from one sample to 11 minutes, of any finite amplitude, with any text: refused, or right."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from test_text import composed, words

from helpers import AudioError, AudioFlamingo3DataCollator, AudioWarning, as_samples, caption, load_audio
from helpers.audio.samples import LOUDEST, MINIMUM_SECONDS
from helpers.chat import IGNORED

pytestmark = pytest.mark.filterwarnings("ignore::helpers.audio.samples.AudioWarning")

RATE = 16_000
SHORTEST = round(MINIMUM_SECONDS * RATE)
edges = st.sampled_from([1, 2, SHORTEST - 1, SHORTEST, SHORTEST + 1, 4 * RATE - 1, 4 * RATE, 4 * RATE + 1])
"""In samples, about the shortest that the encoder takes and one window of the tiny model."""
brief = st.one_of(edges, st.integers(1, 6 * RATE))
any_length = st.one_of(edges, st.integers(1, 90 * RATE), st.integers(1, 11 * 60 * RATE))
amplitudes = st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.floats(0, 2), st.just(0.0))

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
thorough = settings(quick, max_examples=150)
few = settings(quick, max_examples=40)


def wave(length: int, peak: float) -> np.ndarray:
    """``float64``; the first sample is the loudest."""
    return peak * np.cos(np.arange(length) / 5)


def usable(length: int, peak: float) -> bool:
    return length >= SHORTEST and abs(peak) <= LOUDEST


def refusal(call) -> str | None:
    try:
        call()
    except AudioError as error:
        assert "\n" not in str(error) and len(str(error)) < 400, "one sentence"
        return str(error)
    return None


def check_gate(length: int, peak: float) -> None:
    samples = wave(length, peak)
    assert (refusal(lambda: as_samples(samples)) is None) == usable(length, peak)
    if usable(length, peak):
        heard = as_samples(samples)
        assert heard.dtype == np.float32 and np.array_equal(heard, samples.astype(np.float32))


def check_decoding(length: int, peak: float, kind: str) -> None:
    file = io.BytesIO()
    subtype = {"WAV": "FLOAT", "FLAC": "PCM_16"}[kind]
    with np.errstate(over="ignore"):
        soundfile.write(file, wave(length, peak).astype(np.float32), RATE, format=kind, subtype=subtype)
    stored, _ = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    loud = float(np.abs(stored).max())
    said = refusal(lambda: load_audio(file.getvalue()))
    assert (said is None) == (length >= SHORTEST and loud <= LOUDEST), said
    if said is None:
        assert np.array_equal(load_audio(file.getvalue()), stored)


def check_placeholders(processor, model, length: int, peak: float, text: str) -> None:
    examples = [{"audio": wave(length, peak), "caption": text}]
    collate = AudioFlamingo3DataCollator(processor, trim_logits=False)
    said = refusal(lambda: collate(examples))
    assert (said is None) == usable(length, peak), said
    if said is not None:
        return
    batch = collate(examples)
    assert torch.isfinite(batch["input_features"]).all()
    with torch.no_grad():
        heard = model.get_audio_features(batch["input_features"], batch["input_features_mask"]).pooler_output
    assert int((batch["input_ids"] == processor.audio_token_id).sum()) == len(heard)
    trained = batch["labels"][batch["labels"] != IGNORED].tolist()
    assert processor.tokenizer.decode(trained[:-1]) == composed(text.strip()), "however long the clip is"


def check_captioning(processor, model, length: int, peak: float, prompt: str) -> None:
    said = refusal(lambda: caption(model, processor, wave(length, peak), prompt, max_new_tokens=2))
    assert (said is None) == usable(length, peak), said


@quick
@given(length=brief, peak=amplitudes)
@example(length=1, peak=0.5)
@example(length=RATE, peak=1e300)
@example(length=RATE, peak=5e-324)
def test_the_gate(length, peak):
    check_gate(length, peak)


@quick
@given(length=brief, peak=amplitudes, kind=st.sampled_from(["WAV", "FLAC"]))
def test_decoding(length, peak, kind):
    check_decoding(length, peak, kind)


@settings(quick, max_examples=8)
@given(length=brief, peak=amplitudes, text=words)
def test_placeholders_and_labels(processor, base_model, length, peak, text):
    check_placeholders(processor, base_model, length, peak, text)


@settings(quick, max_examples=6)
@given(length=brief, peak=amplitudes, prompt=words)
def test_captioning(processor, base_model, length, peak, prompt):
    check_captioning(processor, base_model, length, peak, prompt)


def test_a_clip_of_eleven_minutes(processor, base_model):
    """More than AF3's ten; the tiny model hears 80 s of it, and says so."""
    length = 11 * 60 * RATE
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioWarning)
        with pytest.raises(AudioWarning, match=r"lasts 660 s.*at most 80 s.*last 580 s are lost"):
            AudioFlamingo3DataCollator(processor)([{"audio": wave(length, 0.1), "caption": "A hum"}])
    check_placeholders(processor, base_model, length, 0.1, "A hum")


@pytest.mark.soak
@pytest.mark.usefixtures("one_thread")
def test_any_clip_soak(processor, base_model):
    lengths = any_length
    thorough(given(lengths, amplitudes)(check_gate))()
    thorough(given(lengths, amplitudes, st.sampled_from(["WAV", "FLAC"]))(check_decoding))()
    few(given(lengths, amplitudes, words)(
        lambda length, peak, text: check_placeholders(processor, base_model, length, peak, text)))()
    few(given(lengths, amplitudes, words)(
        lambda length, peak, prompt: check_captioning(processor, base_model, length, peak, prompt)))()
