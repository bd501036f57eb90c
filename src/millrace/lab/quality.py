"""How good a ranking is, and how sure a difference is. Pure.

Sources: recall and nDCG as in Jarvelin and Kekalainen (2002) with binary gains; the paired bootstrap
as in Efron and Tibshirani (1993), chapter 16, over members.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

DEPTH = 100
RESAMPLES = 2_000
LEVEL = (2.5, 97.5)

Ranking = Sequence[int]
Figures = NDArray[np.float64]


class Difference(Struct, frozen=True):
    """A difference of two means with its interval at 95 %."""

    value: float
    interval: tuple[float, float]


def recall(ranking: Ranking, relevant: frozenset[int], k: int) -> float:
    """Return the share of the relevant things among the first k."""
    return len(relevant.intersection(ranking[:k])) / len(relevant)


def ndcg(ranking: Ranking, relevant: frozenset[int], k: int) -> float:
    """Return the discounted gain of the first k, as a share of the best that can be."""
    gain = sum(1 / np.log2(place + 2) for place, one in enumerate(ranking[:k]) if one in relevant)
    best = sum(1 / np.log2(place + 2) for place in range(min(k, len(relevant))))
    return float(gain / best)


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


def ratio(ours: Figures, theirs: Figures, seed: int) -> Difference | None:
    """Return the ratio of two means over the same members, and its interval; None for nothing."""
    if not len(ours) or not theirs.mean():
        return None
    drawn = _draws(len(ours), seed)
    below = theirs[drawn].mean(axis=1)
    ratios = ours[drawn].mean(axis=1)[below > 0] / below[below > 0]
    low, high = np.percentile(ratios, LEVEL)
    return Difference(_rounded(ours.mean() / theirs.mean()), (_rounded(low), _rounded(high)))


def mean(figures: Mapping[object, float] | Figures) -> float | None:
    """Return the mean of some figures; None where there are none."""
    values = list(figures.values()) if isinstance(figures, Mapping) else figures
    return _rounded(np.mean(values)) if len(values) else None


def _draws(count: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, count, (RESAMPLES, count))


def _rounded(value: float | np.floating) -> float:
    return round(float(value), 4)
