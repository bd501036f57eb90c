"""A second index over the same posts, for the vectors of another encoder.

Both have every post in the same slot, so that masks, columns and whatever remembers slots serve
both. They stay so because whoever keeps them does the same to both, in the same order: a slot is
given out by what was given out and taken back before.
"""

from collections import deque
from typing import cast

import numpy as np
from numpy.typing import NDArray

from millrace.feed.index import PostIndex

OF_VECTORS = frozenset({"_dims", "_vectors", "_vectored", "_with_vector", "_look", "recollections"})
"""What an index has of its vectors; everything else says which post is where."""


def beside(index: PostIndex, dims: int) -> PostIndex:
    """Return an index with the same posts in the same slots, and no vectors yet."""
    made = PostIndex(dims, index.capacity, index.look_maker)
    # Which post is where is nobody else's to know, so it is copied as a whole and not by its parts.
    there = vars(made)
    there.update({n: _copied(v) for n, v in vars(index).items() if n not in OF_VECTORS})
    return made


def _copied(value: object) -> object:
    """Return a container of its own with the same things in it; things are never changed."""
    if isinstance(value, np.ndarray):
        return cast("NDArray[np.generic]", value).copy()
    if isinstance(value, list):
        listed = cast("list[object]", value)
        return [set(cast("set[int]", one)) if isinstance(one, set) else one for one in listed]
    if isinstance(value, dict | deque):
        return cast("dict[object, object]", value).copy()
    return value
