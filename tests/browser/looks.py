"""What must be true of everything the course shows in a page, whatever it shows."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe

from browser.lab import OUTPUT, errors

_NOISE = ("9223372036854775807", "No log", "it/s]", "Warning:")
"""What the libraries print for themselves: endless epochs, empty columns, progress bars of text, warnings."""
_CUT_OFF = f"""() => {{
    const found = [];
    const wider = (node) => node.clientWidth > 0 && node.scrollWidth > node.clientWidth + 2;
    for (const node of document.querySelectorAll('{OUTPUT}'))
        if (wider(node)) found.push(`output of ${{node.scrollWidth}} px in ${{node.clientWidth}}: `
            + node.textContent.trim().slice(0, 80));
    for (const node of document.querySelectorAll('{OUTPUT} :is(.widget-label, button, label, summary)'))
        if (wider(node)) found.push(`${{node.className || node.tagName}} cut off: ${{node.textContent.trim()}}`);
    const pen = document.createElement('canvas').getContext('2d'), arrow = 24;
    for (const node of document.querySelectorAll('{OUTPUT} select')) {{
        const {{fontSize, fontFamily}} = getComputedStyle(node), words = node.selectedOptions[0]?.textContent ?? '';
        pen.font = `${{fontSize}} ${{fontFamily}}`;
        if (pen.measureText(words).width + arrow > node.clientWidth) found.push(`menu cut off: ${{words}}`);
    }}
    return found;
}}"""
_EMPTY = f"""() => [...document.querySelectorAll(
        '{OUTPUT}[data-mime-type="application/vnd.jupyter.widget-view+json"]')]
    .filter((node) => node.offsetHeight < 10 || !node.querySelector('button, input, select, img, p, b'))
    .map((node) => node.outerHTML.slice(0, 200))"""
_BROKEN = """() => [...document.querySelectorAll('.jp-Notebook img')]
    .filter((image) => image.complete && !image.naturalWidth).map((image) => image.src.slice(0, 120))"""


def faults(page) -> list[str]:
    """What a reader would trip over, in words: errors, warnings, pictures without words, empty widgets, frozen bars."""
    found = errors(page)
    for what, selector in {
        "picture without a description": f'{OUTPUT} img:not([alt]), {OUTPUT} img[alt=""]',
        "player without a name": f"{OUTPUT} audio:not([aria-label])",
        "widget with a tooltip that says null": f'{OUTPUT} [title="null"]:visible',
        "frozen progress bar": f'{OUTPUT} progress:not([value="1.0000"])',
    }.items():
        found += [f"{what}: {text[:200]}" for text in page.locator(selector).evaluate_all(
            "nodes => nodes.map((node) => node.outerHTML)")]
    shown = " ".join(page.locator(OUTPUT).all_inner_texts())
    found += [f"noise: {words}" for words in _NOISE if words in shown]
    found += ["a widget could not be drawn"] * page.get_by_text("Error displaying widget").count()
    found += [f"empty widget: {text}" for text in page.evaluate(_EMPTY)]
    return found + [f"broken picture: {source}" for source in page.evaluate(_BROKEN)]


def cut_off(page) -> list[str]:
    """Outputs that are wider than their column, and labels and buttons whose words do not fit."""
    return page.evaluate(_CUT_OFF)


def serious(page, part: str | None = OUTPUT) -> list[str]:
    """Serious and critical findings of axe in the course's outputs, or in the whole page: names, contrast, ..."""
    broken = Axe().run(page, context=part).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]}"
        for rule in broken
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
