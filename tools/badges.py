"""Where the course lives in public, written into every badge and set-up cell.

``tools/repository.json`` is the one setting. After a fork or a rename::

    python -m tools.badges OWNER/REPO --ref REF

writes it, and rewrites the badge and the set-up cell of each notebook and the badges of the README. Without an address,
``python -m tools.badges`` rewrites them all from the setting as it is. While the setting has none, badges are a
sentence, and the set-up cell of a notebook that is alone says where it belongs. A test fails when any of them disagree.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from helpers.profiles import ROOT

SETTING = Path(__file__).with_name("repository.json")

METADATA = {"cellView": "form", "jupyter": {"source_hidden": True}, "tags": ["setup"]}
"""Folds the set-up cell away: in Colab (with the cell's title in view) and in JupyterLab."""

_TITLE = "# @title Set-up: run this first"
_FETCH = '''\
if "google.colab" in sys.modules and not os.path.isdir("../helpers"):
    if not os.path.isdir("course"):
        os.system("git clone -q https://github.com/{repository} course && git -C course checkout -q {ref}")
    os.chdir("course/notebooks")'''
_NO_ADDRESS = '''\
if not os.path.isdir("../helpers"):
    raise RuntimeError("This notebook needs the course around it, which has no public address yet to fetch it from: "
                       "open it inside the course's folder.")'''
_SETUP = f'''\
{_TITLE}
import os, sys

{{part}}
sys.path.insert(0, "..")
from helpers.setup.colab import prepare; prepare()'''
_SETUP_PATTERN = re.compile(r"# (@title Set-up|On Colab this fetches the course)", re.S)

_LATER = "Colab: not yet, for the course has no public address<!-- {name} -->"
_LATER_IN_A_TABLE = "not yet<!-- {name} -->"
_BADGE_PATTERN = re.compile(r"\[!\[[^\]]*\]\([^)]*colab-badge[^)]*\)\]\([^)]*/notebooks/([\w-]+)\.ipynb\)"
                            r"|(?:Colab: )?not yet[^<\n]*<!-- ([\w-]+) -->")


def read_setting() -> dict[str, str | None]:
    """``{"repository": "OWNER/REPO" or None, "ref": branch, tag or commit}``."""
    return json.loads(SETTING.read_text(encoding="utf-8"))


def badge(name: str, repository: str | None, ref: str, in_a_table: bool = False) -> str:
    """Markdown that opens the notebook ``name`` in Colab, as it is at ``ref``; without an address, words instead."""
    if not repository:
        return (_LATER_IN_A_TABLE if in_a_table else _LATER).format(name=name)
    return ("[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
            f"(https://colab.research.google.com/github/{repository}/blob/{ref}/notebooks/{name}.ipynb)")


def setup_cell(repository: str | None, ref: str) -> str:
    """The source of every notebook's first code cell."""
    return _SETUP.format(part=_FETCH.format(repository=repository, ref=ref) if repository else _NO_ADDRESS)


def _with_badges(text: str, repository: str | None, ref: str, in_a_table: bool = False) -> str:
    return _BADGE_PATTERN.sub(lambda match: badge(match[1] or match[2], repository, ref, in_a_table), text)


def rewrite_notebook(text: str, repository: str | None, ref: str) -> str:
    """The JSON of a notebook with its badge and set-up cell pointing at ``repository`` and ``ref``.

    Raises:
        ValueError: the first cell has no badge, or the first code cell is not the set-up cell.
    """
    book = json.loads(text)
    first, code = book["cells"][0], next(cell for cell in book["cells"] if cell["cell_type"] == "code")
    title, setup = "".join(first["source"]), "".join(code["source"])
    if not _BADGE_PATTERN.search(title) or not _SETUP_PATTERN.match(setup):
        raise ValueError(f"The notebook {title.splitlines()[0]!r} has no badge in its first cell, or its first code "
                         "cell is not the set-up cell: copy both from another notebook.")
    first["source"] = _with_badges(title, repository, ref).splitlines(keepends=True)
    code["source"] = setup_cell(repository, ref).splitlines(keepends=True)
    code["metadata"] = METADATA
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def disagreements(root: Path = ROOT) -> list[str]:
    """Files whose badges or set-up cell differ from the setting, as paths relative to ``root``."""
    setting = read_setting()
    found = []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        text = path.read_text(encoding="utf-8")
        if json.loads(rewrite_notebook(text, **setting)) != json.loads(text):
            found.append(path.relative_to(root).as_posix())
    readme = (root / "README.md").read_text(encoding="utf-8")
    if _with_badges(readme, **setting, in_a_table=True) != readme:
        found.append("README.md")
    return found


def rewrite(repository: str | None, ref: str, root: Path = ROOT, setting: Path = SETTING) -> None:
    """Point the whole course at ``repository`` and ``ref``.

    Raises:
        ValueError: ``repository`` is not of the form ``OWNER/REPO``, or a notebook lacks badge or set-up cell; then
            nothing has been written.
    """
    if repository is not None and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise ValueError(f"{repository!r} is not of the form OWNER/REPO, as in https://github.com/OWNER/REPO.")
    if not re.fullmatch(r"[\w./-]+", ref):
        raise ValueError(f"{ref!r} is not the name of a branch, a tag or a commit.")
    new = {path: rewrite_notebook(path.read_text(encoding="utf-8"), repository, ref)
           for path in sorted((root / "notebooks").glob("*.ipynb"))}
    readme = root / "README.md"
    new[readme] = _with_badges(readme.read_text(encoding="utf-8"), repository, ref, in_a_table=True)
    new[setting] = json.dumps({"repository": repository, "ref": ref}, indent=2) + "\n"
    for path, text in new.items():
        path.write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.badges", description="Point every badge at a repository.")
    parser.add_argument("repository", metavar="OWNER/REPO", nargs="?", help="default: as the setting says")
    parser.add_argument("--ref", help="branch, tag or commit (default: as the setting says)")
    given = parser.parse_args()
    setting = read_setting()
    try:
        rewrite(given.repository or setting["repository"], given.ref or setting["ref"])
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
