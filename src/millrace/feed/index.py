"""An exact index of unit vectors: slots, masks, and a search that never guesses.

A post has a slot. An insert writes one row and is seen by the next search; a delete clears one
bit. Who may see what is a mask over the slots, applied inside the search, so that a filter never
costs recall. Everything here is numpy and runs in the event loop's thread: masks, slots and
answers belong together only until the next `await`.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Audience, Key

Vector = NDArray[np.float32]
Mask = NDArray[np.bool_]
Slots = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

BLOCK = 1_024  # rows that are judged together: scanned, or gathered one by one
GATHER_ROWS = 512  # rows copied at a time; with 384 dimensions 768 KiB, so they stay in L2
GROUP = 8  # rows; a multiple of the four that the matrix-vector kernel takes at a time
# Reading a row in order costs 46 ns and fetching one alone 121 ns (384 dimensions, measured), so a
# block is scanned when at least this share of it passes.
SCAN_SHARE = 0.38
SAMPLE_STEP = 16  # a scan guesses its threshold from every sixteenth score
CAPACITY_MIN = BLOCK  # rows; capacities are powers of two, so they hold whole blocks
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
        self._classes: dict[tuple[int, int, int], int] = {}
        self._class_table = np.empty((3, 0), dtype=np.int64)  # community, audience, language
        self._languages: dict[str, int] = {}
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
        assert np.isfinite(vector).all(), f"the vector of post {entry.key} is not finite"
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
        used = self._used()
        mask = self._passes(scope).take(self._class[:used])
        mask &= self._alive[:used]
        mask &= self._created[:used] >= _microseconds(scope.created_after)
        for author in scope.hidden_authors:
            mask[list(self._by_author.get(author, ()))] = False
        mask[[self._slots[key] for key in scope.without if key in self._slots]] = False
        return mask

    def search(self, vector: Vector, k: int, mask: Mask | None = None) -> Hits:
        """Return the k best slots by inner product, exactly; ties go to the newest id.

        Args:
            vector: the query. Shape: (dims,).
            k: how many; fewer come back when fewer pass the mask.
            mask: what `mask` returned since the last `await`; None lets every post through.
        """
        assert vector.shape == (self._dims,), f"vector {vector.shape} is not ({self._dims},)"
        query = np.ascontiguousarray(vector, dtype=np.float32)
        allowed = self._alive[: self._used()]
        if mask is not None:  # and alive: a delete counts even where the mask is older
            allowed = allowed[: _round_up(len(mask), BLOCK)] & _whole_blocks(mask)
        k = min(k, int(np.count_nonzero(allowed)))
        if k <= 0:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        bits = np.bitwise_count(allowed.view(np.uint64)).reshape(-1, BLOCK // 8)
        dense = bits.sum(axis=1, dtype=np.int64) >= SCAN_SHARE * BLOCK
        if dense.all():
            return self._best(*self._scan(query, 0, allowed, k), k)
        parts = [self._scan(query, start, allowed[start:end], k) for start, end in _runs(dense)]
        sparse = np.where(dense.repeat(BLOCK), np.False_, allowed) if parts else allowed
        parts.append(self._gather(query, np.flatnonzero(sparse)))
        slots = np.concatenate([part[0] for part in parts])
        return self._best(slots, np.concatenate([part[1] for part in parts]), k)

    def newest(self, k: int, mask: Mask | None = None) -> Slots:
        """Return the k slots with the newest posts, newest first; ties go to the newest id."""
        slots = np.flatnonzero(self._alive[: self._used()] if mask is None else mask)
        if len(slots) > k > 0:
            created = self._created[slots]
            slots = slots[created >= np.partition(created, len(slots) - k)[len(slots) - k]]
        order = np.lexsort((*self._ids[slots].T[::-1], self._created[slots]))[::-1]
        return slots[order[: max(k, 0)]]

    def _scan(self, query: Vector, start: int, allowed: Mask, k: int) -> tuple[Slots, Vector]:
        """Return slots and scores of a stretch that hold its k best, mostly not many more.

        One matrix-vector product over every row, the hidden ones too: the memory bus sets the
        pace, and skipping rows one by one would be slower than reading them.
        """
        scores = self._vectors[start : start + len(allowed)] @ query
        kept = np.flatnonzero((scores >= _likely_floor(scores, allowed, k)) & allowed)
        if len(kept) < k:  # the guess was too high, or there are not so many: keep all
            kept = np.flatnonzero(allowed)
        return kept + start, scores[kept]

    def _gather(self, query: Vector, slots: Slots) -> tuple[Slots, Vector]:
        """Return every given slot with its score, copying rows block by block through the cache.

        Whole groups of eight rows are multiplied, the last one with rows of no meaning: the
        linear algebra library rounds a row in an incomplete group of four differently, and equal
        vectors must have equal scores wherever they lie.
        """
        scores = np.empty(_round_up(len(slots), GROUP), dtype=np.float32)
        rows = np.zeros((min(GATHER_ROWS, len(scores)), self._dims), dtype=np.float32)
        for start in range(0, len(slots), GATHER_ROWS):
            wanted = slots[start : start + GATHER_ROWS]
            # "clip" writes straight into `rows`; the slots are known to be inside.
            np.take(self._vectors, wanted, axis=0, out=rows[: len(wanted)], mode="clip")
            end = _round_up(len(wanted), GROUP)
            np.dot(rows[:end], query, out=scores[start : start + end])
        return slots, scores[: len(slots)]

    def _best(self, slots: Slots, scores: Vector, k: int) -> Hits:
        """Return the k best of some slots in order: by score, then the newest id."""
        if len(slots) > k:
            kept = np.flatnonzero(scores >= _kth(scores, k))
            slots, scores = slots[kept], scores[kept]
        order = np.argsort(scores)[::-1]
        ordered = scores[order]
        if (ordered[1:] == ordered[:-1]).any():  # ids cost a cache miss each, and ties are rare
            order = np.lexsort((*self._ids[slots].T[::-1], scores))[::-1]
        order = order[:k]
        return Hits(slots[order], scores[order])

    def _passes(self, scope: Scope) -> Mask:
        """Return, per class of posts, whether audience and language let it through."""
        community, audience, language = self._class_table
        passes = audience == AUDIENCES.index(Audience.PUBLIC)
        near = np.isin(community, list(scope.nearby))
        passes |= near & (audience == AUDIENCES.index(Audience.NEARBY))
        passes |= community == scope.community_id
        if scope.languages:
            spoken = [self._languages.get(name, -1) for name in ("", *scope.languages)]
            passes &= np.isin(language, spoken)
        return passes

    def _class_of(self, entry: IndexEntry) -> int:
        """Return the number of the post's class: community, audience and language together.

        Posts are many and classes few, so a scope is judged per class and looked up per post.
        """
        language = self._languages.setdefault(entry.language, len(self._languages))
        name = (entry.key.community_id, AUDIENCES.index(entry.audience), language)
        number = self._classes.get(name)
        if number is None:
            number = self._classes[name] = len(self._classes)
            self._class_table = np.array(list(self._classes), dtype=np.int64).T
        return number

    def _used(self) -> int:
        """Return how many rows a search must look at, in whole blocks."""
        return _round_up(self._top, BLOCK)

    def _take_slot(self) -> int:
        """Return an empty slot; doubles the store when there is none."""
        if self._free:
            return self._free.popleft()
        if self._top == len(self._alive):
            self._grow()
        self._top += 1
        return self._top - 1

    def _grow(self) -> None:
        """Double every array."""
        size = len(self._alive)
        self._vectors = _doubled(self._vectors)
        self._alive = _doubled(self._alive)
        self._class = _doubled(self._class)
        self._created = _doubled(self._created)
        self._ids = _doubled(self._ids)
        self._entries.extend([None] * size)


def _kth(scores: Vector, k: int) -> np.float32:
    """Return the k-th largest score."""
    return np.partition(scores, len(scores) - k)[len(scores) - k]


def _likely_floor(scores: Vector, allowed: Mask, k: int) -> np.float32:
    """Return a score that the k best are likely to reach and few others, from a sample.

    It is only a guess, four standard deviations on the safe side; whoever uses it counts.
    """
    sample = scores[::SAMPLE_STEP][allowed[::SAMPLE_STEP]]
    expected = k / SAMPLE_STEP
    rank = int(expected + 4 * expected**0.5) + 4
    return _kth(sample, rank) if rank < len(sample) else np.float32(-np.inf)


def _runs(dense: Mask) -> Iterator[tuple[int, int]]:
    """Yield the first and the last slot, exclusive, of each stretch of dense blocks."""
    edges = np.flatnonzero(np.diff(dense, prepend=np.False_, append=np.False_))
    for start, end in edges.reshape(-1, 2).tolist():
        yield start * BLOCK, end * BLOCK


def _whole_blocks(mask: Mask) -> Mask:
    """Return the mask, filled up to whole blocks when it is older than the last growth."""
    missing = -len(mask) % BLOCK
    return np.pad(mask, (0, missing)) if missing else mask


def _doubled(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return the array with as much emptiness behind it."""
    return np.concatenate([array, np.zeros_like(array)])


def _round_up(count: int, step: int) -> int:
    """Return the smallest multiple of `step` that is not below `count`."""
    return -(-count // step) * step


def _microseconds(moment: datetime) -> int:
    """Return whole microseconds since 1970."""
    return (moment - _EPOCH) // timedelta(microseconds=1)
