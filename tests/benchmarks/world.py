"""``python -m tests.benchmarks.world``: does fine-tuning teach the new sounds, and does the model keep the old ones?

Trains the course's recipe on the tiny data set, once a seed, and measures base and fine-tuned model on held-out clips
of the test split, with bootstrap intervals. Takes about three minutes a seed on two quiet cores, and five more for full
fine-tuning of the language model, the yardstick of LoRA.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from transformers import Trainer, set_seed
from transformers.utils import logging

from helpers import load_captions, load_model, load_processor
from helpers.captioning.captions import caption
from helpers.chat import AudioFlamingo3DataCollator
from helpers.metrics.events import event_counts, event_f1, reads_like_audiocaps
from helpers.metrics.intervals import bootstrap_difference, bootstrap_interval
from helpers.profiles import ROOT, Profile, get_profile, with_changes
from helpers.tiny import KNOWN_SOUNDS, NEW_SOUNDS
from helpers.tiny.captions import EVENTS, OVERLAP, SEQUENCE, SILENCE, mentioned_labels, parse_caption, says_nothing
from helpers.tiny.dataset import make_row
from helpers.training.recipe import make_trainer, training_arguments
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.table import replace_section

RESULTS = Path(__file__).parent / "results" / "world.json"
FULL_RATE = 5e-4
"""Learning rate of full fine-tuning, which breaks at the adapter's."""
BASE, SILENT = "base", ("silence said", "false silence")
ROWS = ("event F1, new sounds", "event F1, known sounds", "event F1, all", "AudioCaps style", "in the grammar",
        "overlaps: both named", "one sound named twice", *SILENT)


def held_out(count: int) -> list[dict]:
    """The first ``count`` clips of the test split; beyond its 200, clips made the same way that no split has."""
    clips = list(load_captions("tiny", "test").take(count))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        more = executor.map(make_row, [("test", index) for index in range(len(clips), count)], chunksize=20)
        return [*clips, *more]


def named_twice(text: str) -> bool:
    """Whether a caption of the tiny grammar names two events that are the same."""
    claimed = parse_caption(text)
    return claimed is not None and len(claimed.labels) == 2 and len(set(claimed.labels)) == 1


def measure(texts: list[str], clips: list[dict]) -> dict[str, np.ndarray]:
    """Row of the table -> what it is made of, clip by clip, as `statistic` reads it.

    New sounds: hits, claims and truths among `NEW_SOUNDS` on clips with one of them. Known sounds: all events on clips
    without a new sound.
    """
    counts = event_counts(texts, clips, EVENTS)
    labels = [[event["label"] for event in clip["events"]] for clip in clips]
    relations = np.array([clip["relation"] for clip in clips])
    new = np.array([bool(set(there) & set(NEW_SOUNDS)) for there in labels])
    among = counts.copy()
    for row, text, there in zip(among, texts, labels, strict=True):
        claimed, true = set(mentioned_labels(text)) & set(NEW_SOUNDS), set(there) & set(NEW_SOUNDS)
        row[:3] = len(claimed & true), len(claimed), len(true)
    two, silent = np.isin(relations, [SEQUENCE, OVERLAP]), relations == SILENCE

    def share(test, chosen) -> np.ndarray:
        judged = zip(texts, labels, chosen, strict=True)
        return np.array([float(test(text, there)) for text, there, use in judged if use])

    return {
        "event F1, new sounds": among[new],
        "event F1, known sounds": counts[~new],
        "event F1, all": counts,
        "AudioCaps style": share(lambda text, _: reads_like_audiocaps(text), ~silent | silent),
        "in the grammar": share(lambda text, _: parse_caption(text) is not None, ~silent | silent),
        "overlaps: both named": share(lambda text, there: set(there) <= set(mentioned_labels(text)),
                                      relations == OVERLAP),
        "one sound named twice": share(lambda text, _: named_twice(text), two),
        "silence said": share(lambda text, _: says_nothing(text), silent),
        "false silence": share(lambda text, _: says_nothing(text), ~silent),
    }


def statistic(rows: np.ndarray) -> float:
    """F1 of rows from `event_counts`, the mean of shares."""
    return event_f1(rows) if rows.ndim == 2 else float(rows.mean())


