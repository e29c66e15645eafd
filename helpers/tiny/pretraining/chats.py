"""What is asked about a clip while the base model is raised, and how a chat becomes tokens and labels."""

from __future__ import annotations

import numpy as np

from helpers.tiny import captions, traits, vocabulary
from helpers.tiny.scenes import Scene
from helpers.tiny.sounds import KNOWN_SOUNDS

_TRAIT_PROMPTS = (traits.KIND_PROMPT, traits.PITCH_PROMPT, traits.RHYTHM_PROMPT)
_NAMEABLE = frozenset(KNOWN_SOUNDS)


def answers(scene: Scene, rng: np.random.Generator) -> dict[str, str]:
    """Prompt -> right answer, for every question that the base model may be asked about this clip.

    Where several wordings are right, ``rng`` draws one.

    No answer names a new sound: of a clip with one, the base is told how many sounds there are and what they are
    like, never what they are. Of timbres, which have no traits, it is told their number alone.
    """
    labels, relation = scene.labels, scene.relation
    found = {captions.COUNT_PROMPT: captions.count_answer(labels)}
    if set(labels) <= _NAMEABLE or relation != captions.SEQUENCE:
        found[captions.FIRST_PROMPT] = captions.first_answer(labels, relation)
    if set(labels) <= traits.TRAITS.keys():
        for prompt in _TRAIT_PROMPTS:
            found[prompt] = traits.trait_answer(prompt, labels, relation == captions.SEQUENCE)
    if set(labels) <= _NAMEABLE:
        found[captions.DESCRIBE_PROMPT] = captions.long_answer(labels, relation)
        found[captions.TAGS_PROMPT] = captions.tags(labels)
        found[captions.SOURCE_PROMPT] = captions.source_answer(labels, relation)
        found[captions.STORY_PROMPT] = str(rng.choice(captions.stories(labels, relation)))
    return found


def conversation(scene: Scene, rng: np.random.Generator) -> list[dict]:
    """One chat about a clip: mostly a description or tags first, if it can be named, then up to three questions."""
    right = answers(scene, rng)
    prompts = [str(prompt) for prompt in rng.permutation(list(right))]
    draw = rng.uniform()
    if captions.DESCRIBE_PROMPT in right and draw < 0.85:
        first = (captions.DESCRIBE_PROMPT if draw < 0.35 else captions.STORY_PROMPT if draw < 0.65 else
                 captions.TAGS_PROMPT if draw < 0.75 else captions.SOURCE_PROMPT)
        prompts = [first, *(prompt for prompt in prompts if prompt != first)]
    asked = prompts[: rng.choice([1, 2, 3, 4], p=[0.3, 0.3, 0.2, 0.2])]
    return turns([(prompt, right[prompt]) for prompt in asked], audio=True)


def reading(rng: np.random.Generator) -> list[dict]:
    """One chat without a clip: a caption of the tiny world, with new and known sounds alike, or any other sentence."""
    if rng.uniform() < 0.6:
        return turns([(captions.CAPTION_ONLY_PROMPT, vocabulary.sentence(rng))], audio=False)
    relation = str(rng.choice([captions.SILENCE, captions.SINGLE, captions.SEQUENCE, captions.OVERLAP],
                              p=[0.05, 0.25, 0.35, 0.35]))
    count = {captions.SILENCE: 0, captions.SINGLE: 1}.get(relation, 2)
    labels = [str(label) for label in rng.choice(list(captions.PHRASES), size=count, replace=False)]
    return turns([(captions.CAPTION_ONLY_PROMPT, captions.write_captions(labels, relation, 1, rng)[0])], audio=False)


def turns(pairs: list[tuple[str, str]], audio: bool) -> list[dict]:
    """A chat of questions and answers; with ``audio`` the clip joins the first question."""
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
