"""An exact index of unit vectors: slots, masks, and a search that never guesses.

A post has a slot, with a vector or (still) without one. An insert writes one row and is seen by
the next search; a delete clears one bit. Who may see what is a mask over the slots, applied inside
the search, so that a filter never costs recall.

Everything here is numpy and is written from the event loop's thread alone. Masks, slots and
answers belong together until the next `await`. A search may run in another thread, since most of
it holds no lock; what it found is then passed through `still`, which leaves out slots that were
cleared or given to another post meanwhile.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Audience, Key
from millrace.feed.coarse import Coarse
from millrace.feed.first_look import FirstLook, LookMaker, Mask, Near, Slots, Vector
from millrace.feed.recollections import Recollections
from millrace.feed.threshold import kth, likely

Scalar = TypeVar("Scalar", bound=np.generic)

BLOCK = 1_024  # rows that are judged together: scanned, or gathered one by one
GATHER_ROWS = 512  # rows copied at a time; with 384 dimensions 768 KiB, so they stay in L2
GROUP = 8  # rows; a multiple of the four that the matrix-vector kernel takes at a time
# A row in order costs 46 ns and one alone 121 ns (384 dimensions): so dense blocks are scanned.
SCAN_SHARE = 0.38
CAPACITY_MIN = BLOCK  # rows; capacities are powers of two, so they hold whole blocks
AUDIENCES = tuple(Audience)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class IndexEntry(Struct, frozen=True, kw_only=True, gc=False):
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

    def __init__(self, dims: int, capacity: int = CAPACITY_MIN, look: LookMaker = Coarse) -> None:
        """Have room for so many vectors, and the first look that searches take."""
        assert dims > 0, f"dims {dims} is not positive"
        size = CAPACITY_MIN
        while size < capacity:
            size *= 2
        self._dims = dims
        self._entries: list[IndexEntry | None] = [None] * size
        self._slots: dict[Key, int] = {}
        self._numbers: dict[Key, int] = {}  # of authors, from 0; they are never given back
        self._authors: list[Key] = []
        self._by_author: list[set[int]] = []
        self._free: deque[int] = deque()  # first in, first out: a slot rests before its next use
        self._top = 0  # slots from here on were never used
        self._births = 0
        self.removals = 0  # slots that were taken from a post since the start
        self._with_vector = 0
        self._classes: dict[tuple[int, int, int], int] = {}
        self._class_table = np.empty((3, 0), dtype=np.int64)  # community, audience, language
        self._languages: dict[str, int] = {}
        self._vectors = np.zeros((size, dims), dtype=np.float32)
        self.look_maker, self._look = look, look(self._vectors)
        self.recollections = Recollections()
        self._alive = np.zeros(size, dtype=np.bool_)
        self._vectored = np.zeros(size, dtype=np.bool_)
        self._class = np.zeros(size, dtype=np.intp)  # the type that indexes without a copy
        self._created = np.zeros(size, dtype=np.int64)
        self._ids = np.zeros((size, 2), dtype=np.int64)  # post id, community id: the tie break
        self._author = np.zeros(size, dtype=np.intp)
        self._born = np.zeros(size, dtype=np.int64)

    def __len__(self) -> int:
        """Return how many posts have a vector."""
        return self._with_vector

    @property
    def capacity(self) -> int:
        """Return how many slots there are, used or not."""
        return len(self._alive)

    @property
    def posts(self) -> int:
        """Return how many posts have a slot, with a vector or without."""
        return len(self._slots)

    @property
    def authors(self) -> int:
        """Return how many authors have a number."""
        return len(self._authors)

    @property
    def births(self) -> int:
        """Return how many slots were ever given out; `still` compares with it."""
        return self._births

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
        slot = self._slots.get(entry.key)
        if slot is None:
            slot = self._take_slot()
            self._slots[entry.key] = slot
        else:
            self._by_author[int(self._author[slot])].discard(slot)
        self._class[slot] = self._class_of(entry)
        self._created[slot] = microseconds(entry.created_at)
        self._ids[slot] = (entry.key.id, entry.key.community_id)
        self._author[slot] = number = self.author_number(entry.author)
        self._by_author[number].add(slot)
        self._entries[slot] = entry
        self.set_vector(slot, vector)
        self._alive[slot] = True  # last: a slot is found only when it is whole
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

    def show(self, slot: int, *, alive: bool) -> None:
        """Let a post be found, or hide it; it keeps its slot and its vector."""
        self._alive[slot] = alive

    def remove(self, key: Key) -> bool:
        """Take a post out; return whether it was there. The next search does not see it."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return False
        self.removals += 1
        self._alive[slot] = False
        self.set_vector(slot, None)
        self._entries[slot], self._ids[slot] = None, 0
        self._by_author[int(self._author[slot])].discard(slot)
        self._free.append(slot)
        return True

    def find(self, key: Key) -> int | None:
        """Return the slot of a post that has a vector, or None."""
        slot = self._slots.get(key)
        return slot if slot is not None and self._vectored[slot] else None

    def slot(self, key: Key) -> int | None:
        """Return the slot of a post, with a vector or without, or None."""
        return self._slots.get(key)

    def slots(self, keys: Iterable[Key]) -> Slots:
        """Return the slots of those posts that have one, in no order."""
        found = [slot for slot in map(self._slots.get, keys) if slot is not None]
        return np.array(found, dtype=np.int64)

    def all_keys(self) -> list[Key]:
        """Return every post that has a slot."""
        return list(self._slots)

    def entry(self, slot: int) -> IndexEntry:
        """Return what is known of the post in a used slot."""
        entry = self._entries[slot]
        assert entry is not None, f"slot {slot} is empty"
        return entry

    def keys(self, slots: Iterable[int]) -> list[Key]:
        """Return the posts of used slots, in the same order."""
        return [self.entry(int(slot)).key for slot in slots]

    def ids(self, slots: Slots) -> NDArray[np.int64]:
        """Return post id and community id of slots. Shape: (len(slots), 2)."""
        return self._ids[slots]

    def author_number(self, author: Key) -> int:
        """Return the number of an author; a new one gets the next."""
        number = self._numbers.get(author)
        if number is None:
            number = self._numbers[author] = len(self._authors)
            self._authors.append(author)
            self._by_author.append(set())
        return number

    def number_of(self, author: Key) -> int | None:
        """Return the number of an author, None where nothing of theirs is known."""
        return self._numbers.get(author)

    def author_numbers(self, authors: Iterable[Key]) -> Slots:
        """Return the numbers of those authors that are known."""
        found = [number for number in map(self._numbers.get, authors) if number is not None]
        return np.array(found, dtype=np.int64)

    def author(self, number: int) -> Key:
        """Return the author of a number."""
        return self._authors[number]

    def authors_of(self, slots: Slots) -> Slots:
        """Return the numbers of the authors of slots."""
        return self._author[slots]

    def slots_of_author(self, number: int) -> list[int]:
        """Return the slots of an author's posts."""
        return list(self._by_author[number])

    def created(self, slots: Slots) -> NDArray[np.int64]:
        """Return when the posts of slots were written, in microseconds since 1970."""
        return self._created[slots]

    def alive(self, slots: Slots) -> Mask:
        """Return which of the slots hold a post that may be found."""
        return self._alive[slots]

    def born(self, slots: Slots) -> Slots:
        """Return when each slot was given to its post, as a count of `births`."""
        return self._born[slots]

    def still(self, slots: Slots, births: int) -> Mask:
        """Return which slots hold a living post that was there at so many births."""
        return self._alive[slots] & (self._born[slots] <= births)

    def vectors(self, slots: Sequence[int] | Slots) -> Vector:
        """Return a copy of the vectors of slots, zeros where there is none: (len(slots), dims)."""
        wanted = np.asarray(slots, dtype=np.int64)
        rows = self._vectors[wanted]
        rows[~self._vectored[wanted]] = 0.0
        return rows

    def classes(self, slots: Slots) -> tuple[Slots, Slots, Slots]:
        """Return community, number of the audience and number of the language of slots."""
        community, audience, language = self._class_table[:, self._class[slots]]
        return community, audience, language

    def language_numbers(self, languages: Iterable[str]) -> list[int]:
        """Return the numbers of those languages that some post has."""
        return [number for number in map(self._languages.get, languages) if number is not None]

    def language(self, number: int) -> str:
        """Return the language of a number."""
        return list(self._languages)[number]

    def mask(self, scope: Scope) -> Mask:
        """Return which slots hold a post that the scope lets through."""
        used = self._used()
        mask = self._passes(scope).take(self._class[:used])
        mask &= self._alive[:used]
        if scope.created_after > _EPOCH:
            mask &= self._created[:used] >= microseconds(scope.created_after)
        for number in map(int, self.author_numbers(scope.hidden_authors)):
            mask[list(self._by_author[number])] = False
        mask[self.slots(scope.without)] = False
        return mask

    def home(self, community_id: int) -> Mask:
        """Return which slots hold a post of a community, alive or not; to be put over a mask."""
        return (self._class_table[0] == community_id).take(self._class[: self._used()])

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
        used = self._used()
        allowed = self._alive[:used] & self._vectored[:used]
        if mask is not None:  # and alive: a delete counts even where the mask is older
            allowed = allowed[: _round_up(len(mask), BLOCK)] & _whole_blocks(mask)
        return allowed

    def newest(self, k: int, mask: Mask | None = None) -> Slots:
        """Return the k slots with the newest posts, newest first; ties go to the newest id."""
        slots = np.flatnonzero(self._alive[: self._used()] if mask is None else mask)
        if len(slots) > k > 0:
            created = self._created[slots]
            slots = slots[created >= kth(created, k)]
        order = np.lexsort((*self._ids[slots].T[::-1], self._created[slots]))[::-1]
        return slots[order[: max(k, 0)]]

    def latest(self, k: int, slots: Slots) -> Slots:
        """Return the k slots with the highest post ids, the highest first; they rise with time."""
        first = self._ids[:, 0].take(slots)
        if len(slots) > k > 0:
            kept = first >= kth(first, k)
            slots, first = slots[kept], first[kept]
        return slots[np.lexsort((self._ids[:, 1].take(slots), first))[::-1]][: max(k, 0)]

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
        scores = np.empty(_round_up(len(slots), GROUP), dtype=np.float32)
        rows = np.zeros((min(GATHER_ROWS, len(scores)), self._dims), dtype=np.float32)
        for start in range(0, len(slots), GATHER_ROWS):
            wanted = slots[start : start + GATHER_ROWS]
            # "clip" writes straight into `rows`; the slots are known to be inside.
            np.take(self._vectors, wanted, axis=0, out=rows[: len(wanted)], mode="clip")
            end = _round_up(len(wanted), GROUP)
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
        """Return the number of the post's class: few of them are judged instead of many posts."""
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
            slot = self._free.popleft()
        else:
            if self._top == len(self._alive):
                self._grow()
            slot = self._top
            self._top += 1
        self._births += 1
        self._born[slot] = self._births
        return slot

    def _grow(self) -> None:
        """Double every array."""
        size = len(self._alive)
        self._vectors = doubled(self._vectors)
        self._look.grow(self._vectors)
        self._alive = doubled(self._alive)
        self._vectored = doubled(self._vectored)
        self._class = doubled(self._class)
        self._created = doubled(self._created)
        self._ids = doubled(self._ids)
        self._author = doubled(self._author)
        self._born = doubled(self._born)
        self._entries.extend([None] * size)


def _runs(dense: Mask) -> Iterator[tuple[int, int]]:
    """Yield the first and the last slot, exclusive, of each stretch of dense blocks."""
    edges = np.flatnonzero(np.diff(dense, prepend=np.False_, append=np.False_))
    for start, end in edges.reshape(-1, 2).tolist():
        yield start * BLOCK, end * BLOCK


def _whole_blocks(mask: Mask) -> Mask:
    """Return the mask, filled up to whole blocks when it is older than the last growth."""
    missing = -len(mask) % BLOCK
    return np.pad(mask, (0, missing)) if missing else mask


def doubled(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return the array with as much emptiness behind it."""
    return np.concatenate([array, np.zeros_like(array)])


def _round_up(count: int, step: int) -> int:
    """Return the smallest multiple of `step` that is not below `count`."""
    return -(-count // step) * step


def microseconds(moment: datetime) -> int:
    """Return whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND
