"""What the captioning server serves: folders, adapters merged first, and the command itself."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from serve_client import encoded, features, messages, sound

from helpers import caption, load_audio
from helpers.model.architecture import TINY_FOLDER

pytest.importorskip("openai")
pytest.importorskip("uvicorn")


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
    inputs = features(own_processor, test_clips[0]["audio"]["array"])
    beside = PeftModel.from_pretrained(load_model(quiet=True), adapter).eval()
    with torch.no_grad():
        scores, expected, base = (model(**inputs, logits_to_keep=1).logits for model in (merged, beside, base_model))
    torch.testing.assert_close(scores, expected, atol=1e-3, rtol=0)
    assert (scores - base).abs().max() > 0.1
    assert sorted(path.name for path in adapter.iterdir() if "model" in path.name) == ["adapter_model.safetensors"]


@pytest.mark.parametrize("files, sentence", [
    (None, "There is no model '.*served'"),
    ([], "'served' holds no processor"),
    (["processor_config.json"], "'served' holds no model"),
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


def test_a_base_too_large_to_merge_says_what_to_do(adapter, monkeypatch, capsys):
    from helpers.model import loading
    from helpers.serve.__main__ import main

    def full(*args, **options):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(loading, "_from_pretrained", full)
    assert main([str(adapter), "--port", "0"]) == 1
    assert "does not fit on cpu in float32: close" in capsys.readouterr().err


def test_a_folder_with_the_older_name_of_the_processor_is_served(tmp_path):
    """A ``preprocessor_config.json`` alone, as releases before transformers 5 wrote it."""
    from other_models import FAMILIES, build_model, build_processor

    from helpers.serve.folder import load_for_serving

    qwen = next(family for family in FAMILIES if family.model_type == "qwen2_audio")
    processor = build_processor(qwen)
    build_model(qwen, processor).save_pretrained(tmp_path)
    for part in (processor.feature_extractor, processor.tokenizer):
        part.save_pretrained(tmp_path)
    for name in ("preprocessor_config.json", "tokenizer_config.json"):
        config = json.loads((tmp_path / name).read_text(encoding="utf-8")) | {"processor_class": qwen.processor}
        (tmp_path / name).write_text(json.dumps(config), encoding="utf-8")
    assert not (tmp_path / "processor_config.json").exists()
    model, loaded = load_for_serving(str(tmp_path))
    assert (type(model).__name__, type(loaded).__name__) == (qwen.model, qwen.processor)


def test_the_command_says_in_a_sentence_that_a_class_is_unknown(monkeypatch, capsys):
    from helpers import UnknownModel
    from helpers.serve import __main__ as command
    from helpers.serve import folder as serving

    def unknown(source):
        raise UnknownModel("The course knows no SuchModel.")

    monkeypatch.setattr(serving, "load_for_serving", unknown)
    assert command.main(["owner/such", "--port", "0"]) == 1
    assert capsys.readouterr().err == "The course knows no SuchModel.\n"


def test_code_in_a_served_folder_is_never_run(tmp_path):
    from helpers.serve.folder import load_for_serving

    folder = shutil.copytree(TINY_FOLDER, tmp_path / "served", ignore=shutil.ignore_patterns("digests.json"))
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
    assert capsys.readouterr().err.startswith("There is no model 'no/such/folder': give 'tiny', a folder")


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
