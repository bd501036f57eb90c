"""Where the numbers of many posts stand among those of their communities, all at once.

The cuts of every community lie in one table, so that the percentiles of all candidates are seven
steps of one binary search, whatever number of communities and metrics they are of.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from millrace.community.percentiles import MIDDLE
from millrace.feed.features import SCALED, Matrix

WIDTH = 128  # cuts of one metric, filled up with what no number reaches: a power of two
STEPS = (64, 32, 16, 8, 4, 2, 1)
COMMUNITIES_MAX = 2_000  # 12 MiB; with more of them the table is begun anew


class Scaled(Protocol):
    """The percentiles of one community at one moment; another moment is another object."""

    def cuts(self, metric: str, /) -> Sequence[float] | None:
        """Return the rising cuts of a metric, None without samples."""
        ...


class Standings:
    """The cuts of communities, in the order of SCALED. Kept between requests."""

    def __init__(self) -> None:
        self._scales: dict[int, Scaled] = {}
        self._rows: dict[int, int] = {}
        self._cuts = np.full((16, len(SCALED), WIDTH), np.inf)
        self._known = np.zeros((16, len(SCALED)), dtype=np.bool_)

    def put(self, scales: dict[int, Scaled]) -> None:
        """Take the scales of some communities; those that did not change cost nothing."""
        if len(self._scales) + len(scales) > COMMUNITIES_MAX:
            self._scales.clear()
            self._rows.clear()
        for community, its in scales.items():
            if self._scales.get(community) is not its:
                self._take(community, its)

    def percentiles(
        self, communities: NDArray[np.integer[Any]], values: Matrix
    ) -> NDArray[np.int64]:
        """Return how many cuts lie below each value, the middle for a metric without samples.

        Args:
            communities: of each post; all of them were `put`.
            values: in the order of SCALED. Shape: (n, len(SCALED)).
        """
        different, places = np.unique(communities, return_inverse=True)
        asked: list[int] = different.tolist()
        rows = np.array([self._rows[community] for community in asked], dtype=np.int64)[places]
        lists = rows[:, None] * len(SCALED) + np.arange(len(SCALED))
        first, flat = lists * WIDTH - 1, self._cuts.reshape(-1)
        found = np.zeros(values.shape, dtype=np.int64)
        for step in STEPS:
            found += step * (flat.take(first + found + step) < values)
        return np.where(self._known.reshape(-1).take(lists), found, MIDDLE)

    def _take(self, community: int, scales: Scaled) -> None:
        row = self._rows.setdefault(community, len(self._rows))
        if row == len(self._cuts):
            self._cuts = np.concatenate([self._cuts, np.full_like(self._cuts, np.inf)])
            self._known = np.concatenate([self._known, np.zeros_like(self._known)])
        self._cuts[row] = np.inf
        for column, metric in enumerate(SCALED):
            cuts = scales.cuts(metric)
            self._known[row, column] = cuts is not None
            if cuts is not None:
                assert len(cuts) < WIDTH, f"{len(cuts)} cuts of {metric} are too many"
                self._cuts[row, column, : len(cuts)] = cuts
        self._scales[community] = scales
