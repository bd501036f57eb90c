"""What the API answers about moderation."""

from datetime import datetime

from msgspec import Struct

from millrace.api.wire import KeyText, MemberCard, member_card
from millrace.community import docket
from millrace.community.cases import Recorded
from millrace.community.moves import Move, ReportReason, State, ThingKind


class ReportTaken(Struct, frozen=True, kw_only=True):
    """Whether a report is new: a member reports a thing once."""

    new: bool


class Case(Struct, frozen=True, kw_only=True):
    """A thing that members reported, with what is needed to judge it.

    post_id: the post, or the post that a comment is under. `moves`: what the caller may do now.
    earlier, upheld: the author's other judged cases, and those that were not dismissed.
    """

    id: KeyText
    thing_kind: ThingKind
    thing_id: KeyText
    post_id: KeyText | None
    title: str
    text: str
    written_at: datetime
    state: State
    author: MemberCard
    reports: int
    reasons: dict[str, int]
    opened_at: datetime
    reported_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    outcome: Move | None
    earlier: int
    upheld: int
    moves: list[Move]
    version: int


class Report(Struct, frozen=True, kw_only=True):
    """What one member said in a case."""

    reporter_id: KeyText
    reporter_name: str
    reason: ReportReason
    detail: str
    created_at: datetime


class ModerationAction(Struct, frozen=True, kw_only=True):
    """One line of the audit trail. `member_id` is whom it concerns, `by` who did it."""

    id: KeyText
    move: Move
    thing_kind: ThingKind
    thing_id: KeyText
    member_id: KeyText
    member_name: str
    by: str
    by_name: str
    reason: str
    case_id: KeyText | None
    happened_at: datetime


class Notice(Struct, frozen=True, kw_only=True):
    """What a moderator did about the caller, or about what the caller wrote."""

    id: KeyText
    move: Move
    thing_kind: ThingKind
    thing_id: KeyText
    reason: str
    happened_at: datetime


class Decided(Struct, frozen=True, kw_only=True):
    """A decision that was made, and the case that it settled."""

    action_id: KeyText
    case_id: KeyText | None


class Moves(Struct, frozen=True, kw_only=True):
    """What the caller may do about a thing now."""

    moves: list[Move]


def case(found: docket.Case) -> Case:
    """Return a case."""
    return Case(
        id=str(found.key),
        thing_kind=found.thing.kind,
        thing_id=str(found.thing.key),
        post_id=None if found.post is None else str(found.post),
        title=found.title,
        text=found.text,
        written_at=found.written_at,
        state=found.state,
        author=member_card(found.author),
        reports=found.reports,
        reasons={reason.value: count for reason, count in found.reasons.items()},
        opened_at=found.opened_at,
        reported_at=found.reported_at,
        settled_at=found.settled_at,
        settled_by=found.settled_by,
        outcome=found.outcome,
        earlier=found.earlier,
        upheld=found.upheld,
        moves=found.moves,
        version=found.system_version,
    )


def report(found: docket.CaseReport) -> Report:
    """Return what one member said."""
    return Report(
        reporter_id=str(found.reporter),
        reporter_name=found.reporter_name,
        reason=found.reason,
        detail=found.detail,
        created_at=found.created_at,
    )


def action(found: docket.ModerationAction) -> ModerationAction:
    """Return one line of the audit trail."""
    return ModerationAction(
        id=str(found.key),
        move=found.move,
        thing_kind=found.thing.kind,
        thing_id=str(found.thing.key),
        member_id=str(found.subject),
        member_name=found.subject_name,
        by=found.by,
        by_name=found.by_name,
        reason=found.reason,
        case_id=None if found.case is None else str(found.case),
        happened_at=found.happened_at,
    )


def notice(found: docket.ModerationAction) -> Notice:
    """Return what an author is told of an action."""
    return Notice(
        id=str(found.key),
        move=found.move,
        thing_kind=found.thing.kind,
        thing_id=str(found.thing.key),
        reason=found.reason,
        happened_at=found.happened_at,
    )


def decided(done: Recorded) -> Decided:
    """Return a decision with the case that it settled."""
    return Decided(
        action_id=str(done.action), case_id=None if done.case is None else str(done.case)
    )
