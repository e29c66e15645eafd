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
from packaging.utils import canonicalize_name
from packaging.version import Version

from helpers.setup import colab
from helpers.setup.colab import NotReady, is_in_the_way, kept_versions, loaded_modules, wanted_packages
from helpers.setup.requirements import TOOLS, read_requirements, unmet_requirements
from tools import badges

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def test_every_badge_and_set_up_cell_agrees_with_the_setting():
    assert badges.disagreements() == []


def test_the_readme_has_a_badge_for_every_notebook():
    readme, setting = (ROOT / "README.md").read_text(encoding="utf-8"), badges.read_setting()
    for name in NOTEBOOKS:
        assert badges.badge(name, **setting, in_a_table=True) in readme, name


@pytest.fixture
def copy(tmp_path):
    """The notebooks, the README and the setting, to be rewritten."""
    shutil.copytree(ROOT / "notebooks", tmp_path / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(ROOT / "README.md", tmp_path)
    badges.rewrite(None, "main", tmp_path, tmp_path / "repository.json")
    return tmp_path


def test_one_command_moves_the_whole_course(copy, monkeypatch):
    setting = copy / "repository.json"
    monkeypatch.setattr(badges, "SETTING", setting)
    badges.rewrite("somebody/a-fork", "v1.2", copy, setting)
    assert badges.read_setting() == {"repository": "somebody/a-fork", "ref": "v1.2"}
    assert badges.disagreements(copy) == []
    for name in NOTEBOOKS:
        old, new = (
            json.loads((folder / f"{name}.ipynb").read_text(encoding="utf-8"))
            for folder in (ROOT / "notebooks", copy / "notebooks")
        )
        assert "somebody/a-fork/blob/v1.2" in "".join(new["cells"][0]["source"])
        differ = [
            number for number, cells in enumerate(zip(old["cells"], new["cells"], strict=True)) if cells[0] != cells[1]
        ]
        assert len(differ) == 2, "the badge's cell and the set-up cell, nothing else"
        (setup,) = [cell for cell in new["cells"] if "setup" in cell["metadata"].get("tags", [])]
        assert setup["metadata"]["jupyter"]["source_hidden"] and len(setup["source"]) <= 10


def test_without_an_address_a_sentence_stands_where_the_badges_will_be(copy, monkeypatch):
    setting = copy / "repository.json"
    monkeypatch.setattr(badges, "SETTING", setting)
    texts = [path.read_text(encoding="utf-8") for path in [copy / "README.md", *(copy / "notebooks").glob("*.ipynb")]]
    assert all("colab-badge" not in text and "not yet" in text for text in texts)
    assert badges.read_setting()["repository"] is None and badges.disagreements(copy) == []
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    badges.rewrite("somebody/course", "main", copy, setting)
    badges.rewrite(None, "main", copy, setting)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


def test_a_notebook_alone_without_an_address_says_where_it_belongs(tmp_path, monkeypatch):
    (tmp_path / "alone").mkdir()
    monkeypatch.chdir(tmp_path / "alone")
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(RuntimeError, match="needs the course around it, which has no public address yet"):
        exec(badges.setup_cell(None, "main"), {})


def test_a_badge_that_points_elsewhere_is_found(copy, monkeypatch):
    book = copy / "notebooks" / f"{NOTEBOOKS[1]}.ipynb"
    monkeypatch.setattr(badges, "SETTING", copy / "repository.json")
    badges.rewrite("somebody/course", "main", copy, badges.SETTING)
    book.write_text(book.read_text(encoding="utf-8").replace("/blob/", "/blob/old-"), encoding="utf-8")
    assert badges.disagreements(copy) == [f"notebooks/{NOTEBOOKS[1]}.ipynb"]


@pytest.mark.parametrize(("repository", "ref"), [("no-slash", "main"), ("a/b/c", "main"), ("a/b", "two words")])
def test_an_impossible_address_writes_nothing(copy, repository, ref):
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match="is not"):
        badges.rewrite(repository, ref, copy, copy / "repository.json")
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.fixture(scope="module")
def recorded():
    """Name -> version on Colab as it was recorded on 2026-08-19."""
    lines = (ROOT / "tests" / "data" / "colab-pip-freeze.txt").read_text(encoding="utf-8").splitlines()
    versions = dict(line.split("==") for line in lines if "==" in line)
    versions = {canonicalize_name(name): version for name, version in versions.items()}
    return lambda name: versions.get(canonicalize_name(name))


