"""The task name of the guide, ``pipeline("audio-text-to-text")``, through transformers' own pipeline registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from transformers import AudioFlamingo3ForConditionalGeneration, GenerationConfig, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from helpers.audio.samples import AudioError, as_samples
from helpers.captioning.captions import GREEDY, is_many
from helpers.chat import longest_clip, make_chat
from helpers.profiles import DESCRIBE_PROMPT

TASK = "audio-text-to-text"


@dataclass
class _Batch:
    """Chats that go through the model together."""

    chats: list[list[dict]]


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item and "content" in item


class AudioTextToTextPipeline(Pipeline):
    """Text from audio and text: one clip, many clips, or chats.

    Call it with samples (16 kHz mono float), a path, an example's ``{"array", "sampling_rate"}``, chat messages with
    one clip in them, or a list of any of these. Every call returns a flat list, one dictionary
    ``{"generated_text": ...}`` a clip or chat, holding the new text alone.

    Args of a call:
        text: the question for clips that come without a chat (default "Describe the audio.").
        batch_size: clips at once (default 8).
        generate_kwargs: for ``model.generate``; greedy unless they say ``do_sample=True``.
        max_new_tokens: shorthand for the same key of ``generate_kwargs``.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False
    _pipeline_calls_generate = True
    _default_generation_config = GenerationConfig(max_new_tokens=100)

    def _sanitize_parameters(self, generate_kwargs: dict | None = None, max_new_tokens: int | None = None, **unknown):
        if unknown:
            raise TypeError(f"The {TASK} pipeline does not know {', '.join(unknown)}: generation options go into "
                            "generate_kwargs={...}.")
        options = dict(generate_kwargs or {})
        if max_new_tokens is not None:
            options["max_new_tokens"] = max_new_tokens
        return {}, {"generate_kwargs": options}, {}

    def __call__(self, audio: Any, text: str = DESCRIBE_PROMPT, batch_size: int = 8, **kwargs) -> list[dict[str, str]]:
        chats = self._chats(audio, text, longest_clip(self.processor))
        if not chats:
            return []
        batches = [_Batch(chats[start : start + batch_size]) for start in range(0, len(chats), batch_size)]
        # batch_size=1 for the base class: the processor has to pad a whole batch itself, on the left.
        return [answer for answers in super().__call__(batches, batch_size=1, **kwargs) for answer in answers]

    @staticmethod
    def _chats(audio: Any, text: str, longest: float) -> list[list[dict]]:
        if not is_many(audio):
            return [make_chat(as_samples(audio, longest=longest), text)]
        if audio and _is_message(audio[0]):
            return [_decoded(audio, longest)]
        return [
            _decoded(item, longest) if is_many(item) and item and _is_message(item[0])
            else make_chat(as_samples(item, f"Clip {number}", longest), text)
            for number, item in enumerate(audio)
        ]

    def preprocess(self, batch: _Batch) -> dict:
        inputs = self.processor.apply_chat_template(
            batch.chats, tokenize=True, return_dict=True, add_generation_prompt=True
        )
        return inputs.to(dtype=self.model.dtype)  # floats alone; integers keep their type

    def _forward(self, inputs: dict, generate_kwargs: dict) -> dict:
        if not generate_kwargs.get("do_sample"):
            generate_kwargs = {**GREEDY, **generate_kwargs}
        tokens = self.model.generate(**inputs, **self._prepare_generate_kwargs(generate_kwargs))
        return {"new_tokens": tokens[:, inputs["input_ids"].shape[1] :]}

    def postprocess(self, outputs: dict) -> list[dict[str, str]]:
        texts = self.processor.batch_decode(outputs["new_tokens"], skip_special_tokens=True)
        return [{"generated_text": text} for text in texts]


def _decoded(chat: list[dict], longest: float) -> list[dict]:
    """A copy of a chat whose clip is checked samples; exactly one clip, as AF3's processor demands."""
    copy, clips = [], 0
    for message in chat:
        content = message["content"]
        items = [{"type": "text", "text": content}] if isinstance(content, str) else []
        for item in content if not isinstance(content, str) else []:
            if item["type"] == "audio":
                clips += 1
                source = next((item[key] for key in ("audio", "path", "url") if key in item), None)
                item = {"type": "audio", "audio": as_samples(source, "The clip in the chat", longest)}
            items.append(item)
        copy.append({"role": message["role"], "content": items})
    if clips != 1:
        raise AudioError(f"The chat holds {clips} clips, but AF3 takes exactly one a chat: put one item "
                         '{"type": "audio", "audio": samples or path} into a user turn.')
    return copy


def register_pipeline() -> None:
    """Teach ``transformers.pipeline`` the task "audio-text-to-text"; calling it again changes nothing."""
    if TASK in PIPELINE_REGISTRY.get_supported_tasks():
        return
    PIPELINE_REGISTRY.register_pipeline(
        TASK, pipeline_class=AudioTextToTextPipeline, pt_model=AudioFlamingo3ForConditionalGeneration, type="multimodal"
    )
