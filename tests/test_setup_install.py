"""The environment: ranges, pins, and an installation that says what it does and where it ends."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from helpers.setup import install
from helpers.setup.install import PYTHONS, Stop, check_machine

ROOT = Path(__file__).resolve().parent.parent
SYSTEMS = {
    "Linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "x86_64"},
    "ARM": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": "aarch64"},
    "macOS": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix", "platform_machine": "arm64"},
    "Windows": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt", "platform_machine": "AMD64"},
}
RELEASES = ["3.11.2", "3.11.7", "3.12.1", "3.13.0", "3.14.0"]  # 3.11.2 is Debian 12's, without what came later in 3.11


def _lines(name: str) -> list[Requirement]:
    lines = [line.split(" #")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def _pins(system: str, release: str) -> dict[str, list[str]]:
    where = {**SYSTEMS[system], "python_version": ".".join(release.split(".")[:2]), "python_full_version": release,
             "implementation_name": "cpython", "platform_python_implementation": "CPython", "extra": ""}
    pins: dict[str, list[str]] = {}
    for line in _lines("constraints.txt"):
        if line.marker is None or Marker(str(line.marker)).evaluate(where):
            pins.setdefault(canonicalize_name(line.name), []).append(str(line.specifier))
    return pins


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("system", SYSTEMS)
def test_every_system_and_python_has_one_pin_within_the_range_of_everything_required(system, release):
    pins = _pins(system, release)
    assert all(len(found) == 1 and found[0].startswith("==") for found in pins.values()), "one exact version each"
    for wanted in _lines("requirements.txt") + _lines("tests/requirements.txt"):
        (pin,) = pins[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(pin[2:]), f"{wanted} is pinned to {pin}"


@pytest.mark.parametrize("release", RELEASES)
def test_packages_of_cuda_are_pinned_on_linux_alone(release):
    needed = {"triton", "cuda-bindings", "cuda-pathfinder", "cuda-toolkit", "nvidia-nvjitlink", "nvidia-cudnn-cu13"}
    assert needed <= _pins("Linux", release).keys()
    for system in ("macOS", "Windows"):
        assert not [name for name in _pins(system, release) if name.startswith(("nvidia-", "cuda-", "triton"))]


def test_debians_python_gets_a_soupsieve_that_it_can_use():
    """One pin that needed 3.11.5 made pip backtrack without end over what was not pinned, which was CUDA's packages."""
    assert _pins("Linux", "3.11.2")["soupsieve"] != _pins("Linux", "3.11.7")["soupsieve"]


def test_the_pins_are_what_this_test_ran_with():
    import torch

    (pin,) = _pins("Linux", "3.11.7")["torch"]
    assert re.fullmatch(r"==\d+\.\d+\.\d+", pin), "a range of torch would bring gigabytes of another build"
    assert torch.__version__.split(".")[0] == pin[2:].split(".")[0]


def test_pytorchs_own_index_is_named_in_one_place():
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    needle = "download.pytorch" + ".org"
    texts = [ROOT / name for name in listed.stdout.splitlines() if not name.endswith((".npz", ".safetensors"))]
    named = [path.name for path in texts
             if path.is_file() and needle in path.read_text(encoding="utf-8", errors="ignore")]
    assert named == ["torch-cpu.txt"]


@pytest.mark.parametrize("version", [(3, 6, 15), (3, 10, 13), (3, 15, 0)])
def test_another_python_is_told_in_one_sentence(version, monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda name: name if name == "python3.12" else None)
    with pytest.raises(Stop, match=r"^This is Python \d.*needs 3.11 to 3.14: run `make lab PYTHON=python3.12`\.$"):
        check_machine(version, "Linux", "x86_64")


def test_macs_that_pytorch_is_not_built_for():
    with pytest.raises(Stop, match="Intel"):
        check_machine((3, 12, 1), "Darwin", "x86_64", "15.1")
    with pytest.raises(Stop, match="needs macOS 14 or later, and this is macOS 13.6"):
        check_machine((3, 12, 1), "Darwin", "arm64", "13.6")
    check_machine((3, 12, 1), "Darwin", "arm64", "14.0")
    assert PYTHONS == ((3, 11), (3, 14))


def test_a_path_too_deep_for_windows_is_told_before_anything_is_fetched(monkeypatch):
    course = Path("C:/Users/Somebody With A Name/OneDrive - University of Somewhere/Documents/Courses/audio/.venv")
    with pytest.raises(Stop, match=r"has 94 characters, and Windows has room for 69: move the course"):
        install.check_path(course, windows=True)
    install.check_path(course, windows=False)
    install.check_path(Path("C:/Users/Somebody/Documents/course/.venv"), windows=True)
    monkeypatch.setattr(install, "_long_paths", lambda: True)
    install.check_path(course, windows=True)


