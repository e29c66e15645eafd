"""The audio-language models that the recipe of this course can teach, and what differs between them.

They are built alike: an encoder in the manner of Whisper's, a projector, and a language model that finds what was heard
in place of the placeholders in a chat. One recipe serves all of them. Left out: Voxtral (its chat template refuses an
assistant's turn and takes audio as base64), Granite Speech (needs torchaudio), and models that speak as well as hear.
"""

import inspect
from dataclasses import dataclass

import transformers
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.processing_utils import ProcessorMixin


class UnknownModel(ValueError):
    """A model or processor of a class that the course does not know; the message says which it knows."""


@dataclass(frozen=True)
class Family:
    """Models of one class."""

    title: str
    model_type: str
    """As ``config.json`` has it."""
    model: str
    """Class in transformers, as ``config.architectures`` has it."""
    processor: str
    mask: str = "input_features_mask"
    """What the processor calls the mask of the features."""
    pooled: int = 2
    """Positions of the encoder that make one token for the language model; its second convolution has halved them."""
    one_window: bool = False
    """Whether the encoder hears one window of 30 s; others cut a longer clip into several."""
    estimated: bool = False
    """Whether `estimate_memory` and `count_clip_flops` know it."""

    @property
    def model_class(self) -> type[PreTrainedModel]:
        return getattr(transformers, self.model)

    @property
    def keeps_logits(self) -> bool:
        """Whether ``forward`` can be told to compute the last logits alone; one that cannot may swallow it."""
        return "logits_to_keep" in inspect.signature(self.model_class.forward).parameters


FAMILIES = (
    Family("Audio Flamingo 3", "audioflamingo3", "AudioFlamingo3ForConditionalGeneration", "AudioFlamingo3Processor",
           estimated=True),
    Family("MusicFlamingo, Audio Flamingo Next", "musicflamingo", "MusicFlamingoForConditionalGeneration",
           "MusicFlamingoProcessor", estimated=True),
    Family("Qwen2-Audio", "qwen2_audio", "Qwen2AudioForConditionalGeneration", "Qwen2AudioProcessor",
           mask="feature_attention_mask", one_window=True),
    Family("GLM-ASR", "glmasr", "GlmAsrForConditionalGeneration", "GlmAsrProcessor", pooled=4),
)


def family_of(described: PreTrainedConfig | ProcessorMixin) -> Family:
    """The family that a configuration or a processor belongs to.

    Args:
        described: a processor, or a configuration, whose ``architectures`` count (or ``model_type`` without any).

    Raises:
        UnknownModel: none.
    """
    if isinstance(described, ProcessorMixin):
        names = [type(described).__name__]
        found = next((family for family in FAMILIES if family.processor in names), None)
    else:
        names = list(described.architectures or [described.model_type])
        found = next((family for family in FAMILIES if family.model in names or family.model_type in names), None)
    if found is None:
        known = "; ".join(f"{family.title} ({family.model})" for family in FAMILIES)
        raise UnknownModel(f"The course knows no {' or '.join(names)}: choose a model of one of these classes: "
                           f"{known}.")
    return found
