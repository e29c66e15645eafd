"""A notebook with one of each widget and picture of the course: what the browser tests press and look at."""

from __future__ import annotations

from pathlib import Path

import nbformat

SETUP = """import sys
sys.path.insert(0, "..")
from helpers import *
from peft import get_peft_model
from helpers.training.recipe import lora_config
profile = get_profile("tiny")
processor = load_processor(profile.model_id)
model = get_peft_model(load_model(profile.model_id, quiet=True), lora_config(profile))
clips = list(load_captions(profile.dataset_id, split="train").take(4))
samples = [clip["audio"]["array"] for clip in clips]"""
CELLS = {
    "guess": 'guess = predict("Does the encoder stay frozen?", ["yes", "no"])',
    "number": 'size = predict("How large is it?", unit="MB")',
    "machine": "plot_machine(processor, model, clips[1])",
    "clip": 'plot_clip(samples[1], processor, "A bird tweets")',
    "captions": 'compare_captions(clips[:2], before=["The sound of crickets.", "The sound of a cow."], '
    'after=["Crickets chirp", "A bird sings as a siren wails"])',
    "labels": "show_label_mask(AudioFlamingo3DataCollator(processor)(clips), processor, 1)",
    "explorer": "explore_labels(processor, clips[1])",
    "calculator": "calculator(profile)",
    "game": 'guess_caption(clips, processor, [clip["caption"] for clip in clips])',
    "browser": "browse_clips(clips, processor)",
    "playground": "playground(model, processor, clips)",
    "sound": 'your_sound({"the model": lambda clip: caption(model, processor, clip)}, processor, clips)',
    "curves": 'plot_curves({"healthy": [{"step": 5 * n, "loss": 5 / (n + 1)} for n in range(9)], '
    '"too fast": [{"step": 5 * n, "loss": 5 - 0.1 * n} for n in range(9)]})',
    "progress": 'for clip in progress("Listening to four clips")(clips):\n    pass',
}


def write_gallery(path: Path) -> Path:
    """Write the notebook; one cell each, in the order of `CELLS`."""
    cells = [nbformat.v4.new_code_cell(SETUP), *(nbformat.v4.new_code_cell(code) for code in CELLS.values())]
    book = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)
    return path
