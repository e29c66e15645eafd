"""``python -m helpers.train``: the recipe of the notebook, in one process or several."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from helpers import HubError, NotEnoughMemory, get_profile, load_model, profiles, train
from helpers.training.recipe import make_trainer, save_adapter
from helpers.training.resume import MARKER

ROOT = Path(__file__).resolve().parent.parent

# Without dropout, which differs from process to process. Saves and evaluations fall between the steps.
SHORT = dict(max_steps=2, train_clips=10, eval_clips=8, batch_size=2, gradient_accumulation_steps=2, lora_dropout=0.0,
             warmup_steps=0, eval_steps=2, save_steps=1, logging_steps=1)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def short(monkeypatch):
    """The tiny profile, shortened, for the command to find."""
    profile = dataclasses.replace(get_profile("tiny"), **SHORT)
    monkeypatch.setitem(profiles.PROFILES, "tiny", profile)
    return profile


def log_of(folder: Path, step: int = 2) -> dict[tuple[int, str], float]:
    state = json.loads((folder / "checkpoints" / f"checkpoint-{step}" / "trainer_state.json").read_text())
    return {(row["step"], key): row[key]
            for row in state["log_history"] for key in ("loss", "grad_norm", "eval_loss") if key in row}


LOGGED = {(1, "loss"), (1, "grad_norm"), (2, "loss"), (2, "grad_norm"), (2, "eval_loss")}


# --------------------------------------------------------------------------------------------------------- options
@pytest.mark.parametrize("options, sentence", [
    (["--profile", "huge"], "invalid choice: 'huge'"),
    (["--steps", "0"], "--steps is 0: a run takes at least 1 step."),
    (["--steps", "many"], "invalid int value: 'many'"),
    (["--push"], "The tiny profile has no name to share the adapter under: give one"),
    (["--push", "mine"], "--push needs a login: run `hf auth login` first"),
    (["--epochs", "3"], "unrecognized arguments: --epochs 3"),
])
def test_a_bad_option_gets_one_sentence(options, sentence, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train.main(["--output", str(tmp_path / "run"), *options])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and sentence in error.splitlines()[-1] and "Traceback" not in error
    assert not (tmp_path / "run").exists()


def test_bad_data_gets_one_sentence(short, tmp_path, capsys):
    output = ["--output", str(tmp_path / "run")]
    assert train.main([*output, "--data", str(tmp_path / "nowhere")]) == 1
    assert train.main([*output, "--data", str(tmp_path)]) == 1
    first, second = [line for line in capsys.readouterr().err.splitlines() if line.startswith("helpers.train: ")]
    assert "There is no folder" in first and "has no metadata.csv" in second


def test_a_file_as_output_and_a_profile_from_the_environment(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit):
        train.read_options(["--output", str(tmp_path / "file")])
    assert "--output file is a file" in capsys.readouterr().err
    monkeypatch.setenv("COURSE_PROFILE", "full")
    options, profile = train.read_options(["--steps", "7", "--data", "someone/clips"])
    assert profile == dataclasses.replace(get_profile("full"), max_steps=7, dataset_id="someone/clips")
    assert options.output == profile.runs


# ---------------------------------------------------------------------------------------------------- one process
@pytest.fixture(scope="module")
def alone(one_thread, tmp_path_factory):
    """A run of the command with twice the clips a step that each of two processes takes."""
    folder = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(profiles.PROFILES, "tiny", dataclasses.replace(get_profile("tiny"), **{**SHORT, "batch_size": 4}))
        assert train.main(["--profile", "tiny", "--output", str(folder)]) == 0
    return folder


def test_the_command_is_the_recipe(alone, processor, tmp_path):
    profile = dataclasses.replace(get_profile("tiny"), **{**SHORT, "batch_size": 4})
    trainer = make_trainer(profile, load_model(quiet=True), processor, tmp_path / "checkpoints", disable_tqdm=True)
    trainer.train()
    expected = save_adapter(trainer, processor, tmp_path / "adapter")
    for name in ("adapter_model.safetensors", "adapter_config.json", "chat_template.jinja"):
        assert (alone / "adapter" / name).read_bytes() == (expected / name).read_bytes()
    assert not [path for path in (alone / "adapter").iterdir() if path.suffix in {".bin", ".pt", ".pth"}]
    assert "## Metrics" in (alone / "adapter" / "README.md").read_text(encoding="utf-8"), "the model card"


def test_a_begun_run_is_not_written_over_and_a_finished_one_not_trained_further(alone, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(profiles.PROFILES, "tiny", dataclasses.replace(get_profile("tiny"), **{**SHORT, "batch_size": 4}))
    output = shutil.copytree(alone, tmp_path / "run")
    shutil.rmtree(output / "adapter")
    options = ["--profile", "tiny", "--output", str(output)]
    with pytest.raises(SystemExit):
        train.main(options)
    assert "'run' holds checkpoints of an earlier run: go on from its last whole one with --resume" in capsys.readouterr().err
    assert train.main([*options, "--resume"]) == 0
    assert "from checkpoint-2 on." in capsys.readouterr().out
    assert (output / "adapter" / "adapter_model.safetensors").read_bytes() == \
        (alone / "adapter" / "adapter_model.safetensors").read_bytes()
    assert (output / "adapter" / "README.md").read_text() == (alone / "adapter" / "README.md").read_text(), "with metrics"
    (output / "checkpoints" / "checkpoint-2" / MARKER).unlink()
    assert train.main([*options, "--resume"]) == 0
    assert "from checkpoint-1 on." in capsys.readouterr().out and log_of(output) == log_of(alone)


def test_a_folder_of_own_clips_is_trained_on_as_a_whole(short, test_clips, tmp_path, capsys):
    import soundfile

    for split, clips in (("train", test_clips[:3]), ("validation", test_clips[3:5])):
        (tmp_path / "own" / split).mkdir(parents=True)
        rows = []
        for number, clip in enumerate(clips):
            soundfile.write(tmp_path / "own" / split / f"{number}.wav", clip["audio"]["array"], 16_000)
            rows.append(json.dumps({"file_name": f"{number}.wav", "caption": clip["caption"]}))
        (tmp_path / "own" / split / "metadata.jsonl").write_text("\n".join(rows))
    assert train.main(["--data", str(tmp_path / "own"), "--steps", "2", "--output", str(tmp_path / "run")]) == 0
    assert log_of(tmp_path / "run").keys() == LOGGED
    assert "2 steps of 4 clips in 1 process, from the beginning." in capsys.readouterr().out
    card = (tmp_path / "run" / "adapter" / "README.md").read_text(encoding="utf-8")
    assert "not published here" in card and "The data has terms of its own" in card


@pytest.mark.parametrize("error", [HubError("The Hub is away: wait.", "unreachable"), NotEnoughMemory("Too large: shrink.")])
def test_what_loading_says_is_one_sentence_and_no_traceback(error, tmp_path, monkeypatch, capsys):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("helpers.model.loading.load_model", refuse)
    assert train.main(["--profile", "tiny", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"helpers.train: {error}\n"


def test_pushing_uploads_the_saved_folder(alone, monkeypatch):
    calls = []

    class Hub:
        def create_repo(self, name, private, exist_ok):
            assert private and exist_ok
            return type("Url", (str,), {"repo_id": f"me/{name}"})(f"hub.example/me/{name}")

        def upload_folder(self, repo_id, folder_path, commit_message):
            calls.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    assert train.push_adapter(alone / "adapter", "mine") == "hub.example/me/mine"
    assert calls == [("me/mine", sorted(path.name for path in (alone / "adapter").iterdir()))]


# ------------------------------------------------------------------------------------------------- two processes
COMMAND = f"""
import dataclasses
from helpers import profiles, train
profiles.PROFILES["tiny"] = dataclasses.replace(profiles.PROFILES["tiny"], **{SHORT!r})
sys.exit(train.main(sys.argv[1:]))
"""

FIND_HELPERS = f"""
import os, sys
sys.path.insert(0, {str(ROOT)!r})
"""

# Accelerate shards over GPUs alone. Told that two gloo processes on a CPU are two GPUs, it does the same on them; all
# else in such a run is what the real one does.
AS_IF_GPUS = """
os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
from accelerate.state import PartialState
from accelerate.utils import DistributedType
PartialState._prepare_backend = lambda self, cpu=False, sagemaker_dp=False, backend=None: ("gloo", DistributedType.MULTI_GPU)
import helpers.training.recipe
arguments = helpers.training.recipe.TrainingArguments
helpers.training.recipe.TrainingArguments = lambda **settings: arguments(**{**settings, "use_cpu": False})
"""


def launch(launcher: list[str], address: str, script: Path, *options: str) -> subprocess.CompletedProcess:
    """Two processes that meet at a free port of this machine; ``address`` is how the launcher calls its options for that."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return subprocess.run(
        [sys.executable, "-m", *launcher, f"--{address}_port", str(port), str(script), *options],
        cwd=ROOT, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


