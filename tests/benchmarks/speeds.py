"""Measurements that train nothing: captions a second, operations, and rows read from the Hub."""

from __future__ import annotations

import statistics
import time

import torch
from peft import get_peft_model
from transformers import set_seed

from helpers.audio.captions import load_captions
from helpers.captioning.captions import caption
from helpers.chat import make_chat
from helpers.model.loading import load_model, load_processor
from helpers.model.spare import spare_work
from helpers.profiles import get_profile
from helpers.training.recipe import lora_config
from tests.benchmarks import mid_size
from tests.benchmarks.guide import guide_lora_config
from tests.benchmarks.operations import count_operations
from tests.benchmarks.registry import job


@job
def captioning(*, clips: int, batch_sizes: list[int], repeats: int) -> dict:
    """Clips a second of `caption`, one call a clip and batched: the tiny base's long answers to the same clips.

    Returns:
        ``one_by_one``: clips a second, median of the repeats; ``batched``: the same by batch size; ``equal``: the share
        of batched answers that equal those to the clips one by one.
    """
    model, processor = load_model(quiet=True), load_processor()
    sounds = [clip["audio"]["array"] for clip in load_captions("tiny", "test").take(clips)]
    caption(model, processor, sounds[:2])  # warm up
    alone: list[float] = []
    batched: dict[str, list[float]] = {str(size): [] for size in batch_sizes}
    same = 0
    for _ in range(repeats):  # taken in turns, so that a busy minute of the machine hits all alike
        begun = time.perf_counter()
        expected = [caption(model, processor, sound) for sound in sounds]
        alone.append(clips / (time.perf_counter() - begun))
        for size in batch_sizes:
            begun = time.perf_counter()
            texts = caption(model, processor, sounds, batch_size=size)
            batched[str(size)].append(clips / (time.perf_counter() - begun))
            same += sum(text == other for text, other in zip(texts, expected, strict=True))
    medians = {size: statistics.median(speeds) for size, speeds in batched.items()}
    return {"one_by_one": statistics.median(alone), "batched": medians,
            "equal": same / (clips * repeats * len(batch_sizes))}


@job
def captioning_mid_size(*, clips: int, tokens: int, repeats: int) -> dict:
    """Clips of 10 s a second on the mid-size model: the guide's loop, and `caption` with all of them at once.

    Each says ``tokens`` tokens greedily, with an adapter that is not merged; the guide one clip after the other, on
    whole windows.

    Returns:
        ``guide`` and ``course``: clips a second, median of the repeats, which are taken in turns; ``merged``: the
        course's with its adapter merged into the weights.
    """
    set_seed(0)
    processor = mid_size.build_processor()
    profile, sounds = get_profile("full"), [clip["audio"]["array"] for clip in mid_size.make_clips(clips, "test")]
    plain = {name: mid_size.build_model(processor).eval() for name in ("guide", "course", "merged")}
    for name in ("course", "merged"):
        spare_work(plain[name])  # as `load_model` does
    models = {name: get_peft_model(model, (guide_lora_config if name == "guide" else lora_config)(profile)).eval()
              for name, model in plain.items()}
    models["merged"] = models["merged"].merge_and_unload()
    length = {"max_new_tokens": tokens, "min_new_tokens": tokens}

    def guide(sounds: list) -> None:
        for sound in sounds:
            inputs = processor.apply_chat_template(make_chat(sound), tokenize=True, add_generation_prompt=True,
                                                   return_dict=True)
            with torch.inference_mode():
                tokens = models["guide"].generate(**inputs, do_sample=False, **length)
            processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def all_at_once(sounds: list) -> None:
        caption(models[name], processor, sounds, batch_size=len(sounds), **length)

    speeds: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(repeats + 1):
        for name in models:
            some = sounds if repeat else sounds[:2]  # the first round warms up
            begun = time.perf_counter()
            (guide if name == "guide" else all_at_once)(some)
            if repeat:
                speeds[name].append(len(some) / (time.perf_counter() - begun))
    return {name: statistics.median(found) for name, found in speeds.items()}


@job
def operations() -> dict:
    """See `count_operations`."""
    return count_operations()


@job
def hub_clips(*, notebook: str) -> dict:
    """Use the clips of a notebook as it does: in 03 several passes and evaluations, in 06 all captions of each clip."""
    from helpers.audio import references
    from helpers.audio.captions import group_references
    from helpers.training.splits import load_splits

    profile = get_profile()
    if notebook == "03":
        training, held_out = load_splits(profile)
        used = {row["caption"] for stream in (training, held_out) for _ in range(3) for row in stream}
        return {"clips": len(used)}
    references.BUFFER = 2**14  # one of the stand-in's clips; the default is two of AudioCaps'
    return {"clips": len(group_references(load_captions(profile.dataset_id, "test"), profile.test_clips))}
