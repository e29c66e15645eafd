"""How sure a number is: confidence intervals by drawing the clips again and again (the bootstrap).

``scipy.stats.bootstrap`` was weighed: nothing here needs scipy otherwise (143 MB installed), its samples are single
numbers and not rows of counts, and one drawing without a value (no clip with two sounds in a row) makes its whole
interval NaN. What it would spare are three lines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A number and where it may lie, had other clips of the same kind been drawn."""

    value: float
    low: float
    high: float
    confidence: float = 0.95

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "unknown"
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"

    @property
    def excludes_zero(self) -> bool:
        """For a difference: whether chance in the choice of clips is an unlikely explanation."""
        return self.low > 0 or self.high < 0


def bootstrap_interval(per_clip: Sequence | np.ndarray, statistic: Callable[[np.ndarray], float] = np.mean,
                       confidence: float = 0.95, resamples: int = 1000, seed: int = 0) -> Interval:
    """A confidence interval by drawing clips with replacement (the percentile bootstrap; Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 13).

    Args:
        per_clip: one row a clip, shape ``(clips,)`` or ``(clips, columns)``: from `cider_d` or `event_counts`.
        statistic: rows -> the number of interest: the mean, `event_f1`, `order_accuracy`.
        confidence: how often such an interval holds the true value.

    Raises:
        ValueError: fewer than two clips, or a confidence outside 0 to 1.
    """
    rows, rng = np.asarray(per_clip), np.random.default_rng(seed)
    if len(rows) < 2:
        raise ValueError(f"There are scores of {len(rows)} clips: an interval takes at least two, and says little "
                         "below 30.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}, but it has to lie between 0 and 1, such as 0.95.")
    drawn = np.array([statistic(rows[rng.integers(len(rows), size=len(rows))]) for _ in range(resamples)])
    drawn = drawn[~np.isnan(drawn)]  # a drawing without any clip that the statistic can be computed on says nothing
    sides = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(drawn, sides) if len(drawn) else (np.nan, np.nan)
    return Interval(float(statistic(rows)), float(low), float(high), confidence)


def bootstrap_difference(ours: Sequence | np.ndarray, theirs: Sequence | np.ndarray,
                         statistic: Callable[[np.ndarray], float] = np.mean, **options) -> Interval:
    """A confidence interval of ``statistic(ours) - statistic(theirs)`` over the same clips.

    Each draw takes the same clips, in the same order, for both: a clip that is hard for one model is mostly hard for
    the other, so the difference is far surer than the two numbers are. ``options``: see `bootstrap_interval`.
    """
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    if len(ours) != len(theirs):
        raise ValueError(f"There are scores of {len(ours)} and of {len(theirs)} clips: compare two models on the same "
                         "clips.")
    return bootstrap_interval(np.arange(len(ours)), lambda chosen: statistic(ours[chosen]) - statistic(theirs[chosen]),
                              **options)


def bootstrap_by_group(per_clip: Sequence | np.ndarray, groups: Sequence[str],
                       statistic: Callable[[np.ndarray], float] = np.mean, **options) -> dict[str, Interval]:
    """`bootstrap_interval` within each group of clips (``groups``: one name a clip), the groups in sorted order; a
    group of a single clip has no interval and is left out."""
    rows, names = np.asarray(per_clip), np.asarray(groups)
    if len(rows) != len(names):
        raise ValueError(f"There are {len(names)} groups for {len(rows)} clips: give one group a clip.")
    return {str(name): bootstrap_interval(rows[names == name], statistic, **options)
            for name in sorted(set(groups)) if (names == name).sum() > 1}
