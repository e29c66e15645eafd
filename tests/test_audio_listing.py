"""One reader for a folder: its own tables decide, whatever files and folders are called."""

from __future__ import annotations

import json
import unicodedata

import numpy as np
import pytest
import soundfile

from helpers import CaptionError, load_captions, read_folder
from helpers.audio.folder import scan_folder
from helpers.audio.sources import name_sources

TONE = 0.1 * np.sin(np.arange(8_000) / 5)


def make(folder, table, *files, name="metadata.csv"):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / file, TONE, 16_000, format="WAV")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(table if isinstance(table, bytes) else table.encode())
    return folder


def captions(folder, split="train"):
    found = {row["audio"]["path"]: row["caption"] for row in load_captions(folder, split)}
    assert found == {row["audio"]["path"].split("/")[-1]: row["caption"] for row in read_folder(folder).clips
                     if row["split"] == split}, "both readers are one"
    return found


@pytest.mark.parametrize("file", ["steam_train.wav", "train-1.wav", "my eval 2.wav", "dev_board.wav", "mic test/a.wav",
                                  "audio-test-signal.opus", "valid/a.wav", "[br].wav", "a::b.wav", "a,b.wav", "-a.wav"])
def test_names_mean_nothing(tmp_path, file):
    make(tmp_path, f'file_name,caption\n"{file}",A steam train\ndog.wav,A dog\n', file, "dog.wav")
    assert captions(tmp_path) == {file.split("/")[-1]: "A steam train", "dog.wav": "A dog"}


@pytest.mark.parametrize("text", ["NA", "None", "null", "12", "true", "nan", "1e5"])
def test_captions_stay_text(tmp_path, text):
    make(tmp_path, f"file_name,caption\na.wav,{text}\n", "a.wav")
    assert captions(tmp_path) == {"a.wav": text}


LINE = json.dumps({"file_name": "a.wav", "caption": "A cow, a dog"})


@pytest.mark.parametrize("name, table", [
    ("metadata.csv", "file_name;caption\na.wav;A cow, a dog\n"),
    ("metadata.csv", "file_name\tcaption\r\na.wav\tA cow, a dog"),
    ("metadata.tsv", "file_name\tcaption\na.wav\tA cow, a dog\n"),
    ("Metadata.CSV", '﻿file_name,caption,\na.wav,"A cow, a dog",\n'),
    ("metadata.csv", "file_name\tcaption\na.wav\tA cow, a dog\n".encode("utf-16")),
    ("metadata.jsonl", "﻿" + LINE), ("metadata.jsonl", f"[{LINE}]"), ("metadata.json", f"[{LINE}]"),
])
def test_tables_as_programs_write_them(tmp_path, name, table):
    make(tmp_path, table, "a.wav", name=name)
    assert captions(tmp_path) == {"a.wav": "A cow, a dog"}


def test_a_parquet_table_with_lists_of_captions(tmp_path):
    import pyarrow
    import pyarrow.parquet

    make(tmp_path, "", "a.wav").joinpath("metadata.csv").unlink()
    pyarrow.parquet.write_table(pyarrow.table({"file_name": ["a.wav"], "caption": [["A cow", "A cow moos"]]}),
                                tmp_path / "metadata.parquet")
    (row,) = load_captions(tmp_path)
    assert row["references"] == ["A cow", "A cow moos"]
    assert read_folder(tmp_path).clips[0]["references"] == row["references"]


@pytest.mark.parametrize("table, message", [
    ("file_name,caption\na.wav,A cow moos, then a dog barks\n", "Row 1 .*more cells than .*double quotes"),
    ("file_name;caption\na.wav;A cow moos; then a dog barks\n", "Row 1 .*more cells than .*double quotes"),
    ("file_name,caption\na.wav\n", r"Row 1 of metadata.csv \(a.wav\) has no caption"),
    ("file_name,caption,caption\na.wav,x,y\n", "two columns called 'caption'"),
    ('file_name,caption\na.wav,"A cow\n', "cannot be read at line 2"),
    ("file_name,caption\n/etc/a.wav,x\n", "leads out of the folder"),
    ("file_name,caption\n../a.wav,x\n", "leads out of"),
    ("file_name,caption\nC:\\sounds\\a.wav,x\n", "leads out of"),
    ("file_name,caption\nlink.wav,x\n", "a link that leads out"),
    ("file_name,caption\nA.WAV,x\n", "there is a.wav; capitals count"),
])
def test_faults_of_a_table_are_named_by_both_readers(tmp_path, table, message):
    folder = make(tmp_path / "own", table, "a.wav")
    soundfile.write(tmp_path / "outside.wav", TONE, 16_000)
    try:
        (folder / "link.wav").symlink_to(tmp_path / "outside.wav")
    except OSError:
        if "link.wav" in table:
            pytest.skip("this user may not make links, as on Windows outside developer mode")
    for read in (load_captions, read_folder):
        with pytest.raises(CaptionError, match=message):
            read(folder)


