"""What surrounds the course: each command that a workflow, a guide or a container names is there."""

from __future__ import annotations

import importlib.util
import json
import re
from datetime import date
from pathlib import Path

import pytest
import yaml
from packaging.utils import canonicalize_name

from helpers.setup.install import PYTHONS

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = {path.name: yaml.safe_load(path.read_text(encoding="utf-8"))
             for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))}
RELEASES = [f"3.{minor}" for minor in range(PYTHONS[0][1], PYTHONS[1][1] + 1)]
MARKS = {"slow", "browser", "soak"}
EVERYWHERE = {"pip"}
"""What every Python brings, though not every environment: uv makes them without pip."""
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))


def text_of(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def jobs() -> dict[str, dict]:
    return {f"{file} {name}": job for file, flow in WORKFLOWS.items() for name, job in flow["jobs"].items()}


def commands(job: dict) -> list[str]:
    """What a job runs, its matrix filled in."""
    found, matrix = [], job.get("strategy", {}).get("matrix", {})
    for run in (step["run"] for step in job["steps"] if "run" in step):
        name = re.search(r"\$\{\{ matrix\.(\w+) \}\}", run)
        found += [run.replace(name[0], value) for value in matrix[name[1]]] if name else [run]
    return found


def check_command(command: str) -> None:
    """Raise an AssertionError if it names a target, a module, a file or a mark that is not there."""
    for targets in re.findall(r"\bmake ((?:[a-z-]+ ?)+)", command):
        assert set(targets.split()) <= TARGETS, command
    for module in re.findall(r"-m ([a-z_]+(?:\.[a-z_]+)*)(?= |$)", command):
        brought = re.search(rf"pip install {module.replace('_', '[_-]')}\b", command)
        assert module in MARKS | EVERYWHERE or brought or importlib.util.find_spec(module), command
    for file in re.findall(r"(?:-r|-c|python3?|--requirement) ([\w./-]+\.(?:txt|py))", command):
        assert (ROOT / file).is_file(), command
    for folder in re.findall(r"pytest (tests[\w/]*)", command):
        assert (ROOT / folder).is_dir(), command


@pytest.mark.parametrize("name", jobs())
def test_a_workflow_runs_what_is_there_and_ends(name):
    job = jobs()[name]
    assert job["timeout-minutes"] <= 90 and job["runs-on"]
    assert commands(job), "it runs nothing"
    for command in commands(job):
        check_command(command)
    for used in (step["uses"] for step in job["steps"] if "uses" in step):
        assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", used), f"{used}: a release, not a branch"


def test_workflows_may_read_and_nothing_else():
    """But the one that publishes the site, which a person starts."""
    for name, flow in WORKFLOWS.items():
        assert flow["permissions"] == {"contents": "read"}, name
        assert name == "site.yml" or not any("permissions" in job for job in flow["jobs"].values()), name
        assert "secrets." not in text_of(f".github/workflows/{name}")


def test_every_promised_python_and_system_is_tested():
    matrix = WORKFLOWS["tests.yml"]["jobs"]["fast"]["strategy"]["matrix"]
    assert matrix["python"] == RELEASES
    assert {system.split("-")[0] for system in matrix["os"]} == {"ubuntu", "macos", "windows"}
    assert WORKFLOWS["weekly.yml"]["jobs"]["versions"]["strategy"]["matrix"]["versions"] == [
        "lowest", "pinned", "newest"]


def test_guides_and_container_name_commands_that_are_there():
    container = json.loads(text_of(".devcontainer/devcontainer.json"))
    guides = "\n".join(map(text_of, ("README.md", "CONTRIBUTING.md", "docs/install.md")))
    named = re.findall(r"`(make [a-z -]+|[\w./ -]*python3? -m [\w. ]+)", guides)
    assert len(named) > 10
    for text in [container["postCreateCommand"], text_of(".ci/run"), *named]:
        check_command(text)
    minor = re.search(r"python:3\.(\d+)$", container["image"])[1]
    assert f"3.{minor}" in RELEASES


def test_pre_commit_checks_style_with_the_ruff_of_the_tests():
    (hooks,) = [repository["hooks"] for repository in yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"]]
    (ruff,) = [hook for hook in hooks if hook["id"] == "ruff"]
    (pin,) = ruff["additional_dependencies"]
    assert re.search(rf"^{re.escape(pin)}\s", text_of("tests/requirements.txt"), re.M)
    for hook in hooks:
        check_command(hook["entry"])


def test_forms_and_citation_can_be_read():
    for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml"):
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert form["name"] and form["description"] and all(part["id"] for part in form["body"]), path.name
    citation = yaml.safe_load(text_of("CITATION.cff"))
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert all(source["year"] <= date.today().year for source in citation["references"])


def test_the_oldest_python_is_the_same_everywhere():
    assert f'target-version = "py{RELEASES[0].replace(".", "")}"' in text_of("pyproject.toml")
    assert f"--python-version {RELEASES[0]} " in text_of("Makefile")
    assert f"Python {RELEASES[0]} to {RELEASES[-1]}" in text_of("README.md")


def test_what_the_changes_promise_of_the_ranges_is_what_they_are():
    floors = dict(re.findall(r"^([\w-]+)>=([\d.]+)", text_of("requirements.txt"), re.M))
    told = re.search(r"starts at (.*?)\.\n", text_of("CHANGELOG.md"), re.S)[1]
    for name, version in re.findall(r"(\w+) (\d[\d.]*)", told):
        assert floors[canonicalize_name(name)] == version, name
