"""The package as a whole: cheap to import, no side effects, nothing that must not be committed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_importing_helpers_loads_no_library_and_writes_nothing(tmp_path):
    libraries = {"torch", "transformers", "datasets", "peft", "numpy"}
    assert _python(f"import sys, helpers; print({libraries} & set(sys.modules))").strip() == "set()"


def test_every_public_name_exists_and_has_words():
    import helpers

    for name in helpers.__all__:
        value = getattr(helpers, name)
        if callable(value):
            assert value.__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = helpers.nonsense


FLOORS = ["profiles", "systems", "families", "hub", "metrics", "tiny", "audio", "chat", "model", "captioning",
          "training", "scale", "show", "exercises", "setup", "sharing", "serve", "train"]
"""Rooms of the package from the general to the particular; a module imports from its own floor or from one below."""


def _floor(module: str) -> int:
    """Of ``helpers.room.module``."""
    return FLOORS.index(module.split(".")[1])


def _imports(path: Path) -> list[str]:
    """Modules of the package that a file imports anywhere in it, inside functions too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("helpers."):
            inner = [f"{node.module}.{name.name}" for name in node.names]
            is_module = [(ROOT / name.replace(".", "/")).with_suffix(".py").is_file() for name in inner]
            found += [name if there else node.module for name, there in zip(inner, is_module, strict=True)]
    return found


def _modules() -> dict[str, Path]:
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in (ROOT / "helpers").rglob("*.py")
            if path != ROOT / "helpers" / "__init__.py"}


def test_imports_point_one_way():
    """From what is particular to what is general, never back."""
    for module, path in _modules().items():
        for used in _imports(path):
            assert _floor(used) <= _floor(module), f"{module} imports {used}, which stands above it"


def test_no_module_imports_itself_through_others():
    graph = {module: set(_imports(path)) for module, path in _modules().items()}

    for module in graph:
        below, todo = set(), [module]
        while todo:
            for used in graph.get(todo.pop(), ()):
                if used not in below:
                    below.add(used)
                    todo.append(used)
        assert module not in below, f"{module} imports itself through others"


def test_no_module_is_long():
    """A module is what one sitting takes in."""
    for path in [*(ROOT / "helpers").rglob("*.py"), *(ROOT / "tools").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        lines = path.read_text(encoding="utf-8").splitlines()
        assert len(lines) <= 250, f"{path.relative_to(ROOT)} has {len(lines)} lines"
        # ruff leaves lines alone that end in a comment for a tool.
        long = [number for number, line in enumerate(lines, start=1) if len(line) > 120]
        assert not long, f"{path.relative_to(ROOT)} has lines of more than 120 characters: {long}"


def test_ruff_has_nothing_to_say():
    """Lines of at most 120 characters, and the rules of pyproject.toml."""
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "."],
                          cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_exported_name_is_used_by_a_notebook_or_listed_for_ones_own_project():
    import helpers

    imported: set[str] = set()
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        for names in re.findall(r"^ *from helpers import (\([^)]*\)|.*)$", code, re.MULTILINE):
            imported |= set(re.findall(r"\w+", names))
    assert imported <= set(helpers.__all__)
    assert set(helpers.__all__) - imported <= helpers.FOR_YOUR_PROJECT <= set(helpers.__all__)


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


def test_no_pickles_secrets_or_machine_paths_are_committed():
    private = re.compile(r"/(?:work|root|tmp)/[\w.-]|/home/\w|hf_[A-Za-z0-9]{30,}")
    for path in _tracked():
        assert path.suffix not in {".bin", ".pt", ".pth", ".pkl", ".ckpt"}, path
        if (
            path.suffix in {".py", ".md", ".txt", ".cfg", ".ini", ".ipynb", ".json", ".jinja", ""}
            and path.stat().st_size < 2e6
        ):
            found = private.search(path.read_text(encoding="utf-8"))
            assert not found, f"{path.relative_to(ROOT)}: {found.group()}"


def test_remote_code_is_never_trusted():
    trusting = re.compile("trust_remote" + r"_code(?!=False\b)")
    texts = [path.read_text(encoding="utf-8") for path in _tracked() if path.suffix in {".py", ".ipynb"}]
    assert not [text for text in texts if trusting.search(text)]


def test_every_requirement_says_why():
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("requirements.txt", "tests/requirements.txt")]
    for line in (line for text in texts for line in text.splitlines() if line and not line.startswith("#")):
        assert re.match(r"[\w-]+[><=].*\s# \w", line), line
