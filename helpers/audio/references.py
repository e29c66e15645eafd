"""Clips with all of their captions from a data set on the Hub: captions first, audio for the chosen clips alone.

AudioCaps' test split has a row for each caption, five copies of each clip's audio among 41 files. A column of a Parquet
file can be read without the others: here all captions, some hundred kilobytes, and then only those groups of rows that
hold audio of clips that were asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

from datasets import Audio, Features, List, Value, load_dataset_builder

from helpers.audio.kept import current_revision, keep, kept
from helpers.hub import hub_access


def clips_with_references(source: str, split: str, clips: int | None) -> list[dict] | None:
    """The first ``clips`` clips of a split (default: all), undecoded, each with its ``references``; kept for later.

    Returns:
        Rows as they are on the Hub plus ``references``; ``None`` where the data set is not made of Parquet files with
        the columns ``youtube_id``, ``caption`` and ``audio``.

    Raises:
        HubError: the Hub did not give them, and they are not kept either.
    """
    import pyarrow.parquet as pq

    revision, name = current_revision(source), f"{split}-references-{clips or 'all'}"
    file = kept(source, name, revision)
    if file is None:
        with hub_access(source, "dataset"):
            builder = load_dataset_builder(source, revision=revision)
            paths = [str(path) for path in (builder.config.data_files or {}).get(split, [])]
            if not paths or not all(path.endswith(".parquet") for path in paths):
                return None
            files = _Files(paths)
            if not {"youtube_id", "caption", "audio"} <= set(files.features):
                return None
            features = Features({**files.features, "audio": Audio(decode=False), "references": List(Value("string"))})
            file = keep(source, name, revision, files.clips(clips), features)
    return pq.read_table(file).to_pylist()


class _Files:
    """Parquet files of one split on the Hub, of which only what is asked for is read."""

    def __init__(self, paths: list[str]):
        import pyarrow.parquet as pq
        from huggingface_hub import HfFileSystem

        system = HfFileSystem()
        # No read-ahead: what Parquet asks for is what is needed.
        self.files = [pq.ParquetFile(system.open(path, cache_type="none"), pre_buffer=True) for path in paths]
        self.features = Features.from_arrow_schema(self.files[0].schema_arrow)

    def clips(self, wanted: int | None) -> Iterator[dict]:
        """Clips in the order in which they first appear, which is the order of the files."""
        found: dict[tuple, dict] = {}
        groups: dict[tuple[int, int], list[tuple]] = {}
        columns = [name for name in self.features if name != "audio"]
        for number, file in enumerate(self.files):
            for group in range(file.num_row_groups):
                for place, row in enumerate(file.read_row_group(group, columns=columns).to_pylist()):
                    key = (row["youtube_id"], row.get("start_time"))
                    if key not in found:
                        if wanted is not None and len(found) >= wanted:
                            continue
                        found[key] = {**row, "references": []}
                        groups.setdefault((number, group), []).append((key, place))
                    found[key]["references"].append(row["caption"])
        for (number, group), chosen in groups.items():
            audio = self.files[number].read_row_group(group, columns=["audio"])["audio"]
            for key, place in chosen:
                yield {**found[key], "audio": audio[place].as_py()}
