"""Notebook 06: a number needs an interval and a control."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from helpers.exercises.checking import Wrong, call, close, exercise, number
from helpers.metrics.intervals import bootstrap_difference, bootstrap_interval


@exercise
def check_clips_needed(clips_needed: Callable) -> str:
    """How many clips an interval of a given width takes. ``clips_needed``: (width now, clips now, width wanted) ->
    clips."""
    for width, clips, wanted in ((0.4, 50, 0.1), (0.2, 200, 0.1), (0.3, 100, 0.15)):
        said = number(call(clips_needed, width, clips, wanted), f"clips_needed({width}, {clips}, {wanted})")
        true = clips * (width / wanted) ** 2
        if close(said, clips * width / wanted, 0.02):
            raise Wrong(f"from {width} to {wanted} you say {said:.0f} clips: that grows linearly, but the width "
                        "shrinks with the square root of the number of clips.")
        if not close(said, true, 0.2):
            raise Wrong(f"{clips} clips give a width of {width}; for {wanted} it takes about {true:.0f}, and you say "
                        f"{said:.0f}.")
    return "an interval half as wide takes four times the clips."


def black_boxes(real: Callable[[np.ndarray], str], captions: Sequence[str]) -> dict[str, Callable[[np.ndarray], str]]:
    """Three captioners under the names A, B and C: one listens, one never does but says something else each time, one
    always says the same.

    Args:
        real: samples -> caption, by a model.
        captions: people's captions of other clips.
    """
    commonest = Counter(captions).most_common(1)[0][0]

    def deaf(samples: np.ndarray) -> str:
        # A fluent caption that depends on nothing but the length of the clip.
        digest = hashlib.sha256(str(len(samples)).encode()).digest()
        return captions[int.from_bytes(digest[:4], "big") % len(captions)]

    return {"A": deaf, "B": real, "C": lambda samples: commonest}


@exercise
def check_black_boxes(verdict: Mapping[str, str], boxes: Mapping[str, Callable], clips: Sequence[np.ndarray]) -> str:
    """Which of three captioners is deaf.

    Args:
        verdict: the reader's answer: ``"listens"``, ``"deaf"`` and ``"repeats"`` -> a name of ``boxes``.
        boxes: as from `black_boxes`.
        clips: 16 kHz samples, some to try them on.
    """
    if set(verdict) != {"listens", "deaf", "repeats"} or set(verdict.values()) != set(boxes):
        raise Wrong('give {"listens": ..., "deaf": ..., "repeats": ...}, each with one of ' + ", ".join(boxes) + ".")
    clips = [np.asarray(clip) for clip in clips][:4]
    if len({boxes[verdict["repeats"]](clip) for clip in clips}) > 1:
        raise Wrong(f"{verdict['repeats']} does not always say the same: ask it about several clips.")
    changed = sum(boxes[verdict["listens"]](clip) != boxes[verdict["listens"]](np.zeros_like(clip)) for clip in clips)
    if not changed:
        raise Wrong(f"{verdict['listens']} says of silence what it says of the clip, each time: fluent captions and a "
                    "fair CIDEr-D are no proof of listening; change the sound and keep the length.")
    return (f"{verdict['listens']} changed {changed} of {len(clips)} answers when the sound was gone; "
            f"{verdict['deaf']} says of silence what it says of the clip.")


@exercise
def check_paired(pair: tuple[Sequence[float], Sequence[float]]) -> str:
    """Two lists of scores whose intervals overlap although their difference is certain.

    Args:
        pair: the reader's (scores of one model, scores of another), one score a clip, the same clips in the same order.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise Wrong("give two lists of scores: (ours, theirs).")
    ours, theirs = (np.asarray(scores, dtype=float) for scores in pair)
    if ours.shape != theirs.shape or ours.ndim != 1 or len(ours) < 30:
        raise Wrong("both lists need the same clips, and at least 30 of them.")
    one, other, difference = bootstrap_interval(ours), bootstrap_interval(theirs), bootstrap_difference(ours, theirs)
    if np.array_equal(ours, theirs):
        raise Wrong("the two lists are the same: their difference is zero, not beside it.")
    if one.low > other.high or other.low > one.high:
        raise Wrong(f"the intervals {one} and {other} do not even touch: bring the two models closer together.")
    if not difference.excludes_zero:
        raise Wrong(f"the intervals overlap, but the paired difference {difference} holds zero: let one model be "
                    "better by a little on almost every clip, and let the clips differ a lot.")
    return f"{one} and {other} overlap, yet the difference is {difference}: the clips vary, the gap does not."
