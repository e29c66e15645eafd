"""Clips with all of their captions from a data set on the Hub: captions first, audio for the chosen clips alone.

AudioCaps' test split has a row for each caption, five copies of each clip's audio among 41 files. A column of a Parquet
file can be read without the others: here all captions, some hundred kilobytes, and then the audio of the rows in which
the clips that were asked for appear first. Within a group of rows Parquet is read from the first row to the page of the
last one needed; so this is about a row a clip where the rows of a clip lie scattered, as in AudioCaps, and more where
they follow one another.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice

from datasets import Audio, Features, List, Value, load_dataset_builder

from helpers.audio.kept import kept_or_read, while_fetching

BUFFER = 2 * 2**20
"""Bytes of audio in one request: two clips of AudioCaps."""


def clips_with_references(source: str, split: str, clips: int | None, word: str | None = None) -> list[dict] | None:
    """The first ``clips`` clips of a split (default: all), undecoded, each with its ``references``; kept for later.

    Args:
        source, split: where they are.
        clips: how many.
        word: only clips with a caption that has it (see `gather`).

    Returns:
        Rows as they are on the Hub plus ``references``; ``None`` where the data set is not made of Parquet files with
        the columns ``youtube_id``, ``caption`` and ``audio``.

    Raises:
        HubError, OSError, TooMuch: as from `kept_or_read` and `keep`.
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
        return while_fetching(files.clips(clips, word), source, clips), features

    name = f"{split}-references-{'all' if clips is None else clips}"
    if word is not None:
        name += f"-{blake2b(word.lower().encode(), digest_size=8).hexdigest()}"  # a word may hold what no file name may
    file = kept_or_read(source, name, read)
    return None if file is None else pq.read_table(file).to_pylist()


def gather(rows: Iterable[dict], wanted: int | None = None, word: str | None = None) -> list[tuple[int, dict]]:
    """Rows put together by clip, which is what shares ``youtube_id`` and ``start_time``; others are a clip each.

    Args:
        rows: each with ``caption``, or with ``references``.
        wanted: how many clips (default: all).
        word: only clips of which a caption has these letters in it, in capitals or not; the first such caption becomes
            the clip's ``caption``.

    Returns:
        Number of the clip's first row (with that word), and that row with all ``references``; in the order of the rows.
    """
    found: dict = {}
    said: dict = {}  # of all clips, so that none of a clip's texts is lost; sounds are held of the chosen ones alone
    for number, row in enumerate(rows):
        key = (row["youtube_id"], row.get("start_time")) if row.get("youtube_id") else number
        texts = row.get("references") or [row["caption"]]
        said.setdefault(key, []).extend(texts)
        if key in found or (wanted is not None and len(found) >= wanted):
            continue
        if word is not None:
            texts = [text for text in texts if word.lower() in (text or "").lower()]
        if texts:
            found[key] = number, row if word is None else {**row, "caption": texts[0]}
    return [(number, {**row, "references": said[key]}) for key, (number, row) in found.items()]


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

    def clips(self, wanted: int | None, word: str | None = None) -> Iterator[dict]:
        """Clips in the order in which they first appear, which is the order of the files."""
        columns = [name for name in self.features if name != "audio"]
        rows = [(number, group, place, row) for number, file in enumerate(self.texts)
                for group in range(file.num_row_groups)
                for place, row in enumerate(file.read_row_group(group, columns=columns).to_pylist())]
        found = gather([row for *_, row in rows], wanted, word)
        groups: dict[tuple[int, int], dict[int, dict]] = {}
        for index, clip in found:
            number, group, place, _ = rows[index]
            groups.setdefault((number, group), {})[place] = clip
        for (number, group), chosen in groups.items():
            sounds = self.sounds[number].iter_batches(1, row_groups=[group], columns=["audio"])
            for place, sound in enumerate(islice(sounds, max(chosen) + 1)):
                if place in chosen:
                    yield {**chosen[place], "audio": sound["audio"][0].as_py()}
