"""One member's history as a feed needs it: what was seen, liked, hidden, and whose posts.

The same answers as the queries of `community/activity.py` give, from memory. Events are worked in
as they are heard, in any order and maybe twice; the windows of time are those of the reader's
moment. Posts share their keys with the catalogue, so that a thousand impressions weigh little.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import nlargest
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from millrace.community.types import POSITIVE_ACTIONS, Key

T = TypeVar("T")

SHOWN_MAX = 5_000  # impressions of one member; the oldest are forgotten
DEEDS_MAX = 5_000  # engagements of one member
LIKED_MAX = 200  # positive engagements that count as liked
POSITIVE = frozenset(action.value for action in POSITIVE_ACTIONS)
AGAINST = frozenset({"hide", "report"})
LIKE = "like"
ALWAYS = 1 << 62

Deed = tuple[int, Key, str]
"""When, with which post, and what was done."""


class PostList:
    """Posts in the order in which they came; it only grows, and one may stand in it twice.

    Sixteen bytes a post, and nothing for the garbage collector to walk through.
    """

    __slots__ = ("__weakref__", "_communities", "_ids")

    def __init__(self, posts: Iterable[Key] = ()) -> None:
        self._communities, self._ids = array("q"), array("q")
        for post in posts:
            self.add(post)

    def add(self, post: Key) -> None:
        """Put a post at the end."""
        self._communities.append(post.community_id)
        self._ids.append(post.id)

    def take(self, communities: Iterable[int], ids: Iterable[int]) -> None:
        """Put posts at the end, as two columns."""
        self._communities.extend(communities)
        self._ids.extend(ids)

    def columns(self, start: int = 0) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return communities and ids of the posts from a place on."""
        return np.array(self._communities[start:]), np.array(self._ids[start:])

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[Key]:
        return map(Key, self._communities, self._ids)


class _Window(Generic[T]):
    """What was found since a moment; it holds until the oldest part of it grows too old."""

    def __init__(self) -> None:
        self._since, self._until = 1, 0
        self._found: T | None = None

    def get(self, since: int, made: Callable[[int], tuple[T, int]]) -> T:
        """Return what is found since a moment; `made` also tells the oldest moment in it."""
        if self._found is None or not self._since <= since <= self._until:
            self._found, self._until = made(since)
            self._since = since
        return self._found

    def heard(self, at: int) -> T | None:
        """Return what is found, to add what happened at a moment; None where it does not belong."""
        if self._found is None or at < self._since:
            return None
        self._until = min(self._until, at)
        return self._found

    def forget(self) -> None:
        """Look anew the next time."""
        self._found = None


