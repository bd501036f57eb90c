"""The slots of what members have seen, looked up once while neither changes.

A member has seen a thousand posts, and the same ones in the next request, but for those that were
shown meanwhile: only they are looked up. A slot stays a post's until the post is removed, so what
was found holds as long as nothing is removed; what was not found is looked for again each time.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Key
from millrace.feed.history import PostList
from millrace.feed.index import PostIndex, Slots

NEW_SHARE = 8  # one in so many posts may be newer than the sorted ids; those are looked up alone


class _Found(Struct, frozen=True):
    """What a lookup of so many posts gave, after so many removals."""

    removals: int
    posts: int
    slots: Slots
    missing: Sequence[Key]


class _Ordered(Struct, frozen=True):
    """The slots of a list in its order, after so many removals and births."""

    removals: int
    births: int
    slots: Slots


class OrderedSlots:
    """Slots by list of posts that does not change any more; each post has one, in its place."""

    def __init__(self, index: PostIndex) -> None:
        self._table = index.table
        self._found: WeakKeyDictionary[PostList, _Ordered] = WeakKeyDictionary()

    def of(self, posts: PostList) -> Slots:
        """Return the slot of each post, -1 for none. Nobody may change them."""
        table, found = self._table, self._found.get(posts)
        here = found is not None and found.removals == table.removals
        if found and here and (found.births == table.births or (found.slots >= 0).all()):
            return found.slots
        slots = [-1 if (slot := table.slot(post)) is None else slot for post in posts]
        made = _Ordered(table.removals, table.births, np.array(slots, dtype=np.int64))
        self._found[posts] = made
        return made.slots


class KnownSlots:
    """Slots by list of posts; a list that nobody holds any more is forgotten with it."""

    def __init__(self, index: PostIndex) -> None:
        self._index = index
        self._found: WeakKeyDictionary[PostList, _Found] = WeakKeyDictionary()
        self._births = 0
        self._ids = self._slots = np.zeros(1, dtype=np.int64)  # ids in order, and whose slots

    def move(self, index: PostIndex) -> None:
        """Look slots up in another index over the same posts; what was found holds there too."""
        self._index = index

    def of(self, posts: PostList) -> Slots:
        """Return the slots of those posts that have one, in no order. Nobody may change them."""
        index = self._index
        found = self._found.get(posts)
        if found is None or found.removals != index.removals:
            found = _Found(index.removals, 0, np.empty(0, np.int64), ())
        if found.posts < len(posts):
            found = self._found[posts] = self._more(found, *posts.columns(found.posts))
        if not found.missing:
            return found.slots
        return np.concatenate([found.slots, index.slots(found.missing)])

    def _more(
        self, found: _Found, communities: NDArray[np.int64], ids: NDArray[np.int64]
    ) -> _Found:
        """Return what is found with more posts looked up, all at once.

        The sorted ids may be old: whose a slot is now is looked at, and who is not found there is
        asked for by name.
        """
        self._sort()
        slots = self._slots[np.searchsorted(self._ids[:-1], ids)]
        here = (self._index.ids(slots) == np.column_stack([ids, communities])).all(axis=1)
        others = list(map(Key, communities[~here].tolist(), ids[~here].tolist()))
        there = self._index.slots(others)
        missing = found.missing
        if len(there) < len(others):
            missing = [*missing, *(key for key in others if self._index.slot(key) is None)]
        return _Found(
            found.removals,
            found.posts + len(ids),
            np.concatenate([found.slots, slots[here], there]),
            missing,
        )

    def _sort(self) -> None:
        """Put the ids in order anew where many posts came: a key in a dictionary costs microseconds
        when the caches are cold, and a thousand of them are asked for at once.
        """
        index = self._index
        if (index.births - self._births) * NEW_SHARE > self._births:
            self._births = index.births
            ids = index.ids(np.arange(index.capacity))[:, 0]
            self._slots = np.argsort(ids, kind="stable")
            self._ids = ids[self._slots]
