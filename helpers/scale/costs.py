"""What a run costs: floating-point operations counted on a model without weights, then time and money by GPU type.

The operations are counted, not estimated. Everything after that is arithmetic with two assumptions that the caller
states: which share of its peak a GPU reaches, and what an hour of it costs.
"""

import math
from dataclasses import dataclass

import torch

from helpers.audio.windows import MARGIN
from helpers.model.architecture import HOP, check_estimated, count_audio_tokens
from helpers.profiles import SAMPLING_RATE

PEAK_FLOPS = {"T4": 65e12, "L4": 121e12, "A100": 312e12, "H100": 989e12}
"""Peak of dense 16-bit matrix products with float32 sums, in operations a second, from NVIDIA's data sheets: T4
(float16), L4, A100 and H100 SXM (bfloat16). Where a sheet gives the figure "with sparsity", this is half of it."""


@dataclass(frozen=True)
class ClipFlops:
    """Floating-point operations to train on one clip; a multiplication and an addition count as two."""

    encoder: int
    """The frozen audio tower and the projector, forward alone: nothing there has to be learned."""
    forward: int
    """The language model, and the logits that are kept."""
    backward: int
    """Through the language model down to the first adapter. Frozen matrices pass gradients on but have none of their
    own, so this is about as much as the forward pass, not twice as much."""
    recomputed: int
    """What checkpointing computes once more; 0 without it."""

    @property
    def total(self) -> int:
        return self.encoder + self.forward + self.backward + self.recomputed


def count_clip_flops(model: torch.nn.Module, *, seconds: float = 10.0, text_tokens: int = 40, answer_tokens: int = 16,
                     checkpointing: bool = True, trim_windows: bool = True) -> ClipFlops:
    """Count what one optimizer step does for one clip, on tensors that have shapes but no content: in seconds.

    Args:
        model: an AF3 with an adapter, best on the meta device (see `build_on_meta`).
        seconds: length of the clip, at most one window of the encoder.
        text_tokens: tokens of the chat besides the audio, answer included.
        answer_tokens: positions whose logits are kept.
        checkpointing: activations are computed again in the backward pass.
        trim_windows: the encoder's window is as long as the clip (see `helpers.audio.windows`), not whole.

    Raises:
        ValueError: the clip is longer than one window, or has no length.
        UnknownModel: it is not of AF3's family.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    check_estimated(base.config)
    audio, text = base.config.audio_config, base.config.text_config
    window = 2 * audio.max_source_positions  # the second convolution has stride 2
    if not 0 < seconds * SAMPLING_RATE <= window * HOP:
        raise ValueError(f"A clip of {seconds} s does not fit into one window of {window * HOP / SAMPLING_RATE:g} s: "
                         "give its length in seconds, or count its windows one by one.")
    device, dtype = base.device, base.dtype
    # Fake tensors: the encoder's mask code looks into its mask, which a plain tensor on the meta device cannot show.
    # Attention as plain products: the counter does not know the CPU's fused kernel, and would count nothing for it.
    with FakeTensorMode(allow_non_fake_inputs=True), sdpa_kernel(SDPBackend.MATH):
        frames = min(math.ceil(seconds * SAMPLING_RATE / HOP) + MARGIN, window) if trim_windows else window
        features = torch.empty(1, audio.num_mel_bins, frames, device=device, dtype=dtype)
        mask = torch.ones(1, frames, device=device, dtype=torch.long)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            heard = base.model.audio_tower(features, input_features_mask=mask).last_hidden_state
            base.model.multi_modal_projector(heard)
        encoder = counter.get_total_flops()
        positions = count_audio_tokens(seconds, base.config) + text_tokens
        embeddings = torch.empty(1, positions, text.hidden_size, device=device, dtype=dtype, requires_grad=True)
        with FlopCounterMode(display=False) as counter:
            states = base.model.language_model(inputs_embeds=embeddings).last_hidden_state
            layers = counter.get_total_flops()
            logits = base.lm_head(states[:, -answer_tokens:])
            forward = counter.get_total_flops()
            logits.sum().backward()
        backward = counter.get_total_flops() - forward
    return ClipFlops(encoder, forward, backward, layers if checkpointing else 0)


@dataclass(frozen=True)
class RunCost:
    """An estimate of a whole run on GPUs of one kind."""

    gpu: str
    hours: float
    price: float
    """For all GPUs together, in the currency of the price by the hour."""


def estimate_cost(flops: float, gpu: str, *, utilisation: float, price_per_hour: float, gpus: int = 1) -> RunCost:
    """Time and money for ``flops`` operations, shared equally by ``gpus`` GPUs (``gpu``: a key of `PEAK_FLOPS`), of
    which each costs ``price_per_hour``. An estimate: it is as good as its assumptions.

    ``utilisation`` is the share of the peak that the run reaches. Large language models trained in 16 bits on many
    accelerators report some 0.2 to 0.5 ("model FLOPs utilisation", Chowdhery et al., 2022, PaLM, table 3); small
    batches, 4-bit weights and a slow data loader reach less. A ``ValueError`` where a number is out of range.
    """
    if gpu not in PEAK_FLOPS:
        raise ValueError(f"There is no peak on record for the GPU {gpu!r}: choose one of {', '.join(PEAK_FLOPS)}, or "
                         "add it to PEAK_FLOPS.")
    if not 0 < utilisation <= 1:
        raise ValueError(f"A utilisation of {utilisation} is impossible: it is a share of the peak, from 0 to 1.")
    if gpus < 1 or price_per_hour < 0:
        raise ValueError(f"{gpus} GPUs at {price_per_hour} an hour: give at least one GPU, and no negative price.")
    hours = flops / (gpus * PEAK_FLOPS[gpu] * utilisation) / 3600
    return RunCost(gpu, hours, hours * gpus * price_per_hour)
