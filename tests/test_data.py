"""Loading: formats and rates, streams, folders, and what is said about bad input."""

from __future__ import annotations

import csv
import json
from itertools import islice

import numpy as np
import pytest
import soundfile

from helpers import AudioError, CaptionError, as_samples, group_references, load_audio, load_captions, validate_audio
from helpers.audio import captions as data


def tone(rate: int, seconds: float = 0.5, pitch: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * pitch * np.arange(int(rate * seconds)) / rate)


def pitch_of(samples: np.ndarray) -> float:
    return np.abs(np.fft.rfft(samples)).argmax() * 16_000 / len(samples)


# -------------------------------------------------------------------------------------------------------- decoding
@pytest.mark.parametrize("suffix, rates", [
    ("wav", (8_000, 16_000, 22_050, 44_100, 96_000)),
    ("flac", (8_000, 16_000, 44_100, 96_000)),
    ("ogg", (8_000, 16_000, 44_100)),
    ("mp3", (16_000, 44_100, 48_000)),
])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_format_rate_and_channels(tmp_path, suffix, rates, channels):
    for rate in rates:
        file = tmp_path / f"{rate}.{suffix}"
        soundfile.write(file, np.stack([tone(rate)] * channels, axis=1), rate)
        samples = load_audio(file)
        assert samples.dtype == np.float32 and samples.ndim == 1
        assert len(samples) == pytest.approx(8_000, abs=1_200), "MP3 and OGG may pad a little"
        assert pitch_of(samples) == pytest.approx(440, abs=3), "a wrong rate would shift the pitch"
        assert np.array_equal(samples, load_audio(file.read_bytes()))


def test_channels_are_mixed_not_dropped(tmp_path):
    soundfile.write(tmp_path / "two.wav", np.stack([tone(16_000), tone(16_000, pitch=1000)], axis=1), 16_000)
    spectrum = np.abs(np.fft.rfft(load_audio(tmp_path / "two.wav")))
    assert spectrum[220] == pytest.approx(spectrum[500], rel=0.01)


@pytest.mark.parametrize("content", [b"", b"this is text", b"RIFF\x00\x00"])
def test_a_file_that_is_no_audio_is_named(tmp_path, content):
    (tmp_path / "odd.wav").write_bytes(content)
    with pytest.raises(AudioError, match=r"odd\.wav cannot be decoded .*WAV, FLAC, OGG, MP3, M4A or WebM"):
        load_audio(tmp_path / "odd.wav")


def test_a_flac_cut_short_is_named(tmp_path):
    soundfile.write(tmp_path / "whole.flac", np.random.default_rng(0).normal(0, 0.1, 64_000), 16_000)
    whole = (tmp_path / "whole.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[:60])
    with pytest.raises(AudioError, match=r"cut\.flac"):
        load_audio(tmp_path / "cut.flac")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AudioError, match="no file nowhere.wav"):
        load_audio(tmp_path / "nowhere.wav")


def test_a_file_without_samples_is_empty(tmp_path):
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 44_100)
    with pytest.raises(AudioError, match="none.wav is empty"):
        load_audio(tmp_path / "none.wav")


# ------------------------------------------------------------------------------------------------------ validation
GOOD = np.zeros(4_000, dtype=np.float32)


@pytest.mark.parametrize("array, rate, message", [
    (GOOD[:0], 16_000, r"x is empty \(0 samples\)"),
    (GOOD[:100], 16_000, r"lasts 0\.006 s"),
    (np.full(4_000, np.nan, dtype=np.float32), 16_000, "NaN or infinite samples .*sample 0"),
    (np.append(GOOD, np.inf).astype(np.float32), 16_000, "sample 4000"),
    (GOOD.astype(np.int16), 16_000, "an array of int16.*divide 16-bit"),
    ([0.0] * 4_000, 16_000, "a list, not a NumPy array"),
    (None, 16_000, "a NoneType"),
    (GOOD, 44_100, r"sampled at 44100 Hz.*soxr\.resample"),
    (GOOD.reshape(2, -1), 16_000, r"shape \(2, 2000\)"),
])
def test_bad_arrays_get_one_sentence(array, rate, message):
    with pytest.raises(AudioError, match=message) as caught:
        validate_audio(array, rate, "x")
    assert "\n" not in str(caught.value)


def test_good_arrays_become_float32_and_silence_is_allowed():
    assert validate_audio(GOOD.astype(np.float64)).dtype == np.float32
    import torch

    assert as_samples(torch.zeros(4_000)).shape == (4_000,)
    assert as_samples({"array": GOOD, "sampling_rate": 16_000, "path": None}) is not None


