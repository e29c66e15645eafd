"""AF3 in its real size on a GPU: ``python -m tests.benchmarks.full_size FOLDER``.

The weights are random, made once in ``FOLDER`` (17 GB) with the real architecture, so that everything but the captions'
meaning can be tried and measured without a download: loading, a step's time and memory beside what `estimate_memory`
says, captions a second, 4 bits. ``--small`` tries the path with the tiny model, on any machine. The clips last 10 s, as
AudioCaps' do.
"""

from __future__ import annotations

import argparse
import dataclasses
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import torch
from peft import get_peft_model
from transformers import AudioFlamingo3Config, AudioFlamingo3ForConditionalGeneration, set_seed
from transformers.utils import logging

from helpers.captioning.captions import caption
from helpers.chat import AudioFlamingo3DataCollator, make_chat
from helpers.model.architecture import FULL_SIZE_TEXT, build_on_meta
from helpers.model.loading import is_quantized, load_model, load_processor
from helpers.model.memory import estimate_memory
from helpers.profiles import ROOT, SAMPLING_RATE, TINY, Profile, get_profile
from helpers.scale.costs import count_clip_flops
from helpers.scale.profiling import PHASES, model_bytes, profile_steps, step_shares
from helpers.training.recipe import lora_config
from tests.benchmarks import mid_size
from tests.benchmarks.arms import ARMS
from tests.benchmarks.full_size_table import as_markdown
from tests.benchmarks.guide import guide_lora_config
from tests.benchmarks.jobs import StepClock
from tests.benchmarks.machine import describe_machine
from tests.benchmarks.table import replace_section

RESULTS = Path(__file__).parent / "results" / "full_size.json"
CAPTION_TOKENS = 20
"""Of each caption; AudioCaps' have about a dozen words."""


def make_folder(folder: Path) -> None:
    """Model and processor as `load_model` takes them; random, in 16 bits. Nothing if they are there already."""
    if (folder / "processor_config.json").is_file():
        return
    processor = mid_size.build_processor()
    ids = mid_size.token_ids(processor)
    set_seed(0)
    config = AudioFlamingo3Config(text_config=FULL_SIZE_TEXT | ids, audio_token_id=processor.audio_token_id)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("cuda"):
        model = AudioFlamingo3ForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    model.generation_config.update(**ids, do_sample=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)  # last: it says that the rest is whole


class GpuPeak:
    """Context manager: the most that PyTorch's allocator handed out, and kept, on the GPU; 0 without one."""

    def __enter__(self) -> GpuPeak:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *_) -> None:
        self.allocated, self.kept = 0, 0
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.allocated, self.kept = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()


def seconds_of(clips: list[dict]) -> float:
    """Length of a clip; all are equally long."""
    return len(clips[0]["audio"]["array"]) / SAMPLING_RATE


def load(profile: Profile, **options):
    return load_model(profile.model_id, **options), load_processor(profile.model_id)


def measure_loading(profile: Profile) -> dict:
    """Seconds to load, and bytes of the weights: on the GPU, as counted afterwards, and as estimated before."""
    begun = time.perf_counter()
    with GpuPeak() as peak:
        model, _ = load(profile)
    estimate = estimate_memory(model.config, dtype=model.dtype).weights
    return {"seconds": time.perf_counter() - begun, "allocated": peak.allocated, "counted": model_bytes(model),
            "estimate": estimate}


def measure_training(profile: Profile, arm: str, clips: list[dict], steps: int, *, quantize: bool = False,
                     **overrides) -> dict:
    """Median seconds of a step, the peak on the GPU and its estimate; ``overrides`` for ``TrainingArguments``."""
    model, processor = load(profile, quantize=quantize)
    clock, profile = StepClock(), dataclasses.replace(profile, max_steps=steps)
    quiet = {"save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    with tempfile.TemporaryDirectory() as output, GpuPeak() as peak:
        trainer = ARMS[arm](profile, model, processor, Path(output), train=clips, **quiet, **overrides)
        trainer.add_callback(clock)
        trainer.train()
    checkpointing = trainer.args.activation_checkpointing
    estimate = estimate_memory(profile, dtype=model.dtype,
                               quantize=is_quantized(model), checkpointing=checkpointing,
                               clip_seconds=seconds_of(clips))
    return {"arm": arm, "quantize": quantize, "checkpointing": checkpointing,
            "seconds": statistics.median(clock.seconds[1:]), "workers": trainer.args.dataloader_num_workers,
            "clips": profile.batch_size * profile.gradient_accumulation_steps, "peak": peak.allocated,
            "kept": peak.kept, "estimate": estimate.total}


def measure_captions(profile: Profile, clips: list[dict]) -> dict:
    """Clips a second by the guide's loop, and by `caption` with all clips at once: adapter beside, and merged."""
    sounds = [clip["audio"]["array"] for clip in clips]
    length = {"max_new_tokens": CAPTION_TOKENS, "min_new_tokens": CAPTION_TOKENS}
    model, processor = load(profile)

    def one_by_one() -> None:
        for sound in sounds[:4]:
            inputs = processor.apply_chat_template(make_chat(sound), tokenize=True, add_generation_prompt=True,
                                                   return_dict=True).to(tuned.device, tuned.dtype)
            with torch.inference_mode():
                tuned.generate(**inputs, do_sample=False, **length)

    def at_once() -> None:
        caption(tuned, processor, sounds, batch_size=len(sounds), **length)

    def speed(run: Callable[[], None], count: int) -> float:
        run()  # warms up
        seconds = []
        for _ in range(3):
            begun = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - begun)
        return count / statistics.median(seconds)

    tuned = get_peft_model(model, guide_lora_config(profile)).eval()
    figures = {"guide": speed(one_by_one, 4)}
    tuned = get_peft_model(tuned.unload(), lora_config(profile)).eval()
    with GpuPeak() as peak:
        figures["course"] = speed(at_once, len(sounds))
    tuned = tuned.merge_and_unload()
    figures["merged"] = speed(at_once, len(sounds))
    estimate = estimate_memory(model.config, dtype=model.dtype, training=False, batch_size=len(sounds),
                               clip_seconds=seconds_of(clips), new_tokens=CAPTION_TOKENS)
    return figures | {"clips": len(sounds), "peak": peak.allocated, "estimate": estimate.total}


