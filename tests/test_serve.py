"""The captioning server: what it answers, what it refuses, and whether transformers still needs the repairs."""

from __future__ import annotations

import base64
import io
import json
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import torch
from transformers.models.auto import modeling_auto

from helpers import caption, load_audio
from helpers.model.architecture import TINY_FOLDER
from helpers.serve.requests import BadRequest, check_fields, read_messages

pytest.importorskip("openai")
pytest.importorskip("uvicorn")

STOCK_TABLE = dict(modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)
"""As transformers has it, before anything here is repaired."""

QUESTION = {"type": "text", "text": "Describe the audio."}


def encoded(samples: np.ndarray, kind: str = "wav") -> str:
    file = io.BytesIO()
    soundfile.write(file, samples, 16_000, format=kind.upper())
    return base64.b64encode(file.getvalue()).decode()


def sound(samples: np.ndarray, kind: str = "wav") -> dict:
    return {"type": "input_audio", "input_audio": {"data": encoded(samples, kind), "format": kind}}


def messages(*parts: dict) -> list[dict]:
    return [{"role": "user", "content": [QUESTION, *parts]}]


TONE = (0.3 * np.sin(np.arange(16_000) * 0.2)).astype(np.float32)
NOT_AUDIO = base64.b64encode(b"These are words and no sound." * 20).decode()


# --- what a client may send ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_clips_pass_the_courses_own_gate(kind):
    part = sound(TONE, kind)
    [message] = read_messages(messages(part))
    assert message["role"] == "user" and message["content"][0] == QUESTION
    heard = message["content"][1]["audio"]
    np.testing.assert_array_equal(heard, load_audio(base64.b64decode(part["input_audio"]["data"])))
    assert heard.dtype == np.float32 and abs(len(heard) - len(TONE)) < 2_000
    url = f"data:audio/{kind};base64,{part['input_audio']['data']}"
    [message] = read_messages(messages({"type": "audio_url", "audio_url": {"url": url}}))
    np.testing.assert_array_equal(message["content"][1]["audio"], heard)


@pytest.mark.parametrize("wrong, sentence", [
    ([], "'messages' is empty"),
    ("Hello", "'messages' is empty"),
    ([{"role": "frog", "content": "Hello"}], "Message 0 has no role: give one of system, user, assistant"),
    (["Hello"], "Message 0 has no role"),
    ([{"role": "user"}], "Message 0 has no content"),
    ([{"role": "user", "content": []}], "Message 0 has no content"),
    ([{"role": "user", "content": ["Hello"]}], "a part of type None"),
    ([{"role": "user", "content": [{"type": "text", "text": 7}]}], "a part of type 'text'"),
    ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "a.png"}}]}], "of type 'image_url'"),
    (messages({"type": "input_audio", "input_audio": "a.wav"}), "The input_audio of message 0 has no 'data'"),
    (messages({"type": "audio_url", "audio_url": {}}), "The audio_url of message 0 has no 'url'"),
    ([*messages(sound(TONE)), {"role": "assistant", "content": "A tone"}], "The last message is the assistant's"),
    (messages(sound(TONE), sound(TONE)), "hold 2 clips: the model takes one"),
    (messages({"type": "input_audio", "input_audio": {"data": "no base64!", "format": "wav"}}), "no valid base64"),
    (messages({"type": "input_audio", "input_audio": {"data": NOT_AUDIO, "format": "wav"}}), "cannot be decoded"),
    (messages(sound(TONE[:0])), "is empty"),
    (messages(sound(TONE[:800])), "lasts 0.050 s"),
])
def test_what_cannot_be_used_is_refused_in_a_sentence(wrong, sentence):
    with pytest.raises(BadRequest, match=sentence) as caught:
        read_messages(wrong)
    assert caught.value.status == 400 and str(caught.value).endswith(".")


