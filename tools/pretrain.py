"""Train the tiny Audio Flamingo 3 that the course ships: ``python -m tools.pretrain``.

It stands for the pretrained model. Trained end to end from scratch, a model this small never learns to listen: it
gives every clip the same answer. So the ears come first:

1. **Encoder warm-up.** The audio tower learns to tag every 40 ms frame with the sounds that are on, known ones, new
   ones and a hundred timbres without a name, and to keep the frame's spectrum in mind. Its heads are thrown away.
2. **Answers.** With the tower frozen (its outputs are computed once), projector and language model learn chats:
   long-winded answers to "Describe the audio.", tags, short follow-up questions, and sentences without any audio, so
   that the words of captions are known but nothing ties them to sound. That tie is the learner's to make. No answer
   about a clip ever names a new sound.

The clips come from the course's own sounds under a seed that the course's data set never uses.

It takes about 44 minutes on two cores, 15 of them for the encoder and 22 for the answers (``pretraining.json`` beside
the weights says how long it took, and how good they are); a GPU (``--device cuda``) does the second stage in two.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import numpy as np
import torch

from helpers.model.folders import write_digests
from helpers.tiny import captions
from helpers.tiny.architecture import build_audio_tower, build_feature_extractor, build_model, build_processor
from helpers.tiny.pretraining.chats import tokenize
from helpers.tiny.pretraining.clips import SEED, encode, features, frame_targets, make_scenes
from helpers.tiny.pretraining.encoder import confusions, event_f1, heard_tags, learning_rate, warm_up_encoder
from helpers.tiny.pretraining.language import teach_answers
from helpers.tiny.scenes import Scene

__all__ = ["WEIGHTS", "exact_answers", "frame_targets", "in_style", "learning_rate", "pretrain", "tokenize"]

WEIGHTS = Path(captions.__file__).parent / "weights"
SHORT, LONG = (3.0, 4.0), (4.5, 8.0)
"""Lengths of clips in seconds: one window, and two."""


def raise_encoder(clips: int, held_out: int, steps: int) -> tuple[torch.nn.Module, dict]:
    """Stage one: the audio tower, in eval mode, and what was measured of it.

    Args:
        clips: half of them as in the course, half wide (see `draw_scene`: "together" and "wide").
        held_out: clips for the confusion table.
        steps: updates of the weights.
    """
    torch.manual_seed(SEED)
    extractor, tower = build_feature_extractor(), build_audio_tower()
    scenes = [*make_scenes("together", 0, clips // 2, SHORT), *make_scenes("wide", 1, clips // 2, SHORT)]
    inputs, mask = features(extractor, scenes)
    frames = inputs.shape[-1] // 4
    targets = torch.from_numpy(np.stack([frame_targets(scene, frames).astype(bool) for scene in scenes]))
    begun = time.perf_counter()
    tower.train()
    heads = warm_up_encoder(tower, inputs.half(), mask, targets, steps)
    seconds = time.perf_counter() - begun
    tower.eval()
    held = make_scenes("together", 2, held_out, SHORT)
    heard = heard_tags(tower, heads, *features(extractor, held))
    return tower, {"encoder_seconds": round(seconds), "encoder_event_f1": round(event_f1(heard, held), 4),
                   "confusions": confusions(heard, held)}


def answer_pools(tower: torch.nn.Module, clips: int, long_clips: int) -> list[tuple]:
    """What stage two is taught about: share of the batches, clips (their samples dropped), and what the tower hears.

    Args:
        tower: from `raise_encoder`, on the device that is to run it.
        clips: plain clips, three quarters as many with known sounds alone, and a quarter as many wide ones.
        long_clips: clips of two windows.
    """
    kinds = [(0.4, "plain", 7, clips, SHORT), (0.4, "known", 3, 3 * clips // 4, SHORT),
             (0.1, "wide", 4, clips // 4, SHORT), (0.1, "plain", 5, long_clips, LONG)]
    pools = []
    for share, kind, pool, count, duration in kinds:
        scenes = make_scenes(kind, pool, count, duration)
        heard = encode(tower, build_feature_extractor(), scenes)
        pools.append((share, [Scene(np.zeros(0), scene.events, scene.relation) for scene in scenes], heard))
    return pools


def raise_model(tower: torch.nn.Module, pools: list[tuple], steps: int):
    """Stage two: model and processor, and what was measured on the way.

    Args:
        tower: from `raise_encoder`, on the device that is to train.
        pools: from `answer_pools`.
        steps: updates of the weights.
    """
    torch.manual_seed(SEED + 1)
    processor = build_processor()
    model = build_model(processor)
    model.model.audio_tower.load_state_dict(tower.state_dict())
    model.model.audio_tower.requires_grad_(False)
    model.to(next(tower.parameters()).device)
    begun = time.perf_counter()
    model.train()
    teach_answers(model, processor, pools, steps)
    model.eval().requires_grad_(True)
    return model, processor, {"answer_seconds": round(time.perf_counter() - begun)}


def _readings(scene: Scene, write) -> set[str]:
    """Right answers: two sounds at once may be named in either order."""
    both = [scene.labels, scene.labels[::-1]] if scene.relation == captions.OVERLAP else [scene.labels]
    return {write(labels, scene.relation) for labels in both}


def exact_answers(model, processor, scenes: list[Scene], prompt: str) -> float:
    """Share of clips whose greedy answer to ``prompt`` is right to the letter."""
    from helpers.captioning.captions import caption

    write = {captions.DESCRIBE_PROMPT: captions.long_answer,
             captions.TAGS_PROMPT: lambda labels, _: captions.tags(labels)}[prompt]
    answers = caption(model, processor, [scene.samples for scene in scenes], prompt=prompt, batch_size=32)
    return float(np.mean([answer in _readings(scene, write) for answer, scene in zip(answers, scenes, strict=True)]))


def in_style(model, processor, scenes: list[Scene]) -> float:
    """Share of clips that the model describes in AudioCaps' style: nought before fine-tuning."""
    from helpers.captioning.captions import caption

    answers = caption(model, processor, [scene.samples for scene in scenes], batch_size=32)
    return float(np.mean([captions.parse_caption(answer) is not None for answer in answers]))


