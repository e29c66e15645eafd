"""Colab's machine, made ready: what the course lacks there is installed, and as little as possible is replaced.

Colab comes with some seven hundred packages that fit each other and its drivers. What the course needs of them and
finds recent enough stays; the rest is taken in the versions of constraints.txt.
"""

import importlib
import importlib.metadata
import subprocess  # nosec B404: starts pip
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from helpers.setup.requirements import PINS, installed_version, read_requirements, unmet_requirements

KEPT = ("torch", "numpy", "ipython", "ipywidgets")
"""Never replaced: torch fits the drivers, much is compiled against numpy, Colab's page speaks with its own widgets."""

SAME_MAJOR = ("huggingface_hub",)
"""Moved within its major version alone: gradio, diffusers and others that Colab brings do not accept the next one."""

TORCHAO = Version("0.16")
"""peft 0.19 and later raises in ``get_peft_model`` where an older torchao is installed, whether it is used or not."""


class NotReady(RuntimeError):
    """The notebook cannot go on; IPython shows the sentence alone, without a traceback."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def prepare() -> None:
    """Make Colab ready for the course; anywhere else, do nothing.

    Raises:
        NotReady: the runtime cannot run the course, pip failed, or the session has to be restarted.
    """
    if "google.colab" not in sys.modules:
        return
    before = _versions()
    wanted = wanted_packages()
    if wanted:
        print(f"Installing {', '.join(Requirement(name).name for name in wanted)}: about a minute.", flush=True)
        _pip("install", "--progress-bar", "off", *wanted, constraints=kept_versions())
    if is_in_the_way(installed_version("torchao"), installed_version("peft")):
        _pip("uninstall", "--yes", "torchao")
        print("Removed torchao, which the course does not use: peft refuses to work beside one this old.", flush=True)
    importlib.invalidate_caches()
    after = _versions()
    changed = {name for name, version in before.items() if after.get(name) != version}
    if stale := loaded_modules(changed):
        raise NotReady(f"{', '.join(stale)} was loaded before it was replaced: choose Runtime > Restart session, then "
                       "run this cell again.")


def wanted_packages(version_of: Callable[[str], str | None] = installed_version) -> list[str]:
    """What pip is to install: each package that is missing or too old, in the version that the course pins; of
    `SAME_MAJOR`, whatever is recent enough.

    Raises:
        NotReady: one of `KEPT` is outside the range that the course needs.
    """
    unmet = unmet_requirements(version_of)
    for requirement, version in unmet:
        if requirement.name in KEPT and version is not None:
            raise NotReady(f"{requirement.name} {version} is installed here, but the course needs {requirement}: "
                           "choose a newer runtime (Runtime > Change runtime type), for it is never replaced.")
    pins = read_pins()
    return [str(wanted) if wanted.name in SAME_MAJOR else f"{wanted.name}=={pins[canonicalize_name(wanted.name)]}"
            for wanted, _ in unmet]


def read_pins() -> dict[str, str]:
    """Name -> version of constraints.txt, as far as they apply to this machine and Python."""
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in read_requirements(PINS)}


def kept_versions(version_of: Callable[[str], str | None] = installed_version) -> list[str]:
    """Constraints for pip: what must stay as it is, and what may only move within its major version."""
    exact = [f"{name}=={version}" for name in KEPT if (version := version_of(name))]
    bounded = [f"{name}<{Version(version).major + 1}" for name in SAME_MAJOR if (version := version_of(name))]
    return exact + bounded


def is_in_the_way(torchao: str | None, peft: str | None) -> bool:
    """Whether this torchao makes this peft fail."""
    return bool(torchao and peft) and Version(torchao) < TORCHAO and Version(peft) >= Version("0.19")


def loaded_modules(distributions: Iterable[str]) -> list[str]:
    """Those of the distributions whose modules this process has loaded already."""
    changed = {canonicalize_name(name) for name in distributions}
    homes = importlib.metadata.packages_distributions()
    return sorted({owner for module, owners in homes.items() if module in sys.modules for owner in owners
                   if canonicalize_name(owner) in changed})


def _versions() -> dict[str, str]:
    return {found.name: found.version for found in importlib.metadata.distributions() if found.name}


def _pip(*arguments: str, constraints: Iterable[str] = ()) -> None:
    """Run pip; its complaints about packages that the course does not touch are no news to a learner."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kept.txt"
        file.write_text("".join(f"{line}\n" for line in constraints), encoding="utf-8")
        limits = ["--constraint", str(file)] if arguments[0] == "install" else []
        done = subprocess.run(  # nosec B603: this Python's pip with the course's own requirements, without a shell
            [sys.executable, "-m", "pip", *arguments, *limits], capture_output=True, text=True,
            encoding="utf-8", errors="replace")
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no word").splitlines()[-1]
        raise NotReady(f"pip could not {arguments[0]} what the course needs (its last words: {last}): check the "
                       "connection, then run this cell again.")
