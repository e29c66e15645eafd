"""The two profiles, as data. ``COURSE_PROFILE`` says which one is on; no notebook cell ever branches on it.

``COURSE_TRIAL`` changes single numbers of it for a quick trial, for example to see in minutes whether the full
profile runs on a new machine before it trains for hours::

    COURSE_PROFILE=full COURSE_TRIAL="max_steps=4 eval_steps=2 train_clips=64 eval_clips=8 test_clips=8"

A trial keeps its results apart (``runs/full-trial``), so its adapter is never taken for one trained in earnest. So does
``get_profile(lora_rank=4, max_steps=50)`` in a notebook (``runs/tiny-play-`` and eight digits for these numbers).
"""

import dataclasses
import hashlib
import json
import math
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import get_type_hints

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds ``notebooks/`` and ``helpers/``."""

RUNS = ROOT / Path(os.environ.get("COURSE_RUNS") or "runs").expanduser()
"""Where adapters and checkpoints go (not in git). ``COURSE_RUNS`` moves it; a relative path begins at `ROOT`, so that
it means the same from every folder."""

TINY = "tiny"
"""As a model: the one that lies in ``helpers/tiny/weights``. As a data set: the sounds that the course makes itself."""

SAMPLING_RATE = 16_000
"""Samples a second, in Hz: what Audio Flamingo 3 was trained on."""

DESCRIBE_PROMPT = "Describe the audio."
"""The question that the course asks, in training and afterwards."""


@dataclass(frozen=True)
class License:
    """Terms that an adapter inherits from the weights it was trained on, as the Hub's metadata names them."""

    name: str
    link: str
    terms: str
    """For people, as the end of a sentence."""


@dataclass(frozen=True)
class Profile:
    """Everything that differs between learning on a laptop and doing it for real.

    The fields of the ``full`` profile are the numbers of the public task guide for Audio Flamingo 3.
    """

    name: str
    model_id: str
    """What `load_model` takes: a Hub id, or ``"tiny"`` for the model shipped here."""
    dataset_id: str
    """What `load_captions` takes: a Hub id, or ``"tiny"`` for the sounds made here."""
    learning_rate: float
    max_steps: int
    batch_size: int
    """Clips in one forward pass, in training and in evaluation."""
    gradient_accumulation_steps: int
    logging_steps: int
    eval_steps: int
    save_steps: int
    gradient_checkpointing: bool
    caption_batch_size: int
    """Clips captioned at once."""
    warmup_steps: int = 0
    train_clips: int = 1000
    eval_clips: int = 100
    test_clips: int = 200
    """Clips of the test split that notebook 06 measures; AudioCaps' whole test split has 975."""
    lora_rank: int = 16
    lora_alpha: int = 32
    lora_dropout: float = 0.05
    hub_model_id: str | None = None
    """Where the adapter is shared; ``None`` keeps it on this machine."""
    license: License | None = None
    """What the base model's weights, and so the adapter, may be used for; ``None``: nobody else's weights are in it."""
    least_changed: float = 0.0
    """The share of its captions that notebook 04 demands to differ from the base model's; 0 where nobody measured."""
    measured: bool = False
    """Whether anybody has run the notebooks in this profile and seen hold what they say of trained models."""
    needs_gpu: bool = False
    """Whether the doctor objects to a machine without a CUDA GPU."""
    least_memory_gb: float = 0.0
    """Free memory that the doctor asks for; 0: what `estimate_memory` says of the profile's model."""
    least_disk_gb: float = 0.5
    """Free disk space for what is downloaded or made, and for results."""

    def expect(self, claim: str, holds: bool) -> None:
        """Print whether a claim about a trained model holds; in a profile that has been `measured` it must (else an
        ``AssertionError``)."""
        print(f"{claim}: {bool(holds)}")
        assert holds or not self.measured, f"Expected, and not found: {claim}."  # nosec B101: a notebook's assertion

    @property
    def runs(self) -> Path:
        """Folder of this profile's results."""
        return RUNS / self.name

    @property
    def adapter(self) -> Path:
        """Folder of the adapter and processor that notebook 03 saves and the later ones load."""
        return self.runs / "adapter"