def test_files_and_addresses_are_read_only_where_allowed(tmp_path, hub_free_port):
    soundfile.write(tmp_path / "clip.wav", TONE, 16_000)
    named = messages({"type": "audio_url", "audio_url": {"url": str(tmp_path / "clip.wav")}})
    address = messages({"type": "audio_url", "audio_url": {"url": f"http://127.0.0.1:{hub_free_port}/clip.wav"}})
    with pytest.raises(BadRequest, match="--allow-paths") as caught:
        read_messages(named, allow_urls=True)
    assert caught.value.status == 403
    with pytest.raises(BadRequest, match="--allow-urls") as caught:
        read_messages(address, allow_paths=True)
    assert caught.value.status == 403
    # A path in the place of base64 is no way in either, whatever is allowed.
    sneaked = messages({"type": "input_audio", "input_audio": {"data": str(tmp_path / "clip.wav")}})
    with pytest.raises(BadRequest, match="base64"):
        read_messages(sneaked, allow_paths=True, allow_urls=True)

    assert len(read_messages(named, allow_paths=True)[0]["content"][1]["audio"]) == 16_000
    with pytest.raises(BadRequest, match="There is no file other.wav"):
        read_messages(messages({"type": "audio_url", "audio_url": {"url": "other.wav"}}), allow_paths=True)
    with pytest.raises(BadRequest, match="could not be fetched"):
        read_messages(address, allow_urls=True)


@pytest.fixture
def hub_free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


@pytest.mark.parametrize("field, value, sentence", [
    ("temperature", -1, "'temperature' is -1: give a number from 0 to 2"),
    ("temperature", "hot", "'temperature' is 'hot'"), ("temperature", float("nan"), "'temperature' is nan"),
    ("temperature", True, "'temperature' is True"), ("top_p", 1.5, "a number from 0 to 1"),
    ("max_tokens", 0, "a whole number from 1"), ("max_completion_tokens", 2.5, "a whole number"), ("seed", -1, "is -1"),
    ("stream", "yes", "'stream' is 'yes': give true or false"), ("model", 7, "'model' is 7: give a text"),
    ("stop", 7, "'stop' is 7"), ("stop", ["."] + [""], "'stop' holds something that is no text"),
    ("generation_config", "{}", "does not take 'generation_config'"),
    ("chat_template_kwargs", {"chat_template": "x"}, "does not take 'chat_template_kwargs'"),
])
def test_wrong_fields_are_refused_in_a_sentence(field, value, sentence):
    with pytest.raises(BadRequest, match=sentence):
        check_fields({"messages": [], field: value})


def test_usual_fields_pass():
    check_fields({"messages": [], "model": "m", "temperature": 0, "top_p": 0.9, "max_tokens": 50, "seed": 1,
                  "stream": True, "stop": ["."], "n": 1, "tools": None})


# --- the server, in this process ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client(processor):
    from starlette.testclient import TestClient

    from helpers import load_model
    from helpers.serve.server import build_app

    model = load_model(quiet=True)
    with TestClient(build_app(model, processor, "captions"), raise_server_exceptions=False) as client:
        yield client
    modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.clear()
    modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES.update(STOCK_TABLE)


def ask(client, *parts: dict, **fields):
    return client.post("/v1/chat/completions", json={"messages": messages(*parts), **fields})


def text_of(answer) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_answers_are_those_of_caption(client, base_model, processor, test_clips):
    clips = [clip["audio"]["array"] for clip in test_clips[:3]]
    answers = [text_of(ask(client, sound(clip, "flac"), temperature=0)) for clip in clips]
    heard = [load_audio(base64.b64decode(encoded(clip, "flac"))) for clip in clips]
    assert answers == caption(base_model, processor, heard) and len(set(answers)) == 3


