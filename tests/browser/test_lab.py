"""Every notebook in a real JupyterLab in headless Chromium: it runs to its end, and what it shows reacts.

Skipped with a reason where playwright, axe or Chromium is missing, but never in CI. Pictures of what the browser saw
go to
``COURSE_SCREENSHOTS``, if that is set.
"""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from browser import lab
from browser.gallery import CELLS, write_gallery

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("*.ipynb"))
pytestmark = pytest.mark.browser

try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright

    missing = None if lab.chromium() else "there is no Chromium on this machine"
except ImportError as error:
    missing = f"{error.name} is not installed"
if missing and not os.environ.get("CI"):
    pytestmark = [pytest.mark.browser, pytest.mark.skip(reason=f"{missing}: see tests/requirements.txt")]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """JupyterLab over a copy of the notebooks: what is run there changes no tracked file."""
    root = tmp_path_factory.mktemp("lab")
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    write_gallery(root / "notebooks" / "gallery.ipynb")
    (root / "helpers").symlink_to(ROOT / "helpers")
    settings = tmp_path_factory.mktemp("settings")
    lab.write_settings(settings, os.environ.get("COURSE_THEME", "light"))
    with lab.serve(root, settings) as address:
        yield address


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=lab.chromium(), args=lab.FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": int(os.environ.get("COURSE_WIDTH", 1280)), "height": 1300})
    yield page
    page.close()


def look(page, name: str) -> None:
    """Nothing went wrong, everything has a name, and no rule of axe is broken badly in what the course shows."""
    for kind in ("error", "stderr"):
        found = page.locator(f'{lab.OUTPUT}[data-mime-type="application/vnd.jupyter.{kind}"]').all_inner_texts()
        assert not found, f"{name}: {kind}: {found[0][-800:]}"
    assert not page.locator(f'{lab.OUTPUT} img:not([alt]), {lab.OUTPUT} img[alt=""]').count()
    assert not page.locator(f"{lab.OUTPUT} audio:not([aria-label])").count()
    assert not page.get_by_text("Error displaying widget").count()
    if folder := os.environ.get("COURSE_SCREENSHOTS"):
        lab.screenshots(page, Path(folder), name)
    broken = Axe().run(page, context=lab.OUTPUT).response["violations"]
    serious = {
        rule["id"]: [node["html"][:200] for node in rule["nodes"]][:3]
        for rule in broken
        if rule["impact"] in ("serious", "critical")
    }
    assert not serious, f"{name}: {serious}"


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_a_notebook_runs_to_its_end(name, page, address):
    lab.run_all(page, address.format(path=f"notebooks/{name}"), timeout_s=540)
    look(page, name.removesuffix(".ipynb"))


def _noise(seconds: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(
        file, np.random.default_rng(0).normal(0, 0.1, (44_100 * seconds, 2)), 44_100, format="WAV", subtype="PCM_16"
    )
    return file.getvalue()


def test_every_widget_is_drawn_and_reacts(page, address):
    lab.run_all(page, address.format(path="notebooks/gallery.ipynb"), timeout_s=540)
    look(page, "gallery")
    cells = page.locator(".jp-CodeCell")
    outputs = {name: cells.nth(place + 1).locator(lab.OUTPUT).first for place, name in enumerate(CELLS)}

    def has(name: str, text: str, timeout: int = 60_000) -> None:
        outputs[name].get_by_text(text).first.wait_for(timeout=timeout)

    outputs["guess"].get_by_role("button", name="yes").click()
    outputs["explorer"].get_by_role("textbox").fill("A dog barks")
    outputs["explorer"].get_by_role("textbox").press("Enter")
    has("explorer", "tokens are trained: A dog barks")
    outputs["calculator"].locator("select").first.select_option("64")
    has("calculator", "0.87")
    outputs["game"].get_by_role("button").first.click()
    has("game", "of 1. The model:")
    outputs["browser"].get_by_role("button", name="Next").click()
    has("browser", "Clip 2 of 4")
    outputs["playground"].get_by_role("button", name="Ask").click()
    has("playground", "The tuned model:")
    files, status = outputs["sound"].locator("input[type=file]"), outputs["sound"].get_by_role("status")
    for name, seconds in (("small.wav", 3), ("large.wav", 70), ("small again.wav", 3)):
        content = _noise(seconds)
        assert (len(content) > 12_000_000) == (seconds == 70)
        files.set_input_files({"name": name, "mimeType": "audio/wav", "buffer": content})
        has("sound", f"{name} ({seconds}.0 s)", timeout=180_000)
    files.set_input_files(
        {"name": "film.xyz", "mimeType": "audio/wav", "buffer": bytes(20_000_000)}
    )  # nothing can play this
    status.get_by_text("film.xyz is too large to send").wait_for(timeout=60_000)
    assert "small again" not in outputs["sound"].inner_text(), "the old answer went when another file was chosen"
    outputs["sound"].get_by_role("button", name="Record").click()
    page.wait_for_timeout(2500)
    outputs["sound"].get_by_role("button", name="Stop").click()
    has("sound", "your recording.", timeout=120_000)
