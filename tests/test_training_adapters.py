"""Adapters in the wrong places, or that cannot learn: each is found; healthy ones are left alone."""

from __future__ import annotations

import dataclasses
import math
import re

import pytest
import torch
from peft import LoraConfig, get_peft_model
from planted import one

from helpers import (
    LANGUAGE_MODEL_TARGETS,
    check_adapters,
    get_profile,
)

pytestmark = pytest.mark.usefixtures("one_thread")

SHORT = dataclasses.replace(get_profile("tiny"), max_steps=3, batch_size=4, warmup_steps=0, logging_steps=1,
                            eval_steps=2)


def lora(model, **options):
    return get_peft_model(model, LoraConfig(**{"r": 2, "target_modules": LANGUAGE_MODEL_TARGETS, **options}))


def test_healthy_adapters(model):
    assert check_adapters(lora(model)) == []


def test_no_adapter(model):
    assert "There is no LoRA adapter" in one(check_adapters(model))
    model.requires_grad_(False)
    assert "Nothing in the model is trainable" in one(check_adapters(model))


SUFFIXES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.mark.parametrize("options, message", [
    ({"target_modules": SUFFIXES}, r"24 trainable tensors \([\d,]+ parameters\) lie outside the language model, in the "
                                   r"audio tower"),
    ({"modules_to_save": ["lm_head"]}, "outside the language model, in the output head"),
    ({"layers_to_transform": [0, 1], "target_modules": ["o_proj"]}, r"2 of the 4 layers .* \(layers 2, 3: o_proj\)"),
    ({"target_modules": r".*language_model.*(layers\.\d\.self_attn\.q_proj|layers\.[01]\.self_attn\.v_proj)"},
     r"2 of the 4 layers .* \(layers 2, 3: v_proj\)"),
])
def test_adapters_in_the_wrong_places(model, options, message):
    assert re.search(message, one(check_adapters(lora(model, **options))))


def test_adapters_that_cannot_learn(model):
    adapted = lora(model)
    names = [name for name, _ in adapted.named_parameters() if "lora_" in name]
    frozen = dict(adapted.named_parameters())[names[3]]
    frozen.requires_grad_(False)
    assert f"1 of {len(names)} adapter tensors are frozen ({names[3]})" in one(check_adapters(adapted))
    frozen.requires_grad_(True)
    adapted.merge_adapter()
    assert "28 of 28 adapters are switched off or merged" in one(check_adapters(adapted))
    adapted.unmerge_adapter()
    with torch.no_grad():
        frozen[0, 0] = math.nan
    assert "1 of 56 adapter tensors hold NaN" in one(check_adapters(adapted))
