"""The full profile against the stand-in Hub: notebooks run, streams stream, and what is shared comes back the same."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import nbformat
import pytest
from hub_client import Client, environment
from hub_fixtures import DATA, MODEL
from hub_repository import TOKEN, USER
from huggingface_hub import ModelCard
from nbclient import NotebookClient

from helpers import get_profile, write_model_card

ROOT = Path(__file__).resolve().parent.parent
TRIAL = ("max_steps=2 eval_steps=2 save_steps=2 logging_steps=1 train_clips=32 eval_clips=4 test_clips=8 "
         "needs_gpu=false least_memory_gb=1 least_disk_gb=0.1")
"""Fewer steps and clips, and no objections of the doctor to this machine; ids and rates are the full profile's own."""


@pytest.fixture(scope="module")
def learner(hub, learners_home):
    """Environment of a learner with the full profile, a token, and an empty cache."""
    return environment(hub.endpoint, learners_home, COURSE_PROFILE="full", COURSE_TRIAL=TRIAL, HF_TOKEN=TOKEN)


def execute(name: str, env: dict[str, str]) -> nbformat.NotebookNode:
    """Run a notebook in its folder; raises what a cell raises."""
    book = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    where = {"metadata": {"path": str(ROOT / "notebooks")}}
    return NotebookClient(book, timeout=300, resources=where, kernel_name="python3").execute(env=env)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "notebooks").glob("0[1-5]_*.ipynb")))
def test_a_notebook_runs_with_the_full_profile(name, learner, learners_home, hub):
    """Its asserts hold; of the training data, nothing is touched that is not used; no cell is drowned in warnings."""
    hub.requests.clear()
    book = execute(name, learner)
    assert {file for file in hub.asked_for(DATA, "GET") if "train-" in file} <= {"data/train-00000-of-00003.parquet"}
    got = [request for request in hub.requests if request.method == "GET"]
    assert all(request.range for request in got if request.path.endswith(".parquet"))
    weights = [request for request in got if MODEL in request.path and request.path.endswith("model.safetensors")]
    assert len(weights) <= 1, "downloaded once, then from the cache"
    for cell in book.cells:
        streams = [out for out in cell.get("outputs", []) if out.output_type == "stream"]
        warnings = [out.text for out in streams if out.name == "stderr"]
        assert "".join(warnings).count("\n") <= 3, warnings
    if name.startswith("03"):
        saved = next(learners_home.glob("runs/*/adapter/adapter_model.safetensors")).read_bytes()
        shared = hub.repositories["model", f"{USER}/{get_profile('full').hub_model_id}"].files
        assert shared["adapter_model.safetensors"] == saved and "processor_config.json" in shared


def test_streaming_asks_for_no_more_than_is_used(kernel, hub):
    hub.requests.clear()
    outcome = kernel.run(f"result = [row['caption'] for row in load_captions({DATA!r}, 'train').take(5)]")
    assert len(outcome.result) == 5 and all(outcome.result)
    assert {file for file in hub.asked_for(DATA, "GET")} == {"data/train-00000-of-00003.parquet"}
    outcome = kernel.run(f"result = [row['caption'] for row in load_captions({DATA!r}, 'train').skip(70).take(2)]")
    assert len(outcome.result) == 2
    assert "data/train-00002-of-00003.parquet" not in hub.asked_for(DATA, "GET")


def test_what_is_streamed_is_what_was_made(kernel, shards):
    """Columns, order, captions and samples, against the parquet files themselves."""
    import io

    import pyarrow.parquet as pq
    import soundfile

    rows = pq.read_table(io.BytesIO(shards["data/test-00000-of-00003.parquet"])).slice(0, 6).to_pylist()
    outcome = kernel.run(f"""
import numpy as np
stream = load_captions({DATA!r}, "test")
rows = list(stream.take(6))
result = {{"columns": stream.column_names, "captions": [row["caption"] for row in rows],
          "clips": [row["youtube_id"] for row in rows], "samples": rows[0]["audio"]["array"].tolist()}}
""")
    assert outcome.result["columns"] == ["audiocap_id", "youtube_id", "start_time", "caption", "audio"]
    assert outcome.result["captions"] == [row["caption"] for row in rows]
    assert outcome.result["clips"] == [row["youtube_id"] for row in rows]
    assert len(set(outcome.result["clips"])) == 2, "five captions of a clip, then the next clip"
    samples, _ = soundfile.read(io.BytesIO(rows[0]["audio"]["bytes"]), dtype="float32")
    assert outcome.result["samples"] == samples.tolist()


