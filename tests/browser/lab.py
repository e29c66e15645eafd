"""JupyterLab in headless Chromium: start it, open a notebook, run it to its end, look at what it shows."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
"""The last two: a microphone that beeps, and nobody who has to allow it."""
IDLE = '.jp-Notebook-ExecutionIndicator[data-status="idle"]'
OUTPUT = ".jp-OutputArea-output"
PANEL = "(document.querySelector('.jp-WindowedPanel-outer') ?? document.querySelector('.jp-Notebook'))"


def chromium() -> str | None:
    """The browser that is on this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def write_settings(folder: Path, theme: str) -> None:
    """User settings of JupyterLab: the theme, every cell rendered, no news."""
    for name, content in {
        "@jupyterlab/apputils-extension/themes": {"theme": f"JupyterLab {theme.title()}"},
        "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
        "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    }.items():
        path = folder / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


@contextlib.contextmanager
def serve(root: Path, settings: Path) -> Iterator[str]:
    """JupyterLab over a folder on a free loopback port; gives the address of a notebook with ``{path}`` to fill in."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--allow-root",
            f"--ServerApp.root_dir={root}",
            f"--ServerApp.port={port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={token}",
        ],
        env={**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(settings)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(240):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api/status?token={token}", timeout=2)
                break
            time.sleep(0.5)
        else:
            raise TimeoutError("JupyterLab did not answer within two minutes.")
        yield f"http://127.0.0.1:{port}/lab/tree/{{path}}?token={token}&reset"
    finally:
        server.terminate()
        server.wait(30)


def run_all(page, address: str, timeout_s: float) -> None:
    """Open a notebook and run all its cells.

    Raises:
        TimeoutError: some cell was still running at the end of the time.
    """
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook", timeout=120_000)
    page.wait_for_selector(IDLE, timeout=180_000)
    choice = page.locator(".jp-Dialog button", has_text="Select").last
    if choice.count():  # Lab asks for a kernel where it is slow to learn which there are
        choice.click()
        page.wait_for_selector(IDLE, timeout=180_000)
    page.click('.lm-MenuBar-itemLabel:text-is("Run")')
    page.click('li[data-command="runmenu:run-all"]')
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        page.wait_for_timeout(500)
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
        if not any("[*]" in prompt for prompt in prompts) and any(char.isdigit() for char in "".join(prompts)):
            page.wait_for_timeout(1000)  # widgets that arrived last have yet to be drawn
            return
    raise TimeoutError(f"The notebook was still running after {timeout_s:.0f} s.")


def screenshots(page, folder: Path, name: str, step: int = 1300) -> int:
    """The whole notebook in pictures, from top to bottom; gives how many."""
    folder.mkdir(parents=True, exist_ok=True)
    tops = range(0, page.evaluate(f"{PANEL}.scrollHeight"), step)
    for number, top in enumerate(tops):
        page.evaluate(f"{PANEL}.scrollTop = {top}")
        page.wait_for_timeout(300)
        page.screenshot(path=folder / f"{name}-{number:02d}.png")
    return len(tops)
