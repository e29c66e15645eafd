"""Operations of a training run of the 8.27 B model, counted on the meta device: the guide's recipe and the course's."""

from __future__ import annotations

import torch
from peft import get_peft_model
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from helpers.model.architecture import build_on_meta, count_audio_tokens
from helpers.model.memory import BF16_GPUS, GPU_MEMORY, HEADROOM, estimate_memory
from helpers.profiles import get_profile
from helpers.scale.costs import count_clip_flops
from helpers.training.recipe import lora_config
from tests.benchmarks.guide import guide_lora_config

SECONDS, TEXT_TOKENS, ANSWER_TOKENS = 10.0, 40, 16


def count_guide_flops(model: torch.nn.Module) -> int:
    """Operations of the guide for one clip: whole windows, logits of all positions, activations computed twice, and a
    backward pass through the audio tower too, in which its list of suffixes has put adapters.

    Args:
        model: an AF3 with the guide's adapters, on the meta device.
    """
    base = model.get_base_model()
    audio, text, dtype = base.config.audio_config, base.config.text_config, base.dtype
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):  # as in `count_clip_flops`
        frames = 2 * audio.max_source_positions
        features = torch.empty(1, audio.num_mel_bins, frames, device=base.device, dtype=dtype)
        mask = torch.ones(1, frames, device=base.device, dtype=torch.long)
        chat = torch.empty(1, TEXT_TOKENS, text.hidden_size, device=base.device, dtype=dtype)
        with FlopCounterMode(display=False) as counter:
            heard = base.model.audio_tower(features, input_features_mask=mask).last_hidden_state
            encoder = counter.get_total_flops()
            heard = base.model.multi_modal_projector(heard)[:, : count_audio_tokens(SECONDS, base.config)]
            before = counter.get_total_flops()
            states = base.model.language_model(inputs_embeds=torch.cat([heard, chat], dim=1)).last_hidden_state
            layers = counter.get_total_flops() - before
            base.lm_head(states).sum().backward()
        return counter.get_total_flops() + encoder + layers


def checkpointing_is_off(gpu: str) -> bool:
    """Whether the course trains without checkpointing on this GPU, as `choose_checkpointing` decides it: a model as
    `choose_hardware` loads it, and nothing else on the GPU."""
    way = {"dtype": torch.bfloat16} if gpu.startswith(BF16_GPUS) else {"dtype": torch.float32, "quantize": True}
    need = estimate_memory(get_profile("full"), checkpointing=False, **way)
    return need.total - need.weights <= (GPU_MEMORY[gpu] - need.weights) * (1 - HEADROOM)


def count_operations() -> dict:
    """Operations of both recipes over the guide's run, in all: ``guide``; ``course``, by checkpointing ``on`` and
    ``off``; and ``off_on``, the GPUs where it is off."""
    profile = get_profile("full")
    clips = profile.max_steps * profile.batch_size * profile.gradient_accumulation_steps
    guide, course = (get_peft_model(build_on_meta(), config(profile), low_cpu_mem_usage=True)
                     for config in (guide_lora_config, lora_config))
    return {
        "clips": clips,
        "guide": clips * count_guide_flops(guide),
        "course": {name: clips * count_clip_flops(course, seconds=SECONDS, text_tokens=TEXT_TOKENS,
                                                  answer_tokens=ANSWER_TOKENS, checkpointing=name == "on").total
                   for name in ("on", "off")},
        "off_on": [gpu for gpu in GPU_MEMORY if checkpointing_is_off(gpu)],
    }
