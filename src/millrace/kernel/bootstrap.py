"""How sure a difference is: the paired bootstrap over whoever was asked. Pure.

Sources: Efron and Tibshirani (1993), chapter 16; for members and trainings at once, each drawn by
itself, Owen (2007), "The pigeonhole bootstrap".
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

RESAMPLES = 2_000
LEVEL = (2.5, 97.5)
DIGITS = 4

Figures = NDArray[np.float64]


class Difference(Struct, frozen=True):
    """A difference of two means with its interval at 95 %."""

    value: float
    interval: tuple[float, float]


def difference(ours: Figures, theirs: Figures, seed: int) -> Difference:
    """Return the mean difference of two systems over the same members, and its interval.

    Members are drawn with replacement; both systems are judged on the same draw.
    """
    gaps = ours - theirs
    if not len(gaps):
        return Difference(0.0, (0.0, 0.0))
    drawn = _draws(len(gaps), seed)
    low, high = np.percentile(gaps[drawn].mean(axis=1), LEVEL)
    return Difference(_rounded(gaps.mean()), (_rounded(low), _rounded(high)))


def difference_of_trainings(ours: Figures, theirs: Figures, seed: int) -> Difference:
    """Return the mean difference of two systems that were trained several times.

    Members and trainings are drawn with replacement, each by itself, and both systems are judged
    on the same draws: the interval is as wide as other members and other seeds make it together.

    Args:
        ours: figures of the same members in each training. Shape: (trainings, members).
        theirs: likewise, of trainings with the same seeds, or one row where nothing was trained.
        seed: of the draws.
    """
    gaps = ours - theirs
    if not gaps.size:
        return Difference(0.0, (0.0, 0.0))
    trainings, members = gaps.shape
    drawn = _draws(members, seed)
    again = np.random.default_rng((seed, trainings)).integers(0, trainings, (RESAMPLES, trainings))
    of_each: Figures = gaps[:, drawn].mean(axis=2).T  # (draws, trainings)
    means: Figures = np.take_along_axis(of_each, again, axis=1).mean(axis=1)
    low, high = np.percentile(means, LEVEL)
    return Difference(_rounded(gaps.mean()), (_rounded(low), _rounded(high)))


def ratio(ours: Figures, theirs: Figures, seed: int) -> Difference | None:
    """Return the ratio of two means over the same members, and its interval; None for nothing."""
    if not len(ours) or not theirs.mean():
        return None
    drawn = _draws(len(ours), seed)
    below = theirs[drawn].mean(axis=1)
    ratios = ours[drawn].mean(axis=1)[below > 0] / below[below > 0]
    low, high = np.percentile(ratios, LEVEL)
    return Difference(_rounded(ours.mean() / theirs.mean()), (_rounded(low), _rounded(high)))


def _draws(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _rounded(value: float | np.floating) -> float:
    return round(float(value), DIGITS)
