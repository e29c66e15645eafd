"""What `helpers.model.spare` leaves out changes nothing: against the library's own classes, loaded by themselves."""

from __future__ import annotations

import pytest
import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from peft import LoraConfig, get_peft_model
from transformers import AudioFlamingo3ForConditionalGeneration

from helpers import AudioFlamingo3DataCollator, get_profile, load_captions, load_model
from helpers.model.architecture import TINY_FOLDER
from helpers.model.spare import LaterDropout, SparingLinear, SparingMLP, spare_dropout, spare_gate
from helpers.training.recipe import lora_config

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def batch(processor):
    return AudioFlamingo3DataCollator(processor, trim_windows=False)(list(load_captions("tiny", "train").take(4)))


def _step(model, batch, lean: bool, checkpointing: bool) -> tuple[torch.Tensor, dict[str, torch.Tensor], int]:
    """Loss, gradients, and bytes kept for the backward pass (each tensor once) of a first step with dropout."""
    torch.manual_seed(1)
    adapted = get_peft_model(model, lora_config(get_profile("tiny")))
    adapted = spare_dropout(adapted) if lean else adapted
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:  # zeros would hide the first matrix's gradient
            torch.nn.init.normal_(parameter, std=0.02)
    if checkpointing:
        adapted.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    lasting, kept = {parameter.untyped_storage().data_ptr() for parameter in adapted.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in lasting:
            kept[tensor.untyped_storage().data_ptr()] = tensor  # alive, so that no other takes its address
        return tensor

    torch.manual_seed(7)
    with (torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
          torch.autocast("cpu", torch.bfloat16, enabled=model.dtype != torch.float32)):
        loss = adapted.train()(**batch).loss
    loss.backward()
    gradients = {name: value.grad for name, value in adapted.named_parameters() if value.grad is not None}
    return loss.detach(), gradients, sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_step_learns_the_same_bit_for_bit_and_keeps_less(batch, dtype, checkpointing):
    lean, plain = load_model(quiet=True, dtype=dtype), AudioFlamingo3ForConditionalGeneration.from_pretrained(
        TINY_FOLDER, dtype=dtype)
    assert sum(type(module) is SparingMLP for module in lean.modules()) == lean.config.text_config.num_hidden_layers
    (loss, gradients, kept), (own_loss, own_gradients, own_kept) = (
        _step(model, batch, model is lean, checkpointing) for model in (lean, plain))
    assert torch.equal(loss, own_loss) and gradients.keys() == own_gradients.keys()
    assert len(gradients) == 2 * 7 * lean.config.text_config.num_hidden_layers
    assert all(gradient.any() and torch.equal(gradient, own_gradients[name]) for name, gradient in gradients.items())
    if not checkpointing:
        assert kept < 0.8 * own_kept


@pytest.mark.parametrize("probability", [0.05, 0.15, 1.0])
def test_dropout_drops_the_same_numbers_and_answers_drop_none(probability):
    class Layer(torch.nn.Module):
        """As peft's, with what `spare_dropout` looks at."""

        def __init__(self):
            super().__init__()
            self.lora_dropout = torch.nn.ModuleDict({"default": torch.nn.Dropout(probability)})
            self.lora_A = torch.nn.ModuleDict({"default": torch.nn.Linear(30, 4, bias=False)})

        def forward(self, x):
            return self.lora_A["default"](self.lora_dropout["default"](x))

    plain = Layer()
    lean = Layer()
    lean.load_state_dict(plain.state_dict())
    assert spare_dropout(lean) is lean and type(lean.lora_A["default"]) is SparingLinear
    assert lean.state_dict().keys() == plain.state_dict().keys()
    found, kept = [], []
    for layer in (plain, lean):
        torch.manual_seed(3)
        x, weight = torch.ones(5, 8, 30, requires_grad=True), layer.lora_A["default"].weight
        sizes, own = [], {x.data_ptr(), weight.data_ptr()}  # which are there in any case

        def keep(tensor, sizes=sizes, own=own):
            sizes.append(0 if tensor.data_ptr() in own else tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            answer = layer(x)
        answer.square().sum().backward()
        found.append((answer.detach(), x.grad, weight.grad))
        kept.append(sum(sizes))
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert 0 < kept[1] <= min(x.numel(), kept[0] / 4)
    assert (found[1][1] == 0).any() and (probability == 1) == (not found[1][1].any())
    x = torch.randn(3, 30)
    lean.lora_dropout["default"].p = 0.0  # as somebody who wants none may set it
    assert torch.equal(lean(x), plain.eval()(x))
    lean.lora_dropout["default"].p = probability
    assert torch.equal(lean.eval()(x), plain(x))


def test_a_variant_of_lora_is_left_as_it_is():
    """DoRA takes the dropout's result for itself."""
    layer = torch.nn.ModuleDict({"q_proj": torch.nn.Linear(8, 8)})
    adapted = get_peft_model(layer, LoraConfig(target_modules=["q_proj"], lora_dropout=0.1, use_dora=True))
    spare_dropout(adapted)
    assert not any(isinstance(module, SparingLinear | LaterDropout) for module in adapted.modules())
    assert sum(type(module) is torch.nn.Dropout for module in adapted.modules()) == 1


def test_the_gate_is_spared_where_accelerate_has_put_its_hooks(batch):
    model = AudioFlamingo3ForConditionalGeneration.from_pretrained(TINY_FOLDER, dtype=torch.float32)
    layers = model.model.language_model.layers
    for layer in layers:
        add_hook_to_module(layer.mlp, AlignDevicesHook(execution_device="cpu", io_same_device=True))
    plain = model(**batch).loss
    spare_gate(model)
    loss = model(**batch).loss
    assert torch.equal(loss, plain)
    seen, todo = set(), {loss.grad_fn}
    while todo:
        node = todo.pop()
        seen.add(node)
        todo |= {before for before, _ in node.next_functions if before is not None} - seen
    assert sum(node.name() == "_GateBackward" for node in seen) == len(layers)


def test_keys_and_values_are_kept_for_captions_and_not_while_training(processor):
    """Trainer's ``use_cache=False`` reaches the outer configuration alone."""
    model, clips = load_model(quiet=True), list(load_captions("tiny", "train").take(2))
    batch = AudioFlamingo3DataCollator(processor)(clips)
    model.config.use_cache = False
    assert model(**batch).past_key_values is not None
    assert model.train()(**batch).past_key_values is None


def test_the_head_gets_the_last_positions_in_one_piece_and_scores_them_the_same(processor):
    model, clips = load_model(quiet=True), list(load_captions("tiny", "train").take(3))
    stock = type(model).from_pretrained(TINY_FOLDER, dtype=model.dtype).eval()
    batch, whole = AudioFlamingo3DataCollator(processor, trim_windows=False)(clips), []
    model.lm_head.register_forward_hook(lambda head, args, logits: whole.append(args[0].is_contiguous()))
    with torch.no_grad():
        ours, theirs = model(**batch), stock(**batch)
    assert whole == [True] and ours.logits.shape[:2] == batch["labels"].shape
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-4)
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), rel=1e-5)
