"""The activity pipeline: every member's history in memory, as fresh as the change stream.

A history is read from the tables when a member is first asked for, and from then on impressions,
engagements and likes are worked into it as they are committed. A load that is overtaken by one of
them is not kept, and the next request loads again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import cast

import numpy as np
from msgspec import Struct

from millrace.community.types import Action, Key
from millrace.feed.catalogue import Catalogue
from millrace.feed.history import DEEDS_MAX, SHOWN_MAX, Deed, History, PostList
from millrace.feed.index import microseconds
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES, columns
from millrace.store.cache import Bounds, CacheStatistics, InProcessCache, Loaded
from millrace.store.changes.types import Batch, Change, Operation, Snapshot
from millrace.store.types import Position

TABLES = frozenset({"impression", "engagement", "reaction"})
KINDS = {action.value: action.value for action in Action}
NONE = -(1 << 63)
SINCE_2000 = 946_684_800_000_000  # microseconds from 1970 to where PostgreSQL's moments begin
BOUNDS = Bounds(entries_max=20_000, weight_max=4_000_000)


class HistoryRow(Struct, frozen=True):
    """A member's history as columns; see the query."""

    shown_communities: bytes
    shown_posts: bytes
    shown_at: bytes
    done_at: bytes
    done_communities: bytes
    done_posts: bytes
    done_kinds: str
    done_authors: bytes
    liked_at: bytes
    opposed_communities: bytes
    opposed_posts: bytes


class AuthorRow(Struct, frozen=True):
    """A post and who wrote it."""

    community_id: int
    post_id: int
    author_id: int


