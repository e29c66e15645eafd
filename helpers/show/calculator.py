"""Will it fit, how long does it take, what does it cost: the questions before a run, with knobs."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from functools import lru_cache

import torch

from helpers.model.architecture import HOP, build_on_meta, read_config
from helpers.model.memory import BF16_GPUS, GB, GPU_MEMORY, HEADROOM, estimate_memory
from helpers.profiles import SAMPLING_RATE, Profile
from helpers.scale.costs import ClipFlops, count_clip_flops, estimate_cost
from helpers.show.panel import Panel, problem
from helpers.show.tables import Page, show_table

_LAYERS = r".*language_model.*\."
TARGETS = {
    "attention and feed-forward": _LAYERS + r"(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)",
    "attention": _LAYERS + r"(q_proj|k_proj|v_proj|o_proj)",
    "queries and values": _LAYERS + r"(q_proj|v_proj)",
}
"""Which matrices of the language model carry an adapter: name -> regular expression over whole module names. The first
is the course's; the last is what LoRA's authors settled on (Hu et al. 2021, section 7.1)."""


@lru_cache(maxsize=4)
def _matrices(model_id: str) -> dict[str, tuple[int, int]]:
    return {
        name: (module.in_features, module.out_features)
        for name, module in build_on_meta(model_id).named_modules()
        if isinstance(module, torch.nn.Linear)
    }


def count_adapter(model_id: str, rank: int, targets: str) -> int:
    """Parameters of an adapter: ``rank * (inputs + outputs)`` for each matrix that ``targets`` of `TARGETS` names."""
    return rank * sum(sum(shape) for name, shape in _matrices(model_id).items() if re.fullmatch(TARGETS[targets], name))


@lru_cache(maxsize=32)
def _clip_flops(model_id: str, seconds: float) -> ClipFlops:
    return count_clip_flops(build_on_meta(model_id).requires_grad_(False), seconds=seconds)


@dataclass(frozen=True)
class Plan:
    """A run on one GPU, before it is started."""

    parameters: int
    memory: int
    """Bytes at the peak of a step."""
    usable: int
    """Bytes of the GPU that may be used."""
    hours: float
    price: float

    @property
    def fits(self) -> bool:
        return self.memory <= self.usable

    def row(self) -> dict:
        """For `show_table`."""
        return {
            "adapter (million)": self.parameters / 1e6,
            "memory (GB)": self.memory / GB,
            "usable (GB)": self.usable / GB,
            "verdict": "fits" if self.fits else "too large",
            "time (h)": self.hours,
            "price ($)": self.price,
        }


def plan_run(
    profile: Profile,
    *,
    rank: int,
    targets: str,
    batch: int,
    seconds: float,
    quantize: bool,
    checkpointing: bool,
    gpu: str,
    price_per_hour: float = 1.0,
    utilisation: float = 0.1,
) -> Plan:
    """Count a run of the profile's steps, with other numbers.

    Args:
        profile: the model, the steps, and how many batches make a step.
        rank: of the adapter.
        targets: a key of `TARGETS`.
        batch: clips in one forward pass.
        seconds: of the longest clip.
        quantize: the language model in 4 bits.
        checkpointing: recompute activations.
        gpu: a key of `GPU_MEMORY`.
        price_per_hour: in dollars, of your provider.
        utilisation: share of the GPU's peak that the run reaches (see `estimate_cost`).

    Returns:
        A `Plan`. With fewer targets than the course's the activations are counted as for all of them: a little too
        much.

    Raises:
        ValueError: a number that is out of range, or an unknown GPU.
    """
    dtype = torch.bfloat16 if gpu.startswith(BF16_GPUS) else torch.float16
    memory = estimate_memory(
        profile,
        dtype=dtype,
        quantize=quantize,
        batch_size=batch,
        clip_seconds=seconds,
        checkpointing=checkpointing,
        rank=rank,
    )
    parameters = count_adapter(profile.model_id, rank, targets)
    share = 4 * parameters / max(memory.adapters, 1)
    memory = dataclasses.replace(
        memory, adapters=4 * parameters, gradients=4 * parameters, optimizer=round(memory.optimizer * share)
    )
    clips = profile.max_steps * profile.gradient_accumulation_steps * batch
    flops = _clip_flops(profile.model_id, seconds)
    cost = estimate_cost(
        clips * (flops.total - (0 if checkpointing else flops.recomputed)),
        gpu.split()[0],
        utilisation=utilisation,
        price_per_hour=price_per_hour,
    )
    return Plan(parameters, memory.total, int(GPU_MEMORY[gpu] * (1 - HEADROOM)), cost.hours, cost.price)


def calculator(profile: Profile) -> Panel:
    """Rank, targets, batch, seconds, 4 bits, checkpointing, GPU: parameters, memory, fits or not, hours, price.

    Args:
        profile: where the model, the steps and the first setting of each knob come from.
    """
    import ipywidgets

    window = 2 * read_config(profile.model_id).audio_config.max_source_positions * HOP / SAMPLING_RATE
    lengths = [length for length in (2.0, 4.0, 5.0, 10.0, 20.0, 30.0) if length <= window]
    wide = ipywidgets.Layout(width="27em")
    label = {"style": {"description_width": "10em"}, "layout": wide}
    knobs = {
        "rank": ipywidgets.Dropdown(options=[1, 4, 8, 16, 32, 64, 128], value=16, description="rank", **label),
        "targets": ipywidgets.Dropdown(options=list(TARGETS), description="adapters on", **label),
        "batch": ipywidgets.Dropdown(
            options=[1, 2, 4, 8, 16, 32], value=min(profile.batch_size, 32), description="clips a batch", **label
        ),
        "seconds": ipywidgets.Dropdown(
            options=lengths, value=min(10.0, lengths[-1]), description="longest clip (s)", **label
        ),
        "quantize": ipywidgets.Checkbox(value=False, description="4-bit weights", **label),
        "checkpointing": ipywidgets.Checkbox(
            value=profile.gradient_checkpointing, description="checkpointing", **label
        ),
        "gpu": ipywidgets.Dropdown(options=list(GPU_MEMORY), value="L4 24 GB", description="GPU", **label),
        "price_per_hour": ipywidgets.BoundedFloatText(
            value=1.0, min=0, max=1000, description="price ($ an hour)",
            tooltip="what an hour of the GPU costs", **label
        ),
        "utilisation": ipywidgets.BoundedFloatText(
            value=0.1, min=0.01, max=1, step=0.05, description="share of its peak",
            tooltip="how much of the GPU's peak rate the run reaches", **label
        ),
    }
    result = ipywidgets.HTML()

    def settings() -> dict:
        return {name: knob.value for name, knob in knobs.items()}

    def update(_=None) -> None:
        try:
            plan = plan_run(profile, **settings())
            clips = profile.gradient_accumulation_steps * knobs["batch"].value
            result.value = (f"{show_table([plan.row()]).data}<p>{profile.max_steps} steps of {clips} clips. The price "
                            "and the share are yours to set; everything else is counted.</p>")
        except Exception as error:
            result.value = problem(error)

    for knob in knobs.values():
        knob.observe(update, names="value")
    update()
    return Panel(ipywidgets.VBox([*knobs.values(), result]), _static(profile, settings()))


def _static(profile: Profile, first: dict) -> Page:
    """The same for a few settings, one changed at a time."""
    changes = {
        "as set": {},
        "rank 64": {"rank": 64},
        "attention alone": {"targets": "attention"},
        "1 clip a batch": {"batch": 1},
        "4-bit weights": {"quantize": True},
        "other checkpointing": {"checkpointing": not first["checkpointing"]},
        "T4 16 GB": {"gpu": "T4 16 GB"},
        "H100 80 GB": {"gpu": "H100 80 GB"},
    }
    rows = [{"setting": name, **plan_run(profile, **{**first, **change}).row()} for name, change in changes.items()]
    table = show_table(rows)
    note = f"{first['gpu']}, one setting changed at a time; with a running kernel, the knobs are yours."
    return Page(f"{table.data}<p>{note}</p>", f"{table.text}\n{note}")
