"""What the notebooks will do, done once in small: versions can be right and the libraries still not fit each other."""

import io

import numpy as np
import soundfile
import torch

from helpers.audio.samples import load_audio
from helpers.model.loading import load_model, load_processor
from helpers.profiles import SAMPLING_RATE, TINY, get_profile
from helpers.setup.findings import Finding

INSTALL_AGAIN = ("install the course's versions (`pip install -r requirements.txt -c constraints.txt` in its folder) "
                 "and restart the kernel.")


def check_labels(processor=None) -> Finding:
    """Whether the processor's labels are token ids, and not the zeros and ones that some transformers releases gave.

    The bug came with transformers' pull request 45493 and went with 47112; releases from 5.14 on are right. This looks
    at what the installed one really does.
    """
    processor = load_processor(TINY) if processor is None else processor
    chat = [{"role": "user", "content": [{"type": "text", "text": "Describe the audio."}]},
            {"role": "assistant", "content": [{"type": "text", "text": "A dog barks"}]}]
    batch = processor.apply_chat_template(chat, tokenize=True, return_dict=True, return_tensors="pt",
                                          processor_kwargs={"output_labels": True})
    ids, labels = torch.as_tensor(batch["input_ids"]), torch.as_tensor(batch["labels"])
    if bool((labels == ids)[labels != -100].all()) and bool((labels != -100).any()):
        return Finding("labels", "token ids, as they should be")
    return Finding("labels", "not token ids",
                   f"This release of transformers trains on the wrong labels without a word: {INSTALL_AGAIN}")


def check_adapter() -> Finding:
    """Whether LoRA goes on the tiny model and comes off again, which leaves the weights as they were."""
    try:
        from peft import get_peft_model

        from helpers.training.recipe import lora_config

        model = load_model(TINY, quiet=True)
        before = {name: weight.clone() for name, weight in model.state_dict().items()}
        adapted = get_peft_model(model, lora_config(get_profile("tiny")))
        trainable = sum(weight.numel() for weight in adapted.parameters() if weight.requires_grad)
        after = adapted.unload().state_dict()
    except Exception as error:  # whatever the libraries can do wrong, a diagnosis must not fail of it
        if "torchao" in str(error):
            return Finding("adapter", "refused by peft because of an old torchao",
                           "Run `pip uninstall torchao`, which the course does not use, and restart the kernel.")
        return _failed("adapter", error)
    same = before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    if not trainable or not same:
        return Finding("adapter", "does not come off as it went on", f"peft changes the weights: {INSTALL_AGAIN}")
    return Finding("adapter", f"{trainable:,} LoRA parameters go on the tiny model and come off again")


def check_pipeline() -> Finding:
    """Whether a sound goes through the course's pipeline and comes out as text."""
    try:
        from transformers import pipeline

        from helpers.captioning.pipeline import register_pipeline

        register_pipeline()
        model, processor = load_model(TINY, quiet=True), load_processor(TINY)
        captioner = pipeline("audio-text-to-text", model=model, processor=processor)
        text = captioner(_tone(), generate_kwargs={"max_new_tokens": 8})[0]["generated_text"]
    except Exception as error:
        return _failed("pipeline", error)
    return Finding("pipeline", "a sound goes in, words come out") if text.strip() else _failed("pipeline", "no words")


def check_decoding() -> Finding:
    """Whether a compressed file of another rate becomes one second of 16 kHz samples, as loud as it was."""
    try:
        file = io.BytesIO()
        soundfile.write(file, _tone(rate=44_100), 44_100, format="OGG")
        samples = load_audio(file.getvalue())
    except Exception as error:
        return _failed("decoding", error)
    loudness = float(np.sqrt(np.mean(samples**2)))
    if abs(len(samples) - SAMPLING_RATE) > 0.02 * SAMPLING_RATE or not 0.3 < loudness < 0.4:
        return _failed("decoding", f"{len(samples)} samples with a root mean square of {loudness:.2f}")
    return Finding("decoding", "an OGG file comes back as it was")


def _tone(rate: int = SAMPLING_RATE) -> np.ndarray:
    """One second of 440 Hz at half of full scale (root mean square 0.35)."""
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)


def _failed(what: str, error: Exception | str) -> Finding:
    said = f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error
    return Finding(what, f"fails ({said.splitlines()[0]})",
                   f"The installed libraries do not fit each other: {INSTALL_AGAIN}")
