"""A whole split shared out by files: the same clips a step on any number of processes, and no row read twice."""

from __future__ import annotations

import io
from itertools import islice

import pyarrow.parquet as pq
import pytest
from accelerate.data_loader import IterableDatasetShard
from datasets import Dataset
from hub_client import Client, environment
from torch.utils.data import DataLoader

from helpers.audio.lanes import LaneStream
from helpers.audio.order import SkipTrained
from helpers.tiny.dataset import ensure_dataset

STEP = 16


def numbers(files: int = 18, rows: int = 5):
    """Row ``n`` lies in file ``n // rows``."""
    return Dataset.from_dict({"n": list(range(files * rows))}).to_iterable_dataset(num_shards=files)


def taken(clips, processes: int, batch: int, count: int, workers: int = 0, **resumed) -> list[list]:
    """What each process gets: ``processes`` lists of ``count`` lists of clips."""
    found = []
    for process in range(processes):
        stream = LaneStream(clips, batch * processes, STEP, seed=0, process=process, processes=processes)
        if resumed:
            stream.resume(**resumed)
        shard = IterableDatasetShard(stream, batch, num_processes=processes, process_index=process)
        loader = DataLoader(shard, batch_size=batch, num_workers=workers,
                            collate_fn=SkipTrained(lambda rows: [row["n"] for row in rows]))
        found.append(list(islice(loader, count)))
    return found


def steps(found: list[list], processes: int, batch: int) -> list[set]:
    """The clips of each step of all processes together, from what each of them got."""
    in_turn = [clip for together in zip(*found, strict=True) for part in together for clip in part]
    assert processes * batch * len(found[0]) == len(in_turn)
    return [set(in_turn[begin : begin + STEP]) for begin in range(0, len(in_turn), STEP)]


ALONE = steps(taken(numbers(), 1, 4, 40), 1, 4)


def test_a_step_takes_a_clip_of_each_lane_and_passes_lose_none():
    """18 files in 16 lanes: two lanes have two files, and 10 clips a pass; the others have one, and 5."""
    for step in ALONE:
        assert sorted(clip // 5 % STEP for clip in step) == list(range(STEP))
    for lane in range(STEP):
        length = 10 if lane < 2 else 5
        mine = [next(clip for clip in step if clip // 5 % STEP == lane) for step in ALONE]
        assert len(mine) == 10 and len(set(mine[:length])) == length, "each clip once before the first comes again"
    assert ALONE[:5] != ALONE[5:], "another order in the second pass"


@pytest.mark.parametrize("processes, batch", [(1, 16), (2, 4), (2, 8), (4, 4), (8, 2), (16, 1)])
def test_a_step_is_the_same_on_any_number_of_processes(processes, batch):
    assert steps(taken(numbers(), processes, batch, 160 // (processes * batch)), processes, batch) == ALONE


@pytest.mark.parametrize("processes, batch", [(1, 4), (2, 8)])
def test_a_resumed_run_goes_on_with_the_next_clip(processes, batch):
    done, per_step = 3, STEP // (processes * batch)
    found = taken(numbers(), processes, batch, 10 * per_step, batches=done * per_step, position={"clips": done * STEP})
    assert all(part == {} for parts in found for part in parts[: done * per_step])
    assert steps([parts[done * per_step :] for parts in found], processes, batch) == ALONE[done:]


def test_a_loader_worker_changes_nothing():
    assert taken(numbers(), 2, 8, 6, workers=1) == taken(numbers(), 2, 8, 6)


def test_what_cannot_be_shared_out_is_refused():
    with pytest.raises(ValueError, match="12 files cannot be read in 16 lanes by 2 processes"):
        LaneStream(numbers(12), 8, STEP, process=0, processes=2)
    with pytest.raises(ValueError, match="18 files cannot be read in 16 lanes by 3 processes that take 12"):
        LaneStream(numbers(), 12, STEP, process=0, processes=3)


# ------------------------------------------------------------------------------------------ over the loopback Hub
ROWS = 3
CARD = f"---\ndataset_info:\n  splits:\n  - name: train\n    num_examples: {STEP * ROWS}\n---\n"
READ = """
from itertools import islice
from accelerate.data_loader import IterableDatasetShard
from helpers.audio.lanes import LaneStream
from helpers.training.splits import load_splits
profile = get_profile()
whole, nothing = load_splits(profile, lanes=16)
assert nothing is None
def read(process, processes):
    stream = LaneStream(whole, 16, 16, seed=0, process=process, processes=processes)
    part = IterableDatasetShard(stream, 16 // processes, num_processes=processes, process_index=process)
    return [row["youtube_id"] for row in islice(part, 48 // processes)]
"""


def test_rows_read_by_1_2_and_8_processes(hub, tmp_path):
    """Each file of a split is fetched by one process alone, so that all together read each row once."""
    clips = pq.read_table(sorted(ensure_dataset().glob("train-*.parquet"))[0])
    clips = clips.select(["youtube_id", "start_time", "caption", "audio"]).slice(0, STEP * ROWS)
    files = {"README.md": CARD.encode()}
    for number in range(STEP):
        file = io.BytesIO()
        pq.write_table(clips.slice(number * ROWS, ROWS), file)
        files[f"data/train-{number:05d}-of-{STEP:05d}.parquet"] = file.getvalue()
    data = hub.add("tests/shared-out", files, "dataset")
    process = Client(environment(hub.endpoint, tmp_path, COURSE_PROFILE="full",
                                 COURSE_TRIAL=f"train_clips=100 dataset_id={data.id}"))
    try:
        assert process.run("from helpers import get_profile").error is None
        outcome = process.run(READ)
        assert outcome.error is None, outcome
        everything = sorted(clips["youtube_id"].to_pylist())
        for processes in (1, 2, 8):
            got, asked = [], []
            for number in range(processes):
                hub.requests.clear()
                outcome = process.run(f"result = read({number}, {processes})")
                assert outcome.error is None, outcome
                got += outcome.result
                asked += hub.asked_for(data.id, "GET")
            assert sorted(got) == everything
            assert sorted(asked) == sorted(name for name in files if name != "README.md"), f"{processes} processes"
    finally:
        process.close()