class History:
    """Microseconds since 1970 are the moments here."""

    __slots__ = (
        "_affinity",
        "_deeds",
        "_likes",
        "_positive_moments",
        "_positives",
        "_seen",
        "_shown",
        "_shown_at",
        "against",
        "unknown",
    )

    def __init__(self) -> None:
        self._shown = PostList()
        self._shown_at = array("q")
        self._deeds: dict[Deed, Key | None] = {}
        self._likes: dict[Key, int] = {}
        self.against: frozenset[Key] = frozenset()
        self.unknown: set[Key] = set()
        self._seen: _Window[PostList] = _Window()
        self._affinity: _Window[dict[Key, float]] = _Window()
        self._positives: PostList | None = None
        self._positive_moments = np.zeros(0, np.int64)

    def begin(
        self, shown: PostList, shown_at: Iterable[int], deeds: Mapping[Deed, Key | None]
    ) -> None:
        """Take what the tables say, before anything else is heard. Nobody shares what is given."""
        self._shown, self._shown_at, self._deeds = shown, array("q", shown_at), dict(deeds)

    # ------------------------------------------------- what happened

    def shown(self, post: Key, at: int) -> None:
        """Take an impression."""
        self._shown.add(post)
        self._shown_at.append(at)
        self._saw(post, at)
        if len(self._shown) > SHOWN_MAX + SHOWN_MAX // 4:
            self._thin()

    def did(self, deed: Deed, author: Key | None) -> None:
        """Take an engagement; an author that is not known yet can be told by `tell`."""
        at, post, kind = deed
        if deed in self._deeds:
            return
        self._deeds[deed] = author
        self._saw(post, at)
        if kind in AGAINST:
            self.against |= {post}
        if kind in POSITIVE:
            self._positives = None
            self._affinity.forget()
            if author is None:
                self.unknown.add(post)
        if len(self._deeds) > DEEDS_MAX + DEEDS_MAX // 4:
            self._deeds = {one: self._deeds[one] for one in sorted(self._deeds)[-DEEDS_MAX:]}
            self._affinity.forget()
            self._seen.forget()

    def opposed(self, post: Key) -> None:
        """Take a post that was hidden or reported, however long ago."""
        self.against |= {post}

    def liked(self, post: Key, at: int) -> None:
        """Take a like that stands since a moment."""
        self._likes[post] = at
        self._positives = None

    def unliked(self, post: Key) -> None:
        """Take a like back."""
        self._likes.pop(post, None)
        self._positives = None

    def tell(self, asked: Iterable[Key], authors: Mapping[Key, Key]) -> None:
        """Learn who wrote the posts that were asked for; what is not there has no author."""
        for deed, author in self._deeds.items():
            if author is None and deed[1] in authors:
                self._deeds[deed] = authors[deed[1]]
        self.unknown.difference_update(asked)
        self._affinity.forget()

    # ------------------------------------------------- what it means

    def seen(self, since: int) -> PostList:
        """Return the posts that the member was shown or engaged with since a moment.

        The same list for as long as it only grows.
        """
        return self._seen.get(since, self._made_seen)

    def positives(self) -> PostList:
        """Return the posts of the newest positive engagements; a like counts while it stands."""
        if self._positives is None:
            counted = [deed for deed in self._deeds if deed[2] in POSITIVE and self._stands(deed)]
            found: dict[Key, int] = {}
            for at, post, _ in nlargest(LIKED_MAX, counted):
                found.setdefault(post, at)
            self._positives = PostList(found)
            self._positive_moments = np.array([*found.values()], dtype=np.int64)
        return self._positives

    def positive_moments(self) -> NDArray[np.int64]:
        """Return when the newest positive engagement with each of the `positives` was."""
        self.positives()
        return self._positive_moments

    def affinity(self, since: int) -> dict[Key, float]:
        """Return how often the member engaged positively with each author since a moment."""
        return self._affinity.get(since, self._made_affinity)

    def __len__(self) -> int:
        return len(self._shown) + len(self._deeds)

    def _stands(self, deed: Deed) -> bool:
        at, post, kind = deed
        return kind != LIKE or self._likes.get(post, ALWAYS) <= at

    def _saw(self, post: Key, at: int) -> None:
        seen = self._seen.heard(at)
        if seen is not None:
            seen.add(post)

    def _made_seen(self, since: int) -> tuple[PostList, int]:
        pairs = zip(self._shown, self._shown_at, strict=True)
        posts = {post: at for post, at in pairs if at >= since}
        posts.update((post, at) for at, post, _ in self._deeds if at >= since)
        return PostList(posts), min(posts.values(), default=ALWAYS)

    def _made_affinity(self, since: int) -> tuple[dict[Key, float], int]:
        found: dict[Key, float] = {}
        oldest = ALWAYS
        for (at, _, kind), author in self._deeds.items():
            if at >= since and kind in POSITIVE and author is not None:
                found[author] = found.get(author, 0.0) + 1.0
                oldest = min(oldest, at)
        return found, oldest

    def _thin(self) -> None:
        """Keep the newest impressions, each post once."""
        newest: dict[Key, int] = {}
        for post, at in zip(self._shown, self._shown_at, strict=True):
            newest[post] = max(at, newest.get(post, at))
        kept = sorted(newest.items(), key=lambda one: one[1])[-SHOWN_MAX:]
        self._shown = PostList(post for post, _ in kept)
        self._shown_at = array("q", [at for _, at in kept])
        self._seen.forget()
