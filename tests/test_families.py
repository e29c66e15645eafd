"""One recipe for several families of models: exact labels, the same loss either way, and answers that survive."""

from __future__ import annotations

import base64
import dataclasses
import json

import pytest
import torch
from other_models import FAMILIES, build_model, build_processor, make_clips
from peft import PeftModel, get_peft_model
from transformers import AutoProcessor, VoxtralConfig, pipeline

from helpers import (
    AudioWarning,
    UnknownModel,
    caption,
    check_chat,
    count_clip_flops,
    estimate_memory,
    get_profile,
    load_audio,
    load_model,
    lora_report,
    make_chat,
    register_pipeline,
    write_music_flamingo,
)
from helpers.audio.windows import accept_trimmed, can_trim
from helpers.captioning import captions
from helpers.chat import IGNORED, AudioFlamingo3DataCollator, encode_chats
from helpers.families import family_of
from helpers.training.recipe import lora_config, make_trainer, save_adapter

pytestmark = pytest.mark.usefixtures("one_thread")
CLIPS = make_clips()
SOUNDS = [clip["audio"]["array"] for clip in CLIPS]
PROFILE = dataclasses.replace(get_profile("tiny"), max_steps=60, batch_size=4, learning_rate=1e-2, warmup_steps=5,
                              lora_dropout=0.0)


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.model_type)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def folder(family, tmp_path_factory):
    """The family's model, saved as people share it: what the tests read, they read from here."""
    folder = tmp_path_factory.mktemp(family.model_type)
    processor = build_processor(family)
    build_model(family, processor).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def ready(folder):
    return load_model(str(folder), quiet=True), AutoProcessor.from_pretrained(folder)


def test_a_folder_is_loaded_into_the_class_that_it_names(family, ready):
    model, processor = ready
    assert type(model).__name__ == family.model and type(processor).__name__ == family.processor
    assert family_of(processor) is family_of(model.config) is family


def test_labels_are_the_answer_and_its_end_and_nothing_else(ready):
    _, processor = ready
    tokenizer = processor.tokenizer
    batch = AudioFlamingo3DataCollator(processor, trim_logits=False)(CLIPS)
    columns = (batch[name] for name in ("input_ids", "attention_mask", "labels"))
    for ids, mask, labels, clip in zip(*columns, CLIPS, strict=True):
        answer = tokenizer.encode(clip["caption"], add_special_tokens=False)
        assert labels[labels != IGNORED].tolist() == [*answer, tokenizer.eos_token_id]
        start = int((labels != IGNORED).nonzero()[0])
        chat = check_chat(make_chat(clip["audio"]["array"]))
        asked = encode_chats(processor, [chat], ask=True)["input_ids"][0].tolist()
        assert ids[mask == 1][: len(asked)].tolist() == asked, "trained from exactly what will be asked"
        assert int(mask.argmax()) + len(asked) == start and mask[-1] == 1, "padded on the left"


def test_a_chat_of_two_turns_has_two_labelled_answers(ready):
    _, processor = ready
    messages = [{"role": "user", "content": "Describe the audio."}, {"role": "assistant", "content": "A siren wails"},
                {"role": "user", "content": "What else?"}, {"role": "assistant", "content": "Rain falls"}]
    example = {"audio": CLIPS[0]["audio"], "messages": messages}
    batch = AudioFlamingo3DataCollator(processor, trim_logits=False)([example])
    ids, labels = batch["input_ids"][0], batch["labels"][0]
    assert torch.equal(ids[labels != IGNORED], labels[labels != IGNORED])
    said = processor.tokenizer.decode(labels[labels != IGNORED], skip_special_tokens=True)
    assert said.replace("\n", "") == "A siren wailsRain falls"


def test_the_loss_is_the_same_trimmed_and_not(family, ready):
    model, processor = ready
    whole = AudioFlamingo3DataCollator(processor, trim_logits=False, trim_windows=False)(CLIPS)
    trimmed = AudioFlamingo3DataCollator(processor)(CLIPS)
    assert ("logits_to_keep" in trimmed) == family.keeps_logits
    assert (trimmed["input_features"].shape[-1] < whole["input_features"].shape[-1]) == can_trim(processor)
    assert can_trim(processor) == accept_trimmed(model) == family.estimated
    with torch.no_grad():
        assert model(**trimmed).loss.item() == pytest.approx(model(**whole).loss.item(), rel=1e-6)


def test_a_batch_answers_as_each_clip_alone(ready):
    model, processor = ready
    alone = [caption(model, processor, sound, max_new_tokens=8) for sound in SOUNDS]
    assert caption(model, processor, SOUNDS, batch_size=4, max_new_tokens=8) == alone
    assert len(set(alone)) > 1, "it hears a difference"


@pytest.fixture(scope="module")
def taught(folder, tmp_path_factory):
    model, processor = load_model(str(folder), quiet=True), AutoProcessor.from_pretrained(folder)
    output = tmp_path_factory.mktemp("run")
    trainer = make_trainer(PROFILE, model, processor, output, train=CLIPS * 60, save_strategy="no", disable_tqdm=True)
    trainer.train()
    return trainer.model.eval(), processor, save_adapter(trainer, processor, output / "adapter")


def test_lora_touches_the_language_model_alone(taught):
    model, *_ = taught
    report = lora_report(model)
    assert list(report.parameters) == ["audio tower", "projector", "language model", "output head"]
    assert sum(report.parameters.values()) == sum(
        value.numel() for name, value in model.named_parameters() if "lora_" not in name)
    assert [part for part, count in report.trainable.items() if count] == ["language model"]
    assert sum(report.adapters["language model"].values()) == 2 * 7


