"""Which post is in which slot, and what the masks need to know of it.

A table is shared by the indexes of all encoders (index.py): what is known of a post is there once,
and each index has vectors beside it, in the same slots. Who may see what is a mask over the slots,
made here.

Everything is numpy and is written from the event loop's thread alone. Masks and slots belong
together until the next `await`. A slot that was cleared or given to another post meanwhile is told
by `still`.
"""

from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Protocol, TypeVar
from weakref import WeakSet

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Audience, Key
from millrace.feed.first_look import Mask, Slots
from millrace.feed.threshold import kth

Scalar = TypeVar("Scalar", bound=np.generic)

BLOCK = 1_024  # rows that are judged together: scanned, or gathered one by one
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


class Beside(Protocol):
    """Has a row for every slot of a table."""

    def widen(self, rows: int) -> None:
        """Have so many rows, before there are as many slots."""
        ...

    def clear(self, slot: int) -> None:
        """Have nothing in a slot, whose post is gone."""
        ...


class SlotTable:
    """The slots of posts, and columns of what is known of them.

    removals: slots that were taken from a post since the start.
    """

    def __init__(self, capacity: int = CAPACITY_MIN) -> None:
        """Have room for so many posts, and for as many more as come."""
        size = CAPACITY_MIN
        while size < capacity:
            size *= 2
        self._entries: list[IndexEntry | None] = [None] * size
        self._slots: dict[Key, int] = {}
        self._numbers: dict[Key, int] = {}  # of authors, from 0; they are never given back
        self._authors: list[Key] = []
        self._by_author: list[set[int]] = []
        self._free: deque[int] = deque()  # first in, first out: a slot rests before its next use
        self._top = 0  # slots from here on were never used
        self._births = 0
        self.removals = 0
        self._classes: dict[tuple[int, int, int], int] = {}
        self._class_table = np.empty((3, 0), dtype=np.int64)  # community, audience, language
        self._languages: dict[str, int] = {}
        self._alive = np.zeros(size, dtype=np.bool_)
        self._class = np.zeros(size, dtype=np.intp)  # the type that indexes without a copy
        self._created = np.zeros(size, dtype=np.int64)
        self._ids = np.zeros((size, 2), dtype=np.int64)  # post id, community id: the tie break
        self._author = np.zeros(size, dtype=np.intp)
        self._born = np.zeros(size, dtype=np.int64)
        # Held by whoever searches them: one that nobody searches any more is gone by itself.
        self._beside: WeakSet[Beside] = WeakSet()

    def join(self, rows: Beside) -> None:
        """Tell somebody who has a row for every slot what becomes of them, as long as they are held."""
        self._beside.add(rows)

    @property
    def capacity(self) -> int:
        """Return how many slots there are, used or not."""
        return len(self._alive)

    @property
    def used(self) -> int:
        """Return how many rows a search must look at, in whole blocks."""
        return round_up(self._top, BLOCK)

    @property
    def posts(self) -> int:
        """Return how many posts have a slot."""
        return len(self._slots)

    @property
    def authors(self) -> int:
        """Return how many authors have a number."""
        return len(self._authors)

    @property
    def births(self) -> int:
        """Return how many slots were ever given out; `still` compares with it."""
        return self._births

    def put(self, entry: IndexEntry) -> int:
        """Insert a post, or bring it up to date; return its slot. A post keeps its slot."""
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
        self._alive[slot] = True  # last: a slot is found only when it is whole
        return slot

    def show(self, slot: int, *, alive: bool) -> None:
        """Let a post be found, or hide it; it keeps its slot and its vectors."""
        self._alive[slot] = alive

    def remove(self, key: Key) -> bool:
        """Take a post out; return whether it was there. The next search does not see it."""
        slot = self._slots.pop(key, None)
        if slot is None:
            return False
        self.removals += 1
        self._alive[slot] = False
        for rows in self._beside:
            rows.clear(slot)
        self._entries[slot], self._ids[slot] = None, 0
        self._by_author[int(self._author[slot])].discard(slot)
        self._free.append(slot)
        return True

    def slot(self, key: Key) -> int | None:
        """Return the slot of a post, or None."""
        return self._slots.get(key)

    def slots(self, keys: Iterable[Key]) -> Slots:
        """Return the slots of those posts that have one, in their order."""
        found = [slot for slot in map(self._slots.get, keys) if slot is not None]
        return np.array(found, dtype=np.int64)

    def all_keys(self) -> list[Key]:
        """Return every post that has a slot."""
        return list(self._slots)

    def is_alive(self, slot: int) -> bool:
        """Return whether a slot holds a post that may be found."""
        return bool(self._alive[slot])

    def living(self, rows: int) -> Mask:
        """Return which of the first so many slots hold a post that may be found."""
        return self._alive[:rows]

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

    def author_of(self, slot: int) -> int:
        """Return the number of the author of a slot."""
        return int(self._author[slot])

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
        used = self.used
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
        return (self._class_table[0] == community_id).take(self._class[: self.used])

    def newest(self, k: int, mask: Mask | None = None) -> Slots:
        """Return the k slots with the newest posts, newest first; ties go to the newest id."""
        slots = np.flatnonzero(self._alive[: self.used] if mask is None else mask)
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
        """Double every array; those beside first, so that no slot is without its row."""
        size = 2 * self.capacity
        for rows in self._beside:
            rows.widen(size)
        self._class = doubled(self._class)
        self._created = doubled(self._created)
        self._ids = doubled(self._ids)
        self._author = doubled(self._author)
        self._born = doubled(self._born)
        self._entries.extend([None] * self.capacity)
        self._alive = doubled(self._alive)


def doubled(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return the array with as much emptiness behind it."""
    return np.concatenate([array, np.zeros_like(array)])


def round_up(count: int, step: int) -> int:
    """Return the smallest multiple of `step` that is not below `count`."""
    return -(-count // step) * step


def microseconds(moment: datetime) -> int:
    """Return whole microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND
