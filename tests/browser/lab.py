"""JupyterLab in headless Chromium: start it, open a notebook, run it to its end, change its width and its theme."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",  # containers have 64 MB of shared memory, too little for a page of pictures
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    # A microphone that beeps, and nobody who has to allow it.
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
TRIAL = "max_steps=60 eval_steps=30 save_steps=30 eval_clips=40 test_clips=100"
"""The tiny profile with fewer steps: what the notebooks show in a browser is the same, what they learn is nbval's part,
and ten notebooks take half as long."""
SHORTER = {" steps=20, model": " steps=6, model", "steps=48, others": "steps=16, others"}
"""For the same reason: what notebook 08 trains two dozen times, with steps of its own."""
_READY = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return session?.isReady && session.session?.kernel?.status === 'idle';
}"""
"""Before there is a kernel the notebook's indicator says "idle" too, and cells that are run then never run."""
OUTPUT = ".jp-OutputArea-output"
HEIGHT = 2400
"""Of the window: a notebook is seen in a few pictures."""
_COUNTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter((cell) => cell.model.type === 'code').map((cell) => cell.model.executionCount)"""
"""Of each code cell; a cell with a folded source has no prompt to read it from."""
_SAID = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .filter((cell) => cell.model.type === 'code').flatMap((cell) => cell.model.outputs.toJSON())
    .filter((output) => output.output_type === 'error' || output.name === 'stderr')
    .map((output) => [output.ename ?? 'stderr', output.evalue ?? output.text].join(': '))"""
PANEL = "(document.querySelector('.jp-WindowedPanel-outer') ?? document.querySelector('.jp-Notebook'))"


def chromium() -> str | None:
    """The browser that is on this machine."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def write_settings(folder: Path) -> None:
    """User settings of JupyterLab: every cell rendered, nothing saved, no news."""
    for name, content in {
        "@jupyterlab/apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
        "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
        "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    }.items():
        path = folder / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")


class Lab:
    """A running JupyterLab."""

    def __init__(self, port: int, token: str, pid: int, stacks: Path):
        self._port, self._token, self._pid, self._stacks = port, token, pid, stacks

    def address(self, path: str) -> str:
        """Where a file opens, in a workspace without yesterday's tabs."""
        return f"http://127.0.0.1:{self._port}/lab/tree/{path}?token={self._token}&reset"

    def ask(self, path: str, method: str = "GET"):
        """The server's answer to a request of its REST API, or ``None`` where there is none."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}/api/{path}", method=method,
            headers={"Authorization": f"token {self._token}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or "null")

    def stacks(self) -> str:
        """What the server's kernels, and the programs that they have started, are doing now; where the system has the
        signal that asks them (see tests/no_network)."""
        if not hasattr(signal, "SIGUSR1"):
            return ""
        files = []
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._pid).children(recursive=True):
                file = self._stacks / f"{process.pid}.txt"
                if file.exists():  # a program without one would die of the signal
                    process.send_signal(signal.SIGUSR1)
                    files.append(file)
        time.sleep(2)
        return "\n".join(f"Process {file.stem}:\n{file.read_text(encoding='utf-8')}" for file in files)

    def stop_kernels(self) -> None:
        """Ends every kernel and its memory: ten notebooks would hold ten models."""
        for session in self.ask("sessions"):
            self.ask(f"sessions/{session['id']}", "DELETE")


@contextlib.contextmanager
def serve(root: Path, home: Path) -> Iterator[Lab]:
    """JupyterLab over a folder, on a free loopback port, with settings of its own in ``home``."""
    write_settings(home / "settings")
    (home / "stacks").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = secrets.token_hex(16)
    with (home / "lab.log").open("wb") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                "--no-browser",
                "--allow-root",
                "--LabApp.expose_app_in_browser=True",
                f"--ServerApp.root_dir={root}",
                f"--ServerApp.port={port}",
                "--ServerApp.port_retries=0",
                f"--IdentityProvider.token={token}",
            ],
            env={
                **os.environ,
                "COURSE_TRIAL": TRIAL,
                "OMP_NUM_THREADS": "1",  # the browser takes a core, and a kernel that wants both waits for it
                "COURSE_STACKS": str(home / "stacks"),
                "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
                "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
                "JUPYTER_CONFIG_DIR": str(home / "config"),
            },
            stdout=log,
            stderr=log,
        )
        lab = Lab(port, token, server.pid, home / "stacks")
        try:
            end = time.monotonic() + 120
            while True:
                with contextlib.suppress(OSError):
                    lab.ask("status")
                    break
                if server.poll() is not None or time.monotonic() > end:
                    raise TimeoutError(f"JupyterLab did not start: {(home / 'lab.log').read_text()[-2000:]}")
                time.sleep(0.5)
            yield lab
        finally:
            server.terminate()
            server.wait(30)


def run_all(page, address: str, timeout_s: float) -> None:
    """Open a notebook without stored outputs and run all its cells.

    Raises:
        AssertionError: a cell failed or wrote to stderr; with its words.
        TimeoutError: some cell was still running at the end of the time.
    """
    page.goto(address, wait_until="domcontentloaded")
    page.wait_for_selector(".jp-Notebook", timeout=120_000)
    page.wait_for_function(_READY, timeout=180_000)
    page.click('.lm-MenuBar-itemLabel:text-is("Run")')
    page.click('li[data-command="runmenu:run-all"]')
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        page.wait_for_timeout(1000)
        wrong = errors(page)
        assert not wrong, wrong[0]
        counts = page.evaluate(_COUNTS)
        if counts and all(counts):
            page.wait_for_timeout(1000)  # widgets that arrived last have yet to be drawn
            return
    raise TimeoutError(f"The notebook was still running after {timeout_s:.0f} s; cells ran as {counts}.")


def errors(page) -> list[str]:
    """Errors, and what was written to stderr, in words; from the notebook's model, for pages mark them differently."""
    return page.evaluate(_SAID)


def set_theme(page, theme: str) -> None:
    """JupyterLab's own light or dark theme, as its Settings menu sets it."""
    name = f"JupyterLab {theme.title()}"
    page.evaluate("name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
    page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached", timeout=30_000)
    page.wait_for_timeout(300)


def set_width(page, width: int) -> None:
    """The window's width in CSS pixels."""
    page.set_viewport_size({"width": width, "height": HEIGHT})
    page.wait_for_timeout(300)


def take_pictures(page, folder: Path, name: str) -> int:
    """The whole notebook in pictures, from top to bottom; gives how many."""
    folder.mkdir(parents=True, exist_ok=True)
    tops = range(0, page.evaluate(f"{PANEL}.scrollHeight"), HEIGHT - 200)
    for number, top in enumerate(tops):
        page.evaluate(f"{PANEL}.scrollTop = {top}")
        page.wait_for_timeout(50)
        page.screenshot(path=folder / f"{name}-{number:02d}.jpg", type="jpeg", quality=70)
    return len(tops)
