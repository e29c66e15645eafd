"""Clips with all of their captions from a data set on the Hub: captions first, audio for the chosen clips alone.

AudioCaps' test split has a row for each caption, five copies of each clip's audio among 41 files. A column of a Parquet
file can be read without the others: here all captions, some hundred kilobytes, and then the audio of the rows in which
the clips that were asked for appear first. Within a group of rows Parquet is read from the first row to the page of the
last one needed; so this is about a row a clip where the rows of a clip lie scattered, as in AudioCaps, and more where
they follow one another.
"""

from collections.abc import Iterator
from itertools import islice

from datasets import Audio, Features, List, Value, load_dataset_builder

from helpers.audio.kept import kept_or_read, while_fetching

BUFFER = 2 * 2**20
"""Bytes of audio in one request: two clips of AudioCaps."""


def clips_with_references(source: str, split: str, clips: int | None) -> list[dict] | None:
    """The first ``clips`` clips of a split (default: all), undecoded, each with its ``references``; kept for later.

    Returns:
        Rows as they are on the Hub plus ``references``; ``None`` where the data set is not made of Parquet files with
        the columns ``youtube_id``, ``caption`` and ``audio``.

    Raises:
        HubError, OSError: as from `kept_or_read`.
    """
    import pyarrow.parquet as pq

    def read(revision: str) -> tuple[Iterator[dict], Features] | None:
        builder = load_dataset_builder(source, revision=revision)
        paths = [str(path) for path in (builder.config.data_files or {}).get(split, [])]
        if not paths or not all(path.endswith(".parquet") for path in paths):
            return None
        files = _Files(paths)
        if not {"youtube_id", "caption", "audio"} <= set(files.features):
            return None
        features = Features({**files.features, "audio": Audio(decode=False), "references": List(Value("string"))})
        return while_fetching(files.clips(clips), source, clips), features

    file = kept_or_read(source, f"{split}-references-{clips or 'all'}", read)
    return None if file is None else pq.read_table(file).to_pylist()


class _Files:
    """Parquet files of one split on the Hub, of which only what is asked for is read."""

    def __init__(self, paths: list[str]):
        import pyarrow.parquet as pq
        from huggingface_hub import HfFileSystem

        # No read-ahead: what Parquet asks for is what is needed.
        opened = [HfFileSystem().open(path, cache_type="none") for path in paths]
        # Texts: whole columns, in few requests. Sounds: from row to row, up to the last one needed.
        self.texts = [pq.ParquetFile(file, pre_buffer=True) for file in opened]
        self.sounds = [pq.ParquetFile(file, metadata=texts.metadata, pre_buffer=False, buffer_size=BUFFER)
                       for file, texts in zip(opened, self.texts, strict=True)]
        self.features = Features.from_arrow_schema(self.texts[0].schema_arrow)

    def clips(self, wanted: int | None) -> Iterator[dict]:
        """Clips in the order in which they first appear, which is the order of the files."""
        found: dict[tuple, dict] = {}
        groups: dict[tuple[int, int], dict[int, tuple]] = {}
        columns = [name for name in self.features if name != "audio"]
        for number, file in enumerate(self.texts):
            for group in range(file.num_row_groups):
                for place, row in enumerate(file.read_row_group(group, columns=columns).to_pylist()):
                    key = (row["youtube_id"], row.get("start_time"))
                    if key not in found:
                        if wanted is not None and len(found) >= wanted:
                            continue
                        found[key] = {**row, "references": []}
                        groups.setdefault((number, group), {})[place] = key
                    found[key]["references"].append(row["caption"])
        for (number, group), chosen in groups.items():
            rows = self.sounds[number].iter_batches(1, row_groups=[group], columns=["audio"])
            for place, row in enumerate(islice(rows, max(chosen) + 1)):
                if place in chosen:
                    yield {**found[chosen[place]], "audio": row["audio"][0].as_py()}
