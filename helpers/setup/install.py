"""Makes the virtual environment of the course: ``python helpers/setup/install.py``, which is what `make` calls.

It says first how much comes and how long it takes, lets pip show its progress, goes on where it was interrupted, and
ends in one sentence when it cannot go on. Only the standard library, and no syntax newer than Python 3.6: a Python that
is too old has to run this file to be told so.
"""

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess  # nosec B404: starts Python, pip and uv
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent

PYTHONS = (3, 11), (3, 14)
"""The oldest and the newest Python that the course is made for: constraints.txt has wheels for each of them."""

PIP = "pip==26.3"
"""Shows its progress while it unpacks too, which the pip inside older Pythons does not."""

SIZES = {"cpu": ("480 MB", "2 GB", "3 minutes"), "cuda": ("3 GB", "6 GB", "8 minutes")}
"""Downloaded, on disk (by the wheels of constraints.txt), and a guess at the time: for PyTorch's CPU build and CUDA."""

PATIENCE = 5
"""Seconds that PyTorch's own index has to answer."""


DEEPEST = len("Lib/site-packages/") + 171
"""Characters of the longest path below an environment on Windows: a licence inside PyTorch's wheel."""


class Stop(Exception):
    """The installation cannot go on; the text is the sentence for the user."""


def main():
    parser = argparse.ArgumentParser(description="Make the virtual environment of the course, or complete it.")
    parser.add_argument("--venv", default=".venv", help="its folder (default: .venv)")
    parser.add_argument("--torch", default="", choices=["", "auto", "cpu", "cuda"],
                        help="which PyTorch; by default the one for the CPU unless there is an NVIDIA GPU")
    parser.add_argument("--tests", action="store_true", help="with what the tests need beside the notebooks")
    parser.add_argument("--this-python", action="store_true", help="make it anew if another Python made it")
    given = parser.parse_args()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a folder's name may have signs that a log file of Windows has no code for
            stream.reconfigure(errors="backslashreplace")
    try:
        install(ROOT / os.path.expanduser(given.venv), given.torch, given.tests, given.this_python)
    except Stop as reason:
        sys.exit(str(reason))
    except KeyboardInterrupt:
        sys.exit("\nInterrupted: the same command goes on from here.")


def install(venv, torch="", tests=False, this_python=False):
    """Make or complete the environment in the folder ``venv``; at once where nothing is to do.

    Args:
        venv: its path.
        torch: "cpu", "cuda", or neither: what the environment has, for a new one what suits the machine.
        tests: also what ``tests/requirements.txt`` names.
        this_python: if another Python made the environment, make it anew with this one.

    Raises:
        Stop: wrong Python or system, no network, or pip failed.
    """
    known = _read_marker(venv)
    if known and this_python and known["python"] != _this_python():
        print(f"{venv} was made by Python {known['python'].split()[0]}: making it anew.", flush=True)
        known = {}
    kind = torch if torch in ("cpu", "cuda") else known.get("torch") or ("cuda" if has_nvidia_gpu() else "cpu")
    wanted = {"torch": kind, "files": _fingerprint(), "tests": bool(tests or known.get("tests"))}
    runs = bool(known) and _runs(venv)
    if runs and all(known.get(name) == value for name, value in wanted.items()):
        return
    if not runs:
        check_machine()
        check_path(venv)
    _announce(kind)
    if not runs:
        _make(venv)
        known = {"python": _this_python()}
    _write_marker(venv, {"python": known["python"], "torch": kind, "tests": wanted["tests"]})
    _fetch(venv, kind, known.get("torch"), wanted["tests"])
    _write_marker(venv, {"python": known["python"], **wanted})
    print("Everything is installed.", flush=True)


def check_machine(version=sys.version_info, system=None, machine=None, macos=None):
    """Whether PyTorch exists for this Python and system.

    Raises:
        Stop: it does not, with the way out.
    """
    system, machine = system or platform.system(), machine or platform.machine()
    (_, oldest), (_, newest) = PYTHONS
    if not PYTHONS[0] <= tuple(version[:2]) <= PYTHONS[1]:
        names = [f"python3.{minor}" for minor in range(oldest, newest + 1)]
        there = [name for name in names if shutil.which(name)]
        raise Stop(f"This is Python {'.'.join(map(str, version[:3]))}, and the course needs 3.{oldest} to 3.{newest}: "
                   + (f"run `make lab PYTHON={there[0]}`." if there else "install one of those."))
    if system == "Darwin":
        release = macos or platform.mac_ver()[0]
        if machine == "x86_64":
            raise Stop("PyTorch is no longer built for Macs with an Intel processor: use Colab, or a Linux or Windows "
                       "machine. (If this Mac has Apple silicon, this Python is an Intel one: install Apple's.)")
        if int(release.split(".")[0]) < 14:
            raise Stop(f"PyTorch needs macOS 14 or later, and this is macOS {release}: update it, or use Colab.")


def check_path(venv, windows=os.name == "nt"):
    """Raise `Stop` if the environment's longest path is beyond the 259 characters that Windows allows by default."""
    room = 259 - DEEPEST - 1
    if windows and len(str(venv)) > room and not _long_paths():
        raise Stop(f"The path {venv} has {len(str(venv))} characters, and Windows has room for {room}: move the course "
                   r"into a shorter one, such as C:\course, or switch on long paths (Settings > System > For "
                   "developers).")


