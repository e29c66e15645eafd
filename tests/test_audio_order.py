"""The order of a stream: the same for any number of processes and loader workers, resumed or not."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset
from torch.utils.data import DataLoader

from helpers import CaptionError, load_captions
from helpers.audio.order import ALREADY_TRAINED, ClipStream, SkipTrained


def numbers(length: int = 7, shards: int = 3):
    return Dataset.from_dict({"n": list(range(length))}).to_iterable_dataset(num_shards=shards)


def batches(stream: ClipStream, size: int, count: int, workers: int = 0) -> list:
    loader = DataLoader(stream, batch_size=size, num_workers=workers,
                        collate_fn=SkipTrained(lambda rows: {"n": [row["n"] for row in rows]}))
    return [batch for batch, _ in zip(loader, range(count), strict=False)]


EXPECTED = [{"n": [(4 * batch + clip) % 7 for clip in range(4)]} for batch in range(9)]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_order_does_not_depend_on_loader_workers(workers):
    assert batches(ClipStream(numbers(), 4, endless=True), 4, 9, workers) == EXPECTED


@pytest.mark.parametrize("done", range(5))
@pytest.mark.parametrize("with_state", [True, False])
def test_a_stream_goes_on_from_any_batch(done, with_state):
    first = ClipStream(numbers(), 4, endless=True)
    loader = iter(DataLoader(first, batch_size=4, collate_fn=list))
    for _ in range(done + 2):  # a loader reads ahead of the step that is done
        next(loader)
    position = json.loads(json.dumps(first.position(4 * done)))
    assert ("state" in position) == (done > 0)
    if not with_state:
        position = {"clips": 4 * done}
    second = ClipStream(numbers(), 4, endless=True)
    second.resume(done, position)
    assert batches(second, 4, 9) == [{}] * done + EXPECTED[done:]


def test_processes_share_each_batch_out():
    from accelerate.data_loader import IterableDatasetShard

    shards = [
        IterableDatasetShard(ClipStream(numbers(), 4, endless=True), batch_size=2, num_processes=2, process_index=rank)
        for rank in range(2)
    ]
    for expected, left, right in zip(
        EXPECTED, *(DataLoader(shard, batch_size=2, collate_fn=list) for shard in shards), strict=False
    ):
        assert [row["n"] for row in left + right] == expected["n"]


def test_reading_a_sibling_stream_in_between_does_not_move_the_position():
    """Streams made of one another share the dictionary of their state."""
    stream = load_captions("tiny", "train")
    train = ClipStream(stream.take(400), 10, endless=True)
    iterator = iter(train)
    first = [next(iterator)["audiocap_id"] for _ in range(250)]
    list(stream.skip(1190).take(2))
    first += [next(iterator)["audiocap_id"] for _ in range(70)]
    resumed = ClipStream(stream.take(400), 10, endless=True)
    resumed.resume(0, train.position(310))
    following = iter(resumed)
    assert [next(following)["audiocap_id"] for _ in range(10)] == first[310:]


def test_nothing_is_decoded_before_it_is_collated(monkeypatch):
    from helpers.audio import captions as data

    monkeypatch.setattr(data, "load_audio", lambda *_: pytest.fail("decoded"))
    stream = ClipStream(load_captions("tiny", "train").take(8), 4)
    stream.resume(1, {"clips": 4})
    seen = [clip if clip == ALREADY_TRAINED else set(clip["audio"]) for clip in stream]
    assert seen == [ALREADY_TRAINED] * 4 + [{"bytes", "path"}] * 4


def test_an_empty_stream_says_so():
    with pytest.raises(CaptionError, match="no clips"):
        next(iter(ClipStream(numbers().take(0), 4, endless=True)))


# ------------------------------------------------------------------------------------------------------- shuffling
@pytest.mark.parametrize("block", [3, 10, None])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_shuffled_stream_goes_on_exactly_from_any_batch(block, workers):
    def shuffled():
        return ClipStream(numbers(23), 4, endless=True, seed=1, block=block)

    whole = [number for batch in batches(shuffled(), 4, 23, workers) for number in batch["n"]]
    passes = [whole[start : start + 23] for start in (0, 23, 46, 69)]
    assert all(sorted(found) == list(range(23)) for found in passes), "every clip once a pass"
    assert passes[0] != passes[1] != list(range(23)), "in another order each time"
    for done in range(13):
        first = shuffled()
        iterator = iter(first)
        for _ in range(4 * done + 5):
            next(iterator)
        for position in (first.position(4 * done), {"clips": 4 * done}):
            resumed = shuffled()
            resumed.resume(done, json.loads(json.dumps(position)))
            rest = [number for batch in batches(resumed, 4, done + 6)[done:] for number in batch["n"]]
            assert rest == whole[4 * done : 4 * done + 24]


def test_clips_that_cannot_be_used_are_left_out_with_one_sentence_each(tmp_path):
    import numpy as np
    import soundfile

    from helpers.audio.order import SkipUnusable

    paths = [str(tmp_path / f"{name}.wav") for name in "abc"]
    soundfile.write(paths[2], np.full(8_000, 0.1), 16_000)
    rows = [{"audio": {"path": path, "name": path[-5:]}, "n": n} for n, path in enumerate(paths)]
    said = []
    stream = Dataset.from_list(rows).to_iterable_dataset()
    skip = SkipUnusable(lambda rows: [row["n"] for row in rows], stream, said.append)
    assert skip(rows) == [2] and skip(rows[:2]) == [2], "the first usable clip stands in for a batch without any"
    assert [sentence.split(":")[1] for sentence in said] == [" There is no file a.wav", " There is no file b.wav"]
