"""Stage two: with the audio tower frozen, projector and language model learn to answer, and to read."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional
from tqdm.auto import tqdm

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


def batch_of(model, processor, chats: list[list[dict]], heard: list[torch.Tensor]):
    """Embeddings, mask and labels of a left-padded batch, and what the projector made of the clips.

    Args:
        model, processor: the tiny AF3.
        chats: chats with a clip each, or none with a clip.
        heard: the tower's outputs ``(frames, hidden)``, float32, for each chat; empty for chats without clips.
    """
    lengths = [len(frames) for frames in heard] or [0] * len(chats)
    rows = [tokenize(processor, chat, length) for chat, length in zip(chats, lengths, strict=True)]
    width = max(len(ids) for ids, _ in rows)
    pad = processor.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(ids)) + ids for ids, _ in rows])
    labels = torch.tensor([[-100] * (width - len(labels)) + labels for _, labels in rows])
    mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids, _ in rows])
    embeddings, audio = model.get_input_embeddings()(ids), None
    if heard:
        audio = model.model.multi_modal_projector(torch.cat(heard)).float()
        embeddings = embeddings.masked_scatter((ids == processor.audio_token_id)[..., None], audio)
    return embeddings, mask, labels, audio


def answer_loss(model, embeddings, mask, labels) -> torch.Tensor:
    """Cross entropy of the labelled tokens, each predicted from what comes before it."""
    hidden = model.model.language_model(inputs_embeds=embeddings, attention_mask=mask).last_hidden_state
    answer = labels[:, 1:] != -100
    return functional.cross_entropy(model.lm_head(hidden[:, :-1][answer]).float(), labels[:, 1:][answer])


def teach_answers(model, processor, pools: list[tuple[float, list[Scene], list[torch.Tensor]]], steps: int,
                  peak: float = 1.5e-3, seed: int = 2, batch: int = 32, sentences: int = 24) -> None:
    """Teach projector and language model to answer questions about clips and to read captions without any.

    Args:
        model, processor: the tiny AF3; its tower is not touched.
        pools: weight, clips and their encodings; each batch comes from one pool.
        steps: updates of the weights.
        peak: highest learning rate.
        seed: of clips, chats, and what is thrown away.
        batch: chats about clips an update.
        sentences: chats without a clip an update.
    """
    torch.manual_seed(seed)
    memory = Memory(model.config.audio_config.hidden_size, model.config.text_config.hidden_size)
    parameters = [*model.model.language_model.parameters(), *model.model.multi_modal_projector.parameters(),
                  *model.lm_head.parameters(), *memory.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak, weight_decay=0.01, betas=(0.9, 0.98))
    rng = np.random.default_rng(seed)
    weights = np.array([weight for weight, *_ in pools])
    progress = tqdm(range(steps), desc="answers", mininterval=10)
    for step in progress:
        _, scenes, heard = pools[rng.choice(len(pools), p=weights / weights.sum())]
        chosen = rng.integers(len(scenes), size=batch)
        chats, frames = [conversation(scenes[i], rng) for i in chosen], [heard[i].float() for i in chosen]
        targets = torch.from_numpy(np.concatenate([frame_targets(scenes[i], len(heard[i])) for i in chosen]))
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
            *inputs, audio = batch_of(model, processor, chats, frames)
            told = answer_loss(model, *inputs)
            *inputs, _ = batch_of(model, processor, [reading(rng) for _ in range(sentences)], [])
            read = answer_loss(model, *inputs)
        lost = memory.loss(audio, torch.cat(frames), targets)
        (told + 0.3 * read + 0.3 * lost).backward()
        update(optimizer, parameters, learning_rate(step, steps, peak, 50))
        if step % 20 == 0:
            losses = {"told": told, "read": read, "lost": lost}
            progress.set_postfix({name: f"{loss.item():.3f}" for name, loss in losses.items()}, refresh=False)
