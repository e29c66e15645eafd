"""``python -m tests.benchmarks.recordings FOLDER``: can the tiny model be taught real recordings of new kinds?

The folder holds one folder a kind of sound, named for it, with recordings of it; best 12 each, and recordings whose
names contain "held" are kept back (without any such, a third of each kind is). Free recordings are in Debian's packages
of games and drum kits. Nothing of them belongs into this repository.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import statistics
import tempfile
import time
from pathlib import Path

from transformers import set_seed
from transformers.utils import logging

from helpers import load_captions, load_model, load_processor
from helpers.audio.samples import as_samples
from helpers.captioning.captions import caption
from helpers.profiles import get_profile
from helpers.training.recipe import make_trainer

VERBS = {"tambourine": "shakes", "cowbell": "clangs", "cymbal": "crashes", "horn": "blows", "wolf": "growls",
         "pig": "grunts", "duck": "quacks", "rooster": "crows", "lion": "roars", "seagull": "screeches"}
"""What a learner would write of each kind; other kinds sound."""


def read_kinds(folder: Path) -> tuple[list[dict], list[dict]]:
    """Clips to train on and clips held out: ``audio``, ``caption`` and ``kind``."""
    train, held = [], []
    for kind in sorted(path for path in folder.iterdir() if path.is_dir()):
        files = sorted(file for file in kind.iterdir() if file.suffix in {".wav", ".flac", ".ogg"})
        kept = [file for file in files if "held" in file.name] or files[2::3]
        article = "An" if kind.name[0] in "aeiou" else "A"
        for file in files:
            text = f"{article} {kind.name} {VERBS.get(kind.name, 'sounds')}"
            clip = {"audio": as_samples(str(file)), "caption": text, "kind": kind.name}
            (held if file in kept else train).append(clip)
    return train, held


def f1(texts: list[str], clips: list[dict]) -> float:
    """Micro F1 of the kinds that the texts name."""
    kinds = {clip["kind"] for clip in clips}
    named = [{kind for kind in kinds if kind in text.lower()} for text in texts]
    hits = sum(clip["kind"] in found for found, clip in zip(named, clips, strict=True))
    return 2 * hits / max(sum(map(len, named)) + len(clips), 1)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.recordings", description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--course-clips", type=int, default=0, help="clips of the course's own data to mix in")
    parser.add_argument("--show", action="store_true", help="print the captions")
    options = parser.parse_args()
    logging.set_verbosity_error()
    train, held = read_kinds(options.folder)
    mixed = train + list(load_captions("tiny", "train").take(options.course_clips))
    profile = dataclasses.replace(get_profile("tiny"), max_steps=options.steps, learning_rate=options.learning_rate)
    print(f"{len(train)} clips to train on, {len(held)} held out, {options.course_clips} of the course")
    scores = []
    for seed in options.seeds:
        set_seed(seed)
        model, processor = load_model(quiet=True), load_processor()
        if seed == options.seeds[0]:
            texts = caption(model, processor, [clip["audio"] for clip in held], batch_size=32, max_new_tokens=40)
            print(f"base: F1 {f1(texts, held):.2f}")
        with tempfile.TemporaryDirectory() as output:
            clips = [clip for _ in range(-(-options.steps * profile.batch_size // len(mixed)))
                     for clip in random.Random(seed).sample(mixed, len(mixed))]
            trainer = make_trainer(profile, model, processor, Path(output), train=clips, seed=seed, save_strategy="no",
                                   eval_strategy="no", disable_tqdm=True, logging_strategy="no")
            begun = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - begun
        texts = caption(trainer.model, processor, [clip["audio"] for clip in held], batch_size=32, max_new_tokens=40)
        scores.append(f1(texts, held))
        print(f"seed {seed}: F1 {scores[-1]:.2f} on held-out clips after {seconds:.0f} s of training")
        if options.show:
            print("\n".join(f"    {clip['kind']:<12}{text}" for clip, text in zip(held, texts, strict=True)))
    print(f"mean F1 {statistics.fmean(scores):.2f}, lowest {min(scores):.2f}")


if __name__ == "__main__":
    main()
