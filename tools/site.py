"""The course as static pages: ``make site`` or ``python -m tools.site`` writes ``site/``, which
``.github/workflows/site.yml`` publishes.

Players, pictures, tables and folded solutions work without a kernel; widgets show the text that stands for them. It is
nbconvert, which JupyterLab brings anyway, with one style sheet on top. (Weighed: Jupyter Book and MyST need Node and a
theme of several hundred packages, and would re-execute or strip what is stored here already.)
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbconvert.preprocessors import TagRemovePreprocessor

ROOT = Path(__file__).resolve().parent.parent
DOCS = ("glossary", "questions", "troubleshooting")

STYLE = """
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body.jp-Notebook { max-width: 60rem; margin: 0 auto; padding: 1rem; }
nav.course { font: 1rem/1.6 system-ui, sans-serif; padding: .5rem 0; }
nav.course a:link, .jp-RenderedHTMLCommon a:link { color: #0b5394 !important; text-decoration: underline !important; }
.jp-InputPrompt, .jp-OutputPrompt { display: none; }
.jp-RenderedHTMLCommon table { display: block; overflow-x: auto; }
.highlight .c, .highlight .c1, .highlight .ch, .highlight .cm { color: #3d6b6b !important; }
.highlight .o, .highlight .ow { color: #7a2fb5 !important; }
.highlight .mi, .highlight .mf { color: #0a6640 !important; }
.highlight .s1, .highlight .s2, .highlight .sa { color: #a31515 !important; }
details { border-left: 3px solid #767676; padding-left: 1rem; margin: .5rem 0; }
pre { white-space: pre-wrap !important; overflow-wrap: anywhere; }
</style>
"""


def _navigation(names: list[str], current: str | None) -> str:
    number = names.index(current) if current in names else None
    links = ['<a href="index.html">All notebooks</a>']
    if number:
        links.append(f'<a href="{names[number - 1]}.html">Previous</a>')
    if number is not None and number + 1 < len(names):
        links.append(f'<a href="{names[number + 1]}.html">Next</a>')
    return f'<nav class="course" aria-label="Course">{" · ".join(links)}</nav>'


def _local_links(page: str) -> str:
    """Links between notebooks and to the course's other pages, as the site calls them."""
    page = re.sub(r'href="(?:\.\./notebooks/)?(\d\d_\w+)\.ipynb(#[^"]*)?"', r'href="\1.html\2"', page)
    page = re.sub(r'href="(?:\.\./)?docs/(\w+)\.md(#[^"]*)?"', r'href="\1.html\2"', page)
    return re.sub(r'href="(?:\.\./)?README\.md(?:#[^"]*)?"', 'href="index.html"', page)


def _render(book: nbformat.NotebookNode, title: str, names: list[str], current: str | None) -> str:
    exporter = HTMLExporter()
    hidden = TagRemovePreprocessor(remove_input_tags={"hide-input"}, remove_cell_tags={"setup"}, enabled=True)
    exporter.register_preprocessor(hidden, enabled=True)
    page, _ = exporter.from_notebook_node(book, resources={"metadata": {"name": title}})
    page = page.replace("</head>", f"{STYLE}</head>", 1)
    page = re.sub(r"(<main[^>]*>)", lambda match: match[1] + _navigation(names, current), page, count=1)
    page = page.replace("<table", '<table tabindex="0"')  # a wide table scrolls, so a keyboard must reach it
    return _local_links(page.replace("<html>", '<html lang="en">', 1))


def _page_of_text(text: str) -> nbformat.NotebookNode:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(text)])


def _index(books: dict[str, nbformat.NotebookNode]) -> str:
    """A page of links, made of each notebook's own title and promise."""
    lines = ["# Fine-tune an audio language model", "",
             "Read the course here; run it in JupyterLab or Colab (see the repository's README).", ""]
    for name, book in books.items():
        first = book.cells[0].source
        title = re.search(r"^# (.+)$", first, flags=re.M)[1]
        promise = re.search(r"^\*\*(.+)\*\*$", first, flags=re.M)[1]
        lines += [f"## [{title}]({name}.html)", "", html.escape(promise, quote=False), ""]
    lines += ["## Beside the notebooks", "", *(f"- [{name.title()}]({name}.html)" for name in DOCS)]
    return "\n".join(lines)


def build(output: Path, notebooks: Path = ROOT / "notebooks", docs: Path = ROOT / "docs") -> list[Path]:
    """Write every page.

    Args:
        output: made anew; whatever lies in it goes.
        notebooks: the stored notebooks, which are not executed.
        docs: Markdown pages named in `DOCS`.

    Returns:
        The pages, the index first.
    """
    books = {path.stem: nbformat.read(path, as_version=4) for path in sorted(notebooks.glob("*.ipynb"))}
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    names, pages = list(books), {"index": _render(_page_of_text(_index(books)), "Course", list(books), None)}
    for name, book in books.items():
        pages[name] = _render(book, re.search(r"^# (.+)$", book.cells[0].source, flags=re.M)[1], names, name)
    for name in DOCS:
        text = (docs / f"{name}.md").read_text(encoding="utf-8")
        pages[name] = _render(_page_of_text(text), name.title(), names, None)
    for name, page in pages.items():
        (output / f"{name}.html").write_text(page, encoding="utf-8")
    return [output / f"{name}.html" for name in pages]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.site", description="Render the course as static pages.")
    parser.add_argument("--output", type=Path, default=ROOT / "site", help="folder (default: site/)")
    for page in build(parser.parse_args().output):
        print(page.name, f"{page.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
