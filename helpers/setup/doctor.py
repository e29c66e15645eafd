"""The doctor: is everything here that the course needs, and if not, what exactly repairs it?"""

import platform
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import torch

from helpers.hub import OFFLINE, HubError, check_access, is_hub_id, status_of
from helpers.model.hardware import NotEnoughMemory, choose_hardware, dtype_name
from helpers.model.memory import GB, HEADROOM, estimate_memory
from helpers.profiles import RUNS, TINY, Profile, get_profile
from helpers.setup.findings import Diagnosis, Finding
from helpers.setup.install import PYTHONS
from helpers.setup.rehearsal import check_adapter, check_decoding, check_labels, check_pipeline
from helpers.setup.requirements import installed_version, unmet_requirements

BESIDE_THE_MODEL = 1.5 * GB
"""Of the machine's memory, beside the estimate: Python with PyTorch and the other libraries (0.6 GB with the tiny model
loaded, measured on Linux), and what a notebook holds of sounds, pictures and second models."""


def check_python(version: Sequence[int] = sys.version_info) -> Finding:
    """Whether this Python is one that the course supports."""
    found = ".".join(map(str, version[:3]))
    oldest, newest = PYTHONS
    if oldest <= tuple(version[:2]) <= newest:
        return Finding("Python", found)
    return Finding("Python", found, f"The course needs Python {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]}: make "
                                    "the virtual environment with one of those.")


def check_libraries(version_of=installed_version) -> Finding:
    """Whether the installed packages are within the ranges of ``requirements.txt``."""
    names = ("torch", "transformers", "datasets", "peft", "accelerate")
    shown = ", ".join(f"{name} {version_of(name)}" for name in names)
    unmet = unmet_requirements(version_of)
    if not unmet:
        return Finding("libraries", shown)
    wanted = " ".join(f'"{requirement}"' for requirement, _ in unmet)
    return Finding("libraries", shown, f"Run `pip install {wanted}` and restart the kernel.")


def check_device(profile: Profile) -> Finding:
    """What the model will run on, and how it will be loaded there: the choice that `load_model` makes."""
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    try:
        hardware = choose_hardware(model=profile)
    except NotEnoughMemory as error:
        return Finding("device", f"cuda ({name}), too small for {profile.model_id}", str(error))
    found = f"{hardware.device} ({name}), {dtype_name(hardware.dtype)}: {hardware.reason}"
    if hardware.device.startswith("cuda") or not profile.needs_gpu:
        return Finding("device", found)
    return Finding("device", found, f"{profile.model_id} needs a CUDA GPU: choose a machine or a Colab runtime that "
                                    f"has one (and a PyTorch built for it: `make lab TORCH=cuda`), or {OFFLINE}.")


def check_memory(profile: Profile) -> Finding:
    """Whether the GPU, or without one the machine, has memory enough to train, by the estimate of `estimate_memory`."""
    try:
        hardware = choose_hardware(model=profile)
        device, dtype, quantize = hardware.device.partition(":")[0], hardware.dtype, hardware.quantize
    except NotEnoughMemory:  # of a GPU
        device, dtype, quantize = "cuda", torch.float16, True
    needed = estimate_memory(profile, dtype=dtype, quantize=quantize, device=device).total
    if device == "cuda":
        sizes = [torch.cuda.mem_get_info(gpu) for gpu in range(torch.cuda.device_count())]
        free, total = sum(size[0] for size in sizes), sum(size[1] for size in sizes)
        needed, where = needed / (1 - HEADROOM), "of the GPU"
    else:  # Apple's GPU shares the machine's memory
        memory = psutil.virtual_memory()
        free, total, where = memory.available, memory.total, "of this machine"
        needed += BESIDE_THE_MODEL
    needed = profile.least_memory_gb * GB or needed
    found = f"{free / GB:.1f} of {total / GB:.1f} GB {where} are free"
    if free >= needed:
        return Finding("memory", found)
    otherwise = f", or {OFFLINE}." if profile.model_id != TINY else "."
    return Finding("memory", found, f"Training in the {profile.name} profile takes about {needed / GB:.1f} GB here: "
                                    f"close other programs and kernels{otherwise}")


