"""The course as static pages, as somebody on a phone sees them: nothing is cut off, and axe finds nothing serious."""

from __future__ import annotations

import os

import pytest

from browser import lab
from browser.test_lab import PICTURES, missing
from tools.site import DOCS, ROOT, build

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(missing) and not os.environ.get("COURSE_REQUIRE_BROWSER"), reason=f"{missing}"),
]
PHONE = {"width": 390, "height": 844}
NAMES = ["index", *(path.stem for path in sorted((ROOT / "notebooks").glob("*.ipynb"))), *DOCS]
_WIDER = """() => [...document.querySelectorAll('main *')]
    .filter((node) => node.getBoundingClientRect().right > innerWidth + 1 && !node.closest('table, pre, .highlight'))
    .map((node) => node.outerHTML.slice(0, 200))"""
"""What sticks out of the page; wide tables and lines of code scroll by themselves."""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return {page.stem: page for page in build(tmp_path_factory.mktemp("site"))}


@pytest.fixture(scope="module")
def phone():
    from playwright.sync_api import sync_playwright

    assert not missing, missing
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=lab.chromium(), args=lab.FLAGS)
        yield chromium.new_page(viewport=PHONE)
        chromium.close()


@pytest.mark.parametrize("name", NAMES)
def test_a_page_fits_a_phone_and_has_no_serious_finding(name, site, phone):
    from browser.looks import serious

    phone.goto(site[name].as_uri())
    phone.wait_for_load_state("load")
    phone.evaluate("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    PICTURES.mkdir(parents=True, exist_ok=True)
    phone.screenshot(path=PICTURES / f"site-{name}.png", clip={"x": 0, "y": 0, **PHONE, "height": 5000}, full_page=True)
    assert phone.evaluate("document.documentElement.scrollWidth") <= PHONE["width"] + 1
    assert not phone.evaluate(_WIDER)
    assert not serious(phone, None)
