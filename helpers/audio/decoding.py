"""From a file to 16 kHz mono samples, block by block: PyAV decodes, soxr resamples.

PyAV carries FFmpeg inside its wheels for Linux, macOS and Windows, so what phones and browsers record (M4A, AAC, WebM)
is read without a system package. Each block is mixed to one channel and resampled before the next one is decoded: a
clip takes the memory of its result, 64 kB a second, whatever its rate and channels are.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import av
import numpy as np

from helpers.audio.headers import is_cut_mp3_frame, is_cut_ogg, wav_sizes, xing_frames
from helpers.audio.mixing import AudioError, Mixer, remarks_on
from helpers.profiles import SAMPLING_RATE

av.logging.set_level(None)  # FFmpeg would write lines of its own to stderr; what is wrong with a file is said here

RATES = (1_000, 384_000)
"""Rates in Hz that a header may claim. At 1 Hz a file of 8 kB would become 64 million samples."""

LONGEST_SECONDS = 3600
"""Longest clip that is taken into memory at once: 230 MB of samples."""

# Containers of recordings. FFmpeg knows hundreds more, playlists among them, which open other files and addresses.
_FORMATS = ("wav,w64,aiff,au,caf,flac,ogg,mp3,aac,mov,matroska,asf,amr,amrnb,amrwb,wv,tta,ac3,eac3,ape,avi,mpeg,mpegts,"
            "flv,voc,nist,ircam,sox,gsm,dts,loas,mp2,xwma,oma,aea,mpc,mpc8,tak,wsd,dsf,iff")
_OPTIONS = {"format_whitelist": _FORMATS, "protocol_whitelist": "none"}
_TAGS = {"metadata_errors": "ignore"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Titles that are not UTF-8 are no reason to refuse a sound; PyAV 19, for Python 3.12 and later, sees to it itself."""
_PROMISING = {"wav", "w64", "aiff", "au", "caf", "flac", "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
"""Containers whose header says how long the sound is."""


def _open(file: BinaryIO, name: str):
    """The container and its first audio stream, or `AudioError`; nothing is decoded yet."""
    try:
        container = av.open(file, options=_OPTIONS, **_TAGS)
    except (av.error.FFmpegError, ValueError) as error:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise AudioError(f"{name} cannot be decoded ({reason}): use a whole WAV, FLAC, OGG, MP3, M4A or WebM file, or "
                         "convert it with any audio editor.") from None
    if not container.streams.audio:
        container.close()
        raise AudioError(f"{name} holds no sound track: record it again with sound, or leave it out.")
    stream = container.streams.audio[0]
    rate = stream.codec_context.sample_rate or 0
    if not RATES[0] <= rate <= RATES[1]:
        container.close()
        raise AudioError(f"{name} says that it is sampled at {rate:,} Hz, and sound is sampled at {RATES[0]:,} to "
                         f"{RATES[1]:,} Hz: its header is wrong, so export it again with its true rate.")
    return container, stream


def _promised(container, stream, file: BinaryIO, sizes: tuple[int, int] | None) -> float | None:
    """Seconds that the header promises; ``None`` if it promises nothing, for then FFmpeg's own number is a guess."""
    if container.format.name == "mp3":
        frames = xing_frames(file)
        return frames and frames * (1152 if stream.rate >= 32_000 else 576) / stream.rate
    if container.format.name not in _PROMISING:
        return None
    seconds = _duration(container, stream)
    if sizes and seconds and 0 < sizes[1] < sizes[0]:  # FFmpeg has taken the size of the file instead
        seconds *= sizes[0] / sizes[1]
    return seconds


def _duration(container, stream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def probe(file: BinaryIO, name: str) -> float | None:
    """About how many seconds a file lasts by its header alone, or ``None`` if that does not say; `AudioError` if it is
    no audio that can be decoded."""
    container, stream = _open(file, name)
    with container:
        return _duration(container, stream)


def _as_floats(frame) -> np.ndarray:
    """A decoded frame as float32 ``(samples, channels)``; integers divided by their full scale."""
    block, channels = frame.to_ndarray(), frame.layout.nb_channels
    block = block.T if frame.format.is_planar else block.reshape(-1, channels)
    if block.dtype == np.uint8:
        block = (block.astype(np.float32) - 128) / 128
    elif block.dtype.kind == "i":
        block = block / 2.0 ** (8 * block.dtype.itemsize - 1)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is named
        return np.ascontiguousarray(block, dtype=np.float32)


@dataclass
class _Faults:
    """What went wrong while packets were decoded."""

    broken: int = 0
    cut: bool = False


def _frames(container, stream, faults: _Faults) -> Iterator:
    """Decoded frames; packets that cannot be decoded are counted and passed over."""
    packets = container.demux(stream)
    is_mp3 = container.format.name == "mp3"
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError:  # the container breaks off
            faults.broken += 1
            packet = None
        if packet is None:
            return
        if is_mp3 and packet.size:
            faults.cut = is_cut_mp3_frame(bytes(packet))
        try:
            yield from packet.decode()
        except av.error.FFmpegError:
            faults.broken += 1


def decode(file: BinaryIO, name: str, start: float = 0.0, stop: float | None = None) -> tuple[np.ndarray, list[str]]:
    """Decode a file, or a part of it, to 16 kHz mono float32.

    Args:
        file: opened for reading bytes, seekable.
        name: what to call it in messages.
        start, stop: in seconds; what lies before is decoded and thrown away, what lies behind is not decoded.

    Returns:
        Samples ``(samples,)``: the mean of the channels, nominally in [-1, 1]; and remarks, one sentence each, on what
        is odd about a clip that can still be used.

    Raises:
        AudioError: it cannot be decoded, is cut short, longer than `LONGEST_SECONDS`, holds NaN, claims a rate outside
            `RATES`, or has channels that cancel each other out.
    """
    container, stream = _open(file, name)
    with container:
        sizes = wav_sizes(file) if container.format.name == "wav" else None
        promised = _promised(container, stream, file, sizes)
        if (stop or promised or 0) - start > LONGEST_SECONDS:
            raise _too_long(name)
        mixer, faults, position, clock = Mixer(name), _Faults(), 0, 0.0
        for frame in _frames(container, stream, faults):
            rate = frame.sample_rate
            if not RATES[0] <= rate <= RATES[1]:
                raise AudioError(f"{name} changes to {rate:,} Hz on its way: its header is wrong, so export it again.")
            block = _as_floats(frame)
            first = max(0, round((start - clock) * rate))
            last = len(block) if stop is None else max(0, min(len(block), round((stop - clock) * rate)))
            if first < last:
                mixer.add(block[first:last], rate, position + first)
            position, clock = position + len(block), clock + len(block) / rate
            if mixer.kept > LONGEST_SECONDS * SAMPLING_RATE:
                raise _too_long(name)
            if stop is not None and clock >= stop:
                break
        # An MP3's header counts what the encoder put before and behind the sound, which players cut off: a few frames.
        padding = 4 * 1152 / rate if position and container.format.name == "mp3" else 0.1
        cut = (promised or 0) - clock > max(padding, 0.1, 0.02 * (promised or 0)) or faults.cut
        cut = cut or container.format.name == "ogg" and is_cut_ogg(file)
        if cut and position and (stop is None or clock < stop):
            promise = (f" of the {promised:.2f} s that its header promises" if promised and promised > clock else
                       " of a longer recording")
            raise AudioError(f"{name} is cut short: it holds {clock:.2f} s{promise}; copy it again, or save what is "
                             "there as a new file with any audio editor if its caption fits that.")
    samples = mixer.finish()
    unfinished = sizes is not None and sizes[0] == 0 < sizes[1]
    return samples, remarks_on(name, mixer, samples, unfinished, faults.broken)


def _too_long(name: str) -> AudioError:
    return AudioError(f"{name} is longer than the {LONGEST_SECONDS // 60} minutes that are read at once: cut it into "
                      f"pieces, for example with ffmpeg -i {name} -f segment -segment_time 600 piece%03d.wav")