TORCHRUN = ["torch.distributed.run", "--nproc_per_node", "2", "--master_addr", "127.0.0.1"]
ACCELERATE = ["accelerate.commands.launch", "--num_processes", "2", "--main_process_ip", "127.0.0.1", "--config_file"]


def first_moment(folder: Path) -> dict[int, torch.Tensor]:
    """After one step Adam's first moment is the averaged (and clipped) gradient times 1 - beta1, tensor by tensor."""
    state = torch.load(folder / "checkpoints" / "checkpoint-1" / "optimizer.pt", weights_only=True)["state"]
    return {number: values["exp_avg"] for number, values in state.items()}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    (folder / "command.py").write_text(FIND_HELPERS + COMMAND)
    done = launch(TORCHRUN, "master", folder / "command.py", "--profile", "tiny", "--output", str(folder / "run"))
    assert done.returncode == 0, done.stderr
    return done, folder / "run"


def test_two_processes_equal_one_with_the_doubled_batch(alone, together):
    done, folder = together
    assert log_of(alone).keys() == LOGGED and log_of(folder) == pytest.approx(log_of(alone), rel=1e-5)


def test_the_averaged_gradients_are_equal(alone, together):
    one, two = first_moment(alone), first_moment(together[1])
    assert one.keys() == two.keys() and any(tensor.abs().max() > 1e-4 for tensor in one.values())
    for number in one:
        torch.testing.assert_close(two[number], one[number], rtol=1e-4, atol=1e-8)


