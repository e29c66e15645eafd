"""What other systems would trip over, simulated here: Windows' names, moves and consoles, a bare C locale, spawn."""

from __future__ import annotations

import ast
import json
import os
import pickle
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from helpers import AudioFlamingo3DataCollator, systems
from helpers.audio.captions import load_captions
from helpers.audio.order import ClipStream
from helpers.systems import alone, move, print_anything

ROOT = Path(__file__).resolve().parent.parent
C_LOCALE = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
BYTES_OF_THEIR_OWN = {"av", "os", "system", "Image", "self"}
"""``open`` of these takes no encoding."""


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


def _run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True,
                          env={**os.environ, **environment}, timeout=120)


def test_every_name_fits_every_file_system():
    names = _tracked()
    assert len({name.casefold() for name in names}) == len(names), "macOS and Windows do not tell capitals apart"
    reserved = re.compile(r"(?:con|prn|aux|nul|com\d|lpt\d)(?:\.|$)", re.I)
    for name in names:
        assert len(name) <= 100, "Windows allows 260 with the folders above, and .venv lies below them too"
        for part in name.split("/"):
            assert not reserved.match(part) and not re.search(r'[<>:"\\|?*\x00-\x1f]|[. ]$', part), name


def test_line_ends_are_the_commits_on_every_system():
    assert "* text=auto eol=lf" in (ROOT / ".gitattributes").read_text(encoding="utf-8")
    assert not [name for name in _tracked() if b"\0" not in (content := (ROOT / name).read_bytes()[:4096])
                and b"\r\n" in content]


def _without_encoding(tree: ast.AST) -> list[int]:
    """Lines that open text in whatever encoding the system has."""
    found = []
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        given = {keyword.arg for keyword in call.keywords}
        owner = getattr(getattr(call.func, "value", None), "id", "")
        texts = [value.value for value in [*call.args, *(keyword.value for keyword in call.keywords)]
                 if isinstance(value, ast.Constant) and isinstance(value.value, str)]
        opens = name == "open" and owner not in BYTES_OF_THEIR_OWN and not any("b" in text for text in texts)
        if not given & {"encoding", "cache_type"} and (opens or name in {"read_text", "write_text"} or "text" in given
                                        and name in {"run", "Popen", "check_output"}):
            found.append(call.lineno)
    return found


def test_text_is_utf_8_whatever_the_system_prefers():
    assert _without_encoding(ast.parse("open('a')\nopen('a', 'rb')\nfile.read_text()\nrun(c, text=True)")) == [1, 3, 4]
    for name in _tracked():
        if name.endswith(".py") and not name.startswith("tests/"):
            lines = _without_encoding(ast.parse((ROOT / name).read_text(encoding="utf-8")))
            assert not lines, f"{name} opens text without an encoding in lines {lines}"


@pytest.mark.parametrize("refusals", [0, 2, 3, 4])
def test_a_file_that_a_scanner_holds_for_a_moment_is_moved_all_the_same(tmp_path, monkeypatch, refusals):
    """As Windows does it: refused while somebody looks into the folder."""
    (tmp_path / "new").mkdir()
    waited, replace = [], Path.replace
    monkeypatch.setattr(systems, "WINDOWS", True)
    monkeypatch.setattr(systems.time, "sleep", waited.append)

    def busy(self, target):
        tries.append(target)
        if len(tries) <= refusals:
            raise PermissionError(13, "Access is denied")
        return replace(self, target)

    tries: list = []
    monkeypatch.setattr(Path, "replace", busy)
    if refusals > len(systems.PAUSES):
        with pytest.raises(PermissionError):
            move(tmp_path / "new", tmp_path / "place")
        assert (tmp_path / "new").exists()
    else:
        move(tmp_path / "new", tmp_path / "place")
        assert (tmp_path / "place").is_dir() and not (tmp_path / "new").exists()
    assert waited == list(systems.PAUSES[:refusals])


def test_elsewhere_a_refusal_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr(systems, "WINDOWS", False)
    monkeypatch.setattr(systems.time, "sleep", lambda _: pytest.fail("waits for nothing"))
    with pytest.raises(FileNotFoundError):
        move(tmp_path / "no such file", tmp_path / "place")


@pytest.mark.parametrize("console", ["cp1252", "ascii"])
def test_a_console_that_lacks_a_sign_does_not_end_the_program(console):
    text = "A frog croaks → лягушка"
    code = f"from helpers.systems import print_anything; print_anything(); print({text!r})"
    plain = _run(f"print({text!r})", PYTHONIOENCODING=console)
    assert b"UnicodeEncodeError" in plain.stderr, "this console could print it"
    printed = _run(code, PYTHONIOENCODING=console)
    assert printed.returncode == 0 and printed.stdout.strip() == text.encode(console, "backslashreplace")


