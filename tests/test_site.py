"""The course as static pages: all there, and every link between them leads somewhere."""

from __future__ import annotations

import re
from pathlib import Path

from tools.site import ROOT, build


def test_every_page_is_there_and_local_links_lead_somewhere(tmp_path: Path):
    pages = build(tmp_path / "site")
    names = {page.name for page in pages}
    assert {"index.html", "glossary.html", "troubleshooting.html"} <= names
    assert {f"{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")} <= names
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert '<html lang="en">' in text and "width=device-width" in text
        assert "Set-up: run this first" not in text
        for link in re.findall(r'href="([^"#:]+)(?:#[^"]*)?"', text):
            assert link in names, f"{page.name} links to {link}"
