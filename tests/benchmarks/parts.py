"""The parts of the benchmark: which jobs, in which order, for which rows of the table."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from helpers.profiles import get_profile
from tests.benchmarks.hub import count_rows

ROOT = Path(__file__).resolve().parent.parent.parent
SEEDS = (0, 1, 2)
FEWER_STEPS = (30, 60, 120)
"""Of the tiny profile's 300."""
GIVE_BACK = {"MALLOC_MMAP_THRESHOLD_": "131072"}
"""For glibc: what PyTorch frees goes back to the system at once, so that the process holds what is alive and no more.
Otherwise freed pieces stay on its heap, which is more than half as large again as what is alive. It costs time, so
nothing is timed then. Other systems know no such variable."""
FULL_RATE = 5e-4
"""Learning rate of full fine-tuning, as in `tests.benchmarks.world`; it breaks at the adapter's."""


class JobFailed(RuntimeError):
    """A measurement ended with an error; the message holds the end of what it printed."""


class Runner:
    """Runs each job in a fresh process, one after the other; a job asked for twice gives its figures again.

    Args:
        threads: of PyTorch in every job (default: PyTorch's own choice).
        say: told which job runs, for example ``print``.
    """

    def __init__(self, threads: int | None = None, say: Callable[[str], None] = print):
        self.threads, self.say = threads, say
        self._known: dict[str, dict] = {}

    def side_by_side(self, *jobs: dict) -> list[dict]:
        """Figures of jobs that run at the same time, each on one thread: what disturbs one disturbs the other.

        Args:
            *jobs: keyword arguments of a call.
        """
        with ThreadPoolExecutor(len(jobs)) as executor:
            return list(executor.map(lambda options: self(**{"threads": 1, **options}), jobs))

    def __call__(
        self, job: str, title: str, repeat: int = 0, environment: dict[str, str] | None = None, **options
    ) -> dict:
        """Figures of a job: a name and the keyword arguments of a function in `tests.benchmarks.jobs`.

        Args:
            job: the function's name.
            title: what to say while it runs.
            repeat: number of the repetition; only another number runs the same job again.
            environment: variables for the process.

        Raises:
            JobFailed: the process did not end well.
        """
        spec = json.dumps({"threads": self.threads, "job": job, **options})
        key = f"{repeat} {spec}"
        if key not in self._known:
            self.say(f"  {title} ...")
            with tempfile.TemporaryDirectory() as scratch:
                figures = Path(scratch) / "figures.json"
                done = subprocess.run(
                    [sys.executable, "-m", "tests.benchmarks.jobs", spec, str(figures)], cwd=ROOT, text=True,
                    capture_output=True, env=_environment(Path(scratch)) | (environment or {}),
                )
                if done.returncode or not figures.is_file():
                    raise JobFailed(f"{title} failed:\n{done.stderr[-3000:]}")
                self._known[key] = json.loads(figures.read_text(encoding="utf-8"))
        return self._known[key]


def _environment(scratch: Path) -> dict[str, str]:
    """The caller's environment without what would change a measurement, and without the network."""
    left_out = {"COURSE_PROFILE", "HF_ENDPOINT", "HF_TOKEN"}
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "huggingface")}


# ---------------------------------------------------------------------------------------------------------- training
def mid_size(run: Runner, quick: bool) -> dict:
    """Guide and course in turns on the mid-size model; equal steps, three runs each, since memory varies by a few
    per cent from run to run."""
    settings = {"scale": "mid-size", "seed": 0, "steps": 2 if quick else 4, "batch_size": 4, "learning_rate": 1e-3}
    settings["clips"] = settings["steps"] * settings["batch_size"]
    arms: dict[str, list[dict]] = {"guide": [], "guide labels": [], "course": []}
    for repeat in range(1 if quick else 3):
        for arm, figures in arms.items():
            if arm == "guide labels" and repeat:
                continue  # only explains where the difference comes from: once is enough
            figures.append(run("train", f"mid-size model, {arm}, run {repeat + 1}", repeat=repeat, arm=arm,
                               held_out=["test"], **settings))
            whole = run("train", f"mid-size model, {arm}, memory of run {repeat + 1}", repeat=-1 - repeat, arm=arm,
                        environment=GIVE_BACK, **settings)
            figures[-1]["alive"] = whole["memory"]
    return {"settings": settings, "arms": arms}


def tiny_settings(quick: bool) -> dict:
    """What every arm on the tiny model shares: the tiny profile's own steps, batch, rate and warm-up."""
    profile = get_profile("tiny")
    return {
        "scale": "tiny", "steps": 10 if quick else profile.max_steps, "batch_size": profile.batch_size,
        "warmup_steps": profile.warmup_steps, "clips": 100 if quick else profile.train_clips, "captions": True,
        "held_out": ["test"],
    }


