"""What searches saw near their queries, for whoever searches with the same vector again.

A member's vector changes with what they do, and while they only open their feed again, the same
posts are near. A recollection has every slot that scores at least so much, whatever the mask was, so
it serves any mask that leaves enough of it. Slots that got another vector meanwhile are told by
`since`, to be scored anew. Only the event loop's thread may use this.
"""

from array import array
from collections import OrderedDict

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

CHANGES_MAX = 4_096  # vectors; behind more of them a search is made from the beginning
BYTES_MAX = 64 << 20  # of all recollections: some 5,700 members where 400 posts are asked for
ROWS_EACH_MAX = 8_192
ROW_BYTES = 8  # a slot and its score
ENTRY_BYTES = (
    512  # two arrays, the objects around them and a place in the map, besides key and rows
)


class Recollection(Struct, frozen=True):
    """What is near to one vector.

    mark: how many vectors had changed before it was looked at.
    least: every slot that scores so much is in it, and no other.
    """

    mark: int
    least: np.float32
    slots: NDArray[np.int32]
    scores: NDArray[np.float32]


class Recollections:
    """A bounded map by vector, least recently used first out, and a log of what changed.

    weight: bytes that all have together, keys included. hits, misses, evictions: what happened so
    far.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self.weight = self.hits = self.misses = self.evictions = 0
        self._kept: OrderedDict[bytes, Recollection] = OrderedDict()
        self._changed = array("q")
        self._forgotten = 0  # changes that are not in the log any more

    def __len__(self) -> int:
        """Return how many vectors are known."""
        return len(self._kept)

    @property
    def mark(self) -> int:
        """Return how many vectors have changed so far."""
        return self._forgotten + len(self._changed)

    def changed(self, slot: int) -> None:
        """Hear that a slot has another vector."""
        self._changed.append(slot)
        if len(self._changed) > 2 * CHANGES_MAX:
            del self._changed[:CHANGES_MAX]
            self._forgotten += CHANGES_MAX

    def since(self, mark: int) -> NDArray[np.int64] | None:
        """Return the slots that changed since a mark, or None where they were too many."""
        start = mark - self._forgotten
        if start < 0 or len(self._changed) - start > CHANGES_MAX:
            return None
        return np.unique(np.array(self._changed[start:], dtype=np.int64))

    def get(self, query: NDArray[np.float32]) -> Recollection | None:
        """Return what is known of a vector."""
        name = query.tobytes()
        found = self._kept.get(name)
        if found is not None:
            self._kept.move_to_end(name)
        return found

    def keep(self, query: NDArray[np.float32], found: Recollection) -> None:
        """Remember what is near to a vector, in place of what was known; too much is not kept."""
        self.forget(query)
        if len(found.slots) > ROWS_EACH_MAX:
            return
        name = query.tobytes()
        self._kept[name] = found
        self.weight += weight_of(name, found)
        while self.weight > self._bytes_max:
            self.weight -= weight_of(*self._kept.popitem(last=False))
            self.evictions += 1

    def forget(self, query: NDArray[np.float32]) -> None:
        """Know nothing of a vector any more."""
        name = query.tobytes()
        before = self._kept.pop(name, None)
        if before is not None:
            self.weight -= weight_of(name, before)

    def count(self, *, hit: bool) -> None:
        """Count a search: whether what was known was enough for it."""
        self.hits += hit
        self.misses += not hit


def weight_of(name: bytes, found: Recollection) -> int:
    """Return about how many bytes an entry takes: where few posts are asked for, mostly its key."""
    return ENTRY_BYTES + len(name) + ROW_BYTES * len(found.slots)
