"""How good a ranking is. Pure; how sure a difference is, says `kernel/bootstrap.py`.

Source: recall and nDCG as in Jarvelin and Kekalainen (2002) with binary gains.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from millrace.kernel.bootstrap import (
    DIGITS,
    Difference,
    Figures,
    difference,
    difference_of_trainings,
    ratio,
)

__all__ = [
    "DEPTH",
    "Difference",
    "Figures",
    "Ranking",
    "difference",
    "difference_of_trainings",
    "mean",
    "ndcg",
    "ratio",
    "recall",
]

DEPTH = 100

Ranking = Sequence[int]


def recall(ranking: Ranking, relevant: frozenset[int], k: int) -> float:
    """Return the share of the relevant things among the first k."""
    return len(relevant.intersection(ranking[:k])) / len(relevant)


def ndcg(ranking: Ranking, relevant: frozenset[int], k: int) -> float:
    """Return the discounted gain of the first k, as a share of the best that can be."""
    gain = sum(1 / np.log2(place + 2) for place, one in enumerate(ranking[:k]) if one in relevant)
    best = sum(1 / np.log2(place + 2) for place in range(min(k, len(relevant))))
    return float(gain / best)


def mean(figures: Mapping[object, float] | Figures) -> float | None:
    """Return the mean of some figures; None where there are none."""
    values = list(figures.values()) if isinstance(figures, Mapping) else figures
    return round(float(np.mean(values)), DIGITS) if len(values) else None