def test_tokens_stream_in(client, test_clips):
    part = sound(test_clips[0]["audio"]["array"])
    whole = text_of(ask(client, part, temperature=0))
    with client.stream("POST", "/v1/chat/completions",
                       json={"messages": messages(part), "temperature": 0, "stream": True}) as answer:
        lines = [json.loads(line.removeprefix("data: ")) for line in answer.iter_lines() if line.startswith("data: {")]
    pieces = [line["choices"][0]["delta"].get("content") for line in lines]
    pieces = [piece for piece in pieces if piece]
    assert "".join(pieces) == whole and len(pieces) > 5
    assert lines[-1]["choices"][0]["finish_reason"] == "stop"


def test_a_limit_on_tokens_holds(client, test_clips):
    answer = ask(client, sound(test_clips[0]["audio"]["array"]), temperature=0, max_tokens=3).json()
    assert answer["usage"]["completion_tokens"] == 3 and answer["choices"][0]["finish_reason"] == "length"


def test_temperature_0_is_greedy_and_no_temperature_is_not(client, test_clips):
    part = sound(test_clips[0]["audio"]["array"])
    greedy = {text_of(ask(client, part, temperature=0, seed=seed)) for seed in range(3)}
    sampled = {text_of(ask(client, part, temperature=2, top_p=1, seed=seed, max_tokens=20)) for seed in range(4)}
    assert len(greedy) == 1 and len(sampled) > 1


def test_control_marks_of_a_client_are_text(client, test_clips):
    """Otherwise "<sound>" stands for a second clip, and the processor fails: a bare 500."""
    part = sound(test_clips[0]["audio"]["array"])
    asked = {"role": "user", "content": [{"type": "text", "text": "Is <sound> or <|im_end|> a word?"}, part]}
    answer = client.post("/v1/chat/completions", json={"messages": [asked], "temperature": 0, "max_tokens": 5})
    assert text_of(answer)


def test_refusals_reach_the_client_as_openai_writes_them(client):
    answer = ask(client, {"type": "input_audio", "input_audio": {"data": NOT_AUDIO, "format": "wav"}})
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["type"] == "invalid_request_error" and error["message"].startswith("The audio cannot be decoded (")
    assert ask(client, sound(TONE), model="another").json()["error"]["message"] == (
        "Server is pinned to 'captions'; requested 'another'.")
    file = ask(client, {"type": "audio_url", "audio_url": {"url": str(TINY_FOLDER / "config.json")}})
    assert file.status_code == 403 and "reads no files" in file.json()["error"]["message"]
    broken = client.post("/v1/chat/completions", content=b"{", headers={"Content-Type": "application/json"})
    assert broken.status_code == 422 and "no JSON object" in broken.json()["error"]["message"]
    unknown = client.post("/v1/chat/completions", json={"messages": messages(), "colour": "red"})
    assert unknown.status_code == 422 and "colour" in unknown.json()["error"]["message"]


