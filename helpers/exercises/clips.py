"""Notebook 01: a clip is numbers and a rate, and what the model sees is made of both."""

from collections.abc import Callable

import numpy as np

from helpers.exercises.checking import Wrong, call, exercise, number
from helpers.profiles import SAMPLING_RATE


@exercise
def check_whale(wrong: dict, studio: np.ndarray, rate: int = 44_100) -> str:
    """A recording at a studio's rate, handed over as if it were at 16 kHz.

    Args:
        wrong: the reader's ``{"array", "sampling_rate"}``.
        studio: the recording, float, ``(samples,)`` or ``(samples, channels)``.
        rate: its true rate in Hz.
    """
    if not isinstance(wrong, dict) or not {"array", "sampling_rate"} <= set(wrong):
        raise Wrong('write a dictionary with the keys "array" and "sampling_rate", as the examples have it.')
    array = np.asarray(wrong["array"])
    if array.ndim != 1:
        raise Wrong(f"the array has the shape {array.shape}: mix the channels down to one first, with .mean(axis=1).")
    if wrong["sampling_rate"] != SAMPLING_RATE:
        raise Wrong(f"you say {wrong['sampling_rate']} Hz, which is the truth: the mistake is to claim {SAMPLING_RATE} "
                    "Hz.")
    if len(array) != len(studio):
        raise Wrong(f"the array has {len(array):,} samples, the recording {len(studio):,}: you resampled it, which is "
                    "what keeps a dog a dog; leave the samples as they are.")
    times = len(array) / SAMPLING_RATE / (len(studio) / rate)
    return f"it lasts {times:.2f} times as long, every pitch is {times:.2f} times too low, and nothing complained."


def leaky_rows() -> tuple[list[dict], list[dict], list[str]]:
    """Two lists of rows, as a data set has them, and the three recordings that are in both under other ids and
    captions."""
    words = "A dog barks", "Rain falls", "A bell rings", "Wind blows", "A cow moos", "A clock ticks"
    train, test = ([{"audiocap_id": row + n, "youtube_id": f"clip{clip + n:03d}", "start_time": 30,
                     "caption": words[n % 6]} for n in range(count)]
                   for row, clip, count in ((100, 0, 20), (900, 500, 12)))
    planted = ["clip003", "clip008", "clip017"]
    for place, video in zip((2, 5, 9), planted, strict=True):
        test[place] |= {"youtube_id": video, "caption": "Somebody else's words"}
    return train, test, planted


@exercise
def check_leak(leak: Callable) -> str:
    """Recordings that are in both halves, whatever their row numbers and captions. ``leak``: (rows to train on, rows to
    test on) -> ``youtube_id`` of what is in both."""
    train, test, planted = leaky_rows()
    found = set(map(str, call(leak, train, test)))
    captions = {row["caption"] for row in train} & {row["caption"] for row in test}
    if found & captions:
        raise Wrong("you compare captions: two dogs may bark in the same words, and one dog be described in two ways; "
                    "compare what names the recording.")
    if not found:
        raise Wrong("you found none, but three are planted: the row numbers (audiocap_id) are new, the recording is "
                    "not.")
    if found != set(planted):
        raise Wrong(f"you found {len(found)} recordings, but three are planted: return the youtube_id of each that is "
                    "in both.")
    return f"{', '.join(planted)} are in both halves, under new row numbers and new captions."


@exercise
def check_placeholders(placeholders: Callable, processor) -> str:
    """How many placeholders a clip becomes, by hand, against the processor.

    Args:
        placeholders: the reader's function: seconds -> number.
        processor: an AF3 processor.
    """
    extractor = processor.feature_extractor
    window = extractor.chunk_length
    for seconds in (0.5, 3.48, 0.51, 0.54, 1.5 * window + 0.11, 2.2 * window + 0.07):
        said = number(call(placeholders, seconds), f"placeholders({seconds:g})")
        clip = np.zeros(round(seconds * SAMPLING_RATE), np.float32)
        text = processor.apply_chat_template([[{"role": "user", "content": [{"type": "audio", "audio": clip}]}]],
                                             tokenize=True, return_dict=True)
        true = int((text["input_ids"] == processor.audio_token_id).sum())
        if said == true:
            continue
        raise Wrong(f"for {seconds:g} s you say {said:g}, the processor {true}: the frames are halved twice, and "
                    "rounded each time, first up, then down.")
    return "the same as the processor for six lengths, two of them longer than one window."
