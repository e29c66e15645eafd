"""The gate for audio: whatever a learner holds becomes checked 16 kHz mono float32 samples, or one clear sentence."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import soundfile
import soxr

from helpers.profiles import SAMPLING_RATE

MINIMUM_SECONDS = 0.1
"""Shorter clips give the encoder (40 ms a frame) next to nothing to hear."""


class AudioError(ValueError):
    """Audio that cannot be used; the message says what was wrong, where, and what to do."""


def validate_audio(array: np.ndarray, sampling_rate: int = SAMPLING_RATE, name: str = "The clip") -> np.ndarray:
    """Return ``array`` as float32, or say in one sentence why a model should not hear it.

    Args:
        array: float samples, shape ``(samples,)``, nominally in [-1, 1].
        sampling_rate: its rate in Hz; must be `SAMPLING_RATE`.
        name: what to call the clip in the message.

    Raises:
        AudioError: not a float array, not one channel, empty, too short, not finite, or at another rate.
    """
    if not isinstance(array, np.ndarray) or array.dtype.kind != "f":
        kind = f"an array of {array.dtype}" if isinstance(array, np.ndarray) else f"a {type(array).__name__}"
        raise AudioError(
            f"{name} is {kind}, not a NumPy array of floats: convert it with np.asarray(x, dtype=np.float32), and "
            "divide 16-bit integer samples by 32768."
        )
    if array.ndim != 1:
        raise AudioError(f"{name} has shape {array.shape}, not (samples,): mix the channels down to one, for example "
                         "with array.mean(axis=channel_axis).")
    if array.size == 0:
        raise AudioError(f"{name} is empty (0 samples): leave it out, or look at how it was cut.")
    if sampling_rate != SAMPLING_RATE:
        raise AudioError(
            f"{name} is sampled at {sampling_rate} Hz, but the model hears {SAMPLING_RATE} Hz: resample it, for example "
            f"with soxr.resample(array, {sampling_rate}, {SAMPLING_RATE}), or load it with load_audio."
        )
    if array.size < MINIMUM_SECONDS * SAMPLING_RATE:
        raise AudioError(f"{name} lasts {array.size / SAMPLING_RATE:.3f} s, less than the {MINIMUM_SECONDS} s that the "
                         "encoder needs: leave it out, or pad it with silence.")
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        raise AudioError(f"{name} holds NaN or infinite samples (the first at sample {bad}): it was damaged on the way; "
                         "load it again or leave it out.")
    return np.ascontiguousarray(array, dtype=np.float32)


def load_audio(source: str | os.PathLike | bytes, name: str | None = None) -> np.ndarray:
    """Decode a file to 16 kHz mono float32.

    Args:
        source: a path, or the bytes of a file: WAV, FLAC, OGG or MP3, any rate, any number of channels.
        name: what to call the file in messages (default: its own name).

    Returns:
        Samples in [-1, 1], shape ``(samples,)``.

    Raises:
        AudioError: the file is missing, broken, empty, or of a kind that libsndfile cannot read.
    """
    if isinstance(source, bytes | bytearray):
        file, name = io.BytesIO(source), name or "The audio"
    else:
        file, name = Path(source), name or Path(source).name
        if not file.is_file():
            raise AudioError(f"There is no file {name}: check the path (the notebook looks from its own folder).")
    try:
        samples, rate = soundfile.read(file, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        reason = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise AudioError(f"{name} cannot be decoded ({reason}): use a whole WAV, FLAC, OGG or MP3 file, or convert it "
                         "with any audio editor.") from None
    mono = samples.mean(axis=1)
    if rate != SAMPLING_RATE and mono.size:
        mono = soxr.resample(mono, rate, SAMPLING_RATE)
    return validate_audio(mono, name=name)


def as_samples(audio, name: str = "The clip") -> np.ndarray:
    """Anything a learner may hold as audio, as checked 16 kHz mono float32 samples.

    Args:
        audio: float samples at 16 kHz; a path; a file's bytes; an example's ``{"array", "sampling_rate"}``; or its
            ``{"bytes", "path"}`` where the stream does not decode.

    Raises:
        AudioError: see `validate_audio` and `load_audio`.
    """
    if isinstance(audio, str | os.PathLike | bytes | bytearray):
        return load_audio(audio)
    if isinstance(audio, dict) and "array" not in audio and (audio.get("bytes") or audio.get("path")):
        content, path = audio.get("bytes"), audio.get("path")
        return load_audio(content if content is not None else path, Path(path).name if path else name)
    if isinstance(audio, dict) and "array" in audio:
        name = Path(audio["path"]).name if audio.get("path") else name
        return validate_audio(audio["array"], audio.get("sampling_rate", SAMPLING_RATE), name)
    if hasattr(audio, "detach"):  # a torch tensor, without importing torch here
        audio = audio.detach().cpu().numpy()
    return validate_audio(audio, name=name)