def test_sixty_steps_memorise_four_captions(taught):
    model, processor, _ = taught
    assert caption(model, processor, SOUNDS, max_new_tokens=16) == [clip["caption"] for clip in CLIPS]


def test_merged_saved_and_loaded_again_it_says_the_same(family, folder, taught, tmp_path):
    _, processor, adapter = taught
    said = [clip["caption"] for clip in CLIPS]
    again = PeftModel.from_pretrained(load_model(str(folder), quiet=True), adapter)
    assert caption(again, processor, SOUNDS, max_new_tokens=16) == said
    merged = again.merge_and_unload()
    merged.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    assert caption(load_model(str(tmp_path), quiet=True), processor, SOUNDS, max_new_tokens=16) == said
    register_pipeline()
    pipe = pipeline("audio-text-to-text", model=str(tmp_path), device="cpu")
    assert type(pipe.model).__name__ == family.model
    assert [row["generated_text"] for row in pipe(SOUNDS, max_new_tokens=16)] == said


def test_estimates_stay_with_the_family_of_af3(family, ready):
    config = ready[0].config
    if family.estimated:
        assert estimate_memory(config, batch_size=1, clip_seconds=1).total > 0
        return
    with pytest.raises(UnknownModel, match=f"not for {family.title}"):
        estimate_memory(config)
    with pytest.raises(UnknownModel, match="Audio Flamingo 3 alone"):
        count_clip_flops(get_peft_model(load_model(config._name_or_path, quiet=True), lora_config(PROFILE)), seconds=1)


def test_a_clip_too_long_for_a_single_window_is_cut_with_a_word(family, ready):
    model, processor = ready
    long = torch.zeros(5 * 16_000).numpy() + 0.01
    if family.one_window:
        with pytest.warns(AudioWarning, match="the model hears at most 4 s"):
            caption(model, processor, long, max_new_tokens=2)
    else:
        assert isinstance(caption(model, processor, long, max_new_tokens=2), str)


def test_the_tiny_music_flamingo_of_notebook_09(tmp_path):
    folder = write_music_flamingo(tmp_path / "music")
    model, processor = load_model(str(folder), quiet=True), AutoProcessor.from_pretrained(folder)
    assert type(model).__name__ == "MusicFlamingoForConditionalGeneration" == model.config.architectures[0]
    assert type(processor).__name__ == "MusicFlamingoProcessor" and processor.audio_bos_token_id is not None
    again = load_model(str(write_music_flamingo(tmp_path / "again")), quiet=True).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_a_class_that_nobody_knows_here_is_refused(tmp_path):
    VoxtralConfig(architectures=["VoxtralForConditionalGeneration"]).save_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="is of the type 'voxtral', which the course cannot teach"):
        load_model(str(tmp_path), quiet=True)
    with pytest.raises(UnknownModel, match="knows no VoxtralForConditionalGeneration: choose a model of one of these"):
        family_of(VoxtralConfig(architectures=["VoxtralForConditionalGeneration"]))


@pytest.mark.parametrize("architecture, model_type", [(0, 1), (1, 0)])
def test_a_configuration_that_says_two_classes_is_refused(tmp_path, architecture, model_type):
    """AF3's class takes MusicFlamingo's weights without a word: every tensor fits, and its sense of time is gone."""
    folder = write_music_flamingo(tmp_path / "music")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config |= {"architectures": [FAMILIES[architecture].model], "model_type": FAMILIES[model_type].model_type}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(UnknownModel, match=f"class is {FAMILIES[architecture].model}, its model_type is"):
        load_model(str(folder), quiet=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_is_served_with_the_answers_of_caption(folder, dtype, monkeypatch):
    pytest.importorskip("openai")
    from serve_client import messages, sound
    from starlette.testclient import TestClient

    from helpers.serve.server import build_app

    model, processor = load_model(str(folder), dtype=dtype, quiet=True), AutoProcessor.from_pretrained(folder)
    heard = [load_audio(base64.b64decode(sound(samples)["input_audio"]["data"])) for samples in SOUNDS[:2]]
    if dtype != torch.float32:
        # Random weights leave near ties, which 16 bits settle by how long a window is; the server's are whole.
        monkeypatch.setattr(captions, "accept_trimmed", lambda model: False)
    expected = [caption(model, processor, samples, max_new_tokens=8) for samples in heard]
    with TestClient(build_app(model, processor, "other")) as client:
        for samples, said in zip(SOUNDS, expected, strict=False):
            answer = client.post("/v1/chat/completions", json={"messages": messages(sound(samples)), "temperature": 0,
                                                               "max_tokens": 8})
            assert answer.json()["choices"][0]["message"]["content"] == said


def test_weights_of_another_class_are_refused(tmp_path):
    """The quiet way to a random projector: a configuration that lies about what lies beside it."""
    qwen, glm = FAMILIES[2], FAMILIES[3]
    build_model(qwen, build_processor(qwen)).save_pretrained(tmp_path)
    config = build_model(glm, build_processor(glm)).config
    config.architectures = [glm.model]
    config.save_pretrained(tmp_path)
    with pytest.raises(UnknownModel, match=r"\d+ tensors of the GlmAsrForConditionalGeneration are not among"):
        load_model(str(tmp_path), quiet=True)
