"""Search: posts by their words, members by name and skills, communities.

Everything goes through the one rule of visibility. Of very many matches the newest are ranked; a
search that takes too long is stopped and says so.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from msgspec import Struct

from millrace.community import validator
from millrace.community.asked_words import MARKS, Asked, Marked, asked_words, marked
from millrace.community.intake import QUERIES
from millrace.community.lines import PostLine
from millrace.community.types import (
    WORD_MAX,
    Community,
    Key,
    Member,
    PostKind,
    PostView,
    Viewer,
)
from millrace.community.visibility import asker
from millrace.kernel.clock import Clock
from millrace.kernel.errors import UnavailableError
from millrace.store.router import Router
from millrace.store.session import Session

SECONDS_MAX = 3.0
RANKED_MAX = 400
GAP = " … "  # stands between the parts of an excerpt
FRESH_SECONDS = 14 * 24 * 3600.0  # a post of today weighs up to twice an old one


class PostQuery(Struct, frozen=True, kw_only=True):
    """Which posts are asked for; None does not filter."""

    text: str
    community_id: int | None = None
    author: Key | None = None
    kind: PostKind | None = None
    topic: str | None = None
    since: datetime | None = None


class Place(Struct, frozen=True):
    """Where a stretch of results ended.

    asked_at: when the first stretch was asked for; later posts do not move the results.
    """

    asked_at: datetime
    score: int
    key: Key


class PostHit(Struct, frozen=True, kw_only=True):
    """A post that was found. title, excerpt: with what matched; the excerpt is a part of the text."""

    view: PostView
    title: Marked
    excerpt: Marked


class PostHits(Struct, frozen=True):
    """A stretch of results, best first; `after` is where it goes on, None at the end."""

    hits: list[PostHit]
    after: Place | None


class MemberHits(Struct, frozen=True):
    """A stretch of members, best first; `after` is where it goes on, None at the end."""

    members: list[Member]
    after: Place | None


class Search:
    """Results are ranked, and paged by the place where the last stretch ended."""

    def __init__(self, *, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    async def posts(
        self, viewer: Viewer, query: PostQuery, after: Place | None = None, limit: int = 20
    ) -> PostHits:
        """Return posts with these words, best first.

        Passes on:
            InvalidError: the query is empty or too long, or a limit is outside its bounds.
            UnavailableError: it took too long.
        """
        asked, count = asked_words(query.text), validator.limit(limit)
        asked_at = after.asked_at if after else self._clock.now()
        async with self._session(viewer) as session:
            found = await session.rows(
                QUERIES["found_posts"],
                Found,
                **asker(viewer),
                **_words(asked),
                **_filters(query),
                asked_at=asked_at,
                ranked_max=RANKED_MAX,
                fresh_seconds=FRESH_SECONDS,
            )
            rest = [one for one in found if after is None or one.weight < _weight(after)]
            hits = await _hits(session, viewer, asked, [one.key for one in rest[:count]])
        return PostHits(hits, _following(rest, count, asked_at))

    async def members(
        self,
        viewer: Viewer,
        text: str,
        community_id: int | None = None,
        after: Place | None = None,
        limit: int = 20,
    ) -> MemberHits:
        """Return members by name, handle, headline and skills; a beginning of each word is enough.

        Members of other communities are found by whole words of their names alone: who may not list
        a community's members cannot spell them out either.

        Passes on:
            InvalidError: the text is empty or too long, or the limit is outside its bounds.
            UnavailableError: it took too long.
        """
        asked, count = asked_words(text), validator.limit(limit)
        asked_at = after.asked_at if after else self._clock.now()
        async with self._session(viewer) as session:
            found = await session.rows(
                QUERIES["found_members"],
                FoundMember,
                **asker(viewer),
                wanted=asked.begun,
                named=asked.named,
                community_id=community_id,
                ranked_max=RANKED_MAX,
            )
        rest = [one for one in found if after is None or one.weight < _weight(after)]
        people = [one.member() for one in rest[:count]]
        return MemberHits(people, _following(rest, count, asked_at))

    async def communities(self, viewer: Viewer, text: str, limit: int = 20) -> list[Community]:
        """Return communities by name, place and description; a beginning of each word is enough.

        Passes on:
            InvalidError: the text is empty or too long, or the limit is outside its bounds.
            UnavailableError: it took too long.
        """
        asked, count = asked_words(text), validator.limit(limit)
        async with self._session(viewer) as session:
            return await session.rows(
                QUERIES["found_communities"], Community, wanted=asked.begun, limit=count
            )

    @asynccontextmanager
    async def _session(self, viewer: Viewer) -> AsyncGenerator[Session]:
        """Lend a session for a bounded time. What runs then is cancelled in the database too.

        Raises:
            UnavailableError: the time is over.
        """
        try:
            async with asyncio.timeout(SECONDS_MAX), self._router.read(viewer.token) as session:
                yield session
        except TimeoutError as exc:
            raise UnavailableError(
                f"the search was stopped after {SECONDS_MAX:g} s",
                field="q",
                limit=f"{SECONDS_MAX:g} s",
                next_step="search for rarer words, or in one community",
            ) from exc


class Found(Struct, frozen=True):
    """A post that matches, with its score in millionths."""

    community_id: int
    id: int
    score: int

    @property
    def key(self) -> Key:
        """Return the key of the post."""
        return Key(self.community_id, self.id)

    @property
    def weight(self) -> tuple[int, int, int]:
        """Return what results are ordered by, largest first."""
        return (self.score, self.id, self.community_id)


class FoundMember(Member, frozen=True, kw_only=True):
    """A member who matches, with a score in millionths."""

    score: int

    @property
    def weight(self) -> tuple[int, int, int]:
        """Return what results are ordered by, largest first."""
        return (self.score, self.member_id, self.community_id)

    def member(self) -> Member:
        """Return the member alone."""
        return Member(**{name: getattr(self, name) for name in Member.__struct_fields__})


class MarkedLine(Struct, frozen=True):
    """Title and passage of a post, marked."""

    community_id: int
    post_id: int
    title: str
    excerpt: str


def _weight(place: Place) -> tuple[int, int, int]:
    return (place.score, place.key.id, place.key.community_id)


def _following(rest: Sequence[Found | FoundMember], count: int, asked_at: datetime) -> Place | None:
    """Return where the next stretch begins, None where there is none."""
    if len(rest) <= count:
        return None
    last = rest[count - 1]
    return Place(asked_at, last.score, last.key)


def _words(asked: Asked) -> dict[str, object]:
    return {"words": asked.words, "head": asked.head, "tail": asked.tail}


def _filters(query: PostQuery) -> dict[str, object]:
    """Return the filters as parameters.

    Passes on:
        InvalidError: the topic is too long or cannot be stored.
    """
    author, topic = query.author, query.topic
    return {
        "community_id": query.community_id,
        "author_community": author and author.community_id,
        "author_id": author and author.id,
        "kind": query.kind and query.kind.value,
        "topic": None if topic is None else validator.line("topic", topic, WORD_MAX),
        "since": query.since,
    }


async def _hits(
    session: Session, viewer: Viewer, asked: Asked, keys: Sequence[Key]
) -> list[PostHit]:
    """Return the posts with what matched marked, in the order of the keys."""
    if not keys:
        return []
    which = {
        "communities": [key.community_id for key in keys],
        "posts": [key.id for key in keys],
    }
    views = await session.rows(QUERIES["post_views"], PostLine, **asker(viewer), **which)
    lines = await session.rows(
        QUERIES["marked_posts"], MarkedLine, **which, **_words(asked), marks=MARKS, gap=GAP
    )
    said = {Key(line.community_id, line.post_id): line for line in lines}
    return [
        PostHit(view=view, title=marked(line.title), excerpt=marked(line.excerpt))
        for view in (one.view() for one in views)
        if (line := said.get(view.post.key)) is not None
    ]
