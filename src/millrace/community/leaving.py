"""Leaving: what goes with a member who is removed."""

from collections.abc import Mapping

from msgspec import Struct

from millrace.community.counts import CounterMoves
from millrace.community.intake import QUERIES
from millrace.community.types import Key
from millrace.store.session import Session


class Followed(Struct, frozen=True):
    """Whom somebody followed."""

    target_community_id: int
    target_id: int


async def left(
    session: Session, member: Key, said: Mapping[str, object], counters: CounterMoves
) -> bool:
    """Remove a member and end what they follow, so that they count nowhere; return whether that is new.

    Args:
        session: a write.
        member: who goes.
        said: `now`, `by` and `reason` of the removal.
        counters: is told whose followers became fewer.
    """
    names = {"community_id": member.community_id, "member_id": member.id}
    if not await session.run(QUERIES["remove_member"], **names, **said):
        return False
    for one in await session.rows(QUERIES["end_follows"], Followed, **names):
        counters.member(Key(one.target_community_id, one.target_id), "followers", -1)
    return True
