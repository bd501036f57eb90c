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
ROWS_MAX = 8_000_000  # of all recollections: 64 MiB, some 6,000 members
ROWS_EACH_MAX = 8_192


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

    rows: how many slots all have together. hits, misses, evictions: what happened so far.
    """

    def __init__(self, rows_max: int = ROWS_MAX) -> None:
        self._rows_max = rows_max
        self.rows = self.hits = self.misses = self.evictions = 0
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
        self._kept[query.tobytes()] = found
        self.rows += len(found.slots)
        while self.rows > self._rows_max:
            self.rows -= len(self._kept.popitem(last=False)[1].slots)
            self.evictions += 1

    def forget(self, query: NDArray[np.float32]) -> None:
        """Know nothing of a vector any more."""
        before = self._kept.pop(query.tobytes(), None)
        if before is not None:
            self.rows -= len(before.slots)

    def count(self, *, hit: bool) -> None:
        """Count a search: whether what was known was enough for it."""
        self.hits += hit
        self.misses += not hit
