"""The gate for files: equal to an independent decoder, and one sentence for whatever is odd."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import warnings

import numpy as np
import pytest
import soundfile
import soxr

from helpers import AudioError, AudioWarning, as_samples, load_audio
from helpers.audio import mixing

SECONDS = 1.5


def noise(rate: int, channels: int = 1, seconds: float = SECONDS) -> np.ndarray:
    """Dull noise that is different in each channel, peak below full scale: ``(samples, channels)``."""
    wild = np.random.default_rng(rate + channels).normal(0, 0.1, (int(rate * seconds) + 40, channels))
    return np.clip(np.apply_along_axis(lambda column: np.convolve(column, np.ones(8) / 8, "valid"), 0, wild), -1, 1)


def encoded(samples: np.ndarray, rate: int, kind: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def by_soundfile(content: bytes) -> np.ndarray:
    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
    mono = samples.mean(axis=1)
    return mono if rate == 16_000 else soxr.resample(mono, rate, 16_000)


LOSSLESS = [("WAV", "PCM_U8"), ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "PCM_32"), ("WAV", "FLOAT"),
            ("WAV", "DOUBLE"), ("WAV", "ULAW"), ("WAV", "ALAW"), ("FLAC", "PCM_S8"), ("FLAC", "PCM_16"),
            ("FLAC", "PCM_24"), ("AIFF", "PCM_16"), ("AIFF", "FLOAT"), ("AU", "PCM_16"), ("W64", "PCM_16"),
            ("RF64", "PCM_16"), ("CAF", "PCM_16")]


@pytest.mark.parametrize("rate, channels", [(16_000, 1), (44_100, 2), (8_000, 6)])
@pytest.mark.parametrize("kind, subtype", LOSSLESS)
def test_lossless_files_are_equal_to_the_last_bit(kind, subtype, rate, channels):
    content = encoded(noise(rate, channels), rate, kind, subtype)
    assert np.array_equal(load_audio(content), by_soundfile(content))


@pytest.mark.parametrize("kind, subtype, rate, channels", [
    ("OGG", "VORBIS", 16_000, 1), ("OGG", "VORBIS", 44_100, 2), ("OGG", "OPUS", 48_000, 1), ("OGG", "OPUS", 48_000, 2),
    ("MP3", None, 16_000, 1), ("MP3", None, 44_100, 2), ("MP3", None, 48_000, 1),
])
def test_lossy_files_are_equal_within_a_frame(kind, subtype, rate, channels):
    content = encoded(noise(rate, channels), rate, kind, subtype)
    ours, theirs = load_audio(content), by_soundfile(content)
    assert abs(len(ours) - len(theirs)) <= 1152 * 16_000 / rate
    size = min(len(ours), len(theirs))
    assert np.sqrt(np.mean((ours[:size] - theirs[:size]) ** 2)) < 1e-3 * np.sqrt(np.mean(theirs**2))


FFMPEG = shutil.which("ffmpeg")


@pytest.mark.skipif(FFMPEG is None, reason="the ffmpeg command, their independent decoder, is not installed")
@pytest.mark.parametrize("suffix, options", [
    ("m4a", []), ("aac", []), ("webm", ["-c:a", "libopus"]), ("mp4", []), ("mka", ["-c:a", "flac"]), ("wma", []),
    ("mp3", ["-q:a", "4", "-write_xing", "0"]), ("m4a", ["-c:a", "alac"]), ("wv", []), ("3gp", ["-c:a", "aac"]),
])
def test_what_phones_and_browsers_record(tmp_path, suffix, options):
    soundfile.write(tmp_path / "a.wav", noise(48_000, 1, 3.0), 48_000)
    file = tmp_path / f"b.{suffix}"
    subprocess.run([FFMPEG, "-v", "error", "-i", tmp_path / "a.wav", *options, file], check=True)
    raw = subprocess.run([FFMPEG, "-v", "error", "-i", file, "-f", "f32le", "-ac", "1", "-"], check=True,
                         capture_output=True).stdout
    theirs = soxr.resample(np.frombuffer(raw, np.float32), 48_000, 16_000)
    ours = load_audio(file)
    assert abs(len(ours) - len(theirs)) <= 1024 / 3 and len(ours) == pytest.approx(48_000, abs=1_500)
    size = min(len(ours), len(theirs))
    assert np.corrcoef(ours[:size], theirs[:size])[0, 1] > 0.999


def test_a_chained_ogg_is_read_to_its_end():
    content = encoded(noise(16_000), 16_000, "OGG", "VORBIS")
    assert len(load_audio(content + content)) == pytest.approx(2 * SECONDS * 16_000, abs=400)


# ------------------------------------------------------------------------------------------------- cut and damaged
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF", "OGG", "MP3"])
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_named(kind, share):
    content = encoded(noise(44_100, 2, 3.0), 44_100, kind)
    with pytest.raises(AudioError, match=r"x\.a is cut short: it holds \d\.\d\d s of .*copy it again"):
        load_audio(content[: int(share * len(content))], "x.a")


def test_half_an_mp3_without_a_count_of_frames_is_named():
    content = encoded(noise(44_100, 1, 3.0), 44_100, "MP3")
    second = content.index(content[:2], 100)  # the frame after the one that counts them
    assert len(load_audio(content[second:])) > 2.9 * 16_000
    with pytest.raises(AudioError, match="is cut short"):
        load_audio(content[second : len(content) // 2 + 7])


def test_an_unfinished_header_is_read_with_a_word_and_a_pipes_without():
    content = encoded(noise(16_000), 16_000, "WAV")
    place = content.index(b"data") + 4
    with pytest.warns(AudioWarning, match=r"The header of a\.wav is unfinished.* all 1\.50 s"):
        samples = load_audio(content[:place] + struct.pack("<I", 0) + content[place + 4 :], "a.wav")
    assert np.array_equal(samples, load_audio(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_audio(content[:place] + struct.pack("<I", 0xFFFFFFFF) + content[place + 4 :], "a.wav")


@pytest.mark.parametrize("content", [b"", b"this is text", b"RIFF\x00\x00", b"#EXTM3U\nhttp://127.0.0.1/a.mp3\n"])
def test_what_is_no_audio_is_named_and_opens_nothing_else(content, capfd):
    with pytest.raises(AudioError, match=r"x\.mp3 cannot be decoded .*WAV, FLAC, OGG, MP3, M4A or WebM"):
        load_audio(content, "x.mp3")
    assert capfd.readouterr().err == "", "the decoder's own lines"


# ------------------------------------------------------------------------------------------------- odd samples
@pytest.mark.parametrize("rate", [1, 999, 384_001])
def test_an_impossible_rate_is_refused_before_memory_is_taken(rate):
    content = encoded(np.zeros(20_000), 16_000, "WAV")
    with pytest.raises(AudioError, match=rf"says that it is sampled at {rate:,} Hz"):
        load_audio(content[:24] + struct.pack("<I", rate) + content[28:], "x.wav")


@pytest.mark.parametrize("factor, repair", [
    (32_768, "divide them by 32768"), (2**31, "divide them by 2147483648"), (40, "divide them by 36, their peak"),
])
def test_integers_cast_to_floats_are_refused_with_their_division(factor, repair):
    samples = 0.9 * np.sin(np.arange(24_000) / 5)
    with pytest.raises(AudioError, match=f"full scale is 1: .*{repair}"):
        load_audio(encoded(samples * factor, 16_000, "WAV", "FLOAT"))
    with pytest.raises(AudioError, match=repair):
        as_samples(samples * factor)


def test_overshoot_is_left_as_it_is():
    samples = (1.4 * np.sin(np.arange(24_000) / 5)).astype(np.float32)
    assert np.array_equal(load_audio(encoded(samples, 16_000, "WAV", "FLOAT")), samples)
    assert np.array_equal(as_samples(samples), samples)


def test_channels_that_cancel_are_named_as_that():
    left = noise(44_100)[:, 0]
    with pytest.raises(AudioError, match="The 2 channels of x.flac cancel each other out.*keep one channel"):
        load_audio(encoded(np.stack([left, -left], 1), 44_100, "FLAC"), "x.flac")


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_a_constant_is_named_as_silence_with_an_offset(rate):
    with pytest.warns(AudioWarning, match=r"x holds a constant 0\.50 and no sound"):
        load_audio(encoded(np.full(rate, 0.5), rate, "WAV"), "x")
    with pytest.warns(AudioWarning, match=r"x swings around 0\.20 instead of 0"):
        load_audio(encoded(0.2 + noise(rate), rate, "WAV"), "x")


def test_a_clip_above_what_the_model_hears_is_named():
    with pytest.warns(AudioWarning, match="Almost all of alarm.wav lies above 8 kHz"):
        load_audio(encoded(0.5 * np.sin(2 * np.pi * 9_000 * np.arange(48_000) / 48_000), 48_000, "WAV"), "alarm.wav")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_is_found_where_it_is(value):
    samples = noise(44_100)[:, 0]
    samples[1000] = value
    with pytest.raises(AudioError, match=r"NaN or infinite samples \(the first at sample 1000 of the file, 0\.02 s\)"):
        load_audio(encoded(samples, 44_100, "WAV", "DOUBLE"))
    with pytest.raises(AudioError, match=r"the first at sample 1000\)"):
        as_samples(samples)


def test_the_length_is_bounded_before_memory_is_taken(monkeypatch):
    monkeypatch.setattr("helpers.audio.decoding.LONGEST_SECONDS", 1)
    monkeypatch.setattr(mixing.Mixer, "finish", lambda self: pytest.fail("memory taken"))
    with pytest.raises(AudioError, match="cut it into pieces"):
        load_audio(encoded(noise(16_000), 16_000, "WAV"))


def test_a_clip_over_the_models_maximum_is_cut_with_a_word(processor):
    from helpers.chat import AudioFlamingo3DataCollator, longest_clip

    assert longest_clip(processor) == 80
    clip = {"array": np.zeros(100 * 16_000, np.float32), "sampling_rate": 16_000, "path": "long.wav"}
    with pytest.warns(AudioWarning, match=r"long\.wav lasts 100 s, .*at most 80 s .*last 20 s are lost"):
        batch = AudioFlamingo3DataCollator(processor)([{"audio": clip, "caption": "Silence"}])
    assert batch["input_features"].shape[0] == 80 // processor.feature_extractor.chunk_length


def test_pictures_and_players_take_audio_through_the_gate(processor):
    from helpers import play, plot_clip

    for show in (lambda clip: plot_clip(clip, processor), play):
        with pytest.raises(AudioError, match=r"shape \(8000, 2\)"):
            show(np.zeros((8_000, 2), np.float32))


def test_a_title_in_another_encoding_is_no_reason_to_refuse_a_sound():
    file = io.BytesIO()
    soundfile.write(file, np.full(16_000, 0.25), 16_000, format="WAV", subtype="PCM_16")
    title = b"INAM" + (8).to_bytes(4, "little") + b"Fr\xf6sche\0"
    chunk = b"LIST" + (4 + len(title)).to_bytes(4, "little") + b"INFO" + title
    whole = file.getvalue() + chunk
    samples = load_audio(whole[:4] + (len(whole) - 8).to_bytes(4, "little") + whole[8:])
    assert samples.shape == (16_000,) and np.allclose(samples, 0.25, atol=1e-4)