PROFILES = {
    "tiny": Profile(name="tiny", model_id=TINY, dataset_id=TINY, learning_rate=3e-3, warmup_steps=10, max_steps=300,
                    batch_size=8, gradient_accumulation_steps=1, logging_steps=10, eval_steps=100, save_steps=150,
                    gradient_checkpointing=False, caption_batch_size=32, least_changed=1.0, measured=True),
    "full": Profile(
        name="full", model_id="nvidia/audio-flamingo-3-hf", dataset_id="OpenSound/AudioCaps", learning_rate=1e-4,
        max_steps=500, batch_size=4, gradient_accumulation_steps=4, logging_steps=10, eval_steps=100, save_steps=250,
        gradient_checkpointing=True, caption_batch_size=8, hub_model_id="audio-flamingo-3-audiocaps-lora",
        license=License("nvidia-oneway-noncommercial-license", "https://huggingface.co/nvidia/audio-flamingo-3-hf",
                        "for non-commercial research only (NVIDIA OneWay Noncommercial License)"),
        needs_gpu=True, least_disk_gb=45,  # 16.5 GB of 16-bit weights, as much again once they are merged, checkpoints
    ),
}


def _kinds() -> dict[str, object]:
    """Field -> type: all but what says which profile it is."""
    return {name: kind for name, kind in get_type_hints(Profile).items() if name not in ("name", "license")}


def check_change(name: str, value: object) -> object:
    """A new value for a field of a profile, as the field's own type; a ValueError if it cannot have this value."""
    if name not in _kinds():
        raise ValueError(f"A profile has no field {name!r} to change: choose from {', '.join(_kinds())}.")
    kind, example = _kinds()[name], getattr(PROFILES["tiny"], name) or getattr(PROFILES["full"], name)
    if kind in (int, float):
        zero = name.startswith("least_") or name in ("warmup_steps", "lora_dropout")
        below_one = name in ("lora_dropout", "learning_rate")
        good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        good = good and kind(value) == value and (0 if zero else 1e-300) <= value < (1 if below_one else math.inf)
        what = f"a {'whole ' if kind is int else ''}number {'of at least' if zero else 'above'} 0"
        what += " and below 1" if below_one else ""
    elif kind is bool:
        good, what = isinstance(value, bool), "True or False"
    else:
        good, what = isinstance(value, str) and bool(value.strip()), "a text"
    if not good:
        raise ValueError(f"{name} cannot be {value!r}: it takes {what}, such as {example!r}.")
    return kind(value) if kind in (int, float) else value


def with_changes(profile: Profile, changes: str) -> Profile:
    """A profile for a trial, ``"field=value field=value ..."``; a ValueError if it cannot be understood."""
    values = {}
    for change in changes.replace(",", " ").split():
        name, _, text = change.partition("=")
        with suppress(ValueError):  # "4", "1e-3", "true"; any other text is a text, or refused
            text = json.loads(text.lower()) if _kinds().get(name) in (bool, int, float) else text
        try:
            values[name] = check_change(name, text)
        except ValueError as error:
            raise ValueError(f"COURSE_TRIAL cannot hold {change!r} (write field=value): {error}") from None
    return _changed(profile, values, "trial") if values else profile


def _changed(profile: Profile, values: dict, suffix: str) -> Profile:
    """``profile`` with other values and a name of its own, unmeasured; a short run warms up for half of it at most."""
    steps = values.get("max_steps", profile.max_steps)
    if values.get("warmup_steps", 0) > steps:
        raise ValueError(f"warmup_steps cannot be {values['warmup_steps']}: the run has {steps} steps, so the learning "
                         f"rate would never arrive; {steps // 10} is a tenth of them.")
    unknown = {"least_changed": 0.0, "measured": False}
    values = {"warmup_steps": min(profile.warmup_steps, steps // 2), **unknown, **values}
    return dataclasses.replace(profile, name=f"{profile.name}-{suffix}", **values)


def get_profile(name: str | None = None, **changes) -> Profile:
    """The profile that is on, with the changes that ``COURSE_TRIAL`` makes to it, and then those given here.

    Args:
        name: ``"tiny"`` or ``"full"``, as they are; by default the environment variable ``COURSE_PROFILE``, else
            ``"tiny"``, and then ``COURSE_TRIAL`` counts too.
        **changes: other numbers to play with, such as ``lora_rank=4, max_steps=50``; each choice of numbers has a
            folder of results of its own.

    Raises:
        ValueError: no such profile, a field cannot be changed in this way, or ``COURSE_TRIAL`` cannot be understood.
    """
    trial = "" if name else os.environ.get("COURSE_TRIAL", "")
    name = name or os.environ.get("COURSE_PROFILE") or "tiny"
    if not isinstance(name, str) or name not in PROFILES:
        raise ValueError(f"There is no profile {name!r}: set COURSE_PROFILE to one of "
                         f"{', '.join(map(repr, PROFILES))}, or leave it unset for 'tiny'.")
    profile = with_changes(PROFILES[name], trial)
    values = {field: check_change(field, value) for field, value in changes.items()}
    values = {field: value for field, value in values.items() if value != getattr(profile, field)}
    chosen = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8]
    return _changed(profile, values, f"play-{chosen}") if values else profile
