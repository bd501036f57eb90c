"""What members were shown and did, as rows that are written once.

The natural key of a row makes a repeated batch harmless: what is there already is not inserted,
so it is not counted and has no effect a second time. Rows go in in the order of their keys, so
that two equal batches at the same time wait for one another instead of deadlocking.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime

from msgspec import Struct

from millrace.community.intake import QUERIES
from millrace.community.types import Action, Engagement, Impression, Key
from millrace.store.session import Session, document


class LoggedRow(Struct, frozen=True):
    """A row that was not there before."""

    community_id: int
    member_id: int
    at: datetime
    post_community_id: int
    post_id: int
    kind: str

    @property
    def member(self) -> Key:
        """Return who did it."""
        return Key(self.community_id, self.member_id)

    @property
    def post(self) -> Key:
        """Return with which post."""
        return Key(self.post_community_id, self.post_id)

    @property
    def action(self) -> Action:
        """Return what was done."""
        return Action(self.kind)


def _place(member: Key, post: Key) -> dict[str, object]:
    return {
        "community_id": member.community_id,
        "member_id": member.id,
        "post_community_id": post.community_id,
        "post_id": post.id,
    }


def _engagement_row(one: Engagement) -> dict[str, object]:
    return _place(one.member, one.post) | {
        "happened_at": one.happened_at,
        "kind": one.kind.value,
        "surface": one.surface,
        "position": one.position,
        "dwell_ms": one.dwell_ms,
        "app_version": one.app_version,
    }


def _impression_row(one: Impression) -> dict[str, object]:
    return _place(one.member, one.post) | {
        "shown_at": one.shown_at,
        "surface": one.surface,
        "position": one.position,
        "served_feed_id": one.served_feed_id,
        "app_version": one.app_version,
    }


async def logged(session: Session, engagements: Iterable[Engagement]) -> list[LoggedRow]:
    """Insert engagements; return those that are new."""
    rows = [_engagement_row(one) for one in engagements]
    if not rows:
        return []
    return await session.rows(QUERIES["insert_engagements"], LoggedRow, rows=document(rows))


async def counted(session: Session, engagements: Iterable[Engagement]) -> list[LoggedRow]:
    """Insert engagements that only count, move the counters, and commit; return those that are new."""
    rows = [_engagement_row(one) for one in engagements]
    return await session.last_rows(QUERIES["count_engagements"], LoggedRow, rows=document(rows))


async def shown(session: Session, impressions: Iterable[Impression]) -> list[LoggedRow]:
    """Insert impressions; return those that are new."""
    rows = [_impression_row(one) for one in impressions]
    if not rows:
        return []
    return await session.rows(QUERIES["insert_impressions"], LoggedRow, rows=document(rows))


class PlaceRow(Struct, frozen=True):
    """The place of an entry in its batch."""

    index: int


async def already_logged(session: Session, entries: Mapping[int, Engagement]) -> frozenset[int]:
    """Return the places of those engagements that are in the log."""
    rows = [_engagement_row(one) | {"index": index} for index, one in entries.items()]
    if not rows:
        return frozenset()
    found = await session.rows(QUERIES["logged_engagements"], PlaceRow, rows=document(rows))
    return frozenset(row.index for row in found)


async def already_shown(session: Session, entries: Mapping[int, Impression]) -> frozenset[int]:
    """Return the places of those impressions that are in the log."""
    rows = [_impression_row(one) | {"index": index} for index, one in entries.items()]
    if not rows:
        return frozenset()
    found = await session.rows(QUERIES["logged_impressions"], PlaceRow, rows=document(rows))
    return frozenset(row.index for row in found)
