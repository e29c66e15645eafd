"""Record the runs that the exercises of notebooks 03 and 08 are about: ``python -m tools.record_runs`` (some ten
minutes).

The tiny profile's recipe over 400 clips and 50 steps, with three learning rates, and with captions that belong to
other clips;
then the healthy model once more on samples that nobody scaled. Run it again whenever the tiny base or its data change.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import torch
from transformers import PrinterCallback

from helpers import (
    GREEDY,
    TrainingGuard,
    caption,
    event_scores,
    get_profile,
    load_captions,
    load_model,
    load_processor,
    load_vocabulary,
    make_chat,
)
from helpers.chat import encode_chats
from helpers.exercises.adapters import RECORDED, shuffled_captions
from helpers.training.recipe import make_trainer

STEPS, CLIPS, HELD_OUT = 50, 400, 60


def main() -> None:
    """Train, measure, and write the file that the exercises read."""
    profile = get_profile("tiny")
    processor, vocabulary = load_processor(profile.model_id), load_vocabulary(profile.dataset_id)
    stream = load_captions(profile.dataset_id, split="train")
    train, held_out = list(stream.take(CLIPS)), list(stream.skip(profile.train_clips).take(HELD_OUT))

    def too_loud(model) -> list[str]:
        """Captions of samples at integer scale, smuggled past the gate that would refuse them."""
        sounds = [clip["audio"]["array"] for clip in held_out]
        inputs = encode_chats(processor, [make_chat(sound) for sound in sounds], ask=True)
        loud = [32_768 * sound for sound in sounds]
        features = processor.feature_extractor(loud, sampling_rate=16_000, return_tensors="pt")
        inputs["input_features"] = features["input_features"]
        with torch.no_grad():
            tokens = model.eval().generate(**inputs, **GREEDY, max_new_tokens=60)
        return processor.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def measure(model, texts: list[str] | None = None) -> dict:
        texts = texts or caption(model, processor, [clip["audio"]["array"] for clip in held_out], batch_size=30)
        scores = event_scores(texts, held_out, vocabulary)
        return {
            "style": round(scores.style, 3),
            "f1": round(scores.f1, 3),
            "different": len(set(texts)),
            "captions": len(texts),
            "commonest": Counter(texts).most_common(1)[0][0],
        }

    def run(rate: float, clips: list[dict]) -> tuple[dict, object]:
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(
                profile,
                load_model(profile.model_id, quiet=True),
                processor,
                Path(folder),
                train=clips,
                learning_rate=rate,
                max_steps=STEPS,
                save_strategy="no",
                logging_steps=5,
                disable_tqdm=True,
            )
            trainer.remove_callback(PrinterCallback)
            trainer.remove_callback(TrainingGuard)  # it would stop the sick ones
            trainer.train()
        history = [
            {"step": row["step"], "loss": round(float(row["loss"]), 3)}
            for row in trainer.state.log_history
            if "loss" in row
        ]
        return {"rate": rate, "history": history, **measure(trainer.model)}, trainer.model

    rate, runs = profile.learning_rate, {}
    runs["too slow"], _ = run(float(f"{rate / 10:g}"), train)  # 0.0003, as a reader types it
    runs["too fast"], _ = run(float(f"{rate * 10:g}"), train)
    runs["shuffled"], _ = run(rate, shuffled_captions(train))
    runs["healthy"], model = run(rate, train)
    runs["too loud"] = {**runs["healthy"], **measure(model, too_loud(model))}
    fresh = RECORDED.with_suffix(".writing")
    fresh.write_text(json.dumps(runs, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(RECORDED)
    for name, recorded in runs.items():
        print(name, {key: value for key, value in recorded.items() if key != "history"}, recorded["history"][::3])


if __name__ == "__main__":
    main()