# -------------------------------------------------------------------------------------------------------- sharing
TRAIN_AND_SHARE = f"""
import os, tempfile
from pathlib import Path
from peft import PeftModel
from huggingface_hub import HfApi
from helpers import CaptionEvaluation, caption, check_adapter, get_profile
from helpers import load_vocabulary, make_trainer, save_adapter, write_model_card

profile = get_profile()
processor, model = load_processor(profile.model_id), load_model(profile.model_id, quiet=True)
checkpoints = Path(tempfile.mkdtemp())
clips = list(load_captions(profile.dataset_id, "train").take(2))
trainer = make_trainer(profile, model, processor, checkpoints, save_strategy="no", disable_tqdm=True,
                       callbacks=[CaptionEvaluation(processor, clips, load_vocabulary("tiny"), max_new_tokens=8)])
trainer.train()
folder = save_adapter(trainer, processor, profile.adapter)
write_model_card(folder, profile, trainer.state.log_history)
os.environ["HF_TOKEN"] = {TOKEN!r}
shared = HfApi().create_repo("adapter-of-the-tests", private=True, exist_ok=True).repo_id
HfApi().upload_folder(repo_id=shared, folder_path=folder, commit_message="Adapter, processor and model card")
answer = caption(trainer.model, processor, clips[0]["audio"], max_new_tokens=8)
result = {{"id": shared, "folder": str(folder), "answer": answer}}
"""


@pytest.fixture(scope="module")
def sharer(hub, tmp_path_factory):
    """A process that has trained an adapter with the full profile and shared it: (process, what it has shared)."""
    home = tmp_path_factory.mktemp("sharer")
    process = Client(environment(hub.endpoint, home, COURSE_PROFILE="full", COURSE_TRIAL=TRIAL))
    process.run("from helpers import HubError, load_captions, load_model, load_processor")
    outcome = process.run(TRAIN_AND_SHARE)
    assert outcome.error is None, outcome
    yield process, outcome.result
    process.close()


@pytest.mark.slow
def test_what_is_shared_is_what_was_saved(sharer, hub):
    _, shared = sharer
    assert shared["id"] == f"{USER}/adapter-of-the-tests"
    saved = {file.name: file.read_bytes() for file in Path(shared["folder"]).iterdir()}
    assert hub.repositories["model", shared["id"]].files == saved
    assert {"adapter_config.json", "adapter_model.safetensors", "processor_config.json", "README.md"} <= set(saved)
    assert not [name for name in saved if name.endswith((".bin", ".pt"))]


@pytest.mark.slow
def test_what_is_shared_comes_back_byte_by_byte_and_works(sharer):
    process, shared = sharer
    outcome = process.run(f"""
from huggingface_hub import snapshot_download
from transformers import AutoProcessor
checked = check_adapter(load_model(profile.model_id, quiet=True), {shared["id"]!r})
pulled = Path(snapshot_download({shared["id"]!r}))
base = load_model(profile.model_id, quiet=True)
again = PeftModel.from_pretrained(base, {shared["id"]!r})
with_processor = AutoProcessor.from_pretrained({shared["id"]!r})
saved = Path({shared["folder"]!r})
files = list(saved.iterdir())
result = {{"same": all((pulled / file.name).read_bytes() == file.read_bytes() for file in files),
          "complete": len(files) == len(list(pulled.iterdir())) and checked == pulled,
          "elsewhere": pulled.parent != saved.parent, "class": type(again).__name__,
          "answer": caption(again, with_processor, clips[0]["audio"], max_new_tokens=8),
          "recorded": again.peft_config["default"].base_model_name_or_path}}
""")
    assert outcome.error is None, outcome
    assert outcome.result == {"same": True, "complete": True, "elsewhere": True, "class": "PeftModelForCausalLM",
                              "answer": shared["answer"], "recorded": MODEL}


@pytest.mark.slow
def test_the_guides_way_of_sharing_works_too(sharer, hub):
    process, shared = sharer
    outcome = process.run("trainer.model.push_to_hub('the-guides-way')\nprocessor.push_to_hub('the-guides-way')")
    assert outcome.error is None, outcome
    ours, theirs = (hub.repositories["model", name].files for name in (shared["id"], f"{USER}/the-guides-way"))
    assert theirs["adapter_model.safetensors"] == ours["adapter_model.safetensors"]
    assert theirs["tokenizer.json"] == ours["tokenizer.json"]