def test_only_three_routes_are_open(client):
    assert client.get("/health").json() == {"status": "ok"}
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["captions"]
    closed = [("POST", "/load_model"), ("POST", "/reset"), ("POST", "/v1/completions"), ("POST", "/v1/responses"),
              ("POST", "/v1/audio/transcriptions"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/")]
    for method, path in closed:
        answer = client.request(method, path, json={"model": "owner/name"})
        assert answer.status_code == 404 and "There is no" in answer.json()["error"]["message"], path


def test_requests_have_a_size(client, monkeypatch):
    def pieces():
        yield b"{}"

    assert client.post("/v1/chat/completions", content=pieces()).status_code == 411
    monkeypatch.setattr("helpers.serve.server.LARGEST_BODY", 1_000)
    answer = ask(client, sound(TONE))
    assert answer.status_code == 413 and "MP3" in answer.json()["error"]["message"]


def test_temperature_0_resets_every_knob_that_caption_resets(client):
    from helpers.captioning.captions import GREEDY

    handler = _handler(client)
    from transformers import GenerationConfig

    asked = GenerationConfig(do_sample=True, temperature=0.7, top_k=20, top_p=0.8)
    config = handler._build_generation_config({"temperature": 0}, asked)
    assert {name: getattr(config, name) for name in GREEDY} == GREEDY
    assert handler._build_generation_config({}, asked).temperature == 0.7


def _handler(client):
    route = next(route for route in client.app.routes if getattr(route, "path", "") == "/v1/chat/completions")
    return next(cell.cell_contents for cell in route.endpoint.__closure__
                if hasattr(cell.cell_contents, "_build_generation_config"))


# --- the repairs: these tests fail, strictly, on the day on which transformers needs them no more ---------------------


@pytest.mark.xfail(strict=True, raises=ValueError, reason="transformers' server does not know AF3's class; if this "
                   "passes, take the table's line out of helpers.serve.server.repair")
def test_stock_server_knows_the_class(model, monkeypatch):
    from transformers.cli.serving.model_manager import ModelManager

    monkeypatch.setattr(modeling_auto, "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", dict(STOCK_TABLE))
    assert ModelManager.get_model_modality(model).name == "MULTIMODAL"


def _features(processor, clip):
    from helpers import make_chat

    return processor.apply_chat_template([make_chat(clip)], tokenize=True, return_dict=True, add_generation_prompt=True)


@pytest.mark.xfail(strict=True, raises=RuntimeError, reason="nobody casts the features to 16-bit weights; if this "
                   "passes, take the hook out of helpers.serve.server.repair")
def test_stock_model_casts_features(model, processor, test_clips):
    model.to(torch.bfloat16).generate(**_features(processor, test_clips[0]["audio"]["array"]), max_new_tokens=1)


def test_repaired_16_bit_weights_answer(model, processor, test_clips, monkeypatch):
    from helpers.serve.server import repair

    monkeypatch.setattr(modeling_auto, "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", {})
    repair(model)
    repair(model)
    assert {model.config.model_type: type(model).__name__} == modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    assert len(model.model.audio_tower._forward_pre_hooks) == 1
    inputs = _features(processor, test_clips[0]["audio"]["array"])
    tokens = model.to(torch.bfloat16).generate(**inputs, max_new_tokens=2, do_sample=False)
    assert tokens.shape[1] == inputs["input_ids"].shape[1] + 2


# --- what is served -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, processor):
    """An adapter that changes what the tiny model says."""
    from peft import get_peft_model

    from helpers import get_profile, load_model, lora_config

    torch.manual_seed(1)
    model = get_peft_model(load_model(quiet=True), lora_config(get_profile("tiny")))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_an_adapter_is_merged_first(adapter, base_model, processor, test_clips):
    from peft import PeftModel

    from helpers import load_model
    from helpers.serve.folder import load_for_serving

    merged, own_processor = load_for_serving(str(adapter))
    assert type(merged) is type(base_model) and not any("lora" in name for name, _ in merged.named_modules())
    inputs = _features(own_processor, test_clips[0]["audio"]["array"])
    beside = PeftModel.from_pretrained(load_model(quiet=True), adapter).eval()
    with torch.no_grad():
        scores, expected, base = (model(**inputs, logits_to_keep=1).logits for model in (merged, beside, base_model))
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=0)
    assert (scores - base).abs().max() > 0.1
    assert sorted(path.name for path in adapter.iterdir() if "model" in path.name) == ["adapter_model.safetensors"]


@pytest.mark.parametrize("files, sentence", [
    (None, "There is no folder 'served' to serve"),
    ([], "'served' holds no processor"),
    (["processor_config.json"], "'served' holds neither a model .* nor an adapter"),
])
def test_folders_that_cannot_be_served_say_why(tmp_path, files, sentence):
    from helpers.serve.folder import load_for_serving

    folder = tmp_path / "served"
    if files is not None:
        folder.mkdir()
    for name in files or []:
        shutil.copy(TINY_FOLDER / name, folder)
    with pytest.raises(FileNotFoundError, match=sentence):
        load_for_serving(str(folder))


def test_an_adapter_without_a_base_is_refused(adapter, tmp_path):
    from helpers import AdapterError
    from helpers.serve.folder import load_for_serving

    folder = shutil.copytree(adapter, tmp_path / "served")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": None}))
    with pytest.raises(AdapterError, match="does not say which base"):
        load_for_serving(str(folder))


def test_code_in_a_served_folder_is_never_run(tmp_path):
    from helpers.serve.folder import load_for_serving

    folder = shutil.copytree(TINY_FOLDER, tmp_path / "served")
    (folder / "theirs.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    for name, classes in (("config.json", {"AutoConfig": "theirs.C", "AutoModel": "theirs.M"}),
                          ("processor_config.json", {"AutoProcessor": "theirs.P"})):
        path = folder / name
        path.write_text(json.dumps({**json.loads(path.read_text()), "auto_map": classes}))
    model, processor = load_for_serving(str(folder))
    assert type(model).__name__ == "AudioFlamingo3ForConditionalGeneration"
    assert type(processor).__name__ == "AudioFlamingo3Processor" and not (tmp_path / "ran").exists()


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_listens_on_this_machine_alone_unless_told_otherwise(capsys):
    from helpers.serve.__main__ import _parser, main

    options = _parser().parse_args(["tiny"])
    assert (options.host, options.allow_paths, options.allow_urls) == ("127.0.0.1", False, False)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["tiny", "--port", str(taken.getsockname()[1])]) == 1
    assert "choose another with --port" in capsys.readouterr().err
    assert main(["tiny", "--port", "99999"]) == 1
    assert "Cannot listen on 127.0.0.1, port 99999" in capsys.readouterr().err
    assert main(["no/such/folder", "--port", "0"]) == 1
    assert capsys.readouterr().err == "There is no folder 'folder' to serve: check the path.\n"


