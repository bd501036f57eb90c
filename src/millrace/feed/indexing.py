"""The index pipeline: committed changes become slots and columns, in the order of their commits.

It begins from a snapshot, a stretch at a time, and then follows the change stream. A change that
was applied before is known by its place and left alone, so that it may come twice. Everything that
a change needs is in the change, the vector too, so nothing is read while changes are applied.

Beside the columns it announces what an open page wants to hear of, to whoever listens: posts that may
be shown from now on, members who are shut out, posts that are talked about.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import datetime
from typing import TypeVar, cast

import numpy as np
from msgspec import Struct

from millrace.community.languages import primary
from millrace.community.types import Audience, Key, PostKind
from millrace.feed.arrivals import Arrival, Arrivals, Departure, News, Talk
from millrace.feed.catalogue import (
    AUTHOR_COUNTS,
    POST_COUNTS,
    AuthorFacts,
    Catalogue,
    PostFacts,
)
from millrace.feed.embeddings import Vector, unpacked
from millrace.feed.repository import QUERIES
from millrace.kernel.errors import MillraceError
from millrace.store.changes.types import UNCHANGED, Batch, Change, Operation, Row, Snapshot
from millrace.store.session import Session
from millrace.store.types import Position

STRETCH = 2_000  # rows of one read; with vectors of 384 numbers under 4 MB
TABLES = frozenset(
    {"comment", "community", "member", "member_counter", "post", "post_counter", "post_embedding"}
)
T = TypeVar("T")


class CommunityRow(Struct, frozen=True):
    """A community and its name."""

    community_id: int
    name: str


class AuthorRow(Struct, frozen=True, kw_only=True):
    """A member as an author."""

    community_id: int
    member_id: int
    name: str
    stands: bool
    followers: int
    posts: int
    views: int
    likes: int

    @property
    def key(self) -> Key:
        """Return the key of the member."""
        return Key(self.community_id, self.member_id)


class PostRow(Struct, frozen=True, kw_only=True):
    """A post with its numbers and its vector."""

    community_id: int
    post_id: int
    author_id: int
    kind: PostKind
    topics: list[str]
    language: str
    audience: Audience
    created_at: datetime
    hidden: bool
    views: int
    clicks: int
    long_dwells: int
    likes: int
    comments: int
    shares: int
    hides: int
    reports: int
    vector: bytes | None

    @property
    def key(self) -> Key:
        """Return the key of the post."""
        return Key(self.community_id, self.post_id)

    @property
    def facts(self) -> PostFacts:
        """Return what ranking needs of it."""
        return PostFacts(
            key=self.key,
            author=Key(self.community_id, self.author_id),
            kind=self.kind,
            topics=self.topics,
            language=primary(self.language),
            audience=self.audience,
            created_at=self.created_at,
            hidden=self.hidden,
        )


class Indexing:
    """An in-memory consumer of the change stream that keeps the catalogue."""

    def __init__(self, catalogue: Catalogue, model_version: str) -> None:
        self._catalogue = catalogue
        if catalogue.version != model_version:
            catalogue.indexes[model_version] = catalogue.indexes.pop(catalogue.version)
            catalogue.version = model_version
        self._watched: dict[str, set[Key]] = {}
        self._place: tuple[Position, int] | None = None  # of the last change that was applied
        self._arrivals = Arrivals()
        self._appliers: dict[str, Callable[[Change], None]] = {
            "comment": self._comment,
            "community": self._community,
            "member": self._member,
            "member_counter": self._member_counter,
            "post": self._post,
            "post_counter": self._post_counter,
            "post_embedding": self._post_embedding,
        }
        assert self._appliers.keys() == TABLES, "every table has what applies it"

    @property
    def name(self) -> str:
        """Return the name for logs and metrics."""
        return "index"

    @property
    def tables(self) -> frozenset[str]:
        """Return the tables whose changes it wants."""
        return TABLES

    def arrivals(self) -> AsyncGenerator[News]:
        """Yield what happens from now on: see `News`."""
        return self._arrivals.listen()

    def watch(self, version: str) -> set[Key]:
        """Note, until `unwatch`, which posts get a vector of a version from the stream.

        Whoever reads vectors from the tables meanwhile leaves those alone: the stream's are newer.
        """
        return self._watched.setdefault(version, set())

    def unwatch(self, version: str) -> None:
        """Note it no more."""
        self._watched.pop(version, None)

    def lost(self) -> None:
        """Nothing to do: what is held serves on, and the stream says that it is interrupted."""

    async def begin(self, snapshot: Snapshot) -> None:
        """Make the catalogue agree with a snapshot; feeds are served from it meanwhile."""
        self._place = None
        session, catalogue = snapshot.session, self._catalogue
        for community in await session.rows(QUERIES["catalogue_communities"], CommunityRow):
            catalogue.communities[community.community_id] = community.name
        await self._begin_authors(session)
        there = await self._begin_posts(session)
        for key in catalogue.index.all_keys():
            if key not in there:
                catalogue.remove(key)
        self._place = (snapshot.position, _LAST)

    async def _begin_authors(self, session: Session) -> None:
        after = Key(0, 0)
        while True:
            rows = await self._stretch(session, "catalogue_authors", AuthorRow, after)
            for row in rows:
                self._catalogue.put_author(
                    AuthorFacts(key=row.key, name=row.name, stands=row.stands)
                )
                counts = [getattr(row, name) for name in AUTHOR_COUNTS]
                self._catalogue.put_author_counts(row.key, counts)
            if len(rows) < STRETCH:
                return
            after = rows[-1].key

    async def _begin_posts(self, session: Session) -> set[Key]:
        """Put every post of the snapshot; return which there are."""
        catalogue, after, there = self._catalogue, Key(0, 0), set[Key]()
        version = catalogue.version  # another one may serve by the end
        while True:
            rows = await self._stretch(
                session, "catalogue_posts", PostRow, after, model_version=version
            )
            keys = [row.key for row in rows if row.vector is not None]
            vectors = unpacked_rows([row.vector for row in rows if row.vector is not None])
            for row in rows:
                catalogue.put(row.facts, None)
                if row.vector is None:
                    catalogue.put_vector(row.key, None, version)
                catalogue.put_counts(row.key, [getattr(row, name) for name in POST_COUNTS])
                there.add(row.key)
            catalogue.put_vectors(keys, vectors, version)
            # What the first search would have to make; nobody waits for it here.
            await asyncio.to_thread(catalogue.indexes[version].prepare)
            if len(rows) < STRETCH:
                return there
            after = rows[-1].key

    async def _stretch(
        self, session: Session, query: str, into: type[T], after: Key, **params: object
    ) -> list[T]:
        return await session.rows(
            QUERIES[query],
            into,
            community_id=after.community_id,
            after=after.id,
            limit=STRETCH,
            **params,
        )

    async def apply(self, batch: Batch) -> None:
        """Take a batch, at once and whole: nothing is waited for.

        Raises:
            MillraceError: a table was emptied; everything is to be made anew from a snapshot.
        """
        for change in batch.changes:
            place = (change.position, change.number)
            if self._place is not None and place <= self._place:
                continue
            if change.op is Operation.TRUNCATE:
                raise MillraceError(f"table {change.table} was emptied: the index begins anew")
            self._appliers[change.table](change)
            self._place = place

    # ------------------------------------------------- one change

    def _comment(self, change: Change) -> None:
        if change.after is not None:
            post = (change.after["post_community_id"], change.after["post_id"])
            self._arrivals.tell(Talk(Key(*cast("tuple[int, int]", post))))

    def _community(self, change: Change) -> None:
        if change.after is None:
            self._catalogue.communities.pop(_number(change, 0), None)
        else:
            self._catalogue.communities[_number(change, 0)] = str(change.after["name"])

    def _member(self, change: Change) -> None:
        row = change.after or {}
        gone = row.get("removed_at") is not None or row.get("banned_at") is not None
        facts = AuthorFacts(
            key=_key(change),
            name=str(row.get("display_name") or row.get("handle") or ""),
            stands=change.after is not None and not gone,
        )
        for key in self._catalogue.put_author(facts):
            self._tell(key)
        if not facts.stands:
            self._arrivals.tell(Departure(facts.key))

    def _member_counter(self, change: Change) -> None:
        counts = _counts(change.after, AUTHOR_COUNTS)
        self._catalogue.put_author_counts(_key(change), counts)

    def _post(self, change: Change) -> None:
        key, row = _key(change), change.after
        if row is None or row["removed_at"] is not None:
            self._catalogue.remove(key)
            return
        facts = PostFacts(
            key=key,
            author=Key(key.community_id, cast("int", row["author_id"])),
            kind=PostKind(str(row["kind"])),
            topics=self._topics(key, row),
            language=primary(str(row["language"])),
            audience=Audience(str(row["audience"])),
            created_at=cast("datetime", row["created_at"]),
            hidden=row.get("hidden_at") is not None,
        )
        if self._catalogue.put(facts, None):
            self._tell(key)

    def _topics(self, key: Key, row: Row) -> Sequence[str]:
        """Return the topics of a post; the log leaves out a long list that did not change."""
        topics = row["topics"]
        if topics is not UNCHANGED:
            return cast("list[str]", topics)
        known = self._catalogue.facts(key)
        return known.topics if known is not None else []

    def _post_counter(self, change: Change) -> None:
        self._catalogue.put_counts(_key(change), _counts(change.after, POST_COUNTS))

    def _post_embedding(self, change: Change) -> None:
        version, key = cast("str", change.key[2]), _key(change)
        if version not in self._catalogue.indexes:
            return
        if version in self._watched:
            self._watched[version].add(key)
        if change.after is None:
            self._catalogue.put_vector(key, None, version)
        elif isinstance(content := change.after["vector"], bytes):
            self._catalogue.put_vector(key, unpacked(content), version)

    def _tell(self, key: Key) -> None:
        facts = self._catalogue.facts(key)
        assert facts is not None, f"post {key} was put a moment ago"
        self._arrivals.tell(
            Arrival(
                post=key,
                author=facts.author,
                audience=facts.audience,
                created_at=facts.created_at,
            )
        )


_LAST = 1 << 62
"""Behind every change of a transaction: a snapshot holds them all."""


def _number(change: Change, place: int) -> int:
    return cast("int", change.key[place])


def _key(change: Change) -> Key:
    """Return the first two columns of the key: community, and post or member."""
    return Key(_number(change, 0), _number(change, 1))


def _counts(row: Row | None, names: Sequence[str]) -> list[int]:
    """Return numbers in the order of their columns; zeros where the row is gone."""
    return [0 if row is None else cast("int", row[name]) for name in names]


def unpacked_rows(contents: Sequence[bytes]) -> Vector:
    """Return many stored vectors at once, each of length one again. Shape: (len, dims)."""
    if not contents:
        return np.zeros((0, 0), dtype=np.float32)
    rows = np.frombuffer(b"".join(contents), dtype="<f2").reshape(len(contents), -1)
    vectors = rows.astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    lengths[lengths == 0] = 1.0
    return vectors / lengths
