"""The gate for audio: whatever a learner holds becomes checked 16 kHz mono float32 samples, or one clear sentence."""

import io
import os
import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np

from helpers.audio.decoding import decode, probe
from helpers.audio.mixing import AudioError, is_silent
from helpers.profiles import SAMPLING_RATE

MINIMUM_SECONDS = 0.1
"""Shorter clips give the encoder (40 ms a frame) next to nothing to hear."""

LOUDEST = 2.0
"""Samples may go this far beyond full scale, which is 1: lossy codecs, resampling and editors that work in floats
overshoot it (noise at full scale by up to a half in MP3); integers that were cast to floats go beyond by thousands."""


class AudioWarning(UserWarning):
    """Something odd about a clip that can be used all the same; the message says what it is and what to do."""


def validate_audio(array: np.ndarray, sampling_rate: int = SAMPLING_RATE, name: str = "The clip") -> np.ndarray:
    """Return ``array`` as float32, or say in one sentence why a model should not hear it. Silence is allowed.

    Args:
        array: float samples, shape ``(samples,)``, in [-1, 1]; overshoot up to `LOUDEST` is left as it is.
        sampling_rate: in Hz; must be `SAMPLING_RATE`.

    Raises:
        AudioError: not a float array, not one channel, empty, too short, not finite as float32, out of range, or at
            another rate.
    """
    plain = isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)
    if not plain or array.dtype.kind != "f":
        kind = f"an array of {array.dtype}" if plain else f"a {type(array).__name__}"
        raise AudioError(f"{name} is {kind}, not a NumPy array of floats: convert it with np.asarray(x, "
                         "dtype=np.float32), and divide 16-bit integer samples by 32768.")
    if array.ndim != 1:
        raise AudioError(f"{name} has shape {array.shape}, not (samples,): mix the channels down to one, for example "
                         "with array.mean(axis=channel_axis).")
    if array.size == 0:
        raise AudioError(f"{name} is empty (0 samples): leave it out, or look at how it was cut.")
    if sampling_rate != SAMPLING_RATE:
        raise AudioError(f"{name} is sampled at {sampling_rate} Hz, but the model hears {SAMPLING_RATE} Hz: resample "
                         f"it, for example with soxr.resample(array, {sampling_rate}, {SAMPLING_RATE}), or load it "
                         "with load_audio.")
    if array.size < MINIMUM_SECONDS * SAMPLING_RATE:
        raise AudioError(f"{name} lasts {array.size / SAMPLING_RATE:.3f} s, less than the {MINIMUM_SECONDS} s that the "
                         "encoder needs: leave it out, or pad it with silence.")
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(array, dtype=np.float32)
    if not np.isfinite(samples).all():
        bad = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise AudioError(f"{name} holds NaN or infinite samples (the first at sample {bad}): it was damaged on the "
                         "way; load it again or leave it out.")
    peak = float(max(samples.max(), -samples.min()))
    if peak > LOUDEST:
        raise AudioError(f"{name} has samples up to {peak:,.5g}, but full scale is 1: {_division(peak)}.")
    return samples


def _division(peak: float) -> str:
    """What brings samples of this peak back to [-1, 1]."""
    for bits in (16, 24, 32):
        if 256 < peak <= 2.0**bits:  # twice full scale, for what overshoots it
            return f"these are {bits}-bit integers cast to floats, so divide them by {2 ** (bits - 1)}"
    return f"divide them by {peak:.5g}, their peak"


def _opened(source: str | os.PathLike | bytes, name: str):
    if isinstance(source, bytes | bytearray):
        return io.BytesIO(source)
    try:
        if Path(source).is_fifo():  # opening one waits for somebody who writes into it
            raise AudioError(f"{name} is a pipe and no file: write what comes out of it into a file first.")
        return Path(source).open("rb")
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name that no file can have
        raise AudioError(f"There is no file {name}: check the path (the notebook looks from its own folder).") from None
    except OSError as error:
        raise AudioError(f"{name} cannot be opened ({error.strerror}): it has to be a file that you may "
                         "read.") from None


def _named(source: str | os.PathLike | bytes, name: str | None) -> str:
    return name or ("The audio" if isinstance(source, bytes | bytearray) else Path(source).name)


def probe_audio(path: str | os.PathLike, name: str | None = None) -> float | None:
    """Seconds of a file as its header says, or ``None`` if it does not; `AudioError` if it is no audio at all."""
    name = _named(path, name)
    with _opened(path, name) as file:
        return probe(file, name)


