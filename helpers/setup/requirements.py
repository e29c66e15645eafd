"""Which of the course's requirements this environment does not meet; on Colab, install those and nothing else."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from packaging.requirements import Requirement

FILE = Path(__file__).resolve().parents[2] / "requirements.txt"

TOOLS = {"jupyterlab", "pytest", "nbval"}
"""What opens and tests the notebooks elsewhere; Colab brings its own."""

KEPT = {"torch", "numpy"}
"""Never replaced: Colab's own builds fit its drivers, and much of what is already loaded was compiled against them."""


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, or ``None``."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def read_requirements(file: Path = FILE) -> list[Requirement]:
    """The lines of a requirements file that apply to this machine and Python."""
    lines = [line.split(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return [requirement for requirement in found if not requirement.marker or requirement.marker.evaluate()]


def unmet_requirements(version_of: Callable[[str], str | None] = installed_version
                       ) -> list[tuple[Requirement, str | None]]:
    """Requirements that the environment does not meet, each with the version that is there (``None``: none)."""
    found = [(requirement, version_of(requirement.name)) for requirement in read_requirements()]
    return [(requirement, version) for requirement, version in found
            if version is None or not requirement.specifier.contains(version, prereleases=True)]


def install_missing(version_of: Callable[[str], str | None] = installed_version,
                    run: Callable[[list[str]], object] = subprocess.check_call) -> list[str]:
    """Install what is missing or too old, keeping the packages of `KEPT` exactly as they are.

    Args:
        version_of: name -> installed version.
        run: runs pip's command line.

    Returns:
        What was asked of pip; empty if nothing was missing, and then pip is not called.

    Raises:
        RuntimeError: one of `KEPT` is outside the range that the course needs.
    """
    unmet = [pair for pair in unmet_requirements(version_of) if pair[0].name not in TOOLS]
    for requirement, version in unmet:
        if requirement.name in KEPT and version is not None:
            raise RuntimeError(f"{requirement.name} {version} is installed here, but the course needs {requirement}: "
                               "choose a newer runtime, for this package is never replaced.")
    wanted = [str(requirement) for requirement, _ in unmet]
    if wanted:
        pins = [f"{name}=={version_of(name)}" for name in sorted(KEPT) if version_of(name)]
        with tempfile.TemporaryDirectory() as folder:
            constraints = Path(folder) / "kept.txt"
            constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
            run([sys.executable, "-m", "pip", "install", "--quiet", *wanted, "-c", str(constraints)])
    return wanted


if __name__ == "__main__":
    install_missing()
