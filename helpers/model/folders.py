"""Whether the files of a folder with a model, a processor or both are whole: a library names the file at best."""

import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError, safe_open

from helpers.model.architecture import TINY_FOLDER
from helpers.model.record import RECORD, AdapterError, check_files
from helpers.profiles import TINY

DIGESTS = "digests.json"
"""Beside the shipped weights: name of each file -> its `text_digest`."""


class NoSuchModel(FileNotFoundError):
    """What was named as a model is none, or a damaged one, or none of a family that the course knows."""


def text_digest(file: Path) -> str:
    """SHA-256 of a file, in hex; ends of lines, which git may rewrite on Windows, count as one kind."""
    content = file.read_bytes()
    return hashlib.sha256(content if file.suffix == ".safetensors" else content.replace(b"\r\n", b"\n")).hexdigest()


def write_digests(folder: Path) -> None:
    """Write down what each file of ``folder`` is like now, for `check_folder`."""
    files = {file.name: text_digest(file) for file in sorted(folder.iterdir())
             if file.suffix in {".json", ".jinja", ".safetensors"} and file.name != DIGESTS}
    (folder / DIGESTS).write_text(json.dumps(files, indent=1) + "\n", encoding="utf-8")


def has_processor(folder: str | os.PathLike) -> bool:
    """Whether a folder holds a processor; one saved before transformers 5 may have the second name alone."""
    return any((Path(folder) / name).is_file() for name in ("processor_config.json", "preprocessor_config.json"))


def check_folder(model_id: str | os.PathLike) -> None:
    """Refuse a folder of a model or a processor with a damaged file; what is on the Hub is looked at there.

    The shipped model's files are compared with their digests, and those of a saved adapter with its record. Of other
    folders nobody knows the digests: there each JSON file has to be whole, the weights have to be as long as their
    header says, and a chat template must not be empty.

    Raises:
        NoSuchModel: the sentence names the file.
    """
    folder = TINY_FOLDER if model_id == TINY else Path(model_id)
    if not folder.is_dir():
        return
    for file in sorted(folder.iterdir()):
        if not _can_be_read(file):
            raise NoSuchModel(f"The file {file.name} in {folder.name!r} is empty, cut short or damaged: copy the "
                              "folder again, or save it anew with save_pretrained.")
    digests = folder / DIGESTS
    if folder == TINY_FOLDER or digests.is_file():
        listed = json.loads(digests.read_text(encoding="utf-8")) if digests.is_file() else {DIGESTS: "not there"}
        for name, expected in listed.items():
            if not (folder / name).is_file() or text_digest(folder / name) != expected:
                raise NoSuchModel(f"The file {name} in {folder.name!r} is missing or damaged: get the course's files "
                                  "again, with `git checkout helpers/tiny` or a new clone.")
    if (folder / RECORD).is_file():
        try:
            check_files(folder, folder.name)
        except AdapterError as error:
            raise NoSuchModel(str(error)) from None


def _can_be_read(file: Path) -> bool:
    try:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        elif file.suffix == ".safetensors":
            with safe_open(file, "pt"):
                pass
        elif file.name == "chat_template.jinja":
            return bool(file.read_bytes().strip(b"\0 \r\n"))
    except (OSError, ValueError, RecursionError, SafetensorError):
        return False
    return True