def test_on_colab_what_the_course_needs_comes_pinned_and_the_rest_stays(recorded):
    wanted = {canonicalize_name(pin.name): pin.specifier for pin in map(Requirement, wanted_packages(recorded))}
    # What Colab lacks, or has too old for the course: transformers 5.15.0, datasets 4.0.0 and what they stand on.
    assert set(wanted) == {"av", "bitsandbytes", "datasets", "huggingface-hub", "pyarrow", "transformers"}
    hub = wanted.pop("huggingface-hub")
    assert hub.contains("1.33.0") and not hub.contains(recorded("huggingface_hub"))
    for requirement in read_requirements():
        if canonicalize_name(requirement.name) in wanted:
            (pin,) = wanted[canonicalize_name(requirement.name)]
            assert pin.operator == "==" and requirement.specifier.contains(pin.version)
    assert not set(wanted) & {*TOOLS, *colab.KEPT}


def test_on_colab_torch_stays_and_the_hub_keeps_its_major_version(recorded):
    kept = kept_versions(recorded)
    assert kept == ["torch==2.11.0+cu128", "numpy==2.1.3", "ipython==7.34.0", "ipywidgets==7.7.1", "huggingface_hub<2"]


def test_colabs_torchao_is_in_the_way_of_colabs_peft(recorded):
    assert recorded("torchao") == "0.10.0" and Version(recorded("peft")) >= Version("0.19")
    assert is_in_the_way(recorded("torchao"), recorded("peft"))
    assert not is_in_the_way("0.10.0", "0.18.1") and not is_in_the_way("0.16.0", "0.21.2")
    assert not is_in_the_way(None, "0.21.2") and not is_in_the_way("0.10.0", None)


@pytest.fixture
def on_colab(monkeypatch):
    """As in Colab's kernel, with pip replaced by a record of what it was asked."""
    asked = []
    monkeypatch.setitem(sys.modules, "google.colab", sys)
    monkeypatch.setattr(colab, "_pip", lambda *arguments, constraints=(): asked.append((arguments, list(constraints))))
    return asked


def test_a_runtime_that_has_everything_is_left_alone(on_colab, capsys):
    colab.prepare()
    assert on_colab == [] and capsys.readouterr().out == ""


def test_elsewhere_nothing_is_ever_installed(on_colab, monkeypatch):
    monkeypatch.delitem(sys.modules, "google.colab")
    monkeypatch.setattr(colab, "wanted_packages", lambda: ["peft==0"])
    colab.prepare()
    assert on_colab == []


def test_a_restart_is_asked_for_only_if_what_was_replaced_had_been_loaded(on_colab, monkeypatch):
    versions = iter([{"numpy": "1", "nbval": "1"}, {"numpy": "1", "nbval": "2"}])
    monkeypatch.setattr(colab, "_versions", lambda: next(versions))
    monkeypatch.delitem(sys.modules, "nbval", raising=False)
    monkeypatch.setattr(colab, "wanted_packages", lambda: ["nbval==2"])
    colab.prepare()
    assert on_colab[0][0] == ("install", "--progress-bar", "off", "nbval==2")
    versions = iter([{"numpy": "1"}, {"numpy": "2"}])
    import numpy  # noqa: F401

    with pytest.raises(NotReady, match="^numpy was loaded before it was replaced: choose Runtime > Restart session"):
        colab.prepare()
    assert loaded_modules(["numpy", "no-such-package"]) == ["numpy"]


def test_pips_failure_is_one_sentence_and_no_traceback(monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "a\nno route\n")
    monkeypatch.setattr(colab.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(NotReady, match=r"pip could not install .*last words: no route\)") as raised:
        colab._pip("install", "peft")
    assert raised.value._render_traceback_() == [str(raised.value)]


def test_a_torch_that_is_too_old_is_reported_not_replaced():
    with pytest.raises(NotReady, match="torch 1.13 is installed here.*newer runtime"):
        wanted_packages(lambda name: "1.13" if name == "torch" else "999" if name != "transformers" else "5.23")


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
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "stub"), os.environ["PYTHONPATH"]]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    # The address of the set-up cell, answered by the folder that stands for it.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.{served.as_uri()}.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/somebody/course")
    text = (ROOT / "notebooks" / "02_collate_conversations.ipynb").read_text(encoding="utf-8")
    book = nbformat.reads(badges.rewrite_notebook(text, "somebody/course", "main"), as_version=4)
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(content)}}, kernel_name="python3").execute()
    assert (content / "course" / "helpers").is_dir()
    assert sys.modules.get("google.colab") is None


def test_the_set_up_cell_does_nothing_elsewhere(tmp_path, monkeypatch):
    (tmp_path / "helpers").mkdir()
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for address in ("somebody/course", None):
        exec(badges.setup_cell(address, "main"), {})
        assert not list((tmp_path / "notebooks").iterdir()) and sys.path[0] == ".."
