"""What transformers' own server lacks for AF3: strict tests that fail on the day on which it lacks it no more."""

from __future__ import annotations

import pytest
import torch
from serve_client import features
from transformers.models.auto import modeling_auto

pytest.importorskip("openai")
pytest.importorskip("uvicorn")

STOCK_TABLE = dict(modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES)
"""As transformers has it, before anything here is repaired."""


# --- the repairs: these tests fail, strictly, on the day on which transformers needs them no more ---------------------


@pytest.mark.xfail(strict=True, raises=ValueError, reason="transformers' server does not know AF3's class; if this "
                   "passes, take the table's line out of helpers.serve.server.repair")
def test_stock_server_knows_the_class(model, monkeypatch):
    from transformers.cli.serving.model_manager import ModelManager

    monkeypatch.setattr(modeling_auto, "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", dict(STOCK_TABLE))
    assert ModelManager.get_model_modality(model).name == "MULTIMODAL"


@pytest.mark.xfail(strict=True, raises=RuntimeError, reason="nobody casts the features to 16-bit weights; if this "
                   "passes, take the hook out of helpers.serve.server.repair")
def test_stock_model_casts_features(model, processor, test_clips):
    model.to(torch.bfloat16).generate(**features(processor, test_clips[0]["audio"]["array"]), max_new_tokens=1)


def test_repaired_16_bit_weights_answer(model, processor, test_clips, monkeypatch):
    from helpers.serve.server import repair

    monkeypatch.setattr(modeling_auto, "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", {})
    hooks = len(model.model.audio_tower._forward_pre_hooks)
    repair(model)
    repair(model)
    assert {model.config.model_type: type(model).__name__} == modeling_auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES
    assert len(model.model.audio_tower._forward_pre_hooks) == hooks + 1
    inputs = features(processor, test_clips[0]["audio"]["array"])
    tokens = model.to(torch.bfloat16).generate(**inputs, max_new_tokens=2, do_sample=False)
    assert tokens.shape[1] == inputs["input_ids"].shape[1] + 2
