"""The task name of the guide, ``pipeline("audio-text-to-text")``, through transformers' own pipeline registry."""

from typing import Any

from transformers import BatchFeature, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from helpers.audio.samples import as_samples
from helpers.captioning.captions import encode_questions, in_batches, is_many, new_tokens
from helpers.chat import check_chat, check_text, longest_clip, make_chat
from helpers.profiles import DESCRIBE_PROMPT

TASK = "audio-text-to-text"


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and "role" in item and "content" in item


class AudioTextToTextPipeline(Pipeline):
    """Text from audio and text: one clip, many clips, or chats.

    Call it with samples (16 kHz mono float), a path, an example's ``{"array", "sampling_rate"}``, chat messages with
    one clip in them, or a list of any of these. Every call returns a flat list, one dictionary
    ``{"generated_text": ...}`` a clip or chat, holding the new text alone.

    A call also takes ``text``, the question for clips without a chat, ``batch_size``, ``generate_kwargs`` for
    ``model.generate`` (greedy unless they say ``do_sample=True``), and ``max_new_tokens``, which is one of them.
    """

    _load_processor = True
    _load_tokenizer = False
    _load_feature_extractor = False
    _load_image_processor = False

    def _sanitize_parameters(self, generate_kwargs: dict | None = None, max_new_tokens: int | None = None, **unknown):
        if unknown:
            raise TypeError(f"The {TASK} pipeline does not know {', '.join(unknown)}: generation options go into "
                            "generate_kwargs={...}.")
        options = dict(generate_kwargs or {})
        if max_new_tokens is not None:
            options["max_new_tokens"] = max_new_tokens
        return {}, {"generate_kwargs": options}, {}

    def __call__(self, audio: Any, text: str = DESCRIBE_PROMPT, batch_size: int = 8, **kwargs) -> list[dict[str, str]]:
        batches = in_batches(self._chats(audio, text, longest_clip(self.processor)), batch_size)
        if not batches:
            return []
        # batch_size=1 for the base class: the processor has to pad a whole batch itself, on the left.
        return [answer for answers in super().__call__(batches, batch_size=1, **kwargs) for answer in answers]

    @staticmethod
    def _chats(audio: Any, text: str, longest: float) -> list[list[dict]]:
        check_text(text, "The question in text=")
        if not is_many(audio):
            return [make_chat(as_samples(audio, longest=longest), text)]
        if audio and _is_message(audio[0]):
            return [check_chat(audio, longest=longest)]
        return [check_chat(item, f"chat {number}", longest=longest) if is_many(item) and item and _is_message(item[0])
                else make_chat(as_samples(item, f"Clip {number}", longest), text) for number, item in enumerate(audio)]

    def preprocess(self, chats: list[list[dict]]) -> BatchFeature:
        return encode_questions(self.model, self.processor, chats)

    def _forward(self, inputs: BatchFeature, generate_kwargs: dict) -> dict:
        return {"new_tokens": new_tokens(self.model, inputs, **generate_kwargs)}

    def postprocess(self, outputs: dict) -> list[dict[str, str]]:
        texts = self.processor.batch_decode(outputs["new_tokens"], skip_special_tokens=True)
        return [{"generated_text": text} for text in texts]


def register_pipeline() -> None:
    """Teach ``transformers.pipeline`` the task "audio-text-to-text"; calling it again changes nothing."""
    if TASK in PIPELINE_REGISTRY.get_supported_tasks():
        return
    # No class of models: named here, it would be tried first on every folder, before the one in its config.json.
    PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=AudioTextToTextPipeline, type="multimodal")
