"""What an adapter touches, and adapters that must not be put on a model."""

from __future__ import annotations

import json
import re

import pytest
from peft import LoraConfig, PeftModel, get_peft_model

from helpers import LANGUAGE_MODEL_TARGETS, AdapterError, check_adapter, load_model, lora_report

SUFFIXES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def test_the_expression_touches_the_language_model_alone(model):
    total = model.num_parameters()
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=LANGUAGE_MODEL_TARGETS))
    report = lora_report(adapted)
    layers = model.config.text_config.num_hidden_layers
    assert dict(report.adapters["language model"]) == dict.fromkeys(SUFFIXES, layers)
    assert not any(report.adapters[part] for part in report.adapters if part != "language model")
    assert report.trainable["audio tower"] == 0
    assert report.total_trainable == sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert sum(report.parameters.values()) == total


def test_the_guides_suffix_list_reaches_into_the_tower(model):
    report = lora_report(get_peft_model(model, LoraConfig(r=4, target_modules=SUFFIXES)))
    assert set(report.adapters["audio tower"]) == {"q_proj", "k_proj", "v_proj"}
    assert report.trainable["audio tower"] > 0


def test_rank_counts_as_it_should(model):
    rank = 4
    expected = sum(
        rank * (module.in_features + module.out_features)
        for name, module in model.named_modules() if re.fullmatch(LANGUAGE_MODEL_TARGETS, name)
    )
    report = lora_report(get_peft_model(model, LoraConfig(r=rank, target_modules=LANGUAGE_MODEL_TARGETS)))
    assert report.total_trainable == expected


@pytest.fixture
def adapter(model, tmp_path):
    folder = tmp_path / "adapter"
    get_peft_model(model, LoraConfig(r=2, target_modules=LANGUAGE_MODEL_TARGETS)).save_pretrained(folder)
    return folder


def test_a_fitting_adapter_is_accepted_and_loads(adapter, base_model):
    assert check_adapter(base_model, adapter) == adapter
    assert lora_report(PeftModel.from_pretrained(load_model(quiet=True), adapter)).adapters["language model"]


def test_no_adapter_at_all(base_model, tmp_path):
    with pytest.raises(AdapterError, match="There is no adapter in"):
        check_adapter(base_model, tmp_path)


def _edit(adapter, **values):
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_an_adapter_for_another_base(adapter, base_model):
    _edit(adapter, base_model_name_or_path="nvidia/audio-flamingo-3-hf")
    with pytest.raises(AdapterError, match="trained on nvidia/audio-flamingo-3-hf, not on"):
        check_adapter(base_model, adapter)


def test_the_same_base_in_another_place_is_the_same_base(adapter, base_model):
    _edit(adapter, base_model_name_or_path="somewhere/else/helpers/tiny/weights")
    assert check_adapter(base_model, adapter) == adapter


def test_an_adapter_of_other_shapes(adapter, base_model):
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    save_file({name: value[:, :-1].contiguous() if "lora_A" in name else value for name, value in weights.items()},
              adapter / "adapter_model.safetensors")
    with pytest.raises(AdapterError, match=r"does not fit .* \(at .*_proj\)"):
        check_adapter(base_model, adapter)


@pytest.mark.parametrize("keep", [0, 4, 500, -100])
def test_an_adapter_cut_short(adapter, base_model, keep):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(AdapterError, match="is broken"):
        check_adapter(base_model, adapter)