def test_only_the_first_process_prints_and_both_are_saved(together):
    done, folder = together
    assert done.stdout.count("2 steps of 8 clips in 2 processes, from the beginning.") == 1
    assert done.stdout.count("The adapter is in") == 1 and done.stdout.count("'eval_loss'") == 1
    saved = {path.name for path in (folder / "checkpoints" / "checkpoint-2").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", MARKER} <= saved


def test_fsdp_as_configured_trains_and_saves_the_same_adapter(alone, tmp_path):
    (tmp_path / "command.py").write_text(FIND_HELPERS + AS_IF_GPUS + COMMAND)
    done = launch([*ACCELERATE, "configs/fsdp.yaml"], "main_process", tmp_path / "command.py", "--profile", "tiny",
                  "--output", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert log_of(tmp_path / "run") == pytest.approx(log_of(alone), rel=1e-5)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-2" / "pytorch_model_fsdp.bin").is_file(), "this was FSDP"
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").stat().st_size == \
        (alone / "adapter" / "adapter_model.safetensors").stat().st_size


# ----------------------------------------------------------------------------------------------------- Accelerate
def launch_environment(name: str) -> dict[str, str]:
    """The variables that ``accelerate launch --config_file`` hands to the processes."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launch_command_parser().parse_args(["--config_file", str(ROOT / "configs" / name), "--num_processes", "2",
                                                    "-m", "helpers.train"])
    environment = prepare_multi_gpu_env(_validate_launch_command(arguments)[0])
    return {key: value for key, value in environment.items() if key.startswith("FSDP_") or key == "ACCELERATE_USE_FSDP"}


@pytest.mark.parametrize("name, kind", [("fsdp", "FSDP"), ("deepspeed_zero3", "DEEPSPEED"), ("several_gpus", "MULTI_GPU")])
def test_accelerate_reads_its_files(name, kind):
    from accelerate.commands.config.config_args import ClusterConfig

    config = ClusterConfig.from_yaml_file(ROOT / "configs" / f"{name}.yaml")  # refuses keys that it does not know
    assert config.distributed_type == kind and config.num_processes > 1 and not config.use_cpu


def test_fsdp_shards_layer_by_layer(base_model, monkeypatch):
    from accelerate.utils import FullyShardedDataParallelPlugin
    from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy

    for key, value in launch_environment("fsdp.yaml").items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2 and "FULL_STATE_DICT" in str(plugin.state_dict_type) and not plugin.activation_checkpointing
    plugin.set_auto_wrap_policy(base_model)  # refuses a class that the model does not have
    wrapped = fsdp2_prepare_auto_wrap_policy(plugin, base_model)
    units = [name for name, module in base_model.named_modules() if wrapped(module)]
    layers = base_model.config.text_config.num_hidden_layers + base_model.config.audio_config.num_hidden_layers
    assert len([name for name in units if ".layers." in name]) == layers


def test_deepspeed_leaves_every_number_to_the_recipe():
    from accelerate.commands.config.config_args import ClusterConfig
    from accelerate.utils.deepspeed import HfDeepSpeedConfig

    given = ClusterConfig.from_yaml_file(ROOT / "configs" / "deepspeed_zero3.yaml").deepspeed_config
    config = HfDeepSpeedConfig(str(ROOT / given["deepspeed_config_file"]))
    assert config.is_zero3() and not config.is_offload() and given["zero3_init_flag"] is False
    for key in ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping", "bf16.enabled"):
        assert config.get_value(key) == "auto"
    assert config.get_value("zero_optimization.stage3_gather_16bit_weights_on_model_save") is True
