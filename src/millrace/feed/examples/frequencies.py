"""How often a post is in a batch, for log-Q correction. Pure.

A popular post is in many batches as somebody's positive, so that a model would learn to keep away
from it. Correction takes the logarithm of its share of the columns off its logit
(Yi et al., RecSys 2019; X's retrieval does the same).
"""

import numpy as np
from numpy.typing import NDArray

from millrace.feed.examples.ragged import Rows

LEAST = 1e-9  # of a post that is counted nowhere; its logarithm is finite


class Frequencies:
    """Shares of columns by post, within the group of members that a batch is made of."""

    def __init__(self, weights: tuple[float, float, float]) -> None:
        """Take how many columns of a batch are positives, hard negatives and drawn ones."""
        self._weights = np.array(weights) / sum(weights)
        self._counted: list[dict[int, tuple[Rows, NDArray[np.float64]]]] = [{}, {}]
        self._standing: dict[int, int] = {}

    def count(self, kind: int, groups: Rows, posts: Rows) -> None:
        """Count posts of groups: kind 0 are positives, kind 1 are those that were passed by."""
        for group in np.unique(groups).tolist():
            found, counts = np.unique(posts[groups == group], return_counts=True)
            self._counted[kind][group] = (found, counts / counts.sum())

    def stand(self, group: int, posts: int) -> None:
        """Say from how many posts of a group is drawn."""
        self._standing[group] = posts

    def log_q(self, group: int, posts: Rows) -> NDArray[np.float32]:
        """Return the logarithm of the share of each post among the columns of a group's batch."""
        parts = [_shares(self._counted[kind].get(group), posts) for kind in (0, 1)]
        drawn = 1.0 / max(self._standing.get(group, 0), 1)
        shares = self._weights[0] * parts[0] + self._weights[1] * parts[1]
        return np.log(np.maximum(shares + self._weights[2] * drawn, LEAST)).astype(np.float32)


def _shares(counted: tuple[Rows, NDArray[np.float64]] | None, posts: Rows) -> NDArray[np.float64]:
    """Return the share of each post; 0 where it was not counted."""
    if counted is None:
        return np.zeros(len(posts))
    found, shares = counted
    places = np.minimum(np.searchsorted(found, posts), len(found) - 1)
    return np.where(found[places] == posts, shares[places], 0.0)
