"""The log of prompts: what the prompt of a vector said, whenever one is made.

A line is written in the transaction that stores the vector, so there is no vector whose prompt
nobody knows. It is in force until the next line of the same thing and model. Daily partitions,
outside the change publication, dropped with those of served feeds; a line that is in force by then
is written down again under the newest day. What a member said goes with the member.
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.prompt_lines import MemberSaid, PostSaid, encode
from millrace.feed.prompts import v2
from millrace.feed.repository import QUERIES, columns
from millrace.kernel.ids import IdMaker
from millrace.store.router import Router
from millrace.store.session import Session

DAYS_AHEAD = 2
FALLEN_DAYS = 7  # in which lines of what is gone are looked for


class NewLine(Struct, frozen=True):
    """What is written down of one prompt: of what, under which name, and what it said."""

    key: Key
    hash: str
    said: PostSaid | MemberSaid


class Vectors(Struct, frozen=True, kw_only=True):
    """What some vectors that are stored together have in common.

    position: of the log, where it stood before the facts were read.
    made_at: when the facts were there; stored_at: when the vectors were.
    """

    model_version: str
    position: str
    made_at: datetime
    stored_at: datetime


class PromptLog:
    """Writes lines, and keeps the days that they are in."""

    def __init__(self, router: Router, ids: IdMaker) -> None:
        self._router = router
        self._ids = ids
        self._days: set[date] = set()

    async def prepare(self, now: datetime) -> None:
        """Make the partitions of today and of the next day, where they are not known to be there."""
        first = _day(now)
        if first in self._days:
            return
        async with self._router.write() as session:
            await session.value(QUERIES["ensure_prompt_days"], first=first, days=DAYS_AHEAD)
        self._days = {first + timedelta(days=ahead) for ahead in range(DAYS_AHEAD)}

    def write(self, session: Session, vectors: Vectors, lines: Sequence[NewLine]) -> None:
        """Write lines with the statement that comes next. `prepare` comes before the transaction."""
        if not lines:
            return
        posts = isinstance(lines[0].said, PostSaid)
        session.later(
            QUERIES["write_prompts_of_posts" if posts else "write_prompts_of_members"],
            lines=[self._ids.next() for _ in lines],
            hashes=[line.hash for line in lines],
            facts=[encode(line.said) for line in lines],
            kept_on=_day(vectors.stored_at),
            model_version=vectors.model_version,
            prompt_version=v2.VERSION,
            position=vectors.position,
            made_at=vectors.made_at,
            stored_at=vectors.stored_at,
            **columns((line.key for line in lines), "communities", "ids"),
        )

    async def retire(self, now: datetime, days: int) -> int:
        """Drop the partitions that are older than so many days; return how many.

        And the lines of what is gone, if one was being written while it went.
        """
        await self.prepare(now)
        async with self._router.write() as session:
            since = _day(now) - timedelta(days=FALLEN_DAYS)
            await session.run(QUERIES["drop_fallen_prompts"], since=since)
            return int(
                await session.value(
                    QUERIES["drop_prompt_days"],
                    before=_day(now) - timedelta(days=days),
                    today=_day(now),
                )
            )


class PromptBelongings:
    """Takes along what the log says of a member, and of what they wrote."""

    async def leave(self, session: Session, member: Key, by: str, now: datetime) -> None:
        """Forget the prompts of a member who is removed, in that transaction."""
        await session.run(
            QUERIES["forget_prompts"], community_id=member.community_id, member_id=member.id
        )


def _day(moment: datetime) -> date:
    return moment.astimezone(UTC).date()
