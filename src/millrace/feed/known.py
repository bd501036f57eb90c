"""The slots of what members have seen, looked up once while neither changes.

A member has seen a thousand posts, and the same ones in the next request unless something was
shown meanwhile. A slot stays a post's until the post is removed, so what was found holds as long
as nothing is removed; what was not found is looked for again each time.
"""

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np
from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.index import PostIndex, Slots


class _Found(Struct, frozen=True):
    """What a lookup gave, after so many removals."""

    removals: int
    slots: Slots
    missing: Sequence[Key]


class KnownSlots:
    """Slots by set of posts; a set that nobody holds any more is forgotten with it."""

    def __init__(self, index: PostIndex) -> None:
        self._index = index
        self._found: WeakKeyDictionary[frozenset[Key], _Found] = WeakKeyDictionary()

    def of(self, posts: frozenset[Key]) -> Slots:
        """Return the slots of those posts that have one, in no order. Nobody may change them."""
        index = self._index
        found = self._found.get(posts)
        if found is None or found.removals != index.removals:
            slots, missing = index.slots(posts), list[Key]()
            if len(slots) < len(posts):
                missing = [post for post in posts if index.slot(post) is None]
            found = self._found[posts] = _Found(index.removals, slots, missing)
        if not found.missing:
            return found.slots
        return np.concatenate([found.slots, index.slots(found.missing)])
