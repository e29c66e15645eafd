"""A data set laid out like AudioCaps, and how many of its rows were read from the loopback Hub."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from datasets import Audio, Features, Value

COLUMNS = Features({"youtube_id": Value("string"), "start_time": Value("int32"), "caption": Value("string"),
                    "audio": Audio()})
CLIPS, GROUP = 180, 20


def parquet(rows: list[dict]) -> bytes:
    """Each row with its own copy of the audio, as in AudioCaps; groups of `GROUP` rows, a page for each.

    `datasets` cuts pages at about 1 MB, which comes to the same for clips of AudioCaps' size.
    """
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=COLUMNS.arrow_schema), file, row_group_size=GROUP,
                   use_dictionary=False, write_batch_size=1, data_page_size=1)
    return file.getvalue()



def audiocaps_like() -> dict[str, bytes]:
    """Three files a split: 180 clips with a caption each to train on; the same with five, scattered, to test."""
    rng = np.random.default_rng(0)
    sounds = {}
    for number in range(CLIPS):
        sound = io.BytesIO()
        soundfile.write(sound, rng.uniform(-0.5, 0.5, 8_000), 16_000, format="WAV")
        sounds[number] = {"bytes": sound.getvalue(), "path": f"{number}.wav"}
    rows = {"train": [(number, 0) for number in range(CLIPS)]}
    rows["test"] = [divmod(int(row), 5) for row in rng.permutation(5 * CLIPS)]
    made = {}
    for split, numbers in rows.items():
        for part in range(3):
            made[f"data/{split}-{part:05d}-of-00003.parquet"] = parquet([
                {"youtube_id": f"clip {clip}", "start_time": 0, "caption": f"Clip {clip}, text {text}",
                 "audio": sounds[clip]} for clip, text in np.array_split(numbers, 3)[part].tolist()])
    return made


def rows_read(requests: list, files: dict[str, bytes]) -> float:
    """Rows whose audio crossed the network: bytes asked for within the columns of audio, by the size of a row.

    Not those of a file's last 64 kB, which are read for the table of contents in them: here four clips, of AudioCaps a
    fifteenth of one.
    """
    read = 0.0
    for request in requests:
        if request.method == "GET" and request.path.endswith(".parquet"):
            first, last = map(int, request.range.removeprefix("bytes=").split("-"))
            content = files["data/" + request.path.rpartition("/")[2]]
            if len(content) - 2**16 <= first and last + 1 == len(content):
                continue
            about = pq.ParquetFile(io.BytesIO(content)).metadata
            for group in map(about.row_group, range(about.num_row_groups)):
                chunk = next(column for column in map(group.column, range(group.num_columns))
                             if column.path_in_schema == "audio.bytes")
                begin, end = chunk.data_page_offset, chunk.data_page_offset + chunk.total_compressed_size
                read += max(0, min(last + 1, end) - max(first, begin)) / chunk.total_compressed_size * group.num_rows
    return read