@pytest.mark.slow
def test_a_server_for_real(adapter, processor, test_clips):
    """The process, the official client, eight requests at once, and an end."""
    from openai import BadRequestError, OpenAI

    from helpers import ServerProcess
    from helpers.serve.folder import load_for_serving

    clips = [clip["audio"]["array"] for clip in test_clips[:8]]
    with ServerProcess(adapter) as server:
        assert server.url.startswith("http://127.0.0.1:") and server.running
        client = OpenAI(base_url=server.url, api_key="none", max_retries=0)
        name = client.models.list().data[0].id
        assert name == adapter.name

        def describe(clip):
            answer = client.chat.completions.create(model=name, messages=messages(sound(clip, "flac")), temperature=0,
                                                    max_tokens=30)
            return answer.choices[0].message.content

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(describe, clips))
        with pytest.raises(BadRequestError, match="no valid base64"):
            client.chat.completions.create(model=name, messages=messages(
                {"type": "input_audio", "input_audio": {"data": "?", "format": "wav"}}))
        port = int(server.url.split(":")[2].split("/")[0])
    assert not server.running
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0
    model, _ = load_for_serving(str(adapter))
    heard = [load_audio(base64.b64decode(encoded(clip, "flac"))) for clip in clips]
    assert answers == caption(model, processor, heard, max_new_tokens=30)


@pytest.mark.slow
def test_a_server_ends_with_the_program_that_started_it():
    """Even if that one is killed, as a kernel may be."""
    code = "from helpers import ServerProcess\nprint(ServerProcess('tiny').url, flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], cwd=TINY_FOLDER.parents[2], text=True, stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as starter:
        port = int(starter.stdout.readline().split(":")[2].split("/")[0])
        starter.kill()
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return
        time.sleep(0.1)
    raise AssertionError(f"port {port} still answers")


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(tmp_path):
    from helpers import ServerProcess

    with pytest.raises(RuntimeError, match="ended before it was ready: The folder 'empty' holds no processor"):
        (tmp_path / "empty").mkdir()
        ServerProcess(tmp_path / "empty")
