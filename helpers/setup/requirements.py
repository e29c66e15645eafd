"""What the course requires, and which of it an environment does not meet."""

import importlib.metadata
from collections.abc import Callable

from packaging.requirements import Requirement

from helpers.profiles import ROOT

FILE, PINS = ROOT / "requirements.txt", ROOT / "constraints.txt"

TOOLS = {"jupyterlab", "pytest", "nbval"}
"""What opens and tests the notebooks. Where a notebook runs, something has opened it: nobody needs these to learn."""


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or ``None``."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_requirements(file=FILE) -> list[Requirement]:
    """The lines of a requirements file that apply to this machine and Python."""
    lines = [line.split(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [requirement for requirement in found if not requirement.marker or requirement.marker.evaluate()]


def unmet_requirements(version_of: Callable[[str], str | None] = installed_version
                       ) -> list[tuple[Requirement, str | None]]:
    """What the notebooks require (without `TOOLS`) and do not find, each with the version that is there or ``None``."""
    found = [(wanted, version_of(wanted.name)) for wanted in read_requirements() if wanted.name not in TOOLS]
    return [(wanted, version) for wanted, version in found
            if version is None or not wanted.specifier.contains(version, prereleases=True)]
