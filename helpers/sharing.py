"""The model card: what whoever finds the adapter on the Hub has to know."""

from collections.abc import Sequence
from pathlib import Path

from helpers.hub import is_hub_id
from helpers.metrics import SCORES
from helpers.model.loading import TINY_TITLE
from helpers.profiles import TINY, Profile
from helpers.setup.requirements import installed_version
from helpers.systems import move

CARD_LIBRARIES = ("torch", "transformers", "peft", "datasets", "accelerate")
MEASURES = {"eval_loss": "loss (nats a token)", **SCORES}
"""What a card reports, where the log has it: key in the log -> name for people."""
METRIC_IDS = {"eval_cider_d": "cider", "eval_event_f1": "f1"}
"""The Hub's names for those of them that it knows."""

_USE_OF_HUB = """from peft import PeftModel
from transformers import AudioFlamingo3ForConditionalGeneration, AutoProcessor

base = AudioFlamingo3ForConditionalGeneration.from_pretrained("{base}", dtype="auto", device_map="auto")
model = PeftModel.from_pretrained(base, "the id of this repository")
processor = AutoProcessor.from_pretrained("the id of this repository")"""

_USE_OF_TINY = """from peft import PeftModel

from helpers import check_adapter, load_model  # of the course, which brings the base model

base = load_model("tiny")
model = PeftModel.from_pretrained(base, check_adapter(base, "the folder with this file"))"""


def write_model_card(folder: Path, profile: Profile, log_history: Sequence[dict], processes: int = 1) -> Path:
    """Write ``README.md`` into the folder of `save_adapter`, where `peft` leaves a template with empty headings.

    Args:
        log_history: ``trainer.state.log_history``; its first and last evaluation are reported.
        processes: that trained together, each on ``batch_size`` clips.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    from huggingface_hub import ModelCard, ModelCardData

    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder.name!r} for a model card: save the adapter first.")
    evaluations = [row for row in log_history if "eval_loss" in row]
    terms = profile.license
    data = ModelCardData(
        base_model=profile.model_id if is_hub_id(profile.model_id) else None,
        datasets=[profile.dataset_id] if is_hub_id(profile.dataset_id) else None,
        library_name="peft", pipeline_tag="audio-text-to-text", language="en",
        tags=["lora", "audio-captioning", "audio-flamingo-3"],
        metrics=[name for key, name in METRIC_IDS.items() if any(key in row for row in evaluations)] or None,
        **({"license": "other", "license_name": terms.name, "license_link": terms.link} if terms else {}),
    )
    file, unfinished = folder / "README.md", folder / "README.md.unfinished"
    card = ModelCard(f"---\n{data.to_yaml()}\n---\n\n{_text(profile, evaluations, processes)}")
    unfinished.write_text(str(card), encoding="utf-8")
    move(unfinished, file)
    return file


def _link(repo_id: str, folder: str = "") -> str:
    return f"[{repo_id}](https://huggingface.co/{folder}{repo_id})"


def _text(profile: Profile, evaluations: Sequence[dict], processes: int) -> str:
    """The card below its metadata."""
    shared_base = is_hub_id(profile.model_id)
    title = "Audio Flamingo 3" if shared_base else TINY_TITLE.lower()
    base = _link(profile.model_id) if shared_base else TINY_TITLE.lower()
    use = _USE_OF_HUB.format(base=profile.model_id) if shared_base else _USE_OF_TINY
    own_sounds, shared_data = profile.dataset_id == TINY, is_hub_id(profile.dataset_id)
    data = (_link(profile.dataset_id, "datasets/") if shared_data else
            "Procedural sounds with captions in AudioCaps' style" if own_sounds else
            "Recordings that are not published here")
    extent = "all clips to train on, and those of its validation split, if it has one, to evaluate on"
    if own_sounds or shared_data:
        extent = (f"the first {profile.train_clips:,} clips to train on, the next {profile.eval_clips:,} to evaluate "
                  "on, as far as there are so many")
    licence = ("No weights of anybody else are in it: the base model is the course's own"
               + (", and so are the sounds." if own_sounds else ". The data has terms of its own."))
    if profile.license:
        licence = (f"The base model's weights are {profile.license.terms}, and what is trained from them inherits "
                   f"that: see [its page]({profile.license.link}). The data has terms of its own.")
    clips_a_step = processes * profile.batch_size * profile.gradient_accumulation_steps
    versions = "\n".join(f"- {name} {version}" for name in CARD_LIBRARIES if (version := installed_version(name)))
    return f"""# LoRA adapter for captions of sounds, on {title}

An adapter for {base} that describes a sound in one short sentence. It was made with a course on fine-tuning; nobody
has tested it for any use beyond that.

## Use

```python
{use}
```

Ask "Describe the audio.", and decode greedily.

## Data

{data}, split `train`: {extent}.

## Training

LoRA of rank {profile.lora_rank} (alpha {profile.lora_alpha}, dropout {profile.lora_dropout}) on the attention and
feed-forward projections of the language model alone; {profile.max_steps:,} steps of {clips_a_step} clips, learning rate
{profile.learning_rate:g}; the loss counts the caption's tokens only.

## Metrics

{_table(evaluations)}

The loss is over the {profile.eval_clips:,} clips for evaluation. Captions are scored on a few of these clips, and
CIDEr-D takes its document frequencies from them: compare these numbers with each other, not with published ones.

## Licence

{licence}

## Versions

{versions}
"""


def _table(evaluations: Sequence[dict]) -> str:
    """A Markdown table of the first and the last evaluation."""
    if not evaluations:
        return "Nothing was evaluated during this training."
    first, last = evaluations[0], evaluations[-1]
    lines = [f"| | step {first.get('step', 0)} | step {last.get('step', 0)} |", "|---|---|---|"]
    lines += [f"| {name} | {first[key]:.3f} | {last[key]:.3f} |" for key, name in MEASURES.items()
              if key in first and key in last]
    return "\n".join(lines)
