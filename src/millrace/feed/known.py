"""The slots of what members have seen, looked up once while neither changes.

A member has seen a thousand posts, and the same ones in the next request, but for those that were
shown meanwhile: only they are looked up. A slot stays a post's until the post is removed, so what
was found holds as long as nothing is removed; what was not found is looked for again each time.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.history import PostList
from millrace.feed.index import PostIndex, Slots


class _Found(Struct, frozen=True):
    """What a lookup of so many posts gave, after so many removals."""

    removals: int
    posts: int
    slots: Slots
    missing: Sequence[Key]


class KnownSlots:
    """Slots by list of posts; a list that nobody holds any more is forgotten with it."""

    def __init__(self, index: PostIndex) -> None:
        self._index = index
        self._found: WeakKeyDictionary[PostList, _Found] = WeakKeyDictionary()

    def of(self, posts: PostList) -> Slots:
        """Return the slots of those posts that have one, in no order. Nobody may change them."""
        index = self._index
        found = self._found.get(posts)
        if found is None or found.removals != index.removals:
            found = _Found(index.removals, 0, np.empty(0, np.int64), ())
        if found.posts < len(posts):
            found = self._found[posts] = self._more(found, posts.keys(found.posts))
        if not found.missing:
            return found.slots
        return np.concatenate([found.slots, index.slots(found.missing)])

    def _more(self, found: _Found, keys: Sequence[Key]) -> _Found:
        """Return what is found with more posts looked up."""
        slots, missing = self._index.slots(keys), found.missing
        if len(slots) < len(keys):
            missing = [*missing, *(key for key in keys if self._index.slot(key) is None)]
        return _Found(
            found.removals,
            found.posts + len(keys),
            np.concatenate([found.slots, slots]),
            missing,
        )