class Histories:
    """An in-memory consumer of the change stream that keeps histories of members."""

    def __init__(self, parts: FeedParts, catalogue: Catalogue, bounds: Bounds = BOUNDS) -> None:
        """Take the feed's surroundings; of the catalogue keys of posts and authors are borrowed."""
        self._parts = parts
        self._catalogue = catalogue
        self._cache: InProcessCache[Key, History] = InProcessCache(
            tokens=parts.router, load=self._load, weigh=len, bounds=bounds
        )
        self._appliers: dict[str, Callable[[Key, Change], Callable[[History], None] | None]] = {
            "impression": self._impression,
            "engagement": self._engagement,
            "reaction": self._reaction,
        }
        assert self._appliers.keys() == TABLES, "every table has what applies it"

    def held(self, member: Key, position: Position | None) -> History | None:
        """Return a history that is held whole and counts for a reader who must see a position."""
        held = self._cache.held(member, position)
        if held is None or held.value is None or held.value.unknown:
            return None
        return held.value

    async def of(self, member: Key, token: str = "") -> History:
        """Return a member's history, never older than the token. Whoever gets it only reads it."""
        history = await self._cache.read(member, token)
        assert history is not None, "a member without any event has an empty history"
        if history.unknown:
            await self._tell_authors(history)
        return history

    def statistics(self) -> CacheStatistics:
        """Return how the cache does; its weight is the number of events."""
        return self._cache.statistics()

    # ------------------------------------------------- from the tables

    async def _load(self, members: Sequence[Key]) -> Mapping[Key, Loaded[History]]:
        found = await asyncio.gather(*(self._loaded(member) for member in members))
        return {member: Loaded(history) for member, history in zip(members, found, strict=True)}

    async def _loaded(self, member: Key) -> History:
        async with self._parts.router.read() as session:
            row = await session.row(
                QUERIES["history"],
                HistoryRow,
                community_id=member.community_id,
                member_id=member.id,
                since=self._parts.clock.now() - timedelta(days=self._parts.config.seen_days),
                shown_max=SHOWN_MAX,
                deeds_max=DEEDS_MAX,
            )
        assert row is not None, "an aggregate has one row"
        shown = PostList()
        shown.take(_numbers(row.shown_communities), _numbers(row.shown_posts))
        communities = _numbers(row.done_communities)
        posts = list(map(self._post, communities, _numbers(row.done_posts)))
        kinds = [KINDS[kind] for kind in row.done_kinds.split()]  # one object for each word
        authors = [
            None if author == NONE else self._author(Key(community, author))
            for community, author in zip(communities, _numbers(row.done_authors), strict=True)
        ]
        deeds = list(zip(_moments(row.done_at), posts, kinds, strict=True))
        history = History()
        history.begin(shown, _moments(row.shown_at), dict(zip(deeds, authors, strict=True)))
        for post, liked_at in zip(posts, _moments(row.liked_at), strict=True):
            if liked_at > 0:
                history.liked(post, liked_at)
        for opposed in zip(
            _numbers(row.opposed_communities), _numbers(row.opposed_posts), strict=True
        ):
            history.opposed(self._post(*opposed))
        return history

    async def _tell_authors(self, history: History) -> None:
        posts = sorted(history.unknown)
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["authors_of_posts"], AuthorRow, **columns(posts, "communities", "posts")
            )
        home = {Key(row.community_id, row.post_id): row for row in rows}
        history.tell(
            posts,
            {post: Key(row.community_id, row.author_id) for post, row in home.items()},
        )

    def _post(self, community_id: int, post_id: int) -> Key:
        """Return the key of a post, the catalogue's own where it has the post."""
        key = Key(community_id, post_id)
        slot = self._catalogue.slot(key)
        return key if slot is None else self._catalogue.index.entry(slot).key

    def _author(self, author: Key) -> Key:
        """Return the key of an author, the catalogue's own where it has the author."""
        known = self._catalogue.index.number_of(author)
        return author if known is None else self._catalogue.index.author(known)

    # ------------------------------------------------- from the stream

    @property
    def name(self) -> str:
        """Return the name for logs and metrics."""
        return "activity"

    @property
    def tables(self) -> frozenset[str]:
        """Return the tables whose changes it wants."""
        return TABLES

    async def begin(self, snapshot: Snapshot) -> None:
        """Follow the stream from a snapshot on; members are loaded as they come."""
        self._cache.begin(snapshot.position)

    def lost(self) -> None:
        """Hear that the stream is interrupted: from now on members are loaded for each request."""
        self._cache.lost()

    async def apply(self, batch: Batch) -> None:
        """Take a batch, at once and whole: nothing is waited for."""
        for change in batch.changes:
            if change.op is Operation.TRUNCATE:
                self._cache.forget_all(change.position)
                continue
            member = Key(cast("int", change.key[0]), cast("int", change.key[1]))
            fold = self._appliers[change.table](member, change)
            if fold is None:
                self._cache.invalidate(member, change.position)
            else:
                self._cache.fold(member, fold, change.position)
        if batch.position is not None:
            self._cache.advance(batch.position)

    def _impression(self, _: Key, change: Change) -> Callable[[History], None] | None:
        if change.op is not Operation.CREATE:
            return None  # a log is only added to; whatever else happens, it is read again
        at, community, post = cast("tuple[datetime, int, int]", change.key[2:5])
        return lambda history: history.shown(self._post(community, post), microseconds(at))

    def _engagement(self, _: Key, change: Change) -> Callable[[History], None] | None:
        if change.op is not Operation.CREATE:
            return None
        at, community, post, kind = cast("tuple[datetime, int, int, str]", change.key[2:6])

        def fold(history: History) -> None:
            slot = self._catalogue.slot(Key(community, post))
            deed: Deed = (microseconds(at), self._post(community, post), kind)
            facts = None if slot is None else self._catalogue.index.entry(slot)
            history.did(deed, None if facts is None else facts.author)

        return fold

    def _reaction(self, _: Key, change: Change) -> Callable[[History], None] | None:
        community, post = cast("tuple[int, int]", change.key[2:4])
        if change.after is None:
            return lambda history: history.unliked(self._post(community, post))
        at = microseconds(cast("datetime", change.after["created_at"]))
        return lambda history: history.liked(self._post(community, post), at)


def _numbers(column: bytes) -> list[int]:
    """Return whole numbers as PostgreSQL sends them."""
    found: list[int] = np.frombuffer(column, ">i8").tolist()
    return found


def _moments(column: bytes) -> list[int]:
    """Return moments as PostgreSQL sends them in microseconds since 1970; NONE is below zero."""
    found: list[int] = (np.maximum(np.frombuffer(column, ">i8"), -SINCE_2000) + SINCE_2000).tolist()
    return found
