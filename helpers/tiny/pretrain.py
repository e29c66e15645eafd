"""Train the tiny Audio Flamingo 3 that the course ships: ``python -m helpers.tiny.pretrain``.

It stands for the pretrained model. Trained end to end from scratch, a model this small never learns to listen: it
gives every clip the same answer. So the ears come first:

1. **Encoder warm-up.** The audio tower learns to tag every 40 ms frame with the sounds that are on; the tagging
   head is thrown away.
2. **Answers.** With the tower frozen (its outputs are computed once), projector and language model learn chats:
   long-winded answers to "Describe the audio.", tags, short follow-up questions, and captions without any audio,
   so that the words of captions are known but nothing ties them to sound. That tie is the learner's to make.

The clips come from this package's own sounds under a seed that the course's data set never uses.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from tqdm.auto import tqdm

from helpers.tiny import captions
from helpers.tiny.architecture import build_model, build_processor
from helpers.tiny.scenes import Scene, compose
from helpers.tiny.sounds import SYNTHESIZERS

WEIGHTS = Path(__file__).parent / "weights"
SEED = 90_210
FRAME_SECONDS = 0.04
"""One encoder output frame: 10 ms mel frames, halved by a convolution and again by pooling."""


def _scene(job: tuple[int, int, tuple[float, float]]) -> Scene:
    pool, index, duration = job
    return compose(np.random.default_rng([SEED, pool, index]), duration)


def make_scenes(pool: int, count: int, duration: tuple[float, float], workers: int = 2) -> list[Scene]:
    """``count`` clips of a numbered pool; the same clips every time."""
    jobs = [(pool, index, duration) for index in range(count)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as executor:
        return list(tqdm(executor.map(_scene, jobs, chunksize=50), total=count, desc=f"clips of pool {pool}"))


def frame_targets(scene: Scene, frames: int) -> np.ndarray:
    """Which classes sound in each encoder frame, shape ``(frames, classes)``, 0 or 1."""
    names = list(SYNTHESIZERS)
    middle = (np.arange(frames) + 0.5) * FRAME_SECONDS
    target = np.zeros((frames, len(names)), dtype=np.float32)
    for event in scene.events:
        target[(middle >= event.start) & (middle < event.end), names.index(event.label)] = 1.0
    return target


def features(processor, scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-mel windows of one-window clips: ``(clips, 64, 400)`` float32 and mask ``(clips, 400)``."""
    parts = []
    for start in range(0, len(scenes), 64):
        batch = processor.feature_extractor(
            [scene.samples for scene in scenes[start : start + 64]], sampling_rate=16_000, return_tensors="pt",
            return_attention_mask=True,
        )
        parts.append((batch["input_features"], batch["attention_mask"]))
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a cosine down to 2 % of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(steps - warmup, 1)
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