def _pair(run: Runner, quick: bool, seed: int, arms: Sequence[str], **changed) -> list[dict]:
    """Two arms of one seed on the tiny model, side by side; ``changed``: of the settings that all arms share."""
    rates = {"full": FULL_RATE}
    usual = get_profile("tiny").learning_rate
    settings = {**tiny_settings(quick), **changed}
    return run.side_by_side(*({"job": "train", "title": f"tiny model, {arm}, {settings['steps']} steps, seed {seed}",
                               "arm": arm, "seed": seed, "learning_rate": rates.get(arm, usual), **settings}
                              for arm in arms))


def tiny(run: Runner, quick: bool) -> dict:
    """Guide, guide's labels alone, course and full fine-tuning on the tiny model; equal steps.

    The labels and the course with every seed, the others with the first; two runs at a time, each on one thread.
    """
    arms: dict[str, list[dict]] = {"guide": [], "guide labels": [], "course": [], "full": []}
    for seed in SEEDS[:1] if quick else SEEDS:
        for arm, figures in zip(("guide labels", "course"), _pair(run, quick, seed, ("guide labels", "course")),
                                strict=True):
            arms[arm].append(figures)
    for arm, figures in zip(("guide", "full"), _pair(run, quick, SEEDS[0], ("guide", "full")), strict=True):
        arms[arm].append(figures)
    rate = get_profile("tiny").learning_rate
    settings = {**tiny_settings(quick), "learning_rate": {"full": FULL_RATE, "others": rate}}
    literal = run("train", "tiny model, guide, bfloat16 and gradient checkpointing as in the guide", arm="guide",
                  seed=SEEDS[0], literal=True, threads=1, learning_rate=rate,
                  **{**tiny_settings(quick), "steps": 4, "captions": False, "held_out": []})
    return {"settings": settings, "arms": arms, "literal": literal}


def labels(run: Runner, quick: bool) -> dict:
    """What labels on the answer alone gain on the way: the course and the guide's labels after fewer steps.

    Each number of steps is a whole training, with its own decay of the learning rate.
    """
    arms, found = ("guide labels", "course"), {}
    for steps in (4,) if quick else FEWER_STEPS:
        pairs = [_pair(run, quick, seed, arms, steps=steps) for seed in (SEEDS[:1] if quick else SEEDS)]
        found[str(steps)] = dict(zip(arms, map(list, zip(*pairs, strict=True)), strict=True))
    return {"steps": found}


# --------------------------------------------------------------------------------------------------------- streaming
def cycled_shards(cache: Path, clips: int) -> Path:
    """A data set of at least ``clips`` clips in ``cache``: the tiny data set's training shards, over and over, by link.

    With ``COURSE_CACHE=cache``, the job `stream` reads them.
    """
    from helpers.tiny.dataset import SHARD_CLIPS, ensure_dataset

    made = ensure_dataset()
    shards = [shard for shard in sorted(made.glob("train-*.parquet"))]
    count = -(-clips // SHARD_CLIPS)
    folder = cache / made.name
    folder.mkdir(parents=True)
    for number in range(count):
        link = folder / f"train-{number:05d}-of-{count:05d}.parquet"
        try:
            link.symlink_to(shards[number % len(shards)].resolve())
        except OSError:  # Windows grants links to few
            shutil.copyfile(shards[number % len(shards)], link)
    return folder


def streaming(run: Runner, quick: bool) -> dict:
    """Cost a clip as the number of clips grows: decoding and collating, in a fresh process for each number."""
    numbers = (50, 100, 200) if quick else (100, 1_000, 5_000)
    with tempfile.TemporaryDirectory() as cache:
        cycled_shards(Path(cache), max(numbers))
        return {"runs": [run("stream", f"streaming {number:,} clips", clips=number, environment={"COURSE_CACHE": cache})
                         for number in numbers]}


# -------------------------------------------------------------------------------------------------------- captioning
def captioning(run: Runner, quick: bool) -> dict:
    """`caption` one clip a call, and batched at several sizes."""
    sizes, clips = ([8], 16) if quick else ([16, 64], 64)
    return {"settings": {"clips": clips}, **run("captioning", "captions one by one and batched", clips=clips,
                                                batch_sizes=sizes, repeats=1 if quick else 2)}


def captioning_mid_size(run: Runner, quick: bool) -> dict:
    """The guide's loop and `caption`, 16 clips of 10 s at once, on the mid-size model."""
    settings = {"clips": 4 if quick else 16, "tokens": 4 if quick else 16, "repeats": 1 if quick else 2}
    return {"settings": settings, **run("captioning_mid_size", "captions on the mid-size model", **settings)}


def operations(run: Runner, quick: bool) -> dict:
    """Operations of a training run at 8.27 B, on the meta device."""
    return run("operations", "operations of the 8.27 B model")


def rows(run: Runner, quick: bool) -> dict:
    """Rows read from a stand-in for the Hub."""
    return count_rows(run)


PARTS: dict[str, Callable[[Runner, bool], dict]] = {
    "mid-size": mid_size, "mid-size-captions": captioning_mid_size, "operations": operations, "rows": rows,
    "tiny": tiny, "labels": labels, "streaming": streaming, "captioning": captioning,
}
"""Name -> measurement: ``(runner, quick) -> figures`` as plain JSON."""