def test_print_anything_leaves_a_notebooks_stream_alone(monkeypatch):
    class OutStream:
        """As ipykernel's: it takes any text and has nothing to configure."""

    monkeypatch.setattr(sys, "stdout", OutStream())
    print_anything()


def test_the_commands_say_their_sentence_to_a_console_of_windows():
    done = _run("import sys; from helpers.train import main; sys.exit(main(['--data', 'звуки']))",
                PYTHONIOENCODING="cp1252:strict")
    assert done.returncode in (1, 2) and b"Traceback" not in done.stderr, done.stderr
    assert done.stderr.strip().splitlines()[-1].count(rb"\u0437") == 1, "the folder's name, as escapes"


def test_the_installer_too(tmp_path):
    (tmp_path / "звуки").mkdir()
    (tmp_path / "звуки" / "thesis.txt").touch()
    done = _run("import sys; from helpers.setup.install import main; sys.argv[1:] = ['--venv', sys.argv[1]]; main()",
                str(tmp_path / "звуки"), PYTHONIOENCODING="cp1252:strict")
    assert done.returncode == 1 and rb"\u0437" in done.stderr and b"is a folder with other things" in done.stderr


def test_what_a_loader_gives_to_its_workers_can_be_given_to_a_process_that_is_spawned(processor):
    """Windows and macOS do not fork: stream and collator travel as bytes."""
    collator = pickle.loads(pickle.dumps(AudioFlamingo3DataCollator(processor)))
    stream = pickle.loads(pickle.dumps(ClipStream(load_captions("tiny", "test").take(2), 2)))
    batch = collator(list(stream))
    assert batch["input_ids"].shape[0] == 2 and int((batch["labels"] != -100).sum()) > 4


IN_ANOTHER_LANGUAGE = """
import json, pathlib, sys
import numpy, soundfile
from helpers import get_profile, load_captions, read_folder
from helpers.sharing import write_model_card

folder = pathlib.Path(sys.argv[1])
soundfile.write(folder / "a.wav", 0.1 * numpy.sin(numpy.arange(16_000) / 9), 16_000)
(folder / "metadata.csv").write_bytes("file_name,caption\\na.wav,Ein Fr\\u00f6schlein quakt \\u2026\\n".encode())
(clip,) = read_folder(folder).clips
write_model_card(folder, get_profile("tiny"), [])
print(json.dumps([clip["caption"], next(iter(load_captions("tiny", "test")))["caption"]]))
"""


@pytest.mark.slow
def test_in_the_c_locale_without_pythons_utf_8_mode(tmp_path):
    done = _run(IN_ANOTHER_LANGUAGE, str(tmp_path), **C_LOCALE)
    assert done.returncode == 0, done.stderr.decode()
    theirs, ours = json.loads(done.stdout)
    assert theirs == "Ein Fr\u00f6schlein quakt \u2026" and ours[0].isupper()


@pytest.mark.slow
def test_a_loader_with_spawned_workers_gives_the_same_batches(processor):
    from torch.utils.data import DataLoader

    stream, collator = ClipStream(load_captions("tiny", "test").take(8), 4), AudioFlamingo3DataCollator(processor)
    here = [batch["input_ids"] for batch in DataLoader(stream, batch_size=4, collate_fn=collator)]
    there = [batch["input_ids"] for batch in DataLoader(stream, batch_size=4, collate_fn=collator, num_workers=1,
                                                        multiprocessing_context="spawn")]
    assert len(here) == 2 and all(a.equal(b) for a, b in zip(here, there, strict=True))


def test_one_program_works_alone_and_the_others_say_that_they_wait(tmp_path, capsys):
    lock, order = tmp_path / "work.lock", []

    def other():
        with alone(lock, "Waiting for it."):
            order.append("other")

    with alone(lock, "Nobody waits."):
        waiting = threading.Thread(target=other)
        waiting.start()
        while not (said := capsys.readouterr().out):
            time.sleep(0.01)
        order.append("first")
    waiting.join(30)
    assert said == "Waiting for it.\n" and order == ["first", "other"]
    with pytest.raises(ZeroDivisionError), alone(lock, "Nobody waits."):
        _ = 1 / 0
    with alone(lock, "Still held."):
        assert not capsys.readouterr().out
