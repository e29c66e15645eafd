r"""Numbers in prose that a cell computes: ``python -m tools.numbers`` writes them anew from the stored outputs.

A number in the text of a notebook or of the README that the output of a cell shows is followed by a comment, which no
reader sees: the id of the cell, and a regular expression whose one group finds the number in that cell's output::

    0.91<!-- from d8ddaa91: new sounds\D+[\d.]+\D+([\d.]+) -->

The number keeps as many decimals as it has in the prose. Run this after the notebooks were executed (``make
notebooks``); ``--check`` changes nothing and lists what would change. A cell that was added and not executed yet has
nothing to compare with, and is left for then. (In a table no pattern may hold ``|``, which would end the column.)
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from helpers.profiles import ROOT

MARKED = re.compile(r"(?P<number>-?\d[\d,]*(?:\.\d+)?)(?P<mark><!-- from (?P<cell>[0-9a-f]{8}): (?P<pattern>.*?) -->)")


def _shown(cell: dict) -> str:
    """What a code cell's stored output says in plain text; of pictures, their description."""
    found = []
    for out in cell["outputs"]:
        found.append(out["text"] if "text" in out else out.get("data", {}).get("text/plain", ""))
    return "\n".join("".join(text) for text in found)


def stored_outputs(root: Path = ROOT) -> dict[str, str | None]:
    """Id of each code cell of the notebooks -> what its output says; None for a cell that was not executed yet."""
    found = {}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                found[cell["id"]] = _shown(cell) if cell["execution_count"] else None
    return found


def renewed(text: str, outputs: dict[str, str | None]) -> tuple[str, list[str]]:
    """A text with its marked numbers as the outputs have them.

    Returns:
        The text, and a sentence for each number that changed.

    Raises:
        ValueError: a mark names no cell, or its pattern finds no number in the cell's output.
    """
    changes = []

    def renew(match: re.Match) -> str:
        old, cell, pattern = match["number"], match["cell"], match["pattern"]
        if cell not in outputs:
            raise ValueError(f"{old} is marked as from cell {cell}, which no notebook has: mark it with the cell's id.")
        if outputs[cell] is None:
            return match[0]
        found = re.search(pattern, outputs[cell])
        if not found:
            raise ValueError(f"{old} is marked as from cell {cell}, whose output has nothing like {pattern!r}: look at "
                             "the output, and mend the pattern or the prose.")
        decimals = len(old.partition(".")[2])
        new = f"{float(found[1].replace(',', '')):,.{decimals}f}"
        if new != old:
            changes.append(f"{old} is {new} in the output of cell {cell} ({pattern})")
        return new + match["mark"]

    return MARKED.sub(renew, text), changes


def renew(root: Path = ROOT, write: bool = True) -> list[str]:
    """Renew the README and the text of all notebooks.

    Args:
        root: of the repository.
        write: False only looks.

    Returns:
        A sentence for each number that differs from its cell's output.

    Raises:
        ValueError: see `renewed`; then nothing has been written.
    """
    outputs, changes, new = stored_outputs(root), [], {}
    readme = root / "README.md"
    new[readme], found = renewed(readme.read_text(encoding="utf-8"), outputs)
    changes += [f"README.md: {change}" for change in found]
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        book, before = json.loads(path.read_text(encoding="utf-8")), len(changes)
        for cell in book["cells"]:
            if cell["cell_type"] == "markdown":
                text, found = renewed("".join(cell["source"]), outputs)
                cell["source"] = text.splitlines(keepends=True)
                changes += [f"{path.name}, cell {cell['id']}: {change}" for change in found]
        if len(changes) > before:
            new[path] = json.dumps(book, indent=1, ensure_ascii=False) + "\n"
    if write:
        for path, text in new.items():
            path.write_text(text, encoding="utf-8")
    return changes


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.numbers",
                                     description="Renew the numbers in prose from the notebooks' stored outputs.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if a number is out of date")
    check = parser.parse_args().check
    try:
        changes = renew(write=not check)
    except ValueError as error:
        parser.error(str(error))
    print(*changes or ["All numbers are as the outputs have them."], sep="\n")
    if check and changes:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
