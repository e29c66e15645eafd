"""What was read from the Hub once is kept: whole, checked, bounded, and never read again."""

from __future__ import annotations

import contextlib
import errno
import json
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pyarrow.parquet as pq
import pytest
from datasets import Audio, Features, Value
from hub_client import Client, environment
from hub_rows import GROUP, audiocaps_like, rows_read

from helpers.audio import kept as kept_clips
from helpers.audio.references import gather

FEATURES = Features({"caption": Value("string"), "audio": Audio(decode=False)})


def rows(count: int) -> list[dict]:
    return [{"caption": f"Clip {number}", "audio": {"bytes": bytes([number]) * 1000, "path": f"{number}.wav"}}
            for number in range(count)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_CACHE", str(tmp_path))
    return tmp_path


def test_what_is_kept_comes_back_as_it_was(cache):
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


def test_nothing_larger_than_all_that_may_be_kept_is_written(cache, monkeypatch):
    monkeypatch.setattr(kept_clips, "MOST_BYTES", 1_500)
    with pytest.raises(kept_clips.TooMuch, match=r"^The clips of owner/data .* more than .* the first \d+ already"):
        kept_clips.keep("owner/data", "train-500", "abc", rows(120) + rows(120), FEATURES)
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.parametrize("word", [None, "clip 7"])
def test_of_a_stream_the_sounds_of_the_chosen_clips_alone_are_held(word):
    held = []

    class Row(dict):
        pass

    def stream():
        for number in range(300):
            row = Row(caption=f"Clip {number // 3}, text {number % 3}", youtube_id=f"{number // 3}", audio=None)
            held.append(weakref.ref(row))
            yield row

    (clip,) = [clip for _, clip in gather(stream(), 1, word)]
    assert clip["references"] == [f"Clip {0 if word is None else 7}, text {text}" for text in range(3)]
    assert sum(row() is not None for row in held) <= 2, "the first, and perhaps the last"


@pytest.fixture
def without_hub(cache, monkeypatch):
    monkeypatch.setattr(kept_clips, "current_revision", lambda source: "abc")
    monkeypatch.setattr(kept_clips, "hub_access", lambda *_: contextlib.nullcontext())


def test_of_two_programs_one_reads_and_the_other_waits(without_hub):
    read = []

    def slowly(revision):
        read.append(revision)
        time.sleep(0.3)
        return rows(3), FEATURES

    with ThreadPoolExecutor(2) as pool:
        files = list(pool.map(lambda _: kept_clips.kept_or_read("owner/data", "train-3", slowly), range(2)))
    assert read == ["abc"] and files[0] == files[1] and pq.read_table(files[0]).num_rows == 3


def test_a_full_disk_is_one_sentence_and_other_errors_stay_what_they_are(without_hub, cache):
    def breaks(error):
        def rows_until():
            yield from rows(60)
            raise error
        return lambda revision: (rows_until(), FEATURES)

    with pytest.raises(OSError, match=r"cannot be kept in .* \(No space left on device\): make room.*COURSE_CACHE"):
        kept_clips.kept_or_read("owner/data", "train-60", breaks(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(ConnectionError, match="^gone$"):
        kept_clips.kept_or_read("owner/data", "train-60", breaks(ConnectionError("gone")))
    assert not [path for path in cache.rglob("*") if path.suffix in (".parquet", ".part", ".json")]


# ------------------------------------------------------------------------------------------ over the loopback Hub
@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return audiocaps_like()


@pytest.fixture
def learner(hub, files, tmp_path):
    """A process with the full profile, 150 clips to train on and 28 to evaluate on, and an empty cache."""
    data = hub.add(f"tests/kept-{len(hub.repositories)}", files, "dataset")
    trial = f"train_clips=150 eval_clips=28 test_clips=24 dataset_id={data.id}"
    process = Client(environment(hub.endpoint, tmp_path, COURSE_PROFILE="full", COURSE_TRIAL=trial))
    process.run("""
import hashlib
from helpers import get_profile, group_references, load_captions
from helpers.audio import references
from helpers.training.splits import load_splits
references.BUFFER = 2**14  # one of these clips; the default is two of AudioCaps'
profile = get_profile()
def told(rows):
    return [[row["youtube_id"], row["references"], hashlib.sha256(row["audio"]["array"].tobytes()).hexdigest()]
            for row in rows]
""")
    hub.requests.clear()
    yield process
    process.close()


def ran(process, code: str):
    outcome = process.run(code)
    assert outcome.error is None, outcome
    return outcome.result


def test_what_notebook_03_uses_crosses_the_network_once(hub, files, learner):
    """Three passes over the clips to train on, and two evaluations: at most 1.1 rows for each of the clips."""
    train, held_out, *_, last, again = ran(learner, """
train, held_out = load_splits(profile)
streams = [train, held_out, train, held_out, train, load_splits(profile)[1]]
result = [[row["caption"] for row in stream] for stream in streams]
""")
    assert train == last == [f"Clip {number}, text 0" for number in range(150)]
    assert held_out == again == [f"Clip {number}, text 0" for number in range(150, 178)]
    assert 178 <= rows_read(hub.requests, files) <= 1.1 * 178
    hub.requests.clear()
    kept = "load_captions(profile.dataset_id, keep=178)"
    assert ran(learner, f"result = [row['caption'] for row in {kept}.skip(150)]") == held_out
    assert ran(learner, f"result = len(next(iter({kept}))['audio']['array'])") == 8_000, "decoded, as always"
    assert rows_read(hub.requests, files) == 0


def test_what_notebook_06_uses_crosses_the_network_once(hub, files, learner):
    """Of 180 clips with five copies each, 24: all of their captions, and one copy of their audio."""
    chosen = "told(group_references(load_captions(profile.dataset_id, 'test'), profile.test_clips))"
    clips = ran(learner, f"result = {chosen}")
    assert len(clips) == 24 and all(len(set(texts)) == 5 for _, texts, _ in clips)
    assert 24 <= rows_read(hub.requests, files) <= 1.1 * 24
    hub.requests.clear()
    streamed = "load_captions(profile.dataset_id, 'test').take(900)"
    assert clips == ran(learner, f"result = told(group_references({streamed}, 24))"), "as from the whole split"
    assert rows_read(hub.requests, files) >= 900
    hub.requests.clear()
    assert clips == ran(learner, f"result = {chosen}")
    assert rows_read(hub.requests, files) == 0


def test_clips_about_a_word_are_found_by_their_captions_alone(hub, files, learner):
    """Notebook 01 looks for a frog in the validation split: all captions, and the audio of the one clip it plays."""
    found = ran(learner, """
(clip,) = group_references(load_captions(profile.dataset_id, 'test'), 1, word='CLIP 7, text 3')
result = [clip['caption'], len(clip['references']), len(clip['audio']['array'])]
""")
    assert found == ["Clip 7, text 3", 5, 8_000], "that caption, of all five"
    assert rows_read(hub.requests, files) <= GROUP, "the rows of its group up to this one, at most"
    hub.requests.clear()
    streamed = "group_references(load_captions(profile.dataset_id, 'test').take(900), 1, word='clip 7, text 3')[0]"
    assert ran(learner, f"result = {streamed}['caption']") == "Clip 7, text 3"
    assert ran(learner, "result = group_references(load_captions(profile.dataset_id, 'test'), 1, word='a/frog?')") == []


def test_of_two_processes_one_reads_and_the_other_waits(hub, files, tmp_path):
    data = hub.add(f"tests/kept-{len(hub.repositories)}", files, "dataset")
    processes = [Client(environment(hub.endpoint, tmp_path)) for _ in range(2)]
    try:
        for process in processes:
            ran(process, "from helpers import load_captions")
        hub.requests.clear()
        code = f"result = [row['caption'] for row in load_captions({data.id!r}, keep=178)]"
        with ThreadPoolExecutor(2) as pool:
            texts = list(pool.map(lambda process: ran(process, code), processes))
    finally:
        for process in processes:
            process.close()
    assert texts[0] == texts[1] == [f"Clip {number}, text 0" for number in range(178)]
    assert 178 <= rows_read(hub.requests, files) <= 1.1 * 178, "once, not twice"


def test_a_wrong_split_is_named_where_clips_are_kept_too(learner):
    outcome = learner.run("load_captions(profile.dataset_id, 'dev', keep=3)")
    assert outcome.error == "SplitError" and "it has 'train', 'test'" in outcome.message


def test_a_split_with_fewer_rows_says_how_many(learner):
    assert ran(learner, "result = load_captions(profile.dataset_id, keep=500).info.splits['train'].num_examples") == 180


def test_what_is_kept_needs_no_hub(hub, files, learner):
    first = ran(learner, "result = [row['caption'] for row in load_splits(profile)[1]]")
    hub.stop()
    try:
        outcome = learner.run("result = [row['caption'] for row in load_splits(profile)[1]]")
        assert outcome.result == first and "is what was kept of it" in outcome.output
        assert learner.run("load_captions(profile.dataset_id, keep=3)").error == "HubError"
    finally:
        hub.start()
