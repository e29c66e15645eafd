"""What was read from the Hub once is kept: whole, checked, bounded, and never read again."""

from __future__ import annotations

import json

import pytest
from datasets import Audio, Features, Value
from hub_client import Client, environment
from hub_fixtures import DATA

from helpers.audio import kept as kept_clips

FEATURES = Features({"caption": Value("string"), "audio": Audio(decode=False)})


def rows(count: int) -> list[dict]:
    return [{"caption": f"Clip {number}", "audio": {"bytes": bytes([number]) * 1000, "path": f"{number}.wav"}}
            for number in range(count)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    return tmp_path


def test_what_is_kept_comes_back_as_it_was(cache):
    import pyarrow.parquet as pq

    assert kept_clips.kept("owner/data", "train-120", "abc") is None
    file = kept_clips.keep("owner/data", "train-120", "abc", iter(rows(120)), FEATURES)
    assert kept_clips.kept("owner/data", "train-120", "abc") == file
    assert pq.read_table(file).to_pylist() == rows(120)
    assert json.loads(file.with_suffix(".json").read_text())["rows"] == 120
    assert kept_clips.kept("owner/data", "train-120", "another commit") is None
    assert len(list(cache.rglob("*.*"))) == 2, "nothing half-written is left"


@pytest.mark.parametrize("damage", [lambda file: file.write_bytes(file.read_bytes()[:-9]),
                                    lambda file: file.write_bytes(file.read_bytes()[:-9] + b"damaged!!"),
                                    lambda file: file.with_suffix(".json").unlink(),
                                    lambda file: file.with_suffix(".json").write_text("{")])
def test_damage_is_noticed_and_taken_away(cache, damage):
    damage(kept_clips.keep("owner/data", "train-3", "abc", rows(3), FEATURES))
    assert kept_clips.kept("owner/data", "train-3", "abc") is None and not list(cache.rglob("*.parquet"))


def test_an_interruption_leaves_nothing(cache):
    def broken():
        yield from rows(60)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        kept_clips.keep("owner/data", "train-60", "abc", broken(), FEATURES)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_the_oldest_goes_where_there_is_too_much(cache, monkeypatch):
    import os

    files = [kept_clips.keep("owner/data", f"train-{count}", "abc", rows(count), FEATURES) for count in (3, 4)]
    os.utime(files[0], (1, 1))
    monkeypatch.setattr(kept_clips, "MOST_BYTES", sum(file.stat().st_size for file in files))
    newest = kept_clips.keep("owner/data", "train-2", "abc", rows(2), FEATURES)
    assert sorted(cache.rglob("*.parquet")) == sorted([files[1], newest])


def size(request) -> int:
    """Bytes of a request for a range, ``bytes=first-last``."""
    first, last = request.range.removeprefix("bytes=").split("-")
    return int(last) - int(first) + 1


@pytest.mark.skip(reason="written on an overloaded machine and never seen to pass: see the commit that says so")
def test_the_profiles_clips_cross_the_network_once(hub, shards, tmp_path):
    """Training clips three times over, two evaluations: the bytes of one reading, from the one shard they lie in."""
    process = Client(environment(hub.endpoint, tmp_path, COURSE_PROFILE="full", COURSE_CACHE=str(tmp_path / "cache"),
                                 COURSE_TRIAL="train_clips=24 eval_clips=8"))
    try:
        hub.requests.clear()
        outcome = process.run("""
from helpers import get_profile
from helpers.training.recipe import load_splits
train, evaluation = load_splits(get_profile())
captions = [[row["caption"] for row in stream] for stream in (train, evaluation, train, evaluation, train)]
again = [row["caption"] for row in load_splits(get_profile())[1]]
result = {"captions": captions, "again": again, "samples": len(next(iter(train))["audio"]["array"])}
""")
        assert outcome.error is None, outcome
        train, evaluation, *_, last = outcome.result["captions"]
        assert (len(train), len(evaluation)) == (24, 8) and last == train and outcome.result["again"] == evaluation
        assert outcome.result["samples"] > 16_000
        got = [request for request in hub.requests if request.method == "GET" and request.path.endswith(".parquet")]
        assert {request.path.rpartition("/")[2] for request in got} == {"train-00000-of-00003.parquet"}
        first = len(got)
        hub.requests.clear()
        outcome = process.run("result = [row['caption'] for row in load_splits(get_profile())[0]]")
        assert outcome.result == train
        assert first and not [request for request in hub.requests if request.path.endswith(".parquet")], DATA

        hub.requests.clear()
        outcome = process.run(f"""
from helpers import group_references, load_captions
import hashlib
def told(stream, clips):
    return [[row["youtube_id"], row["references"], hashlib.sha256(row["audio"]["array"].tobytes()).hexdigest()]
            for row in group_references(stream, clips)]
result = told(load_captions({DATA!r}, "test"), 8)
""")
        assert outcome.error is None, outcome
        got = [request for request in hub.requests if request.path.endswith(".parquet") and request.method == "GET"]
        chosen = sum(size(request) for request in got)
        hub.requests.clear()
        streamed = process.run(f"result = told(load_captions({DATA!r}, 'test').take(180), 8)")
        assert outcome.result == streamed.result and len(outcome.result) == 8
        whole = sum(len(content) for name, content in shards.items() if "test-" in name)
        assert chosen < 0.45 * whole, "two of nine groups of rows, and the columns of text"
        hub.requests.clear()
        assert process.run(f"result = told(load_captions({DATA!r}, 'test'), 8)").result == outcome.result
        assert not [request for request in hub.requests if request.path.endswith(".parquet")]
    finally:
        process.close()