def fine_tune(profile: Profile, seed: int, full: bool = False):
    """The fine-tuned model, and the seconds it took; ``full`` trains all of the language model without an adapter."""
    set_seed(seed)
    model, processor = load_model(quiet=True), load_processor()
    quiet = {"seed": seed, "save_strategy": "no", "eval_strategy": "no", "disable_tqdm": True, "logging_steps": 50}
    with tempfile.TemporaryDirectory() as output:
        if full:
            model.requires_grad_(False)
            model.model.language_model.requires_grad_(True)
            model.lm_head.requires_grad_(True)
            clips = list(load_captions("tiny", "train").take(profile.train_clips))
            trainer = Trainer(model=model, args=training_arguments(profile, model, Path(output), **quiet),
                              train_dataset=clips, data_collator=AudioFlamingo3DataCollator(processor))
        else:
            trainer = make_trainer(profile, model, processor, Path(output), **quiet)
        begun = time.perf_counter()
        trainer.train()
        return trainer.model, time.perf_counter() - begun


def table(arms: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, str]]:
    """Row -> arm -> "value [low, high]"."""
    return {row: {arm: f"{bootstrap_interval(figures[row], statistic)}" for arm, figures in arms.items()}
            for row in ROWS}


def as_markdown(figures: dict) -> str:
    """The stored figures as the README shows them, between its marks."""
    arms = list(figures["table"][ROWS[0]])
    heads = ["", *("before" if arm == BASE else f"LoRA, {arm}" if arm.startswith("seed") else "full fine-tuning"
                   for arm in arms)]
    lines = [heads, ["---", *["---:"] * len(arms)]]
    lines += [[row, *cells.values()] for row, cells in figures["table"].items()]
    lines.append(["gain in event F1, all", "", *(figures["gain"][arm] for arm in arms[1:])])
    return "\n".join(["<!-- world: begin -->", *("| " + " | ".join(line) + " |" for line in lines),
                      "<!-- world: end -->"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.world", description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clips", type=int, default=600, help="held-out clips; the test split itself has 200")
    parser.add_argument("--changes", default="",
                        help='numbers of the recipe to change: "max_steps=300 learning_rate=2e-3"')
    parser.add_argument("--full", action="store_true", help="full fine-tuning of the language model beside LoRA")
    parser.add_argument("--show", type=int, default=0, help="captions to print")
    parser.add_argument("--output", type=Path, 
                        help=f"write the figures there; those of {RESULTS.name} go into the README too")
    options = parser.parse_args()
    logging.set_verbosity_error()
    profile = with_changes(get_profile("tiny"), options.changes)
    processor, clips = load_processor(), held_out(options.clips)
    audio = [clip["audio"] for clip in clips]

    def answers(model) -> list[str]:
        return caption(model, processor, audio, batch_size=32, max_new_tokens=60)  # a long answer has up to 50

    said = {BASE: answers(load_model(quiet=True))}
    seconds: dict[str, float] = {}
    for seed in options.seeds:
        model, seconds[f"seed {seed}"] = fine_tune(profile, seed)
        said[f"seed {seed}"] = answers(model)
    if options.full:
        full = dataclasses.replace(profile, learning_rate=FULL_RATE)
        model, seconds["full"] = fine_tune(full, 0, full=True)
        said["full"] = answers(model)
    arms = {arm: measure(texts, clips) for arm, texts in said.items()}
    for number in range(options.show):
        print("\n".join([clips[number]["caption"], *(f"    {arm}: {texts[number]}" for arm, texts in said.items())]))
    rows = table(arms)
    for row, cells in rows.items():
        print(f"{row:<24}" + "".join(f"{cell:>22}" for cell in cells.values()))
    gains = {arm: f"{bootstrap_difference(figures[ROWS[2]], arms[BASE][ROWS[2]], statistic)}"
             for arm, figures in arms.items() if arm != BASE}
    print("gain over the base, all:", gains)
    print("training seconds:", {arm: round(value) for arm, value in seconds.items()})
    for name in NEW_SOUNDS + KNOWN_SOUNDS if options.show else ():
        chosen = [number for number, clip in enumerate(clips) if name in [event["label"] for event in clip["events"]]]
        found = [np.mean([name in mentioned_labels(texts[number]) for number in chosen]) for texts in said.values()]
        print(f"  {name:<12}{len(chosen):>4} clips, named in " + ", ".join(f"{value:.2f}" for value in found))
    if options.output:
        figures = {"machine": describe_machine(None), "date": datetime.now(UTC).isoformat(timespec="seconds"),
                   "clips": len(clips), "recipe": dataclasses.asdict(profile) | {"license": None},
                   "table": rows, "gain": gains,
                   "training_seconds": {arm: round(value) for arm, value in seconds.items()}}
        options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
        if options.output.resolve() == RESULTS:
            readme = ROOT / "README.md"
            text = replace_section(readme.read_text(encoding="utf-8"), as_markdown(figures))
            readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