def load_clip(clip: dict) -> tuple[np.ndarray, list[str]]:
    """Decode what a stream hands over undecoded, and collect what there is to say of it instead of warning.

    Args:
        clip: ``bytes`` or ``path``; perhaps ``name`` for messages, ``start`` and ``stop`` in seconds where it is a part
            of the file, and ``silence``: whether silence is meant. Without that key silence is allowed.

    Returns:
        Samples as from `load_audio`, and one sentence for each thing that is odd about them.
    """
    source = clip["path"] if clip.get("bytes") is None else clip["bytes"]
    name = _named(source, clip.get("name") or (Path(clip["path"]).name if clip.get("path") else None))
    with _opened(source, name) as file:
        samples, remarks = decode(file, name, clip.get("start") or 0.0, clip.get("stop"))
    samples = validate_audio(samples, name=name)
    if clip.get("silence") is False and is_silent(samples):
        offset = float(samples.mean())
        what = f"holds a constant {offset:.2f} and no sound" if abs(offset) > 1e-3 else "is silent from end to end"
        raise AudioError(f"{name} {what}: record it again, leave it out, or say so in its caption if silence is meant.")
    return samples, remarks


def load_audio(source: str | os.PathLike | bytes, name: str | None = None) -> np.ndarray:
    """Decode a file to 16 kHz mono float32.

    Args:
        source: a path, or the bytes of a file: WAV, FLAC, OGG, MP3, M4A, WebM and whatever else FFmpeg decodes; any
            rate from 1 to 384 kHz, any number of channels (their mean is taken), at most an hour.
        name: what to call the file in messages (default: its own name).

    Returns:
        Samples in [-1, 1] but for overshoot (see `LOUDEST`), shape ``(samples,)``.

    Raises:
        AudioError: the file is missing, broken or cut short, or its samples are not sound (see `validate_audio`).

    Warns:
        AudioWarning: the file can be used, and something about it is odd (see `remarks_on`).
    """
    if not isinstance(source, str | os.PathLike | bytes | bytearray):
        raise AudioError(f"{name or 'The audio'} is a {type(source).__name__}, not the path or the bytes of a file: "
                         "give samples to as_samples, or write them to a file with soundfile.")
    kind = "bytes" if isinstance(source, bytes | bytearray) else "path"
    samples, remarks = load_clip({kind: source, "name": _named(source, name)})
    _warn(remarks)
    return samples


def _warn(remarks: list[str]) -> None:
    for remark in remarks:
        warnings.warn(remark, AudioWarning, stacklevel=3)


def as_samples(audio, name: str = "The clip", longest: float | None = None) -> np.ndarray:
    """Anything a learner may hold as audio, as checked 16 kHz mono float32 samples.

    Args:
        audio: float samples at 16 kHz; a path; a file's bytes; an example's ``{"array", "sampling_rate"}``; or its
            ``{"bytes", "path"}`` where the stream does not decode (see `load_clip`).
        name: what to call a clip that has no name of its own.
        longest: seconds that the model takes at most; a longer clip is cut there, and named in an `AudioWarning`.

    Raises:
        AudioError: see `validate_audio` and `load_audio`.
    """
    if isinstance(audio, dict):
        name = audio.get("name") or (Path(audio["path"]).name if audio.get("path") else name)
    elif isinstance(audio, str | os.PathLike):
        name = Path(audio).name
    if isinstance(audio, str | os.PathLike | bytes | bytearray):
        samples = load_audio(audio, name)
    elif isinstance(audio, dict) and "array" not in audio and (audio.get("bytes") or audio.get("path")):
        samples, remarks = load_clip({**audio, "name": name})
        _warn(remarks)
    elif isinstance(audio, dict) and "array" in audio:
        samples = validate_audio(audio["array"], audio.get("sampling_rate", SAMPLING_RATE), name)
    else:
        if hasattr(audio, "detach"):  # a torch tensor, without importing torch here
            with suppress(TypeError, RuntimeError):  # one without numbers, or a sparse one, is refused as what it is
                audio = (audio.float() if audio.is_floating_point() else audio).detach().cpu().numpy()
        samples = validate_audio(audio, name=name)
    if longest is not None and len(samples) > longest * SAMPLING_RATE:
        seconds = len(samples) / SAMPLING_RATE
        warnings.warn(f"{name} lasts {seconds:.0f} s, but the model hears at most {longest:.0f} s of a clip: its last "
                      f"{seconds - longest:.0f} s are lost; cut it into pieces to use all of it, as read_folder does.",
                      AudioWarning, stacklevel=2)
        samples = samples[: int(longest * SAMPLING_RATE)]
    return samples