def _step(optimizer, loss: torch.Tensor, parameters: list, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


# ---------------------------------------------------------------------------------------------- 1 encoder warm-up
def warm_up_encoder(model, inputs, mask, targets, steps: int, batch: int = 32) -> torch.nn.Linear:
    """Teach the audio tower to tag frames; returns the head, which only the evaluation needs."""
    tower = model.model.audio_tower
    head = torch.nn.Linear(tower.config.hidden_size, targets.shape[-1])
    torch.nn.init.constant_(head.bias, -3.0)  # most classes are off in most frames
    parameters = [p for p in tower.parameters() if p.requires_grad] + list(head.parameters())
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    generator = torch.Generator().manual_seed(1)
    progress = tqdm(range(steps), desc="encoder")
    order = torch.randperm(len(inputs), generator=generator)
    for step in progress:
        if len(order) < batch:
            order = torch.randperm(len(inputs), generator=generator)
        chosen, order = order[:batch], order[batch:]
        hidden = tower(inputs[chosen], input_features_mask=mask[chosen]).last_hidden_state
        loss = functional.binary_cross_entropy_with_logits(head(hidden), targets[chosen]) * 10
        _step(optimizer, loss, parameters, learning_rate(step, steps, 2e-3, 60))
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")
    return head


@torch.no_grad()
def event_f1(model, head, inputs, mask, scenes: list[Scene]) -> float:
    """Micro F1 of "this class sounds for at least 0.2 s somewhere in the clip"."""
    hits = claims = truths = 0
    names = list(SYNTHESIZERS)
    for start in range(0, len(inputs), 64):
        hidden = model.model.audio_tower(inputs[start : start + 64], input_features_mask=mask[start : start + 64])
        on = (head(hidden.last_hidden_state) > 0).sum(1) >= 5
        for scene, row in zip(scenes[start : start + 64], on):
            claimed = {names[i] for i in row.nonzero().flatten().tolist()}
            truth = set(scene.labels)
            hits, claims, truths = hits + len(claimed & truth), claims + len(claimed), truths + len(truth)
    return 2 * hits / max(claims + truths, 1)


# ---------------------------------------------------------------------------------------------------- 2 answers
def conversation(scene: Scene, rng: np.random.Generator) -> list[dict]:
    """One chat about a clip: a description or tags, then up to two follow-up questions."""
    draw = rng.uniform()
    if draw < 0.08:
        text = captions.write_captions(scene.labels, scene.relation, 1, rng)[0]
        return _turns([(captions.CAPTION_ONLY_PROMPT, text)], audio=False)
    turns = {
        captions.DESCRIBE_PROMPT: captions.long_answer(scene.labels, scene.relation),
        captions.TAGS_PROMPT: captions.tags(scene.labels),
        captions.COUNT_PROMPT: captions.count_answer(scene.labels),
        captions.FIRST_PROMPT: captions.first_answer(scene.labels, scene.relation),
    }
    first = captions.DESCRIBE_PROMPT if draw < 0.6 else captions.TAGS_PROMPT if draw < 0.9 else str(
        rng.choice([captions.COUNT_PROMPT, captions.FIRST_PROMPT]))
    rest = [prompt for prompt in rng.permutation(list(turns)).tolist() if prompt != first]
    asked = [first, *rest[: rng.choice([0, 1, 2], p=[0.6, 0.25, 0.15])]]
    return _turns([(prompt, turns[prompt]) for prompt in asked], audio=True)


def _turns(pairs: list[tuple[str, str]], audio: bool) -> list[dict]:
    chat = []
    for number, (question, answer) in enumerate(pairs):
        content = [{"type": "text", "text": question}]
        if audio and number == 0:
            content.append({"type": "audio"})
        chat += [{"role": "user", "content": content},
                 {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
    return chat


def tokenize(processor, chat: list[dict], frames: int) -> tuple[list[int], list[int]]:
    """Token ids of a chat whose clip fills ``frames`` encoder frames, and labels on the answers alone (else -100)."""
    tokenizer = processor.tokenizer
    text = processor.apply_chat_template(chat, tokenize=False).replace("<sound>", "<sound>" * frames)
    ids = tokenizer(text).input_ids
    header = tokenizer("<|im_start|>assistant\n").input_ids
    labels, inside = [-100] * len(ids), False
    for position, token in enumerate(ids):
        if inside:
            labels[position] = token
            inside = token != tokenizer.eos_token_id
        elif ids[position - len(header) + 1 : position + 1] == header:
            inside = True
    return ids, labels


@torch.no_grad()
def encode(model, processor, scenes: list[Scene]) -> list[torch.Tensor]:
    """What the frozen tower hears, one tensor ``(frames, 128)`` a clip; long clips pass window by window."""
    tower, window = model.model.audio_tower, 16_000 * processor.feature_extractor.chunk_length
    pieces, owners = [], []
    for number, scene in enumerate(scenes):
        for start in range(0, len(scene.samples), window):
            pieces.append(Scene(scene.samples[start : start + window], (), ""))
            owners.append(number)
    outputs: list[list[torch.Tensor]] = [[] for _ in scenes]
    for start in range(0, len(pieces), 64):
        inputs, mask = features(processor, pieces[start : start + 64])
        hidden = tower(inputs, input_features_mask=mask).last_hidden_state
        _, lengths = tower._get_feat_extract_output_lengths(mask.sum(-1))
        for owner, row, length in zip(owners[start : start + 64], hidden, lengths):
            outputs[owner].append(row[:length].half())
    return [torch.cat(parts) for parts in outputs]


def language_batch(model, processor, chats: list[list[dict]], heard: list[torch.Tensor]):
    """Embeddings, mask and labels of a left-padded batch, with the tower's outputs in the placeholders."""
    rows = [tokenize(processor, chat, len(frames)) for chat, frames in zip(chats, heard)]
    width = max(len(ids) for ids, _ in rows)
    pad = processor.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids, _ in rows])
    labels = torch.tensor([[-100] * (width - len(labels)) + labels for _, labels in rows])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids, _ in rows])
    embeddings = model.get_input_embeddings()(ids)
    spoken = [frames for (row, _), frames in zip(rows, heard) if processor.audio_token_id in row]
    if spoken:
        audio = model.model.multi_modal_projector(torch.cat(spoken).float())
        embeddings = embeddings.masked_scatter((ids == processor.audio_token_id)[..., None], audio)
    return embeddings, mask, labels


