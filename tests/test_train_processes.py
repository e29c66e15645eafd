"""``python -m helpers.train`` in two processes, and Accelerate's files for more."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from short_run import LOGGED, ROOT, SHORT, log_of

from helpers.training.resume import MARKER

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


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
AS_GPUS = "gloo", DistributedType.MULTI_GPU
PartialState._prepare_backend = lambda self, cpu=False, sagemaker_dp=False, backend=None: AS_GPUS
import helpers.training.recipe
arguments = helpers.training.recipe.TrainingArguments
helpers.training.recipe.TrainingArguments = lambda **settings: arguments(**{**settings, "use_cpu": False})
"""


def launch(launcher: list[str], address: str, script: Path, *options: str) -> subprocess.CompletedProcess:
    """Two processes that meet at a free port of this machine; ``address`` is what the launcher calls its options."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return subprocess.run(
        [sys.executable, "-m", *launcher, f"--{address}_port", str(port), str(script), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
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
    norm = torch.linalg.vector_norm
    for number in one:  # as a whole: a single element may be what is left of large ones that cancel
        assert norm(two[number] - one[number]) <= 1e-4 * norm(one[number]) + 1e-7


def test_only_the_first_process_prints_and_both_are_saved(together):
    done, folder = together
    assert done.stdout.count("2 steps of 8 clips in 2 processes, from the beginning.") == 1
    assert done.stdout.count("The adapter is in") == 1 and done.stdout.count("'eval_loss'") == 1
    saved = {path.name for path in (folder / "checkpoints" / "checkpoint-2").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth", MARKER} <= saved


def test_fsdp_as_configured_trains_and_saves_the_same_adapter(alone, tmp_path):
    (tmp_path / "command.py").write_text(FIND_HELPERS + AS_IF_GPUS + COMMAND)
    done = launch(
        [*ACCELERATE, "configs/fsdp.yaml"],
        "main_process",
        tmp_path / "command.py",
        "--profile",
        "tiny",
        "--output",
        str(tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert log_of(tmp_path / "run") == pytest.approx(log_of(alone), rel=1e-5)
    assert (tmp_path / "run" / "checkpoints" / "checkpoint-2" / "pytorch_model_fsdp.bin").is_file(), "this was FSDP"
    assert (tmp_path / "run" / "adapter" / "adapter_model.safetensors").stat().st_size == (
        alone / "adapter" / "adapter_model.safetensors"
    ).stat().st_size


# ----------------------------------------------------------------------------------------------------- Accelerate
def launch_environment(name: str) -> dict[str, str]:
    """The variables that ``accelerate launch --config_file`` hands to the processes."""
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    arguments = launch_command_parser().parse_args(
        ["--config_file", str(ROOT / "configs" / name), "--num_processes", "2", "-m", "helpers.train"]
    )
    environment = prepare_multi_gpu_env(_validate_launch_command(arguments)[0])
    return {key: value for key, value in environment.items() if key.startswith("FSDP_") or key == "ACCELERATE_USE_FSDP"}


@pytest.mark.parametrize(
    "name, kind", [("fsdp", "FSDP"), ("deepspeed_zero3", "DEEPSPEED"), ("several_gpus", "MULTI_GPU")]
)
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
    assert (
        plugin.fsdp_version == 2
        and "FULL_STATE_DICT" in str(plugin.state_dict_type)
        and not plugin.activation_checkpointing
    )
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