# --------------------------------------------------------------------------------------------------------- streams
def test_examples_of_the_tiny_set():
    for example in islice(load_captions("tiny", "validation"), 10):
        audio = example["audio"]
        assert set(audio) == {"array", "sampling_rate", "path"} and audio["sampling_rate"] == 16_000
        assert audio["array"].dtype == np.float32 and audio["array"].ndim == 1 and example["caption"]


def test_resampled_clips_sound_like_their_originals():
    from helpers.tiny.dataset import make_scene

    index, example = 7, next(iter(load_captions("tiny", "train").skip(7)))
    original = make_scene("train", index).samples
    loaded = example["audio"]["array"]
    size = min(len(original), len(loaded))
    assert abs(len(original) - len(loaded)) <= 2
    match = np.corrcoef(original[:size], loaded[:size])[0, 1]
    assert match > 0.99


def test_skipped_clips_are_never_decoded(monkeypatch):
    decoded = []
    real = data.load_audio
    monkeypatch.setattr(data, "load_audio", lambda source, name=None: decoded.append(name) or real(source, name))
    next(iter(load_captions("tiny", "train").skip(150)))
    assert decoded == ["train00150.flac"]


def test_streams_can_be_mapped_and_repeated():
    stream = load_captions("tiny", "validation")
    assert next(iter(stream.map(lambda example: {"length": len(example["audio"]["array"])})))["length"] > 16_000
    assert [row["caption"] for row in stream.take(5)] == [row["caption"] for row in stream.take(5)]


def test_a_missing_split_lists_what_there_is():
    with pytest.raises(ValueError, match="has no split 'dev'; it has 'train', 'validation', 'test'"):
        load_captions("tiny", "dev")


@pytest.mark.parametrize("source", ["./nowhere", "nowhere", "/no/such/folder"])
def test_a_missing_folder_is_named(source):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_captions(source)


# --------------------------------------------------------------------------------------------------------- folders
@pytest.fixture
def recordings(tmp_path):
    """A learner's folder: three clips of three kinds and their table."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    rows = [("low.wav", "A low tone", 8_000, 220), ("middle.ogg", "A middle tone, longer", 44_100, 440),
            ("high.flac", 'A "high" tone', 16_000, 880)]
    for name, _, rate, pitch in rows:
        soundfile.write(folder / name, tone(rate, pitch=pitch), rate)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("file_name", "caption"), *[row[:2] for row in rows]])
    return folder


def test_a_folder_of_recordings(recordings):
    examples = list(load_captions(recordings))
    assert {example["caption"] for example in examples} == {"A low tone", "A middle tone, longer", 'A "high" tone'}
    pitches = {example["audio"]["path"]: round(pitch_of(example["audio"]["array"]) / 220) for example in examples}
    assert pitches == {"low.wav": 1, "middle.ogg": 2, "high.flac": 4}


def test_a_folder_with_splits_and_jsonl(recordings, tmp_path):
    whole = tmp_path / "whole"
    for split in ("train", "test"):
        (whole / split).mkdir(parents=True)
        soundfile.write(whole / split / "a.wav", tone(16_000), 16_000)
        (whole / split / "metadata.jsonl").write_text(json.dumps({"file_name": "a.wav", "caption": split}) + "\n")
    assert [example["caption"] for example in load_captions(whole, "test")] == ["test"]
    with pytest.raises(ValueError, match="no split 'validation'"):
        load_captions(whole, "validation")


def _rewrite(folder, rows):
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


@pytest.mark.parametrize("rows, message", [
    ([("file_name", "text"), ("low.wav", "x")], "no column 'caption'"),
    ([("file_name", "caption"), ("low.wav", " ")], r"Row 1 of metadata.csv \(low.wav\) has no caption"),
    ([("file_name", "caption"), ("low.wav", "x"), ("lost.wav", "y")], "Row 2 of metadata.csv names lost.wav"),
    ([("file_name", "caption")], "has no rows"),
])
def test_a_faulty_table_is_explained(recordings, rows, message):
    _rewrite(recordings, rows)
    with pytest.raises(CaptionError, match=message):
        load_captions(recordings)


def test_a_folder_without_a_table(recordings):
    (recordings / "metadata.csv").unlink()
    with pytest.raises(CaptionError, match="has no metadata.csv"):
        load_captions(recordings)


def test_a_broken_recording_is_named_when_its_turn_comes(recordings):
    (recordings / "low.wav").write_text("not a sound")
    with pytest.raises(AudioError, match="low.wav cannot be decoded"):
        list(load_captions(recordings))


def test_references_of_a_folder_need_no_torchcodec(tmp_path):
    """A folder's stream holds paths; `datasets`' own feature would want to encode them with torchcodec."""
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000, dtype=np.float32), 16_000)
    (tmp_path / "metadata.csv").write_text("file_name,caption\na.wav,Silence\n")
    (clip,) = group_references(load_captions(tmp_path))
    assert clip["references"] == ["Silence"] and clip["audio"]["array"].shape == (8_000,)
