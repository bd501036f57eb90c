"""The log of served feeds: one compressed row each, in daily partitions that retention drops.

A feed is written and committed before it is answered, so that what a member was shown can always
be explained. The table is outside the change publication.
"""

from datetime import UTC, date, datetime, timedelta

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Key
from millrace.feed import record
from millrace.feed.cursor import Cursor
from millrace.feed.deliveries import DeliveredFeed, Deliveries, delivered_in
from millrace.feed.records.types import Record
from millrace.feed.repository import QUERIES, ServedRow
from millrace.store.router import Router

DAYS_AHEAD = 3


class Served(Struct, frozen=True, kw_only=True):
    """One served feed as it is remembered."""

    served_feed_id: int
    served_at: datetime
    delivered: int
    record: Record


class NewServed(Struct, frozen=True, kw_only=True):
    """One served feed as it is written down; `ids` are post and community of every ranked post."""

    served_feed_id: int
    served_at: datetime
    delivered: int
    surface: str
    ids: NDArray[np.int64]
    record: bytes


class ServedFeeds:
    """Writes and reads served feeds."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._days: set[date] = set()
        self._deliveries = Deliveries()

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
        async with self._router.write() as session:
            await session.run(
                QUERIES["insert_served"],
                community_id=member.community_id,
                member_id=member.id,
                served_feed_id=made.served_feed_id,
                served_at=made.served_at,
                surface=made.surface,
                delivered=made.delivered,
                record=made.record,
                post_ids=_array(made.ids[:, 0].tolist()),
                post_communities=_array(made.ids[:, 1].tolist()),
            )
        posts, communities = made.ids[: made.delivered].T.tolist()
        self._deliveries.add(member, DeliveredFeed(made.served_at, communities, posts))

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

    async def delivered(self, member: Key, since: datetime, until: datetime) -> frozenset[Key]:
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
        self._deliveries.keep(member, feeds, until, mark)
        return delivered_in(feeds, until)

    async def raise_delivered(self, cursor: Cursor, delivered: int) -> None:
        """Remember that a feed was delivered as far as a place."""
        async with self._router.write() as session:
            await session.run(
                QUERIES["raise_delivered"],
                community_id=cursor.member.community_id,
                member_id=cursor.member.id,
                served_feed_id=cursor.served_feed_id,
                day=cursor.moment,
                delivered=delivered,
            )
        self._deliveries.forget(cursor.member)


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
