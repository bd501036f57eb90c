"""Bucketing v2, frozen: murmur3 of the text, in steps of whole weights.

The place of a key is murmur3_x86_32 (seed 0) of its UTF-8 bytes. Weights are whole numbers with
a sum of at most 2^31 - 1, and a key falls in the bucket `place * sum >> 32`. So a share is exact
to 0.00000005 %, and while the sum stays, the first share of two can grow without losing anybody.

Source: flagd #1909, March 2026. Never edit this file: whoever was given a variant keeps it.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

import mmh3

NAME = "v2"
SUM_MAX = 2**31 - 1


def place(key: object) -> int | None:
    """Return where a key lies, None for what is no text or is empty."""
    if type(key) is not str or not key:
        return None
    try:
        return mmh3.hash(key, 0, False)  # noqa: FBT003 - positional: it is in C, and hot
    except UnicodeEncodeError:  # half of a surrogate pair has no bytes
        return None


def place_of(flag_key: str) -> Callable[[str], int | None]:
    """Return where the targeting keys of a flag lie: flag key and targeting key, joined."""

    hashed = mmh3.hash

    def place_of_targeting(targeting_key: str) -> int | None:
        try:
            return hashed(flag_key + targeting_key, 0, False)  # noqa: FBT003 - as above
        except UnicodeEncodeError:
            return None

    return place_of_targeting


def bounds(weights: Sequence[int]) -> list[int]:
    """Return, for each weight but the last, the first place beyond its share.

    A place p is in the bucket `p * sum >> 32`, so it is beyond a share that ends at e when
    p >= ceil(e * 2^32 / sum).
    """
    total = sum(weights)
    return [-(-(end << 32) // total) for end in list(accumulate(weights))[:-1]]


def bucket(key: object, weights: Sequence[int]) -> int | None:
    """Return which of the weights a key falls to, by its number; None where it falls to none.

    Args:
        key: text.
        weights: whole and not negative, with a sum from 1 to `SUM_MAX`.
    """
    at = place(key)
    if at is None or not 0 < sum(weights) <= SUM_MAX:
        return None
    return bisect_right(bounds(weights), at)