@pytest.mark.slow
def test_the_model_card_says_where_it_comes_from(sharer):
    _, shared = sharer
    text = (Path(shared["folder"]) / "README.md").read_text(encoding="utf-8")
    data = ModelCard(text).data.to_dict()
    assert data["base_model"] == MODEL and data["datasets"] == [DATA] and data["library_name"] == "peft"
    assert data["pipeline_tag"] == "audio-text-to-text"
    assert data["license"] == "other" and "noncommercial" in data["license_name"]
    assert data["metrics"] == ["cider", "f1"]
    assert "non-commercial research" in text
    for name in ("torch", "transformers", "peft", "datasets", "accelerate"):
        assert f"- {name} {importlib.metadata.version(name)}" in text
    for name in ("loss (nats a token)", "CIDEr-D", "event F1"):
        assert re.search(rf"^\| {re.escape(name)} \| \d+\.\d+ \| \d+\.\d+ \|$", text, re.M), text
    assert "More Information Needed" not in text and str(ROOT) not in text and str(Path.home()) not in text


def test_a_model_card_of_the_tiny_profile_inherits_no_licence(tmp_path):
    profile = get_profile("tiny")
    log = [{"step": 50, "eval_loss": 1.25}, {"step": 200, "eval_loss": 0.5, "eval_cider_d": 3.0}]
    text = write_model_card(tmp_path, profile, log).read_text(encoding="utf-8")
    data = ModelCard(text).data.to_dict()
    assert not {"license", "base_model", "datasets"} & set(data) and data["metrics"] == ["cider"]
    assert "| loss (nats a token) | 1.250 | 0.500 |" in text and "| | step 50 | step 200 |" in text
    assert "NVIDIA" not in text
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]


def test_a_model_card_without_evaluations_or_folder(tmp_path):
    assert "Nothing was evaluated" in write_model_card(tmp_path, get_profile("full"), []).read_text()
    with pytest.raises(FileNotFoundError, match="save the adapter first"):
        write_model_card(tmp_path / "nowhere", get_profile("full"), [])


@pytest.mark.slow
# --------------------------------------------------------------------------------------------------- adapters there
def test_an_adapter_that_is_not_there(sharer):
    process, _ = sharer
    outcome = process.run("check_adapter(load_model(profile.model_id, quiet=True), 'nobody/nothing')")
    assert outcome.error == "HubError" and "There is no model nobody/nothing" in outcome.message


@pytest.mark.slow
def test_a_model_is_no_adapter(sharer):
    process, _ = sharer
    outcome = process.run(f"check_adapter(load_model(profile.model_id, quiet=True), {MODEL!r})")
    assert outcome.error == "AdapterError" and f"There is no adapter in '{MODEL}'" in outcome.message


# ---------------------------------------------------------------------------------------------------------- trials
def test_a_trial_changes_what_it_names_and_keeps_its_results_apart(monkeypatch):
    monkeypatch.setenv("COURSE_PROFILE", "full")
    whole = get_profile()
    monkeypatch.setenv("COURSE_TRIAL", "max_steps=4, train_clips=32 needs_gpu=False least_disk_gb=1")
    trial = get_profile()
    assert (trial.max_steps, trial.train_clips, trial.needs_gpu, trial.least_disk_gb) == (4, 32, False, 1.0)
    assert (trial.model_id, trial.learning_rate) == (whole.model_id, whole.learning_rate)
    assert trial.adapter != whole.adapter
    assert get_profile("full") == whole, "a profile asked for by name is as it is"


@pytest.mark.parametrize("changes, words", [
    ("steps=4", "no field 'steps'.*max_steps"), ("max_steps", r"write field=value.*max_steps cannot be ''"),
    ("max_steps=many", "cannot be 'many': it takes a whole number above 0"), ("max_steps=-1", "cannot be -1"),
    ("needs_gpu=perhaps", "it takes True or False"), ("learning_rate=nan", "a number above 0 and below 1"),
    ("name=mine", "no field 'name'"), ("license=free", "no field 'license'"),
])
def test_a_trial_that_cannot_be_understood(monkeypatch, changes, words):
    monkeypatch.setenv("COURSE_PROFILE", "full")
    monkeypatch.setenv("COURSE_TRIAL", changes)
    with pytest.raises(ValueError, match=words) as error:
        get_profile()
    assert "\n" not in str(error.value)