def _long_paths():
    """Whether this Windows has its limit for paths switched off."""
    try:
        import winreg
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"SYSTEM\CurrentControlSet\Control\FileSystem") as key:
            return winreg.QueryValueEx(key, "LongPathsEnabled")[0] == 1
    except (ImportError, OSError):
        return False


def has_nvidia_gpu():
    """Whether NVIDIA's driver lists a GPU."""
    returned, listed = _run(["nvidia-smi", "-L"], timeout=20)
    return returned == 0 and "GPU" in listed


def _announce(kind):
    download, disk, duration = SIZES[kind if platform.system() == "Linux" else "cpu"]
    print(f"Installing what the course needs: about {download} to download, {disk} on the disk, {duration} with a "
          "connection of 100 Mbit/s. You can interrupt it: the same command goes on.", flush=True)
    if kind == "cuda" and platform.system() == "Windows":
        print("(pip's usual PyTorch for Windows has no CUDA. For the full profile, work in WSL, or replace it by what "
              "the selector on pytorch.org names.)", flush=True)


def _make(venv):
    """An environment with a recent pip in it. A folder that is something else is never emptied."""
    if venv.is_dir() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").is_file():
        raise Stop(f"{venv} is a folder with other things in it: choose another name for the environment.")
    returned, said = _run([sys.executable, "-m", "venv", "--clear", str(venv)])
    if returned and "ensurepip" in said:
        raise Stop("This Python cannot make virtual environments: on Debian and Ubuntu, run "
                   "`sudo apt install python3-venv` first, then the same command again.")
    if returned:
        raise Stop(f"Python could not make the environment {venv}: {said}")


def _fetch(venv, kind, before, tests):
    """What pip has to do, each step complete before the next."""
    returned, said = _pip(venv, "install", "--retries", "1", "--timeout", "10", PIP, quiet=True)
    if returned:
        raise Stop("pip cannot fetch anything: check the network and the proxy, then run the same command again "
                   f"(pip's last words: {said.splitlines()[-1] if said else 'none'}).")
    if before and before != kind:  # the version is the same, so pip would keep what is there
        _pip(venv, "uninstall", "--yes", "torch")
    if kind == "cpu" and platform.system() == "Linux":
        _fetch_cpu_torch(venv)
    files = ["requirements.txt"] + (["tests/requirements.txt"] if tests else [])
    wanted = [part for name in files for part in ("-r", str(ROOT / name))]
    if _pip(venv, "install", *wanted, "-c", str(ROOT / "constraints.txt"))[0]:
        raise Stop("pip could not finish (its reason is above): run the same command again, which goes on from here.")


def _fetch_cpu_torch(venv):
    file = ROOT / "torch-cpu.txt"
    address = re.search(r"^--index-url (\S+)", file.read_text(encoding="utf-8"), re.M).group(1)
    host = address.split("/")[2]
    print(f"PyTorch for the CPU comes from {host}.", flush=True)
    if answers(address + "/torch/") and _pip(venv, "install", "--no-deps", "-r", str(file))[0] == 0:
        return
    print(f"{host} cannot be reached, so PyTorch comes from where pip finds it: PyPI's contains CUDA, which makes "
          f"{SIZES['cuda'][0]} in all.", flush=True)


def answers(address):
    """Whether a web address answers within `PATIENCE`; a look-up of its name that hangs counts too."""
    ask = f"import urllib.request; urllib.request.urlopen({address!r}, timeout={PATIENCE})"
    return _run([sys.executable, "-c", ask], timeout=PATIENCE)[0] == 0


def _pip(venv, *arguments, quiet=False):
    command = [str(_python_of(venv)), "-m", "pip", "--disable-pip-version-check", "--no-input", *arguments]
    surroundings = {**os.environ, "PIP_USER": "0", "PYTHONUTF8": "1"}
    surroundings.pop("PYTHONPATH", None)
    if quiet:
        return _run(command, env=surroundings, cwd=str(ROOT))
    done = subprocess.run(command, env=surroundings, cwd=str(ROOT))  # nosec B603: its own pip, without a shell
    return done.returncode, ""


def _run(command, **options):
    """Exit status and output of a command; a status of its own where it is not there or takes too long."""
    try:
        done = subprocess.run(  # nosec B603: commands of this file, without a shell
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error)
    return done.returncode, done.stdout.decode(errors="replace").strip()


def _python_of(venv):
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _runs(venv):
    """Whether the environment's Python starts and has pip: a moved or an unfinished one may not."""
    return _run([str(_python_of(venv)), "-c", "import pip"])[0] == 0


def _this_python():
    return f"{platform.python_version()} {os.path.realpath(getattr(sys, '_base_executable', sys.executable))}"


def _fingerprint():
    """Of everything that decides what is installed."""
    files = ("requirements.txt", "constraints.txt", "torch-cpu.txt", "tests/requirements.txt")
    return hashlib.sha256(b"".join((ROOT / name).read_bytes() for name in files)).hexdigest()


def _read_marker(venv):
    """What is installed there, as `install` wrote it at its end; empty if it never came so far."""
    try:
        return json.loads((venv / ".course.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write_marker(venv, content):
    new = venv / ".course.json.new"
    new.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(str(new), str(venv / ".course.json"))


if __name__ == "__main__":
    main()