@pytest.mark.parametrize("line", ["12", '"text"', '{"file_name"',
                                  '{"file_name": "a.wav", "caption": "x", "caption": "y"}', "null", "[" * 100_000,
                                  '{"file_name": "a.wav"}', '{"file_name": {"a": 1}, "caption": "x"}',
                                  '{"file_name": "a.wav", "caption": {"x": 1}}',
                                  '{"file_name": "a.wav", "caption": [null]}',
                                  '{"file_name": "a.wav", "caption": "half a sign \\ud800"}'])
def test_json_that_is_no_row(tmp_path, line):
    with pytest.raises(CaptionError, match="metadata.jsonl"):
        load_captions(make(tmp_path, line, "a.wav", name="metadata.jsonl"))


def test_a_column_called_audio_and_a_table_made_on_windows(tmp_path):
    make(tmp_path, "file_name,caption,audio,place\nsub\\a.wav,A hum,x,kitchen\n", "sub/a.wav")
    (row,) = load_captions(tmp_path)
    assert row["audio"]["array"].shape == (8_000,) and row["place"] == "kitchen"
    assert "The column 'audio'" in str(read_folder(tmp_path))


def test_one_name_in_two_spellings(tmp_path):
    stored, typed = unicodedata.normalize("NFD", "Kühe.wav"), unicodedata.normalize("NFC", "Kühe.wav")
    make(tmp_path, f"file_name,caption\n{typed},Cows\n", stored)
    assert list(captions(tmp_path).values()) == ["Cows"]


def test_folders_a_day_and_folders_a_split(tmp_path):
    for day in ("monday", "tuesday"):
        make(tmp_path / "days", f"file_name,caption\na.wav,On {day}\n", f"{day}/a.wav", name=f"{day}/metadata.csv")
    assert sorted(row["caption"] for row in load_captions(tmp_path / "days")) == ["On monday", "On tuesday"]
    for split in ("train", "test"):
        make(tmp_path / "splits", f"file_name,caption\na.wav,{split}\n", f"{split}/a.wav", name=f"{split}/metadata.csv")
    assert captions(tmp_path / "splits", "test") == {"a.wav": "test"}
    with pytest.raises(ValueError, match="no split 'validation'; it has 'train', 'test'"):
        load_captions(tmp_path / "splits", "validation")


def test_silence_is_a_fault_unless_the_caption_says_so(tmp_path):
    make(tmp_path, "file_name,caption\na.wav,A dog barks\nb.wav,Silence\nc.wav,A hum\n", "c.wav")
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(8_000), 16_000)
    report = read_folder(tmp_path)
    assert [clip["caption"] for clip in report.clips] == ["Silence", "A hum"]
    assert "a.wav is silent from end to end" in report.problems["a.wav"]


@pytest.mark.parametrize("names, sources", [
    (["Voice 001", "Voice 002"], 2), (["Recording (3)", "Recording (4)", "kitchen_1", "kitchen_2"], 3),
    (["IMG_0001", "IMG_0002", "kitchen_01a", "kitchen_01b", "street_1"], 4), (["freesound_1234", "freesound_99"], 2),
    (["20240501_123015", "20240501_130000"], 2), (["walk_1", "walk_2", "yard_1", "yard_2"], 2),
    (["yard1", "yard2", "yard3"], 3),
])
def test_sources_by_name(names, sources):
    found, remark = name_sources({f"{name}.wav": ["A hum"] for name in names})
    assert len(set(found.values())) == sources
    assert (remark is not None) == (names == ["yard1", "yard2", "yard3"])


def test_a_name_that_says_what_is_heard_is_no_source():
    names = [f"{kind}_{number}" for kind in ("frog", "sheep") for number in (1, 2)]
    found, remark = name_sources({f"{name}.wav": [f"A {name[:-2]} calls"] for name in names})
    assert len(set(found.values())) == 4 and "Each of 4 files" in remark


def test_a_scan_finds_what_headers_show_and_decodes_nothing(tmp_path, monkeypatch):
    make(tmp_path, "file_name,caption\nlong.wav,A hum\nbad.wav,A hum\n", "bad.wav")
    soundfile.write(tmp_path / "long.wav", np.tile(TONE, 130), 16_000)
    (tmp_path / "bad.wav").write_text("no sound")
    whole = [clip["audio"]["array"] for clip in read_folder(tmp_path).clips]
    monkeypatch.setattr("helpers.audio.samples.decode", lambda *_: pytest.fail("decoded"))
    report = scan_folder(tmp_path)
    monkeypatch.undo()
    assert report.pieces == {"long.wav": 3} and "bad.wav cannot be decoded" in report.problems["bad.wav"]
    from helpers import as_samples

    assert np.array_equal(np.concatenate([as_samples(clip["audio"]) for clip in report.clips]), np.concatenate(whole))
