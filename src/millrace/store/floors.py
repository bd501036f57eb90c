"""Floors: the lowest position of the log that a fill of a cache may still carry.

A floor outlives its entry, because an eviction must not let an old value back in. There are as many
as there are buckets, however many keys there are; two keys that share a bucket share its floor,
which now and then refuses a fill that was good, and never lets in one that was not.
"""

from array import array
from collections.abc import Hashable

BUCKETS = 4_096


class Floors:
    """One number per bucket of keys. It only rises while the log is one log."""

    def __init__(self, buckets: int = BUCKETS) -> None:
        assert buckets > 0, "there is at least one bucket"
        self._levels = array("Q", bytes(8 * buckets))
        self._lowest = 0

    def of(self, key: Hashable) -> int:
        """Return the floor of a key."""
        return max(self._lowest, self._levels[hash(key) % len(self._levels)])

    def rise(self, key: Hashable, lsn: int) -> None:
        """Raise the floor of a key's bucket; a lower number changes nothing."""
        bucket = hash(key) % len(self._levels)
        self._levels[bucket] = max(self._levels[bucket], lsn)

    def rise_all(self, lsn: int) -> None:
        """Raise the floor of every key."""
        self._lowest = max(self._lowest, lsn)

    def reset(self) -> None:
        """Forget everything: another cluster or timeline counts from elsewhere."""
        self._levels = array("Q", bytes(8 * len(self._levels)))
        self._lowest = 0
