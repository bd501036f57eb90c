"""What is kept about a member, and goes with them: their places in rings, and their apps."""

from datetime import datetime

from msgspec import Struct

from millrace.community.types import Key
from millrace.kernel.ids import IdMaker
from millrace.release.flags.repository import QUERIES
from millrace.store.session import Session

REASON = "the member was removed"
"""All that the trail says of it: why somebody was removed is no matter of rings."""


class Left(Struct, frozen=True):
    """A place that somebody had by name, or by their own wish."""

    track: str
    ring: str


class MemberBelongings:
    """Gives up entries of rings and versions of apps. The trail of entries keeps its lines, by key."""

    def __init__(self, ids: IdMaker) -> None:
        self._ids = ids

    async def leave(self, session: Session, member: Key, by: str, now: datetime) -> None:
        """Take along what is kept about a member; each entry has its last line in the trail."""
        names = {"community_id": member.community_id, "member_id": member.id}
        for place in await session.rows(QUERIES["take_entries"], Left, **names):
            await session.run(
                QUERIES["tell_entry"],
                **names,
                change_id=self._ids.next(),
                track=place.track,
                ring=place.ring,
                choice="",
                actor=by,
                reason=REASON,
                now=now,
            )
        await session.run(QUERIES["hold_apps"])
        await session.run(QUERIES["forget_apps"], **names)
