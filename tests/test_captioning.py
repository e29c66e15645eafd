"""One clip or many, arrays or files, greedy or not; and the pipeline over the same ground."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
from transformers import pipeline, set_seed
from transformers.pipelines import PIPELINE_REGISTRY

from helpers import AudioError, CaptioningInterrupted, ChatError, caption, make_chat, register_pipeline


@pytest.fixture(scope="module")
def sounds(test_clips):
    return [clip["audio"]["array"] for clip in test_clips[:10]]


def test_one_clip_gives_a_text_and_many_give_a_list(base_model, processor, sounds):
    one = caption(base_model, processor, sounds[0])
    assert isinstance(one, str) and one.startswith("The audio clip") and "<" not in one and "assistant" not in one
    assert caption(base_model, processor, [sounds[0]]) == [one]
    assert caption(base_model, processor, []) == []


def test_batches_change_nothing_and_keep_the_order(base_model, processor, sounds):
    mixed = [sounds[0][:20_000], *sounds, np.concatenate([sounds[1], sounds[2]])]
    alone = [caption(base_model, processor, sound) for sound in mixed]
    for size in (3, 64):
        assert caption(base_model, processor, mixed, batch_size=size) == alone, size


def test_every_way_to_hand_over_a_clip(base_model, processor, sounds, test_clips, tmp_path):
    soundfile.write(tmp_path / "clip.wav", sounds[0], 16_000, subtype="FLOAT")
    expected = caption(base_model, processor, sounds[0])
    ways = [tmp_path / "clip.wav", str(tmp_path / "clip.wav"), test_clips[0]["audio"], torch.from_numpy(sounds[0]),
            (tmp_path / "clip.wav").read_bytes()]
    assert caption(base_model, processor, ways) == [expected] * len(ways)


def test_greedy_by_default_and_sampling_on_request(base_model, processor, sounds):
    assert caption(base_model, processor, sounds[0]) == caption(base_model, processor, sounds[0])
    set_seed(0)
    wild = {
        caption(base_model, processor, sounds[0], do_sample=True, temperature=5.0, top_k=0, top_p=1.0, max_new_tokens=8)
        for _ in range(3)
    }
    assert len(wild) == 3


def test_the_prompt_counts(base_model, processor, sounds):
    assert caption(base_model, processor, sounds[0], prompt="What sounds are in the audio?").count(",") <= 1


def test_dropout_is_off_while_captioning_and_the_mode_is_kept(processor, model, sounds):
    model.train()
    modes = []
    hook = model.register_forward_pre_hook(lambda module, _: modes.append(module.training))
    caption(model, processor, sounds[0], max_new_tokens=2)
    hook.remove()
    assert model.training and not any(modes)


def test_16_bit_models_take_the_same_inputs(processor, sounds):
    from helpers import load_model

    assert caption(load_model(dtype=torch.bfloat16, quiet=True), processor, sounds[0], max_new_tokens=3)


def test_all_clips_are_checked_before_the_first_is_captioned(base_model, processor, sounds, monkeypatch):
    monkeypatch.setattr(type(base_model), "generate", lambda *_, **__: pytest.fail("captioning had begun"))
    with pytest.raises(AudioError, match="Clip 1 is empty"):
        caption(base_model, processor, [sounds[0], np.zeros(0, np.float32)])
    with pytest.raises(ValueError, match="batch_size is 0"):
        caption(base_model, processor, sounds, batch_size=0)


def test_an_interruption_keeps_what_was_finished(base_model, processor, sounds, monkeypatch):
    real, calls = type(base_model).generate, []

    def generate(self, **inputs):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, **inputs)

    monkeypatch.setattr(type(base_model), "generate", generate)
    with pytest.raises(CaptioningInterrupted, match="Stopped after 4 of 10 clips") as caught:
        caption(base_model, processor, sounds, batch_size=2)
    assert sum(answer is not None for answer in caught.value.answers) == 4


# --------------------------------------------------------------------------------------------------------- pipeline
@pytest.fixture(scope="module")
def pipe(base_model, processor):
    register_pipeline()
    return pipeline("audio-text-to-text", model=base_model, processor=processor)


def test_registering_twice_is_silent(recwarn, caplog):
    register_pipeline()
    register_pipeline()
    assert "audio-text-to-text" in PIPELINE_REGISTRY.get_supported_tasks() and not recwarn and not caplog.records


def test_pipeline_takes_arrays_paths_lists_and_chats(pipe, base_model, processor, sounds, tmp_path):
    texts = caption(base_model, processor, sounds[:3])
    expected = [{"generated_text": text} for text in texts]
    soundfile.write(tmp_path / "clip.wav", sounds[0], 16_000, subtype="FLOAT")
    assert pipe(sounds[0]) == expected[:1] == pipe(tmp_path / "clip.wav") == pipe(str(tmp_path / "clip.wav"))
    assert pipe({"array": sounds[0], "sampling_rate": 16_000}) == expected[:1]
    assert pipe(sounds[:3]) == expected == pipe(sounds[:3], batch_size=2)
    assert pipe(make_chat(sounds[0])) == expected[:1]
    assert pipe([make_chat(sound) for sound in sounds[:3]]) == expected
    from_file = [{"role": "user", "content": [{"type": "audio", "path": str(tmp_path / "clip.wav")},
                                              {"type": "text", "text": "Describe the audio."}]}]
    assert pipe(from_file) == expected[:1]
    assert pipe([]) == []


def test_pipeline_continues_a_conversation(pipe, sounds):
    chat = make_chat(sounds[0], "What sounds are in the audio?")
    first = pipe(chat)[0]["generated_text"]
    chat += [{"role": "assistant", "content": first}, {"role": "user", "content": "How many sounds are there?"}]
    count = len(first.split(", "))
    assert pipe(chat)[0]["generated_text"] == ("There is one sound." if count == 1 else "There are two sounds.")


def test_pipeline_options(pipe, processor, sounds):
    short = pipe(sounds[0], generate_kwargs={"max_new_tokens": 2})[0]["generated_text"]
    assert len(processor.tokenizer(short)["input_ids"]) == 2
    assert pipe(sounds[0], max_new_tokens=2)[0]["generated_text"] == short
    assert "," not in pipe(sounds[0], text="How many sounds are there?")[0]["generated_text"]
    with pytest.raises(TypeError, match="does not know temperature"):
        pipe(sounds[0], temperature=1.0)


@pytest.mark.parametrize("chat, message", [
    ([{"role": "user", "content": "no clip"}], "holds 0 clips"),
    ([{"role": "user", "content": [{"type": "audio", "audio": np.zeros(8000, np.float32)}] * 2}], "holds 2 clips"),
])
def test_pipeline_wants_one_clip_a_chat(pipe, chat, message):
    with pytest.raises(ChatError, match=message):
        pipe(chat)
