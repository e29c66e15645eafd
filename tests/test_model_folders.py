"""Each file of a model and its processor, damaged in each way: named before anything is made of it."""

from __future__ import annotations

import shutil

import pytest
from planted import one_sentence
from test_dataset import DAMAGE

from helpers import load_model, load_processor
from helpers.model.architecture import TINY_FOLDER
from helpers.model.folders import DIGESTS, NoSuchModel, check_folder, write_digests


def test_the_shipped_files_are_those_of_the_digests(tmp_path):
    """If they were changed on purpose: ``write_digests(TINY_FOLDER)`` of helpers.model.folders."""
    check_folder("tiny")
    copy = shutil.copytree(TINY_FOLDER, tmp_path / "copy")
    write_digests(copy)
    assert (copy / DIGESTS).read_text() == (TINY_FOLDER / DIGESTS).read_text()


@pytest.mark.parametrize("damage", DAMAGE)
def test_each_shipped_file_damaged_in_each_way_is_named(tmp_path, damage):
    folder = shutil.copytree(TINY_FOLDER, tmp_path / "copy")
    files = sorted(folder.iterdir())
    assert {"chat_template.jinja", "config.json", "model.safetensors", "processor_config.json", "tokenizer.json",
            "tokenizer_config.json"} <= {file.name for file in files}
    for file in files:
        whole = file.read_bytes()
        file.write_bytes(DAMAGE[damage](whole))
        with pytest.raises(NoSuchModel, match="damaged" if file.name == DIGESTS else file.name) as caught:
            check_folder(folder)
        one_sentence(caught.value)
        file.write_bytes(whole)
    check_folder(folder)


@pytest.mark.parametrize("load", [load_model, load_processor])
def test_no_library_gets_to_read_a_damaged_folder(tmp_path, load):
    folder = shutil.copytree(TINY_FOLDER, tmp_path / "copy")
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes()[:-3])
    with pytest.raises(NoSuchModel, match="The file tokenizer.json in 'copy' is empty, cut short or damaged"):
        load(str(folder))


def test_of_other_folders_what_can_be_seen_is_named(tmp_path):
    """Nobody knows the digests of what somebody else has saved."""
    folder = shutil.copytree(TINY_FOLDER, tmp_path / "copy")
    (folder / DIGESTS).unlink()
    for name in ("chat_template.jinja", "config.json", "model.safetensors", "processor_config.json", "tokenizer.json",
                 "tokenizer_config.json"):
        whole = (folder / name).read_bytes()
        for damage in ("empty", "zeros") if name.endswith("jinja") else ("empty", "cut", "zeros"):
            (folder / name).write_bytes(DAMAGE[damage](whole))
            with pytest.raises(NoSuchModel, match=name):
                check_folder(folder)
        (folder / name).write_bytes(whole)
    check_folder(folder)
