"""The two profiles, as data. ``COURSE_PROFILE`` says which one is on; no notebook cell ever branches on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The folder that holds ``notebooks/`` and ``helpers/``."""

RUNS = Path(os.environ.get("COURSE_RUNS", ROOT / "runs"))
"""Where adapters and checkpoints go (not in git). ``COURSE_RUNS`` moves it."""


@dataclass(frozen=True)
class Profile:
    """Everything that differs between learning on a laptop and doing it for real.

    The fields of the ``full`` profile are the numbers of the public task guide for Audio Flamingo 3.
    """

    name: str
    model_id: str
    """What `load_model` and `load_processor` take: a Hub id, or ``"tiny"`` for the model shipped here."""
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
    least_event_f1: float = 0.0
    """What notebook 04 demands of the fine-tuned captions; 0 where nobody has measured it yet."""
    least_disk_gb: float = 0.5
    """Free disk space for what is downloaded or made, and for results."""

    @property
    def runs(self) -> Path:
        """Folder of this profile's results."""
        return RUNS / self.name

    @property
    def adapter(self) -> Path:
        """Folder of the adapter and processor that notebook 03 saves and the later ones load."""
        return self.runs / "adapter"


PROFILES = {
    "tiny": Profile(
        name="tiny",
        model_id="tiny",
        dataset_id="tiny",
        learning_rate=4e-3,
        warmup_steps=10,
        max_steps=200,
        batch_size=8,
        gradient_accumulation_steps=1,
        logging_steps=10,
        eval_steps=50,
        save_steps=100,
        gradient_checkpointing=False,
        caption_batch_size=32,
        least_event_f1=0.85,
    ),
    "full": Profile(
        name="full",
        model_id="nvidia/audio-flamingo-3-hf",
        dataset_id="OpenSound/AudioCaps",
        learning_rate=1e-4,
        max_steps=500,
        batch_size=4,
        gradient_accumulation_steps=4,
        logging_steps=10,
        eval_steps=100,
        save_steps=250,
        gradient_checkpointing=True,
        caption_batch_size=8,
        hub_model_id="audio-flamingo-3-audiocaps-lora",
        least_disk_gb=25,  # 16.5 GB of 16-bit weights, and checkpoints
    ),
}


def get_profile(name: str | None = None) -> Profile:
    """The profile that is on.

    Args:
        name: ``"tiny"`` or ``"full"``; by default the environment variable ``COURSE_PROFILE``, else ``"tiny"``.

    Raises:
        ValueError: there is no such profile.
    """
    name = name or os.environ.get("COURSE_PROFILE") or "tiny"
    if name not in PROFILES:
        raise ValueError(
            f"There is no profile {name!r}: set COURSE_PROFILE to one of {', '.join(map(repr, PROFILES))}, "
            "or leave it unset for 'tiny'."
        )
    return PROFILES[name]
