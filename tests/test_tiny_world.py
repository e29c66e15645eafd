"""The procedural sounds, the clips made of them, and what is taught with them."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import helpers.tiny
from helpers.tiny import captions, scenes, sounds, timbres, traits
from helpers.tiny.dataset import make_scene, to_pcm16
from helpers.tiny.pretraining import chats, clips, encoder, language

REFERENCE = Path(__file__).parent / "data" / "reference_clips.npz"
"""16-bit samples of a few clips, written by ``python -m tools.reference_clips`` on the machine that made the set."""


@pytest.mark.parametrize("label", sounds.SYNTHESIZERS)
def test_every_sound_is_audible_and_repeats_from_its_seed(label):
    one, again = (sounds.synthesize(label, np.random.default_rng(5), 2.0) for _ in range(2))
    other = sounds.synthesize(label, np.random.default_rng(6), 2.0)
    assert one.shape == (32_000,) and np.isfinite(one).all()
    assert np.array_equal(one, again) and not np.array_equal(one, other)
    loud = np.sort(one**2)[-8_000:]
    assert 0.05 < np.sqrt(loud.mean()) < 0.2, "levels are meant to be alike"
    assert np.abs(one[[0, -1]]).max() < 0.01, "edges fade, or clips would begin with a click"


def test_there_are_enough_classes_and_all_have_words():
    assert len(sounds.SYNTHESIZERS) >= 32
    assert list(captions.PHRASES) == list(sounds.SYNTHESIZERS) == list(traits.TRAITS)


def test_new_and_known_sounds_are_told_apart_and_cost_no_import():
    known, new = helpers.tiny.KNOWN_SOUNDS, helpers.tiny.NEW_SOUNDS
    assert "frog" in new and not set(known) & set(new) and {*known, *new} == set(sounds.SYNTHESIZERS)
    assert 0.2 <= len(new) / len(sounds.SYNTHESIZERS) <= 0.3, "about three quarters are known"
    check = "import sys, helpers.tiny; assert not {'numpy', 'torch', 'helpers.tiny.sounds'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=Path(__file__).parent.parent).returncode == 0
    with pytest.raises(AttributeError, match="OLD_SOUNDS"):
        helpers.tiny.OLD_SOUNDS  # noqa: B018


@pytest.mark.parametrize("low, high, label", [
    (2000, 8000, "rain"), (0, 800, "wind"), (2500, 6500, "bird"), (0, 400, "thunder"), (200, 600, "owl"),
    (300, 4000, "laser"), (800, 3500, "drip"),
])
def test_energy_sits_where_the_sound_lives(low, high, label):
    drawn = [sounds.synthesize(label, np.random.default_rng(seed), 3.0) for seed in range(8)]
    power = sum(np.abs(np.fft.rfft(samples)) ** 2 for samples in drawn)
    frequency = np.fft.rfftfreq(48_000, 1 / 16_000)
    assert power[(frequency >= low) & (frequency < high)].sum() > 0.6 * power.sum()


def test_unknown_class_is_named():
    with pytest.raises(ValueError, match="no sound class 'unicorn'"):
        sounds.synthesize("unicorn", np.random.default_rng(0), 1.0)


def test_the_same_clips_everywhere():
    """The digest holds on the machine that made the reference; elsewhere at most one 16-bit step may differ."""
    stored = np.load(REFERENCE)
    digest = hashlib.sha256()
    for name in sorted(set(stored.files) - {"digest"}):
        split, index = name.split("_")
        made = to_pcm16(make_scene(split, int(index)).samples)
        digest.update(made.tobytes())
        assert made.shape == stored[name].shape
        assert np.abs(made.astype(int) - stored[name].astype(int)).max() <= 1
    if digest.hexdigest() != str(stored["digest"]):
        pytest.skip("another processor rounds some samples to the neighbouring step, as it may")


def test_scenes_are_mixed_and_true_to_their_description():
    drawn = [scenes.compose(np.random.default_rng([7, number])) for number in range(120)]
    kinds = [scene.relation for scene in drawn]
    assert all(kinds.count(kind) > 15 for kind in (captions.SINGLE, captions.SEQUENCE, captions.OVERLAP))
    assert 3 <= kinds.count(captions.SILENCE) <= 15
    for scene in drawn:
        if scene.relation == captions.SILENCE:
            assert not scene.events and np.sqrt(np.mean(scene.samples**2)) < 0.02
            continue
        seconds = len(scene.samples) / sounds.SAMPLING_RATE
        assert 3.0 <= seconds <= 4.01 and np.abs(scene.samples).max() <= 0.951
        assert len(scene.events) == (1 if scene.relation == captions.SINGLE else 2)
        assert all(0 <= event.start < event.end <= seconds + 0.01 for event in scene.events)
        if scene.relation == captions.SEQUENCE:
            assert scene.events[0].end <= scene.events[1].start
        if scene.relation == captions.OVERLAP:
            first, second = scene.events
            alone, both = (second.start - first.start, second.end - first.end), first.end - second.start
            assert min(alone) > 0.13 * seconds, "one begins first, the other ends last"
            assert both > 0.38 * seconds, "and in between both are heard"


def test_a_good_share_of_the_course_has_a_new_sound():
    labels = [label for index in range(300) for label in make_scene("train", index).labels]
    assert 0.2 <= np.mean([label in sounds.NEW_SOUNDS for label in labels]) <= 0.3


def test_silence_is_put_into_words():
    written = captions.write_captions([], captions.SILENCE, 5, np.random.default_rng(0))
    assert len(set(written)) == 5
    for text in [*written, captions.long_answer([], captions.SILENCE), captions.tags([])]:
        assert captions.says_nothing(text) and not captions.mentioned_labels(text), text
    assert all(captions.parse_caption(text) == captions.ParsedCaption((), captions.SILENCE) for text in written)
    assert not captions.says_nothing("A dog barks") and not captions.says_nothing("A quiet dog barks")
    assert captions.count_answer([]) == captions.first_answer([], captions.SILENCE) == "There is no sound."


@pytest.mark.parametrize("labels, relation, text", [
    ([], captions.SILENCE, "Nothing."), (["owl"], captions.SINGLE, "An owl."),
    (["rain", "dog"], captions.SEQUENCE, "Rain, then a dog."), (["dog", "rain"], captions.OVERLAP, "A dog and rain."),
])
def test_sources_are_named_without_what_they_do(labels, relation, text):
    assert captions.source_answer(labels, relation) == text and captions.parse_caption(text) is None


@pytest.mark.parametrize("labels, relation, some", [
    ([], captions.SILENCE, {"Nothing happens."}),
    (["owl"], captions.SINGLE, {"You can hear how an owl hoots.", "Listen: an owl calls."}),
    (["rain", "dog"], captions.SEQUENCE, {"You can hear how rain pours, and later how a dog barks."}),
    (["dog", "rain"], captions.OVERLAP, {"Listen: a dog yelps, and all the while rain falls."}),
])
def test_a_story_has_every_verb_and_is_no_caption(labels, relation, some):
    told = captions.stories(labels, relation)
    assert some <= set(told) and len(told) == len(set(told)) == (2 ** (1 + len(labels)) if labels else 1)
    assert all(captions.parse_caption(text) is None and captions.mentioned_labels(text) == labels for text in told)


def test_of_two_sounds_at_once_the_first_to_begin_is_named_first():
    """Where chance decides which is named first, a greedy model learns to name the likelier one twice."""
    rng = np.random.default_rng(4)
    for labels in (["dog", "rain"], ["rain", "dog"]):
        for text in captions.write_captions(labels, captions.OVERLAP, 5, rng):
            assert list(captions.parse_caption(text).labels) == captions.mentioned_labels(text) == labels


def test_the_encoder_practises_on_sounds_that_begin_together():
    """No moment alone there: what is harder to hear is learned better."""
    drawn = [clips.draw_scene(("together", 0, number, (3.0, 3.2))) for number in range(60)]
    pairs = [scene.events for scene in drawn if scene.relation == captions.OVERLAP]
    assert len(pairs) > 5 and all(event.start <= 0.32 and event.end >= 0.9 * 3.0 - 0.01 for pair in pairs
                                  for event in pair)


def test_what_is_taught_follows_from_seed_and_step_alone(processor):
    """So the chats of a step are the same whichever process writes them, and however many there are."""
    drawn = [clips.draw_scene(("plain", 0, number, (3.0, 3.2))) for number in range(12)]
    heard = [torch.full((75, 160), float(number)) for number in range(12)]
    pools = [(0.5, drawn[:6], heard[:6]), (0.5, drawn[6:], heard[6:])]
    lessons, again = (language.Lessons(processor, pools, 20, 2, batch=4, sentences=3) for _ in range(2))
    last, one = again[7], lessons[7]
    assert len(lessons) == 20 and all(torch.equal(one[name], last[name]) for name in one)
    assert not torch.equal(one["frames"], lessons[8]["frames"])
    assert one["frames"].shape == (4 * 75, 160) and len(one["targets"]) == 4 * 75
    assert int((one["ids"] == processor.audio_token_id).sum()) == 4 * 75, "each frame has its place in the chats"
    assert one["mask"].shape == one["labels"].shape == one["ids"].shape and len(one["read_ids"]) == 3
    assert (one["labels"][one["mask"] == 0] == -100).all() and (one["labels"] != -100).any(1).all()
    assert processor.audio_token_id not in one["read_ids"]
    seen = {lessons[step]["frames"][0, 0].item() < 6 for step in range(20)}
    assert seen == {True, False}, "every pool has its turn"


def test_two_sounds_at_once_are_taught_twice_as_often(processor):
    drawn = [clips.draw_scene(("plain", 0, number, (3.0, 3.2))) for number in range(60)]
    heard = [torch.full((75, 160), float(number)) for number in range(60)]
    overlaps = {number for number, scene in enumerate(drawn) if scene.relation == captions.OVERLAP}
    lessons = language.Lessons(processor, [(1.0, drawn, heard)], 60, 2, batch=8, sentences=1)
    taught = torch.cat([lessons[step]["frames"].reshape(8, 75, 160)[:, 0, 0] for step in range(60)]).tolist()
    share = np.mean([number in overlaps for number in taught])
    twice = 2 * len(overlaps) / (60 + len(overlaps))
    assert len(overlaps) > 5 and abs(share - twice) < 0.06 and share > 1.3 * len(overlaps) / 60


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 37, timbres.TIMBRES - 1])
def test_a_timbre_is_a_recipe_and_each_playing_differs(number):
    one, again = (timbres.timbre(number, np.random.default_rng(5), 1.5) for _ in range(2))
    other = timbres.timbre(number, np.random.default_rng(6), 1.5)
    assert one.shape == (24_000,) and np.isfinite(one).all() and np.array_equal(one, again)
    assert not np.array_equal(one, other) and 0.05 < np.sqrt(np.sort(one**2)[-6_000:].mean()) < 0.2


def test_another_room_changes_the_sound_and_not_its_level():
    dry = sounds.synthesize("dog", np.random.default_rng(1), 2.0)
    wet = timbres.recolour(dry, np.random.default_rng(2))
    assert wet.shape == dry.shape and np.std(wet) == pytest.approx(np.std(dry)) and not np.allclose(wet, dry)
    assert timbres.stretch(dry, 20_000).shape == (20_000,)


def test_no_answer_ever_names_a_new_sound_of_a_clip():
    """The base is taught what new sounds are like, never what they are called."""
    rng = np.random.default_rng(3)
    for index in range(200):
        scene = clips.draw_scene(("plain", 0, index, (3.0, 3.2)))
        new = set(scene.labels) & set(sounds.NEW_SOUNDS)
        found = chats.answers(scene, rng)
        assert captions.COUNT_PROMPT in found and (captions.DESCRIBE_PROMPT in found) == (not new)
        for text in found.values():
            assert not set(captions.mentioned_labels(text)) & set(sounds.NEW_SOUNDS), text
        chat = chats.conversation(scene, rng)
        said = " ".join(turn["content"][0]["text"] for turn in chat if turn["role"] == "assistant")
        assert not set(captions.mentioned_labels(said)) & set(sounds.NEW_SOUNDS), said


def test_clips_of_each_kind_hold_what_they_say():
    known = clips.draw_scene(("known", 3, 0, (3.0, 4.0)))
    wide = [clips.draw_scene(("wide", 4, n, (3.0, 4.0))) for n in range(8)]
    assert set(known.labels) <= set(sounds.KNOWN_SOUNDS)
    labels = {label for scene in wide for label in scene.labels}
    assert labels <= set(clips.NAMES) and any(label.startswith("timbre") for label in labels)
    targets = clips.frame_targets(known, 100)
    assert {clips.NAMES[i] for i in np.flatnonzero(targets.any(axis=0))} == set(known.labels)


def test_the_confusion_table_says_who_is_taken_for_whom():
    silence = np.zeros(0, dtype=np.float32)
    drawn = [scenes.Scene(silence, (scenes.Event(name, 0, 1),), captions.SINGLE) for name in ("dog", "dog", "cat")]
    heard = np.zeros((3, len(sounds.SYNTHESIZERS)), dtype=int)
    heard[0, 0], heard[1, :2], heard[2, 1] = 20, 20, 20
    table = encoder.confusions(heard, drawn)
    assert table["dog"] == {"dog": 1.0, "cat": 0.5} and table["cat"] == {"cat": 1.0} and table["bird"] == {}
    assert encoder.event_f1(heard, drawn) == pytest.approx(6 / 7)