def finish(model, processor, output: Path, held_out: int) -> dict:
    """Write model and processor to ``output`` in 16 bits, as they are shipped, and measure those on new clips."""
    model.half()
    model.config.dtype = torch.float16
    model.save_pretrained(output)
    processor.save_pretrained(output)
    model.float().eval()
    held = make_scenes("known", 6, held_out, SHORT)
    return {"parameters": model.num_parameters(),
            "exact_long_answers": round(exact_answers(model, processor, held, captions.DESCRIBE_PROMPT), 3),
            "exact_tags": round(exact_answers(model, processor, held, captions.TAGS_PROMPT), 3),
            "captions_in_audiocaps_style": round(in_style(model, processor, held), 3)}


def pretrain(output: Path, encoder_steps: int, answer_steps: int, clips: int, long_clips: int, held_out: int,
             encoder: Path | None = None, device: str = "cpu") -> dict:
    """The whole recipe; writes model and processor to ``output`` and returns what was measured.

    Args:
        output: folder for the weights.
        encoder_steps, answer_steps: updates in the two stages.
        clips: clips of the encoder's warm-up; half as many plain ones for the answers.
        long_clips: clips of two windows for the answers.
        held_out: clips that measure the result.
        encoder: file that keeps the encoder between runs: read if it is there, so that stage two can be tried alone.
        device: what runs stage two.
    """
    started, before = time.perf_counter(), 0
    if encoder and encoder.is_file():
        kept = torch.load(encoder, weights_only=True)
        tower, figures = build_audio_tower(), kept["figures"]
        before = figures["encoder_seconds"]
        tower.load_state_dict(kept["tower"])
        tower.eval()
    else:
        tower, figures = raise_encoder(clips, 8 * held_out, encoder_steps)
        if encoder:
            torch.save({"tower": tower.state_dict(), "figures": figures}, encoder)
    print({name: value for name, value in figures.items() if name != "confusions"}, flush=True)
    tower.to(device)
    pools = answer_pools(tower, clips // 2, long_clips)
    model, processor, more = raise_model(tower, pools, answer_steps)
    result: dict = {"machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
                    "torch": torch.__version__, "clips": clips, "encoder_steps": encoder_steps,
                    "answer_steps": answer_steps, **figures, **more}
    table = result.pop("confusions")

    output.mkdir(parents=True, exist_ok=True)
    result |= finish(model, processor, output, held_out)
    result["total_seconds"] = round(time.perf_counter() - started + before)
    (output / "pretraining.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    lines = [f"  {json.dumps(name)}: {json.dumps(heard)}" for name, heard in table.items()]
    (output / "confusions.json").write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    write_digests(output)
    return result


def parser() -> argparse.ArgumentParser:
    """The command line; its defaults are what made the shipped weights."""
    parser = argparse.ArgumentParser(prog="python -m tools.pretrain", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder for the weights"
                        " (default: the shipped ones)")
    parser.add_argument("--encoder", type=Path, help="file that keeps the encoder between runs")
    parser.add_argument("--device", default="cpu", help="what runs the second stage (default: cpu)")
    parser.add_argument("--encoder-steps", type=int, default=2000)
    parser.add_argument("--answer-steps", type=int, default=1440)
    parser.add_argument("--clips", type=int, default=12_000)
    parser.add_argument("--long-clips", type=int, default=600)
    parser.add_argument("--held-out", type=int, default=200)
    return parser


def main() -> None:
    print(json.dumps(pretrain(**vars(parser().parse_args())), indent=2))


if __name__ == "__main__":
    main()
