"""Chats to token ids: control tokens come from the chat template alone, whatever people write comes as plain text.

The tokenizer reads ``<|im_end|>`` or ``<sound>`` inside any text as control. Two ways out were tried and left:

- ``split_special_tokens=True`` reads the template's own control tokens as text too, once the chat is rendered; and of
  the added tokens it spares the special ones alone (Qwen2 has others, such as ``<tool_call>``).
- An escape, a character put inside the token, is another caption: the model would learn to write the escape.

So the template is rendered with a slot in place of each text, and cut at the slots. Its pieces are encoded with control
tokens, the texts without any. For a text without control tokens the ids are those of the whole rendered chat; and as
the cut before an answer lies where generation begins, the model is trained from exactly the ids that it will be asked
with.
"""

import re

import torch
from transformers import BatchFeature
from transformers.processing_utils import ProcessorMixin

from helpers.audio.windows import can_trim, samples_needed, trim_windows
from helpers.families import family_of

IGNORED = -100
"""Label of a position that the loss skips: the ``ignore_index`` of PyTorch's cross entropy."""

_SLOT = "\ue000"
"""Around the number of a text in the rendered template; nothing that people write is in there to be taken for it."""


def encode_text(tokenizer, text: str) -> list[int]:
    """Token ids of a text in which nothing is control; decoding gives the text back (in Unicode's composed form, NFC).

    The tokenizer's own steps without the one that looks for added tokens.
    """
    backend = tokenizer.backend_tokenizer
    if backend.normalizer is not None:
        text = backend.normalizer.normalize_str(text)
    words = [text]
    if backend.pre_tokenizer is not None:
        words = [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]
    return [token.id for word in words for token in backend.model.tokenize(word)]


def encode_chat(processor: ProcessorMixin, chat: list[dict], clip_ids: list[int],
                ask: bool = False) -> tuple[list[int], list[int]]:
    """Token ids and labels of one chat.

    Args:
        processor: an AF3 processor.
        chat: as from `check_chat`; an audio item says where the clip is, and its samples are not looked at.
        clip_ids: what stands for the clip: ``[processor.audio_token_id]``, as many times as the encoder gives frames.
        ask: open the assistant's turn at the end, for the model to go on.

    Returns:
        ``input_ids`` and ``labels`` of the same length. Labels are the ids inside the assistant's words and of the
        token that ends them, `IGNORED` elsewhere.

    Raises:
        RuntimeError: the chat template loses or repeats a text.
    """
    texts, slots = [], []
    for message in chat:
        content = message["content"]
        items = [{"type": "text", "text": content}] if isinstance(content, str) else content
        copy = []
        for item in items:
            if item["type"] == "text":
                copy.append({"type": "text", "text": f"{_SLOT}{len(texts)}{_SLOT}"})
                texts.append((item["text"], message["role"] == "assistant"))
            else:
                copy.append({"type": item["type"]})
        slots.append({"role": message["role"], "content": copy})
    rendered = processor.apply_chat_template(slots, tokenize=False, add_generation_prompt=ask)
    pieces = re.split(f"{_SLOT}(\\d+){_SLOT}", rendered)
    if [int(number) for number in pieces[1::2]] != list(range(len(texts))):
        raise RuntimeError("The processor's chat template does not show each text of a chat once and in order: load "
                           "the processor that belongs to the model.")
    ids, labels, ending = [], [], False
    end = answer_marks(processor)[1]
    for number, piece in enumerate(pieces):
        text, taught = texts[int(piece)] if number % 2 else (None, False)
        new = _template_ids(processor, piece, clip_ids) if text is None else encode_text(processor.tokenizer, text)
        if ending and new[:1] != [end]:
            new = [end, *new]  # the template has no end mark: nobody would learn to stop
        ids += new
        labels += new if taught else [*new[:ending], *[IGNORED] * (len(new) - ending)]
        ending = taught  # the first token after an answer is the one that ends it
    return ids, labels


def _template_ids(processor: ProcessorMixin, piece: str, clip_ids: list[int]) -> list[int]:
    """A piece of the rendered template, its control tokens as such."""
    parts = [processor.tokenizer.encode(part, add_special_tokens=False) for part in piece.split(processor.audio_token)]
    ids = list(parts[0])
    for part in parts[1:]:
        ids += clip_ids + part
    return ids


