"""The log of served feeds: one compressed row each, in daily partitions that retention drops.

A feed is written and committed before it is answered, so that what a member was shown can always
be explained. The table is outside the change publication.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Key
from millrace.feed import record
from millrace.feed.cursor import Cursor
from millrace.feed.deliveries import DeliveredFeed, Deliveries, delivered_in
from millrace.feed.history import PostList
from millrace.feed.records.types import Record
from millrace.feed.repository import QUERIES, ServedRow
from millrace.feed.types import UNKNOWN_APP, App
from millrace.kernel.errors import UnavailableError
from millrace.store.router import Router
from millrace.store.session import document

DAYS_AHEAD = 3
TOGETHER_MAX = 32  # rows of one commit
LATELY = timedelta(days=1)  # so long the app of a member's feed is taken for theirs


class Served(Struct, frozen=True, kw_only=True):
    """One served feed as it is remembered."""

    served_feed_id: int
    served_at: datetime
    delivered: int
    record: Record


class NewServed(Struct, frozen=True, kw_only=True):
    """One served feed as it is written down.

    ids: post and community of the posts that are delivered with the first page.
    variants: of each flag that decided something of it, by its key.
    """

    served_feed_id: int
    served_at: datetime
    delivered: int
    surface: str
    ids: NDArray[np.int64]
    record: bytes
    variants: dict[str, str] = {}


class _Waiting(Struct):
    """A row on its way to the table, and who waits until it is durable."""

    line: dict[str, object]
    durable: "asyncio.Future[None]"


class ServedFeeds:
    """Writes and reads served feeds. One commit at a time: who comes meanwhile shares the next."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._days: set[date] = set()
        self._deliveries = Deliveries()
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None

    async def prepare(self, now: datetime) -> None:
        """Make the partitions of today and of the next days."""
        first = now.astimezone(UTC).date()
        async with self._router.write() as session:
            await session.value(QUERIES["ensure_partitions"], first=first, days=DAYS_AHEAD)
        self._days = {first + timedelta(days=ahead) for ahead in range(DAYS_AHEAD)}

    async def retire(self, now: datetime, days: int) -> int:
        """Drop the partitions that are older than so many days; return how many."""
        before = now.astimezone(UTC).date() - timedelta(days=days)
        async with self._router.write() as session:
            return int(await session.value(QUERIES["drop_partitions"], before=before))

    async def write(self, member: Key, made: NewServed) -> None:
        """Keep a served feed; it is durable when this returns."""
        if made.served_at.astimezone(UTC).date() not in self._days:
            await self.prepare(made.served_at)
        waiting = _Waiting(
            {
                "community_id": member.community_id,
                "member_id": member.id,
                "served_feed_id": made.served_feed_id,
                "served_at": made.served_at,
                "surface": made.surface,
                "delivered": made.delivered,
                "record": made.record,
                "variants": document(made.variants) if made.variants else None,
                "post_ids": _array(made.ids[:, 0].tolist()),
                "post_communities": _array(made.ids[:, 1].tolist()),
            },
            asyncio.get_running_loop().create_future(),
        )
        self._waiting.append(waiting)
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        await waiting.durable
        posts, communities = made.ids.T.tolist()
        self._deliveries.add(member, DeliveredFeed(made.served_at, communities, posts))

    async def _write(self) -> None:
        """Commit until nobody waits: all who came during one commit share the next."""
        turn: list[_Waiting] = []
        try:
            while self._waiting:
                turn, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
                if len(turn) == 1 or not await self._committed(turn):
                    for one in turn:  # one that cannot be written must not cost the others theirs
                        await self._committed([one], last=True)
        finally:
            self._writing = None
            for one in [*turn, *self._waiting]:
                one.durable.cancel()
            self._waiting = []

    async def _committed(self, turn: Sequence[_Waiting], *, last: bool = False) -> bool:
        """Commit some feeds and tell those who wait; False where each is to be tried alone."""
        try:
            async with self._router.write() as session:
                for one in turn:  # in one round trip with the commit
                    session.later(QUERIES["insert_served"], **one.line)
        except Exception as exc:  # noqa: BLE001 - it belongs to those who wait for it
            if not last and not isinstance(exc, UnavailableError):
                return False
            for one in turn:
                if not one.durable.done():
                    one.durable.set_exception(exc)
            return True
        for one in turn:
            if not one.durable.done():  # whoever asked may have gone
                one.durable.set_result(None)
        return True

    async def get(self, cursor: Cursor) -> Served | None:
        """Return the served feed that a cursor names, or None where it is gone."""
        async with self._router.read() as session:
            row = await session.row(
                QUERIES["served_by_id"],
                ServedRow,
                community_id=cursor.member.community_id,
                member_id=cursor.member.id,
                served_feed_id=cursor.served_feed_id,
                day=cursor.moment,
            )
        return None if row is None else _served(row)

    async def lately(self, member: Key, since: datetime, limit: int) -> list[Served]:
        """Return a member's newest served feeds, newest first."""
        async with self._router.read() as session:
            rows = await session.rows(
                QUERIES["served_lately"],
                ServedRow,
                community_id=member.community_id,
                member_id=member.id,
                since=since,
                limit=limit,
            )
        return [_served(row) for row in rows]

    async def app(self, member: Key, now: datetime) -> App:
        """Return what a member's newest feed of the last day was asked with; unknown without one."""
        served = await self.lately(member, now - LATELY, 1)
        return app_of(served)

    async def delivered(self, member: Key, since: datetime, until: datetime) -> list[PostList]:
        """Return the posts that were delivered in feeds that a member began between two moments.

        From memory, once the table was read for the member: see `Deliveries`.
        """
        known = self._deliveries.delivered(member, since, until)
        if known is not None:
            return known
        mark = self._deliveries.mark(member)
        async with self._router.read() as session:
            feeds = await session.rows(
                QUERIES["delivered_feeds"],
                DeliveredFeed,
                community_id=member.community_id,
                member_id=member.id,
                since=since,
            )
        self._deliveries.keep(member, feeds, since, until, mark)
        return delivered_in(feeds, until)

    async def raise_delivered(self, cursor: Cursor, posts: Sequence[Key]) -> None:
        """Remember that a feed was delivered as far as these posts, its first ones."""
        async with self._router.write() as session:
            await session.run(
                QUERIES["raise_delivered"],
                community_id=cursor.member.community_id,
                member_id=cursor.member.id,
                served_feed_id=cursor.served_feed_id,
                day=cursor.moment,
                delivered=len(posts),
                post_ids=_array([post.id for post in posts]),
                post_communities=_array([post.community_id for post in posts]),
            )
        self._deliveries.forget(cursor.member)


def app_of(served: Sequence[Served]) -> App:
    """Return what the first of some served feeds was asked with; unknown where there is none."""
    return App(*served[0].record.app) if served else UNKNOWN_APP


def _array(numbers: list[int]) -> str:
    """Return numbers as PostgreSQL reads an array: the driver takes longer for a list."""
    return f"{{{','.join(map(str, numbers))}}}"


def _served(row: ServedRow) -> Served:
    return Served(
        served_feed_id=row.served_feed_id,
        served_at=row.served_at,
        delivered=row.delivered,
        record=record.decode(row.record),
    )