def test_no_file_of_pytorch_lies_deeper_than_the_installer_knows():
    longest = max(len(str(file)) for file in importlib.metadata.files("torch"))
    assert longest <= install.DEEPEST - len("Lib/site-packages/")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """pip and the GPU pretended, the environment a folder that runs; the commands given to pip are recorded."""
    calls, state = [], {"fail": None, "index": False, "gpu": False}

    def pip(venv, *arguments, quiet=False):
        calls.append(" ".join(arguments).replace(str(ROOT) + os.sep, "").replace(os.sep, "/"))
        return (1, "no route to host") if state["fail"] and state["fail"] in calls[-1] else (0, "")

    def make(venv):
        venv.mkdir(exist_ok=True)
        calls.append("venv")

    monkeypatch.setattr(install, "_pip", pip)
    monkeypatch.setattr(install, "_make", make)
    monkeypatch.setattr(install, "_runs", lambda venv: (venv / ".course.json").exists())
    monkeypatch.setattr(install, "has_nvidia_gpu", lambda: state["gpu"])
    monkeypatch.setattr(install, "answers", lambda address: state["index"])
    monkeypatch.setattr(install.platform, "system", lambda: "Linux")
    return tmp_path / "venv of the course", calls, state


def test_without_a_gpu_the_small_pytorch_comes_first(machine, capsys):
    venv, calls, state = machine
    state["index"] = True
    install.install(venv)
    assert calls == ["venv", f"install --retries 1 --timeout 10 {install.PIP}", "install --no-deps -r torch-cpu.txt",
                     "install -r requirements.txt -c constraints.txt"]
    said = capsys.readouterr().out
    assert said.startswith("Installing what the course needs: about 480 MB to download")
    install.install(venv)
    assert len(calls) == 4, "nothing is to do the second time"


def test_an_index_that_does_not_answer_costs_seconds(machine, capsys):
    venv, calls, _ = machine
    install.install(venv)
    assert not [call for call in calls if "torch-cpu" in call]
    assert "cannot be reached, so PyTorch comes from where pip finds it" in capsys.readouterr().out


def test_a_gpu_or_a_wish_decides_which_pytorch(machine):
    venv, calls, state = machine
    state.update(index=True, gpu=True)
    install.install(venv)
    assert not [call for call in calls if "torch-cpu" in call]
    del calls[:]
    install.install(venv, torch="cpu")
    assert calls[1:3] == ["uninstall --yes torch", "install --no-deps -r torch-cpu.txt"]


def test_an_interrupted_installation_goes_on(machine):
    venv, calls, state = machine
    state["fail"] = "-r requirements.txt"
    with pytest.raises(Stop, match="run the same command again, which goes on from here"):
        install.install(venv)
    del calls[:]
    state["fail"] = None
    install.install(venv, tests=True)
    assert "venv" not in calls and calls[-1].startswith("install -r requirements.txt -r tests/requirements.txt")
    del calls[:]
    install.install(venv)
    assert not calls, "what the tests need stays"


def test_no_network_is_one_sentence(machine):
    venv, _, state = machine
    state["fail"] = install.PIP
    with pytest.raises(Stop, match=r"^pip cannot fetch anything: check the network .*words: no route to host\)\.$"):
        install.install(venv)


def test_another_python_makes_the_environment_anew(machine, monkeypatch):
    venv, calls, _ = machine
    install.install(venv, this_python=True)
    monkeypatch.setattr(install, "_this_python", lambda: "3.12.1 elsewhere")
    del calls[:]
    install.install(venv)
    assert not calls, "unless it is asked for"
    install.install(venv, this_python=True)
    assert calls[0] == "venv" and json.loads((venv / ".course.json").read_text())["python"] == "3.12.1 elsewhere"


def test_a_folder_with_other_things_in_it_is_not_emptied(tmp_path):
    (tmp_path / "thesis.txt").write_text("two years of work")
    with pytest.raises(Stop, match="is a folder with other things in it"):
        install._make(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_real_environment_is_made_in_a_path_with_spaces_and_found_again(tmp_path):
    venv = tmp_path / "my course" / "venv"
    venv.parent.mkdir()
    install._make(venv)
    assert install._runs(venv)
    os.remove(install._python_of(venv))
    assert not install._runs(venv)


def test_the_address_of_nothing_does_not_answer():
    assert not install.answers("http://127.0.0.1:9/simple/")


def _make(*arguments: str) -> subprocess.CompletedProcess:
    """As from a shell: under `make test`, make itself would hand its flags on, and say which folder it enters."""
    if os.name == "nt":
        pytest.skip("make is not at home on Windows")
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=plain, capture_output=True, text=True)


def test_make_says_what_is_wrong_with_the_python_that_was_asked_for(tmp_path):
    asked = _make("environment", "PYTHON=python3.99", f"VENV={tmp_path}/venv")
    assert asked.returncode and asked.stdout == "There is no python3.99 here: install Python 3.11 to 3.14.\n"


def test_jupyterlab_is_told_what_the_learner_says_and_that_root_may_start_it():
    (opened,) = [line for line in _make("--dry-run", "lab", "LAB_ARGS=--port 9999").stdout.splitlines()
                 if "jupyterlab" in line]
    assert "--port 9999 notebooks/01_load_audio_captions.ipynb" in opened
    assert ("--allow-root" in opened) == (os.getuid() == 0)


def test_the_installer_can_be_read_by_a_python_that_is_too_old():
    """No syntax newer than 3.6, so that the answer is a sentence and not a SyntaxError."""
    import ast

    ast.parse((ROOT / "helpers" / "setup" / "install.py").read_text(encoding="utf-8"), feature_version=(3, 6))
    assert sys.version_info[:2] >= PYTHONS[0]