def encode_chats(processor: ProcessorMixin, chats: list[list[dict]], ask: bool = False,
                 trim: bool = False) -> BatchFeature:
    """A batch of chats, padded on the left, with the log-mel features of their clips.

    Args:
        processor: an AF3 processor.
        chats: ``B`` chats as from `check_chat`, with one clip each.
        ask: open the assistant's turn at the end of each, for the model to go on; there are no labels then.
        trim: features no longer than the longest clip needs, where the processor allows it (see
            `helpers.audio.windows`).

    Returns:
        ``input_ids``, ``attention_mask``: ``(B, L)`` int64; ``input_features``: ``(W, mel bins, frames)`` float32, one
        row a window, at least one window a clip; ``input_features_mask`` (Qwen2-Audio calls it
        ``feature_attention_mask``): ``(W, frames)``; unless asked, ``labels``: ``(B, L)`` int64.

    Raises:
        UnknownModel: a processor that the course does not know.
    """
    clips = [item["audio"] for chat in chats for message in chat for item in message["content"]
             if item["type"] == "audio"]
    trim = trim and can_trim(processor)
    # Nothing but placeholders: as many as the encoder gives frames, which the processor knows, and the features.
    heard = processor(text=[processor.audio_token] * len(clips), audio=clips, return_tensors="pt",
                      text_kwargs={"padding": True, "padding_side": "left"},
                      audio_kwargs={"max_length": samples_needed(processor, clips)} if trim else {})
    if trim:
        trim_windows(heard)
    rows = zip(chats, heard["input_ids"], heard["attention_mask"], strict=True)
    encoded = [encode_chat(processor, chat, ids[mask == 1].tolist(), ask) for chat, ids, mask in rows]
    width = max(len(ids) for ids, _ in encoded)
    columns = {"input_ids": processor.tokenizer.pad_token_id, "attention_mask": 0, "labels": IGNORED}
    batch = {name: torch.full((len(chats), width), fill) for name, fill in columns.items()}
    for row, (ids, labels) in enumerate(encoded):
        batch["input_ids"][row, width - len(ids) :] = torch.tensor(ids)
        batch["attention_mask"][row, width - len(ids) :] = 1
        batch["labels"][row, width - len(ids) :] = torch.tensor(labels)
    features = {name: heard[name] for name in ("input_features", family_of(processor).mask)}
    return BatchFeature({name: values for name, values in {**batch, **features}.items()
                         if not (ask and name == "labels")})


def answer_marks(processor: ProcessorMixin) -> tuple[list[int], int]:
    """Ids of the tag that opens an assistant's turn, and the id that ends it, read off the chat template itself."""
    user = [{"role": "user", "content": [{"type": "text", "text": "?"}]}]
    answer = {"role": "assistant", "content": [{"type": "text", "text": "answer"}]}
    asked = processor.apply_chat_template(user, tokenize=False)
    opened = processor.apply_chat_template(user, tokenize=False, add_generation_prompt=True)
    closed = processor.apply_chat_template([*user, answer], tokenize=False)
    encode, tokenizer = processor.tokenizer.encode, processor.tokenizer
    rest = encode(closed[len(opened) + len("answer") :], add_special_tokens=False)
    # A template that marks no end leaves that to the tokenizer's own token.
    end = rest[0] if rest and rest[0] in tokenizer.added_tokens_decoder else tokenizer.eos_token_id
    return encode(opened[len(asked) :], add_special_tokens=False), end


def answer_labels(processor: ProcessorMixin, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
    """The labels that a batch should have, found in its ids: the other way round, to check a collator against.

    Args:
        input_ids, attention_mask: ``(B, L)``.

    Returns:
        ``(B, L)``: the token id inside an assistant's answer and on its end token, `IGNORED` elsewhere.
    """
    header, end = answer_marks(processor)
    labels = torch.full_like(input_ids, IGNORED)
    if len(header) <= input_ids.shape[1]:
        starts = (input_ids.unfold(1, len(header), 1) == torch.tensor(header, device=input_ids.device)).all(dim=-1)
        for row, start in starts.nonzero().tolist():
            begin = start + len(header)
            ends = (input_ids[row, begin:] == end).nonzero()
            stop = begin + int(ends[0]) + 1 if len(ends) else input_ids.shape[1]
            labels[row, begin:stop] = input_ids[row, begin:stop]
    return labels.masked_fill(attention_mask == 0, IGNORED)
