"""Stage two: with the audio tower frozen, projector and language model learn to answer, and to read."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from helpers.tiny.captions import OVERLAP
from helpers.tiny.pretraining.chats import conversation, reading, tokenize
from helpers.tiny.pretraining.clips import NAMES, frame_targets
from helpers.tiny.pretraining.encoder import fast_bfloat16, learning_rate, update
from helpers.tiny.scenes import Scene


class Memory(torch.nn.Module):
    """Keeps the projector from forgetting: from its outputs, tags and encoder frames must still be readable.

    Without it the projector would keep what today's answers need and drop the rest, and a learner could never teach
    the model another sound. Thrown away after training.

    Args:
        heard: width of the encoder's frames.
        projected: width of the projector's outputs.
    """

    def __init__(self, heard: int, projected: int):
        super().__init__()
        self.tags = torch.nn.Linear(projected, len(NAMES))
        self.frames = torch.nn.Linear(projected, heard)
        torch.nn.init.constant_(self.tags.bias, -3.0)

    def loss(self, projected: torch.Tensor, frames: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """How much is lost.

        Args:
            projected: the projector's outputs, ``(frames, projected)``.
            frames: the encoder's outputs, ``(frames, heard)``.
            targets: which classes sound, ``(frames, classes)``.
        """
        tagging = functional.binary_cross_entropy_with_logits(self.tags(projected), targets, reduction="none")
        lost = functional.mse_loss(self.frames(projected), frames) / frames.var()
        return tagging.sum(-1).mean() / 4 + lost


class Lessons(Dataset):
    """What is taught in each step, as tensors: drawn from the seed and the step alone, in whatever process.

    Clips with two sounds at once come twice as often as others: the second name is one token in thirty there, so it is
    learned last, and until then the model names the first sound twice.

    Args:
        processor: of the tiny AF3.
        pools: weight, clips and their encodings; each batch comes from one pool.
        steps: how many.
        seed: of clips and chats.
        batch: chats about clips a step.
        sentences: chats without a clip a step.
    """

    def __init__(self, processor, pools: list[tuple[float, list[Scene], list[torch.Tensor]]], steps: int, seed: int,
                 batch: int, sentences: int):
        self.processor, self.pools, self.steps, self.seed = processor, pools, steps, seed
        self.batch, self.sentences = batch, sentences
        odds = [np.array([1 + (scene.relation == OVERLAP) for scene in scenes]) for _, scenes, _ in pools]
        self.odds = [some / some.sum() for some in odds]

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        """``ids``, ``mask`` and ``labels`` of chats about clips, left-padded; the clips' ``frames`` one after the
        other, ``(frames, hidden)``, and their ``targets``; ``ids``, ``mask`` and ``labels`` to read."""
        rng = np.random.default_rng([self.seed, step])
        weights = np.array([weight for weight, *_ in self.pools])
        pool = rng.choice(len(self.pools), p=weights / weights.sum())
        _, scenes, heard = self.pools[pool]
        chosen = rng.choice(len(scenes), size=self.batch, p=self.odds[pool])
        chats = [conversation(scenes[i], rng) for i in chosen]
        targets = np.concatenate([frame_targets(scenes[i], len(heard[i])) for i in chosen])
        told = pad_left(self.processor, chats, [len(heard[i]) for i in chosen])
        read = pad_left(self.processor, [reading(rng) for _ in range(self.sentences)], [0] * self.sentences)
        return {**told, "frames": torch.cat([heard[i] for i in chosen]), "targets": torch.from_numpy(targets),
                **{f"read_{name}": tensor for name, tensor in read.items()}}


def pad_left(processor, chats: list[list[dict]], lengths: list[int]) -> dict[str, torch.Tensor]:
    """``ids``, ``mask`` and ``labels`` of chats whose clips fill ``lengths`` encoder frames."""
    rows = [tokenize(processor, chat, length) for chat, length in zip(chats, lengths, strict=True)]
    width, pad = max(len(ids) for ids, _ in rows), processor.tokenizer.pad_token_id
    return {"ids": torch.tensor([[pad] * (width - len(ids)) + ids for ids, _ in rows]),
            "mask": torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids, _ in rows]),
            "labels": torch.tensor([[-100] * (width - len(labels)) + labels for _, labels in rows])}


def answer_loss(model, embeddings, mask, labels) -> torch.Tensor:
    """Cross entropy of the labelled tokens, each predicted from what comes before it."""
    hidden = model.model.language_model(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
    answer = labels[:, 1:] != -100
    return functional.cross_entropy(model.lm_head(hidden[:, :-1][answer]).float(), labels[:, 1:][answer])


def teach_answers(model, processor, pools: list[tuple[float, list[Scene], list[torch.Tensor]]], steps: int,
                  peak: float = 1.5e-3, seed: int = 2, batch: int = 32, sentences: int = 24) -> None:
    """Teach projector and language model to answer questions about clips and to read captions without any.

    Args:
        model, processor: the tiny AF3, on the device that trains; its tower is not touched.
        pools, batch, sentences: see `Lessons`.
        steps: updates of the weights.
        peak: highest learning rate.
        seed: of clips, chats, and what is thrown away.
    """
    torch.manual_seed(seed)
    device = model.device
    memory = Memory(model.config.audio_config.hidden_size, model.config.text_config.hidden_size).to(device)
    parameters = [*model.model.language_model.parameters(), *model.model.multi_modal_projector.parameters(),
                  *model.lm_head.parameters(), *memory.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.01, betas=(0.9, 0.98))
    lessons = Lessons(processor, pools, steps, seed, batch, sentences)
    # A GPU waits for nobody if others write the chats; on a CPU they would take the cores that train.
    loader = DataLoader(lessons, batch_size=None, num_workers=4 if device.type == "cuda" else 0)
    embed, project = model.get_input_embeddings(), model.model.multi_modal_projector
    progress = tqdm(loader, desc="answers", mininterval=10)
    for step, lesson in enumerate(progress):
        lesson = {name: tensor.to(device) for name, tensor in lesson.items()}
        frames, ids = lesson["frames"].float(), lesson["ids"]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cpu" and fast_bfloat16()):
            audio = project(frames).float()
            embeddings = embed(ids).masked_scatter((ids == processor.audio_token_id)[..., None], audio)
            told = answer_loss(model, embeddings, lesson["mask"], lesson["labels"])
            read = answer_loss(model, embed(lesson["read_ids"]), lesson["read_mask"], lesson["read_labels"])
        lost = memory.loss(audio, frames, lesson["targets"])
        (told + 0.3 * read + 0.3 * lost).backward()
        update(optimizer, parameters, learning_rate(step, steps, peak, 50))
        if step % 20 == 0:
            losses = {"told": told, "read": read, "lost": lost}
            progress.set_postfix({name: f"{loss.item():.3f}" for name, loss in losses.items()}, refresh=False)