def measure_phases(profile: Profile, clips: list[dict]) -> dict:
    """Seconds of the parts of a forward and backward pass, one after the other, and the share of the GPU's peak."""
    model, processor = load(profile)
    tuned = get_peft_model(model, lora_config(profile))
    rows = profile_steps(tuned, AudioFlamingo3DataCollator(processor), clips, profile.batch_size, steps=4, warmup=2)
    # On a GPU a copy without weights is counted: see `count_clip_flops`.
    counted = tuned if model.device.type == "cpu" else get_peft_model(build_on_meta(model.config), lora_config(profile),
                                                                      low_cpu_mem_usage=True)
    flops = count_clip_flops(counted, seconds=seconds_of(clips), checkpointing=False).total
    medians = {phase: step_shares(rows)[phase][0] for phase in PHASES}
    return {"medians": medians, "clips": profile.batch_size, "flops": flops * profile.batch_size}


def parts(profile: Profile, clips: list[dict], steps: int) -> dict[str, Callable[[], dict]]:
    """Name -> what measures it. The guide's loader has no workers; 4 bits and larger batches take a GPU."""
    few = max(3, steps // 2)

    def train(arm: str, count: int, checkpointing: bool, batch_size: int = 4, **how) -> Callable[[], dict]:
        changed = dataclasses.replace(profile, batch_size=batch_size, gradient_accumulation_steps=16 // batch_size)
        return lambda: measure_training(changed, arm, clips, count, gradient_checkpointing=checkpointing, **how)

    found = {
        "loading": lambda: measure_loading(profile),
        "guide": train("guide", few, True, dataloader_num_workers=0),
        "kept": train("course", steps, False),
        "kept, no workers": train("course", few, False, dataloader_num_workers=0),
        "checkpointed": train("course", steps, True),
        "checkpointed, 16 at once": train("course", few, True, batch_size=16),
        "4 bits, checkpointed": train("course", few, True, quantize=True),
        "captions": lambda: measure_captions(profile, clips[:16]),
        "phases": lambda: measure_phases(profile, clips),
    }
    if not torch.cuda.is_available():  # bitsandbytes' kernels for a CPU would take minutes
        del found["4 bits, checkpointed"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.full_size",
                                     description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="?", help="where the random model lies, or is made")
    parser.add_argument("--small", action="store_true", help="the tiny model in its place, on any machine")
    parser.add_argument("--steps", type=int, default=8, help="steps of each training; the first is not timed")
    parser.add_argument("--only", nargs="+", metavar="PART", help="measure these anew, and keep the others' figures")
    parser.add_argument("--output", type=Path, help="write the figures there after each part; those of "
                        f"{RESULTS.name} go into the README too")
    options = parser.parse_args()
    if not options.small and (options.folder is None or not torch.cuda.is_available()):
        parser.error("A folder for a model of 17 GB, and a CUDA GPU: or try the path with --small.")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    profile = get_profile("full", model_id=TINY if options.small else str(options.folder))
    begun = time.perf_counter()
    clips = mid_size.make_clips(32, "train")
    if options.small:  # its windows are of 4 s
        for clip in clips:
            clip["audio"]["array"] = clip["audio"]["array"][: 4 * SAMPLING_RATE]
    else:
        make_folder(options.folder)
    on_gpu = torch.cuda.is_available()
    gpu = {"name": torch.cuda.get_device_name(), "memory": torch.cuda.get_device_properties(0).total_memory,
           "cuda": torch.version.cuda} if on_gpu else None
    figures = {"machine": describe_machine() | {"gpu": gpu}, "date": datetime.now(UTC).isoformat(timespec="seconds"),
               "caption_tokens": CAPTION_TOKENS, "parts": {}}
    if options.only and options.output and options.output.is_file():
        figures["parts"] = json.loads(options.output.read_text(encoding="utf-8"))["parts"]
    for name, part in parts(profile, clips, options.steps).items():
        if options.only and name not in options.only:
            continue
        figures["parts"][name] = part()
        print(f"{time.perf_counter() - begun:6.1f} s  {name}: {figures['parts'][name]}", flush=True)
        gc.collect()
        if options.output:
            options.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    if options.output and options.output.resolve() == RESULTS:
        readme = ROOT / "README.md"
        readme.write_text(replace_section(readme.read_text(encoding="utf-8"), as_markdown(figures)), encoding="utf-8")


if __name__ == "__main__":
    main()