def teach_answers(model, processor, pools: list[tuple[list[Scene], list[torch.Tensor]]], steps: int, batch: int = 32):
    """Teach projector and language model to answer; every twelfth batch comes from the last pool (long clips)."""
    parameters = [*model.model.language_model.parameters(), *model.model.multi_modal_projector.parameters(),
                  *model.lm_head.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, betas=(0.9, 0.98))
    rng = np.random.default_rng(2)
    progress = tqdm(range(steps), desc="answers")
    for step in progress:
        scenes, heard = pools[1] if step % 12 == 11 else pools[0]
        chosen = rng.integers(len(scenes), size=batch)
        chats = [conversation(scenes[i], rng) for i in chosen]
        embeddings, mask, labels = language_batch(model, processor, chats, [heard[i] for i in chosen])
        hidden = model.model.language_model(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
        answer = labels[:, 1:] != -100
        logits = model.lm_head(hidden[:, :-1][answer])
        loss = functional.cross_entropy(logits, labels[:, 1:][answer])
        _step(optimizer, loss, parameters, learning_rate(step, steps, 1.5e-3, 50))
        if step % 20 == 0:
            progress.set_postfix(loss=f"{loss.item():.3f}")


@torch.no_grad()
def exact_answers(model, processor, scenes: list[Scene], prompt: str) -> float:
    """Share of clips whose greedy answer to ``prompt`` is right to the letter."""
    from helpers.captioning.captions import caption

    expected = {captions.DESCRIBE_PROMPT: lambda s: captions.long_answer(s.labels, s.relation),
                captions.TAGS_PROMPT: lambda s: captions.tags(s.labels)}[prompt]
    answers = caption(model, processor, [scene.samples for scene in scenes], prompt=prompt, batch_size=32)
    return float(np.mean([answer == expected(scene) for answer, scene in zip(answers, scenes)]))


def in_style(model, processor, scenes: list[Scene]) -> float:
    """Share of clips that the model describes in AudioCaps' style: nought before fine-tuning."""
    from helpers.captioning.captions import caption

    answers = caption(model, processor, [scene.samples for scene in scenes], batch_size=32)
    return float(np.mean([captions.parse_caption(answer) is not None for answer in answers]))


def pretrain(output: Path, encoder_steps: int, answer_steps: int, clips: int, long_clips: int, held_out: int) -> dict:
    """The whole recipe; writes model and processor to ``output`` and returns what was measured."""
    started = time.perf_counter()
    torch.manual_seed(SEED)
    processor = build_processor()
    model = build_model(processor)
    scenes = make_scenes(0, clips, (3.0, 4.0))
    held = make_scenes(1, held_out, (3.0, 4.0))
    inputs, mask = features(processor, scenes)
    frames = inputs.shape[-1] // 4
    targets = torch.from_numpy(np.stack([frame_targets(scene, frames) for scene in scenes]))
    result: dict = {"machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
                    "torch": torch.__version__, "clips": clips, "encoder_steps": encoder_steps,
                    "answer_steps": answer_steps}
    model.train()
    begun = time.perf_counter()
    head = warm_up_encoder(model, inputs, mask, targets, encoder_steps)
    result["encoder_seconds"] = round(time.perf_counter() - begun)
    model.eval()
    result["encoder_event_f1"] = round(event_f1(model, head, *features(processor, held), held), 3)
    print(result, flush=True)
    del inputs, mask, targets

    long = make_scenes(2, long_clips, (4.5, 8.0))
    pools = [(scenes, encode(model, processor, scenes)), (long, encode(model, processor, long))]
    model.train()
    begun = time.perf_counter()
    teach_answers(model, processor, pools, answer_steps)
    result["answer_seconds"] = round(time.perf_counter() - begun)

    model.half()  # what is shipped: 16-bit weights; every figure below is of these
    model.config.dtype = torch.float16
    output.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(output)
    processor.save_pretrained(output)
    model.float().eval()
    result["parameters"] = model.num_parameters()
    result["exact_long_answers"] = round(exact_answers(model, processor, held, captions.DESCRIBE_PROMPT), 3)
    result["exact_tags"] = round(exact_answers(model, processor, held, captions.TAGS_PROMPT), 3)
    result["captions_in_audiocaps_style"] = round(in_style(model, processor, held), 3)
    result["total_seconds"] = round(time.perf_counter() - started)
    (output / "pretraining.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m helpers.tiny.pretrain", description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=WEIGHTS, help="folder for the weights (default: the shipped ones)")
    parser.add_argument("--encoder-steps", type=int, default=1000)
    parser.add_argument("--answer-steps", type=int, default=1000)
    parser.add_argument("--clips", type=int, default=6000)
    parser.add_argument("--long-clips", type=int, default=600)
    parser.add_argument("--held-out", type=int, default=200)
    print(json.dumps(pretrain(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
