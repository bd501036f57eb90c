"""Leaving: what goes with a member who is removed."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct

from millrace.community.counts import CounterMoves
from millrace.community.intake import QUERIES
from millrace.community.ports import Belongings
from millrace.community.types import Key
from millrace.store.session import Session


class Followed(Struct, frozen=True):
    """Whom somebody followed."""

    target_community_id: int
    target_id: int


class Removal(Struct, frozen=True):
    """When, by whom and why somebody is removed."""

    now: datetime
    by: str
    reason: str

    def said(self) -> Mapping[str, object]:
        """Return it as a statement names it."""
        return {"now": self.now, "by": self.by, "reason": self.reason}


async def left(
    session: Session,
    member: Key,
    removal: Removal,
    counters: CounterMoves,
    belongings: Sequence[Belongings],
) -> bool:
    """Remove a member and end what they follow, so that they count nowhere; return whether that is new.

    Args:
        session: a write.
        member: who goes.
        removal: when, by whom and why.
        counters: is told whose followers became fewer.
        belongings: what other rooms keep about members, which goes with them.
    """
    names = {"community_id": member.community_id, "member_id": member.id}
    if not await session.run(QUERIES["remove_member"], **names, **removal.said()):
        return False
    for one in await session.rows(QUERIES["end_follows"], Followed, **names):
        counters.member(Key(one.target_community_id, one.target_id), "followers", -1)
    for kept in belongings:
        await kept.leave(session, member, removal.by, removal.now)
    return True
