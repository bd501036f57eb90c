"""Reports, the cases that they open, and the audit trail that settles them: what several nouns write.

A case is all that is open against one thing. The first report opens it, further ones join it, and
the next move about the thing settles it, whatever the move is.
"""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millrace.community.intake import QUERIES
from millrace.community.moves import Move, ReportReason, Thing, ThingKind
from millrace.community.types import Key, Viewer
from millrace.kernel.ids import id_at
from millrace.store.session import Session, document


class Report(Struct, frozen=True, kw_only=True):
    """What a member says against a thing.

    home: the community whose moderators judge it.
    author: who wrote it, or the member.
    """

    home: int
    thing: Thing
    author: Key
    reporter: Key
    reason: ReportReason
    detail: str
    created_at: datetime


class Deed(Struct, frozen=True, kw_only=True):
    """What a viewer did about a thing, and why."""

    move: Move
    home: int
    thing: Thing
    subject: Key
    reason: str


class Recorded(Struct, frozen=True):
    """A deed in the audit trail, with the case that it settled."""

    action: Key
    case: Key | None


class ReportedThing(Struct, frozen=True):
    """A thing that a statement counted a report of."""

    thing_id: int


def named(thing: Thing) -> dict[str, object]:
    """Return the parameters that name a thing."""
    return {
        "thing_kind": thing.kind.value,
        "thing_community_id": thing.key.community_id,
        "thing_id": thing.key.id,
    }


async def reported(session: Session, reports: Sequence[Report], now: datetime) -> int:
    """Take reports, each once per thing and member; open or raise their cases. Return how many are new."""
    rows = [
        named(one.thing)
        | {
            "community_id": one.home,
            "author_community_id": one.author.community_id,
            "author_id": one.author.id,
            "reporter_community_id": one.reporter.community_id,
            "reporter_id": one.reporter.id,
            "reason": one.reason.value,
            "detail": one.detail,
            "created_at": one.created_at,
            # A thing has one open case, and a member reports it once: the name is used once.
            "case_id": id_at(now, f"{one.thing}:{one.reporter}"),
        }
        for one in reports
        if one.reporter != one.author
    ]
    if not rows:
        return 0
    lines = document(rows)
    counted = await session.value(QUERIES["insert_reports"], rows=lines)
    if counted:
        await session.run(QUERIES["join_cases"], rows=lines)
    return int(counted)


def post_report(author: Key, reporter: Key, post: Key, at: datetime) -> Report:
    """Return the report that a `report` engagement stands for; it says no reason."""
    return Report(
        home=post.community_id,
        thing=Thing(ThingKind.POST, post),
        author=author,
        reporter=reporter,
        reason=ReportReason.OTHER,
        detail="",
        created_at=at,
    )


def removal(thing: Thing, home: int, subject: Key, reason: str) -> Deed:
    """Return the deed of removing what is somebody else's."""
    return Deed(move=Move.REMOVE, home=home, thing=thing, subject=subject, reason=reason)


async def recorded(
    session: Session, viewer: Viewer, deed: Deed, action_id: int, now: datetime
) -> Recorded:
    """Write a deed into the audit trail, and settle the open case of its thing."""
    case_id = await session.value(
        QUERIES["settle_case"],
        **named(deed.thing),
        community_id=deed.home,
        now=now,
        by=viewer.name,
        outcome=deed.move.value,
    )
    await session.run(
        QUERIES["insert_action"],
        **named(deed.thing),
        community_id=deed.home,
        action_id=action_id,
        move=deed.move.value,
        subject_community_id=deed.subject.community_id,
        subject_id=deed.subject.id,
        by=viewer.name,
        reason=deed.reason,
        case_id=case_id,
        now=now,
    )
    case = None if case_id is None else Key(deed.home, case_id)
    return Recorded(Key(deed.home, action_id), case)
