"""An exact index of unit vectors: slots, masks, and a search that never guesses.

A post has a slot. An insert writes one row and is seen by the next search; a delete clears one
bit. Who may see what is a mask over the slots, applied inside the search, so that a filter never
costs recall. Everything here is numpy and runs in the event loop's thread: masks, slots and
answers belong together only until the next `await`.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Audience, Key

Vector = NDArray[np.float32]
Mask = NDArray[np.bool_]
Slots = NDArray[np.int64]

CAPACITY_MIN = 1_024  # rows; capacities are powers of two, so every block below is whole
AUDIENCES = tuple(Audience)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class IndexEntry(Struct, frozen=True, kw_only=True):
    """What the masks need to know of a post."""

    key: Key
    author: Key
    created_at: datetime
    language: str
    audience: Audience


class Scope(Struct, frozen=True, kw_only=True):
    """Which posts a member may get.

    community_id: the member's own; its posts pass whatever their audience.
    nearby: communities whose posts for `nearby` pass.
    languages: empty means any. A post without a language always passes.
    created_after: the oldest moment that passes, inclusive.
    hidden_authors: blocked either way, or muted.
    without: single posts to leave out: seen, hidden, the member's own.
    """

    community_id: int
    nearby: frozenset[int] = frozenset()
    languages: frozenset[str] = frozenset()
    created_after: datetime = _EPOCH
    hidden_authors: frozenset[Key] = frozenset()
    without: frozenset[Key] = frozenset()


class Hits(Struct, frozen=True):
    """Found slots, best first, with their scores (inner products)."""

    slots: Slots
    scores: Vector


class PostIndex:
    """Unit vectors of live posts."""

    def __init__(self, dims: int, capacity: int = CAPACITY_MIN) -> None:
        assert dims > 0, f"dims {dims} is not positive"
        size = CAPACITY_MIN
        while size < capacity:
            size *= 2
        self._dims = dims
        self._entries: list[IndexEntry | None] = [None] * size
        self._slots: dict[Key, int] = {}
        self._by_author: dict[Key, set[int]] = {}
        self._free: deque[int] = deque()  # first in, first out: a slot rests before its next use
        self._top = 0  # slots from here on were never used
        self._classes: dict[tuple[int, int, str], int] = {}
        self._vectors = np.zeros((size, dims), dtype=np.float32)
        self._alive = np.zeros(size, dtype=np.bool_)
        self._class = np.zeros(size, dtype=np.int32)
        self._created = np.zeros(size, dtype=np.int64)
        self._ids = np.zeros((size, 2), dtype=np.int64)  # post id, community id: the tie break

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        return self._dims

    def put(self, entry: IndexEntry, vector: Vector) -> None:
        """Insert a post, or replace it. The next search sees it."""
        assert vector.shape == (self._dims,), f"vector {vector.shape} is not ({self._dims},)"
        self.remove(entry.key)
        slot = self._take_slot()
        self._vectors[slot] = vector
        self._class[slot] = self._class_of(entry)
        self._created[slot] = _microseconds(entry.created_at)
        self._ids[slot] = (entry.key.id, entry.key.community_id)
        self._entries[slot] = entry
        self._slots[entry.key] = slot
        self._by_author.setdefault(entry.author, set()).add(slot)
        self._alive[slot] = True  # last: a slot is found only when it is whole

    def remove(self, key: Key) -> bool:
        """Take a post out; return whether it was there. The next search does not see it."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return False
        self._alive[slot] = False
        entry = self._entries[slot]
        assert entry is not None
        self._entries[slot] = None
        mine = self._by_author[entry.author]
        mine.discard(slot)
        if not mine:
            del self._by_author[entry.author]
        self._free.append(slot)
        return True

    def find(self, key: Key) -> int | None:
        """Return the slot of a post, or None."""
        return self._slots.get(key)

    def entry(self, slot: int) -> IndexEntry:
        """Return what is known of the post in a living slot."""
        entry = self._entries[slot]
        assert entry is not None, f"slot {slot} is empty"
        return entry

    def keys(self, slots: Iterable[int]) -> list[Key]:
        """Return the posts of living slots, in the same order."""
        return [self.entry(int(slot)).key for slot in slots]

    def vectors(self, slots: Sequence[int] | Slots) -> Vector:
        """Return a copy of the vectors of slots. Shape: (len(slots), dims)."""
        return self._vectors[np.asarray(slots, dtype=np.int64)]

    def mask(self, scope: Scope) -> Mask:
        """Return which slots hold a post that the scope lets through."""
        mask = self._allowed(scope)[self._class[: self._top]]
        mask &= self._alive[: self._top]
        mask &= self._created[: self._top] >= _microseconds(scope.created_after)
        hidden = [
            slot for author in scope.hidden_authors for slot in self._by_author.get(author, ())
        ]
        hidden.extend(self._slots[key] for key in scope.without if key in self._slots)
        mask[hidden] = False
        return mask

    def search(self, vector: Vector, k: int, mask: Mask | None = None) -> Hits:
        """Return the k best slots by inner product, exactly; ties go to the newest id."""
        assert vector.shape == (self._dims,), f"vector {vector.shape} is not ({self._dims},)"
        allowed = self._alive[: self._top] if mask is None else mask
        slots = np.flatnonzero(allowed)
        scores = self._vectors[slots] @ vector
        return self._best(slots, scores, k)

    def newest(self, k: int, mask: Mask | None = None) -> Slots:
        """Return the k slots with the newest posts, newest first."""
        slots = np.flatnonzero(self._alive[: self._top] if mask is None else mask)
        order = np.lexsort((*self._ids[slots].T[::-1], self._created[slots]))[::-1]
        return slots[order[:k]]

    def _best(self, slots: Slots, scores: Vector, k: int) -> Hits:
        if k <= 0 or len(slots) == 0:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        if len(slots) > k:
            least = np.partition(scores, len(scores) - k)[len(scores) - k]
            kept = np.flatnonzero(scores >= least)
            slots, scores = slots[kept], scores[kept]
        order = np.lexsort((*self._ids[slots].T[::-1], scores))[::-1][:k]
        return Hits(slots[order], scores[order])

    def _allowed(self, scope: Scope) -> Mask:
        """Return, per class of posts, whether audience and language let it through."""
        table = np.zeros(max(len(self._classes), 1), dtype=np.bool_)
        for (community_id, audience, language), number in self._classes.items():
            near = AUDIENCES[audience] is Audience.NEARBY and community_id in scope.nearby
            public = AUDIENCES[audience] is Audience.PUBLIC
            spoken = not scope.languages or not language or language in scope.languages
            table[number] = spoken and (public or near or community_id == scope.community_id)
        return table

    def _class_of(self, entry: IndexEntry) -> int:
        """Return the number of the post's class: community, audience and language together."""
        name = (entry.key.community_id, AUDIENCES.index(entry.audience), entry.language)
        return self._classes.setdefault(name, len(self._classes))

    def _take_slot(self) -> int:
        """Return an empty slot; doubles the store when there is none."""
        if self._free:
            return self._free.popleft()
        if self._top == len(self._alive):
            self._grow()
        self._top += 1
        return self._top - 1

    def _grow(self) -> None:
        """Double every array. Readers of the old ones keep a whole picture."""
        size = len(self._alive)
        self._vectors = np.concatenate([self._vectors, np.zeros_like(self._vectors)])
        self._alive = np.concatenate([self._alive, np.zeros_like(self._alive)])
        self._class = np.concatenate([self._class, np.zeros_like(self._class)])
        self._created = np.concatenate([self._created, np.zeros_like(self._created)])
        self._ids = np.concatenate([self._ids, np.zeros_like(self._ids)])
        self._entries.extend([None] * size)


def _microseconds(moment: datetime) -> int:
    """Return whole microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
