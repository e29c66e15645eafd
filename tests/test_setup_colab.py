"""Badges, the set-up cell, and a notebook that finds itself alone on Colab."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from packaging.requirements import Requirement

from helpers.setup.requirements import KEPT, TOOLS, install_missing, read_requirements, unmet_requirements
from tools import badges

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_every_badge_and_set_up_cell_agrees_with_the_setting():
    assert badges.disagreements() == []


def test_the_readme_has_a_badge_for_every_notebook():
    readme, setting = (ROOT / "README.md").read_text(encoding="utf-8"), badges.read_setting()
    for name in NOTEBOOKS:
        assert badges.badge(name, **setting) in readme, name


@pytest.fixture
def copy(tmp_path):
    """The notebooks, the README and the setting, to be rewritten."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(ROOT / "README.md", tmp_path)
    return tmp_path


def test_one_command_moves_the_whole_course(copy, monkeypatch):
    setting = copy / "repository.json"
    monkeypatch.setattr(badges, "SETTING", setting)
    badges.rewrite("somebody/a-fork", "v1.2", copy, setting)
    assert badges.read_setting() == {"repository": "somebody/a-fork", "ref": "v1.2"}
    assert badges.disagreements(copy) == []
    for name in NOTEBOOKS:
        old, new = (
            json.loads((root / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8")) for root in (ROOT, copy)
        )
        assert "somebody/a-fork/blob/v1.2" in "".join(new["cells"][0]["source"])
        differ = [
            number for number, cells in enumerate(zip(old["cells"], new["cells"], strict=True)) if cells[0] != cells[1]
        ]
        assert len(differ) == 2, "the badge's cell and the set-up cell, nothing else"


def test_a_badge_that_points_elsewhere_is_found(copy):
    book = copy / "notebooks" / f"{NOTEBOOKS[1]}.ipynb"
    book.write_text(book.read_text(encoding="utf-8").replace("/blob/", "/blob/old-"), encoding="utf-8")
    assert badges.disagreements(copy) == [f"notebooks/{NOTEBOOKS[1]}.ipynb"]


@pytest.mark.parametrize(("repository", "ref"), [("no-slash", "main"), ("a/b/c", "main"), ("a/b", "two words")])
def test_an_impossible_address_writes_nothing(copy, repository, ref):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="is not"):
        badges.rewrite(repository, ref, copy, copy / "repository.json")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_only_what_is_missing_is_installed_and_torch_is_pinned():
    asked = []

    def version_of(name):
        return {"peft": None, "datasets": "2.0", "torch": "2.9.1+cu126"}.get(name) or (
            None if name in {"peft", *TOOLS} else "999" if name != "transformers" else "5.14")

    def run(command):
        asked.append((command, Path(command[-1]).read_text()))

    wanted = install_missing(version_of, run)
    assert [Requirement(line).name for line in wanted] == ["datasets", "peft"]
    (command, constraints), = asked
    assert command[1:4] == ["-m", "pip", "install"]
    assert "torch==2.9.1+cu126" in constraints.split()
    assert not KEPT & {Requirement(line).name for line in wanted}


def test_nothing_missing_calls_no_pip():
    assert install_missing(run=lambda command: pytest.fail("pip was called")) == []


def test_a_torch_that_is_too_old_is_reported_not_replaced():
    with pytest.raises(RuntimeError, match="torch 1.13 is installed here.*newer runtime"):
        install_missing(lambda name: "1.13" if name == "torch" else "999" if name != "transformers" else "5.20",
                        run=lambda command: pytest.fail("pip was called"))


def test_the_transformers_with_wrong_labels_are_refused():
    unmet = dict(unmet_requirements(lambda name: "5.13.2" if name == "transformers" else "999"))
    assert [requirement.name for requirement in unmet] == ["transformers"]
    assert {requirement.name for requirement in read_requirements()} >= {"torch", "transformers", "datasets", "peft"}


def _repository(folder: Path) -> Path:
    """A git repository of the files as they are now, committed or not."""
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    identity = ["-c", "user.name=Test", "-c", "user.email=test@example.invalid"]
    for command in (["init", "--quiet", "-b", badges.read_setting()["ref"]], ["add", "-A"],
                    [*identity, "commit", "--quiet", "-m", "the course"]):
        subprocess.run(["git", *command], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.mark.slow
def test_a_notebook_alone_on_colab_runs_to_its_end(tmp_path, monkeypatch):
    """A fresh folder with one notebook in it, google.colab loaded as in Colab's kernel, the course in a git
    repository."""
    served = _repository(tmp_path / "served")
    package = tmp_path / "stub" / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    startup = tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-colab.py").write_text("import google.colab\n")
    content = tmp_path / "content"
    content.mkdir()
    shutil.copy(ROOT / "notebooks" / "02_collate_conversations.ipynb", content)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "stub"), os.environ["PYTHONPATH"]]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("COURSE_REPOSITORY", served.as_uri())
    book = nbformat.read(content / "02_collate_conversations.ipynb", as_version=4)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(content)}}, kernel_name="python3").execute()
    assert (content / "course" / "helpers").is_dir()
    assert sys.modules.get("google.colab") is None


def test_the_set_up_cell_does_nothing_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    exec(badges.setup_cell(**badges.read_setting()), {})
    assert not list(tmp_path.iterdir()) and sys.path[0] == ".."
