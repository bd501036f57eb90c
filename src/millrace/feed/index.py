"""An exact index of unit vectors: a search that never guesses.

A post has a slot in a table (slot_table.py), and here a vector in that slot or (still) none. An
insert writes one row and is seen by the next search; a delete clears one bit. Who may see what is a
mask over the slots, applied inside the search, so that a filter never costs recall.

Indexes of several encoders share one table: each has vectors of its own, and what is known of a post
is there once. To make one more copies nothing.

Everything here is numpy and is written from the event loop's thread alone. Masks, slots and
answers belong together until the next `await`. A search may run in another thread, since most of
it holds no lock; what it found is then passed through `still`, which leaves out slots that were
cleared or given to another post meanwhile.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.coarse import Coarse
from millrace.feed.first_look import FirstLook, LookMaker, Mask, Near, Slots, Vector
from millrace.feed.recollections import Recollections
from millrace.feed.slot_table import AUDIENCES as AUDIENCES
from millrace.feed.slot_table import (
    BLOCK,
    CAPACITY_MIN,
    IndexEntry,
    SlotTable,
    doubled,
    round_up,
)
from millrace.feed.slot_table import Scope as Scope
from millrace.feed.slot_table import microseconds as microseconds
from millrace.feed.threshold import kth, likely

GATHER_ROWS = 512  # rows copied at a time; with 384 dimensions 768 KiB, so they stay in L2
GROUP = 8  # rows; a multiple of the four that the matrix-vector kernel takes at a time
# A row in order costs 46 ns and one alone 121 ns (384 dimensions): so dense blocks are scanned.
SCAN_SHARE = 0.38


class Hits(Struct, frozen=True):
    """Found slots, best first, with their scores (inner products)."""

    slots: Slots
    scores: Vector


class PostIndex:
    """Unit vectors of live posts of one encoder."""

    def __init__(
        self,
        dims: int,
        capacity: int = CAPACITY_MIN,
        look: LookMaker = Coarse,
        table: SlotTable | None = None,
    ) -> None:
        """Begin without vectors.

        Args:
            dims: the length of a vector.
            capacity: for how many posts there is room at first, in a table of its own.
            look: makes the first look that searches take.
            table: says which post is where; by default a table of its own.
        """
        assert dims > 0, f"dims {dims} is not positive"
        self._dims = dims
        self.table = table = SlotTable(capacity) if table is None else table
        self._with_vector = 0
        self._vectors = np.zeros((table.capacity, dims), dtype=np.float32)
        self._vectored = np.zeros(table.capacity, dtype=np.bool_)
        self.look_maker, self._look = look, look(self._vectors)
        self.recollections = Recollections()
        table.join(self)
        # What is asked of a post and not of its vector, the table answers.
        self.show, self.slot, self.slots = table.show, table.slot, table.slots
        self.all_keys, self.entry, self.keys = table.all_keys, table.entry, table.keys
        self.ids, self.created, self.classes = table.ids, table.created, table.classes
        self.author_number, self.number_of = table.author_number, table.number_of
        self.author_numbers, self.author = table.author_numbers, table.author
        self.authors_of, self.slots_of_author = table.authors_of, table.slots_of_author
        self.language_numbers, self.language = table.language_numbers, table.language
        self.alive, self.born, self.still = table.alive, table.born, table.still
        self.mask, self.home = table.mask, table.home
        self.newest, self.latest = table.newest, table.latest

    def beside(self, dims: int) -> "PostIndex":
        """Return an index of the same posts in the same slots, and no vectors yet."""
        return PostIndex(dims, look=self.look_maker, table=self.table)

    def __len__(self) -> int:
        """Return how many posts have a vector."""
        return self._with_vector

    @property
    def capacity(self) -> int:
        """Return how many slots there are, used or not."""
        return self.table.capacity

    @property
    def posts(self) -> int:
        """Return how many posts have a slot, with a vector or without."""
        return self.table.posts

    @property
    def authors(self) -> int:
        """Return how many authors have a number."""
        return self.table.authors

    @property
    def births(self) -> int:
        """Return how many slots were ever given out; `still` compares with it."""
        return self.table.births

    @property
    def removals(self) -> int:
        """Return how many slots were taken from a post since the start."""
        return self.table.removals

    @property
    def dims(self) -> int:
        """Return the length of a vector."""
        return self._dims

    @property
    def look(self) -> FirstLook:
        """Return what searches look at first."""
        return self._look

    def look_through(self, look: LookMaker) -> None:
        """Take another first look from here on; it hears of every row that has a vector."""
        self.look_maker, self._look = look, look(self._vectors)
        for slot in np.flatnonzero(self._vectored).tolist():
            self._look.changed(slot)

    def put(self, entry: IndexEntry, vector: Vector | None) -> int:
        """Insert a post, or replace it; return its slot. The next search sees it.

        Without a vector it is found by its time and not by its meaning. A post keeps its slot.
        """
        slot = self.table.put(entry)
        self.set_vector(slot, vector)
        return slot

    def set_vector(self, slot: int, vector: Vector | None) -> None:
        """Give a post another vector, or none."""
        if vector is not None:
            assert vector.shape == (self._dims,), f"vector {vector.shape} is not ({self._dims},)"
            assert np.isfinite(vector).all(), f"the vector in slot {slot} is not finite"
            self._vectors[slot] = vector
            self._look.changed(slot)
            self.recollections.changed(slot)
        self._with_vector += (vector is not None) - int(self._vectored[slot])
        self._vectored[slot] = vector is not None

    def set_vectors(self, slots: Sequence[int], vectors: Vector) -> None:
        """Give many posts other vectors, each slot once: a tenth of the time of one by one."""
        shape, wanted = vectors.shape, (len(slots), self._dims)
        assert shape == wanted, f"vectors {shape} are not {wanted}"
        assert np.isfinite(vectors).all(), f"a vector of {len(slots)} is not finite"
        places = np.array(slots, dtype=np.int64)
        self._vectors[places] = vectors
        for slot in slots:
            self._look.changed(slot)
            self.recollections.changed(slot)
        self._with_vector += int(np.count_nonzero(~self._vectored[places]))
        self._vectored[places] = True

    def prepare(self) -> None:
        """Make what the next first look needs; may be called in another thread."""
        self._look.prepare()

    def widen(self, rows: int) -> None:
        """Have so many rows: the table is about to have as many slots."""
        while len(self._vectored) < rows:
            self._vectors = doubled(self._vectors)
            self._look.grow(self._vectors)
            self._vectored = doubled(self._vectored)

    def clear(self, slot: int) -> None:
        """Have no vector in a slot, whose post is gone."""
        self.set_vector(slot, None)

    def remove(self, key: Key) -> bool:
        """Take a post out, of every index of the table; return whether it was there."""
        return self.table.remove(key)

    def find(self, key: Key) -> int | None:
        """Return the slot of a post that has a vector, or None."""
        slot = self.table.slot(key)
        return slot if slot is not None and self._vectored[slot] else None

    def vectors(self, slots: Sequence[int] | Slots) -> Vector:
        """Return a copy of the vectors of slots, zeros where there is none: (len(slots), dims)."""
        wanted = np.asarray(slots, dtype=np.int64)
        rows = self._vectors[wanted]
        rows[~self._vectored[wanted]] = 0.0
        return rows

    def search(self, vector: Vector, k: int, mask: Mask | None = None) -> Hits:
        """Return the k best slots by inner product, exactly; ties go to the newest id.

        Args:
            vector: the query. Shape: (dims,).
            k: how many; fewer come back when fewer pass the mask.
            mask: what `mask` returned since the last `await`; None lets every post through.
        """
        query, allowed = self.query(vector), self.allowed(mask)
        k = min(k, int(np.count_nonzero(allowed)))
        if k <= 0:
            return Hits(np.empty(0, np.int64), np.empty(0, np.float32))
        near = self.near(query, allowed, k)
        if near is not None:
            slots = near.slots[allowed[near.slots]]
            if len(slots) <= SCAN_SHARE * len(allowed):
                return self.best(slots, self.scores(query, slots), k)
        bits = np.bitwise_count(allowed.view(np.uint64)).reshape(-1, BLOCK // 8)
        dense = bits.sum(axis=1, dtype=np.int64) >= SCAN_SHARE * BLOCK
        if dense.all():
            return self.best(*self._scan(query, 0, allowed, k), k)
        parts = [self._scan(query, start, allowed[start:end], k) for start, end in _runs(dense)]
        sparse = np.where(dense.repeat(BLOCK), np.False_, allowed) if parts else allowed
        alone = np.flatnonzero(sparse)
        parts.append((alone, self.scores(query, alone)))
        slots = np.concatenate([part[0] for part in parts])
        return self.best(slots, np.concatenate([part[1] for part in parts]), k)

    def query(self, vector: Vector) -> Vector:
        """Return a vector as searches take it."""
        assert vector.shape == (self._dims,), f"vector {vector.shape} is not ({self._dims},)"
        return np.ascontiguousarray(vector, dtype=np.float32)

    def allowed(self, mask: Mask | None) -> Mask:
        """Return which slots a search may find, in whole blocks; None lets every post through."""
        used = self.table.used
        allowed = self.table.living(used) & self._vectored[:used]
        if mask is not None:  # and alive: a delete counts even where the mask is older
            allowed = allowed[: round_up(len(mask), BLOCK)] & _whole_blocks(mask)
        return allowed

    def near(self, query: Vector, allowed: Mask, k: int, *, lasting: bool = False) -> Near | None:
        """Look first at what costs less than all vectors; None where that does not pay."""
        return self._look.near(query, allowed, k, lasting=lasting)

    def _scan(self, query: Vector, start: int, allowed: Mask, k: int) -> tuple[Slots, Vector]:
        """Return slots and scores of a stretch that hold its k best, mostly not many more.

        One product over every row, the hidden ones too: skipping single rows would be slower.
        """
        scores = self._vectors[start : start + len(allowed)] @ query
        kept = likely(scores, allowed, k)
        return kept + start, scores[kept]

    def scores(self, query: Vector, slots: Slots) -> Vector:
        """Return the score of every given slot, copying rows block by block through the cache.

        Whole groups of eight rows are multiplied, the last one with rows of no meaning: the library
        rounds a row in an incomplete group differently, and equal vectors must have equal scores.
        """
        scores = np.empty(round_up(len(slots), GROUP), dtype=np.float32)
        rows = np.zeros((min(GATHER_ROWS, len(scores)), self._dims), dtype=np.float32)
        for start in range(0, len(slots), GATHER_ROWS):
            wanted = slots[start : start + GATHER_ROWS]
            # "clip" writes straight into `rows`; the slots are known to be inside.
            np.take(self._vectors, wanted, axis=0, out=rows[: len(wanted)], mode="clip")
            end = round_up(len(wanted), GROUP)
            np.dot(rows[:end], query, out=scores[start : start + end])
        return scores[: len(slots)]

    def best(self, slots: Slots, scores: Vector, k: int) -> Hits:
        """Return the k best of some slots in order: by score, then the newest id."""
        if len(slots) > k:
            kept = np.flatnonzero(scores >= kth(scores, k))
            slots, scores = slots[kept], scores[kept]
        order = np.argsort(scores)[::-1]
        ordered = scores[order]
        if (ordered[1:] == ordered[:-1]).any():  # ids cost a cache miss each, and ties are rare
            order = np.lexsort((*self.ids(slots).T[::-1], scores))[::-1]
        order = order[:k]
        return Hits(slots[order], scores[order])


def _runs(dense: Mask) -> Iterator[tuple[int, int]]:
    """Yield the first and the last slot, exclusive, of each stretch of dense blocks."""
    edges = np.flatnonzero(np.diff(dense, prepend=np.False_, append=np.False_))
    for start, end in edges.reshape(-1, 2).tolist():
        yield start * BLOCK, end * BLOCK


def _whole_blocks(mask: Mask) -> Mask:
    """Return the mask, filled up to whole blocks when it is older than the last growth."""
    missing = -len(mask) % BLOCK
    return np.pad(mask, (0, missing)) if missing else mask
