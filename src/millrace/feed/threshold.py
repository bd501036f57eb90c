"""From which score on the k best of many are: exactly, or as a guess on the safe side."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", np.float32, np.int64)

SAMPLE_STEP = 16  # a guess looks at every sixteenth score


def kth(scores: NDArray[Number], k: int) -> Number:
    """Return the k-th largest score."""
    return np.partition(scores, len(scores) - k)[len(scores) - k]


def likely(scores: NDArray[np.float32], allowed: NDArray[np.bool_], k: int) -> NDArray[np.int64]:
    """Return places that hold the k best of those allowed, mostly not many more."""
    kept = np.flatnonzero((scores >= _guess(scores, allowed, k)) & allowed)
    if len(kept) < k:  # the guess was too high, or there are not so many: keep all
        kept = np.flatnonzero(allowed)
    return kept


def _guess(scores: NDArray[np.float32], allowed: NDArray[np.bool_], k: int) -> np.float32:
    """Return a score that the k best are likely to reach and few others, from a sample.

    Four standard deviations on the safe side, and still a guess; whoever uses it counts.
    """
    sample = scores[::SAMPLE_STEP][allowed[::SAMPLE_STEP]]
    expected = k / SAMPLE_STEP
    rank = int(expected + 4 * expected**0.5) + 4
    return kth(sample, rank) if rank < len(sample) else np.float32(-np.inf)