def check_disk(profile: Profile, folders: Sequence[Path] | None = None) -> Finding:
    """Whether there is room where models, data and results are put."""
    from huggingface_hub.constants import HF_HOME

    from helpers.tiny.dataset import cache_folder

    folders = folders or [Path(HF_HOME) if profile.model_id != TINY else cache_folder(), RUNS]
    there = [next(path for path in (folder, *folder.parents) if path.exists()) for folder in folders]
    free = min(shutil.disk_usage(path).free for path in there)
    found, needed = f"{free / GB:.0f} GB are free", profile.least_disk_gb * GB
    if free >= needed:
        return Finding("disk", found)
    return Finding("disk", found, f"The {profile.name} profile needs about {needed / GB:.1f} GB: make room, or move "
                                  "HF_HOME, COURSE_CACHE and COURSE_RUNS to a larger disk.")


def check_hub(profile: Profile) -> list[Finding]:
    """Hub, licence and login: only where the profile needs them, and never for longer than some seconds."""
    if not is_hub_id(profile.model_id):
        return [Finding("Hub", "not needed by the tiny profile")]
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return [Finding("Hub", "switched off by HF_HUB_OFFLINE", "Unset HF_HUB_OFFLINE and restart the kernel, unless "
                                                                 "everything is in the cache already.")]
    problems: dict[str, str] = {}
    for repo_id, kind in ((profile.model_id, "model"), (profile.dataset_id, "dataset")):
        try:
            if "unreachable" not in problems:  # it would only take its time to say the same again
                check_access(repo_id, kind)
        except HubError as problem:
            problems.setdefault(problem.reason, str(problem))
        except Exception as problem:  # whatever else the network can do wrong, a diagnosis must not fail of it
            problems["unreachable"] = (f"The Hub cannot be asked ({type(problem).__name__}): check the network, the "
                                       f"proxy and HF_ENDPOINT, or {OFFLINE}.")
    terms = f"the weights are {profile.license.terms}" if profile.license else "no terms that the course knows of"
    gated = problems.pop("gated", None)
    licence = Finding("licence", "not accepted yet", gated) if gated else Finding("licence", terms)
    reason, fix = next(iter(problems.items()), ("model and data set can be reached", None))
    hub = Finding("Hub", _HUB_FOUND.get(reason, reason), fix)
    return [hub, licence, _check_login(reachable="unreachable" not in problems)]


_HUB_FOUND = {"missing": "the model or the data set is not there for you", "unreachable": "cannot be reached",
              "token": "the stored token is not accepted",  # nosec B105: a sentence about a token
              "busy": "out of order, or too busy"}


def _check_login(reachable: bool) -> Finding:
    """Whether the Hub knows the stored token."""
    from huggingface_hub import HfApi, get_token

    if not get_token():
        return Finding("login", "none (needed only to share your adapter)")
    try:
        if reachable:
            HfApi().whoami()
            return Finding("login", "the Hub knows the stored token")
    except Exception as error:  # whatever the network can do wrong, a diagnosis must not fail of it
        if status_of(error) == 401:
            return Finding("login", "the Hub does not know the stored token",
                           "Log in again with `hf auth login`, or forget the token with `hf auth logout`.")
    return Finding("login", "a token is stored; whether the Hub knows it cannot be asked now")


def check_setup(profile: Profile | None = None) -> Diagnosis:
    """Look at everything that a profile needs, by default the one that is on; ``print`` shows a short table, and below
    it the repair of each problem."""
    profile = profile or get_profile()
    return Diagnosis((check_python(), check_libraries(), check_labels(), check_adapter(), check_pipeline(),
                      check_decoding(), check_device(profile), check_memory(profile), check_disk(profile),
                      *check_hub(profile)))
