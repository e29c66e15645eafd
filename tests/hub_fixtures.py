"""Fixtures: the stand-in Hub with the tiny AF3 and sounds under the real ids, and a process that uses it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from hub_client import Client, environment
from hub_repository import Repository
from hub_server import HubServer

MODEL, DATA = "nvidia/audio-flamingo-3-hf", "OpenSound/AudioCaps"
SHARDS, ROWS, CAPTIONS = 3, 60, {"train": 1, "validation": 5, "test": 5}
"""Shards a split, rows a shard, and captions a clip: AudioCaps' own number."""
ROW_GROUP = 20
"""Rows in a row group: `take` reads one group ahead, so with a single one it would look into the next shard."""


def audiocaps_shards() -> dict[str, bytes]:
    """Parquet files in the columns of ``OpenSound/AudioCaps``, from the tiny sounds: file name -> content."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Audio, Features, Value

    from helpers.tiny.dataset import ensure_dataset

    schema = Features({"audiocap_id": Value("int32"), "youtube_id": Value("string"), "start_time": Value("int32"),
                       "caption": Value("string"), "audio": Audio()}).arrow_schema
    files = {}
    for split, captions in CAPTIONS.items():
        clips = []
        for file in sorted(ensure_dataset().glob(f"{split}-*.parquet")):
            if len(clips) * captions < SHARDS * ROWS:
                clips += pq.read_table(file).to_pylist()
        # One row a caption, as in AudioCaps; a clip with fewer wordings repeats them.
        rows = [{**{name: clip[name] for name in schema.names}, "caption": texts[number % len(texts)]}
                for clip in clips for texts in [clip["references"]] for number in range(captions)]
        for shard in range(SHARDS):
            file = io.BytesIO()
            table = pa.Table.from_pylist(rows[shard * ROWS : (shard + 1) * ROWS], schema=schema)
            pq.write_table(table, file, row_group_size=ROW_GROUP)
            files[f"data/{split}-{shard:05d}-of-{SHARDS:05d}.parquet"] = file.getvalue()
    return files


@pytest.fixture(scope="session")
def shards() -> dict[str, bytes]:
    return audiocaps_shards()


@pytest.fixture(scope="session")
def tiny_files() -> dict[str, bytes]:
    """The shipped model, file by file."""
    from helpers.model.loading import TINY_FOLDER

    return {file.name: file.read_bytes() for file in TINY_FOLDER.iterdir()}


@pytest.fixture(scope="session")
def hub(shards, tiny_files):
    """The stand-in; its model and data set are as healthy after a test as before it."""
    with HubServer() as server:
        server.add(MODEL, tiny_files)
        server.add(DATA, shards, "dataset")
        yield server


@pytest.fixture(scope="session")
def learners_home(tmp_path_factory) -> Path:
    """Caches, token and results of the learner in these tests."""
    return tmp_path_factory.mktemp("learner")


@pytest.fixture(scope="session")
def kernel(hub, learners_home):
    """A process with the stand-in for its Hub, an empty cache and no token."""
    process = Client(environment(hub.endpoint, learners_home))
    process.run("from helpers import HubError, load_captions, load_model, load_processor")
    yield process
    process.close()


@pytest.fixture
def served_model(hub, tiny_files) -> Repository:
    """A repository with the tiny model that no other test has touched."""
    return hub.add(f"tests/model-{len(hub.repositories)}", tiny_files)


@pytest.fixture
def served_data(hub, shards) -> Repository:
    """A repository with the data set that no other test has touched."""
    return hub.add(f"tests/data-{len(hub.repositories)}", shards, "dataset")
