"""What moderators read: cases with their things, what was said in them, and the audit trail."""

from datetime import datetime

from msgspec import Struct

from millrace.community.lines import AuthorColumns
from millrace.community.moves import Move, ReportReason, Standing, State, Thing, ThingKind, legal
from millrace.community.types import Key, Member, Viewer


class CasePlace(Struct, frozen=True):
    """Where a stretch of the queue ended: what the last case weighed, and its key."""

    weight: int
    case: Key


class CaseQuery(Struct, frozen=True, kw_only=True):
    """Which cases are asked for.

    community_id: None for all that the viewer judges.
    most_reported: most reported first; newest first otherwise.
    settled: those that were judged, instead of those that wait.
    gone: of those that wait, the ones whose thing or author is gone, instead of the others.
    """

    community_id: int | None = None
    most_reported: bool = False
    settled: bool = False
    gone: bool = False


class Case(Struct, frozen=True, kw_only=True):
    """A thing that members reported, with what a moderator needs to judge it.

    post: the post itself, or the post that a comment is under.
    title, text: what is judged; of a member the headline.
    reports: how many members reported it; `reasons` says why.
    earlier, upheld: the author's other cases that were judged, and those that led to a hide, a
        removal, a warning or a ban.
    moves: what this viewer may do now.
    """

    key: Key
    thing: Thing
    post: Key | None
    title: str
    text: str
    written_at: datetime
    state: State
    author: Member
    reports: int
    reasons: dict[ReportReason, int]
    opened_at: datetime
    reported_at: datetime
    settled_at: datetime | None
    settled_by: str | None
    outcome: Move | None
    earlier: int
    upheld: int
    moves: list[Move]
    system_version: int


class CaseReport(Struct, frozen=True, kw_only=True):
    """What one member said in a case."""

    reporter: Key
    reporter_name: str
    reason: ReportReason
    detail: str
    created_at: datetime


class ActionQuery(Struct, frozen=True, kw_only=True):
    """Which part of the audit trail is asked for; None does not filter.

    community_id: None for all that the viewer judges.
    member: whom it concerned. by: who did it, `member:<key>` or `operator:<name>`.
    """

    community_id: int | None = None
    thing: Thing | None = None
    member: Key | None = None
    by: str | None = None


class ModerationAction(Struct, frozen=True, kw_only=True):
    """One line of the audit trail: who did what about which thing, when and why.

    key: community and number of the action. subject: whom it concerns.
    by: `member:<key>` or `operator:<name>`; by_name: how people call them.
    """

    key: Key
    move: Move
    thing: Thing
    subject: Key
    subject_name: str
    by: str
    by_name: str
    reason: str
    case: Key | None
    happened_at: datetime


class CaseLine(AuthorColumns, frozen=True, kw_only=True):
    """A case as a row."""

    community_id: int
    case_id: int
    thing_kind: ThingKind
    thing_community_id: int
    thing_id: int
    author_community_id: int
    author_id: int
    opened_at: datetime
    reported_at: datetime
    reports: int
    settled_at: datetime | None
    settled_by: str | None
    outcome: Move | None
    system_version: int
    title: str
    text: str
    post_community_id: int | None
    post_id: int | None
    written_at: datetime
    state: State
    reasons: dict[ReportReason, int]
    earlier: int
    upheld: int

    def case(self, viewer: Viewer) -> Case:
        """Return the row as what it means to a viewer."""
        author = self.author(self.author_community_id, self.author_id)
        thing = Thing(self.thing_kind, Key(self.thing_community_id, self.thing_id))
        found = Standing(
            thing, self.state, self.community_id, author.key, author.role, self.settled_at is None
        )
        fields = {name: getattr(self, name) for name in CASE_FIELDS}
        post = self.post_community_id is not None and self.post_id is not None
        return Case(
            key=Key(self.community_id, self.case_id),
            thing=thing,
            post=Key(self.post_community_id or 0, self.post_id or 0) if post else None,
            author=author,
            moves=legal(viewer, found),
            **fields,
        )


CASE_FIELDS = tuple(set(CaseLine.__struct_fields__) & set(Case.__struct_fields__))


class ReportLine(Struct, frozen=True):
    """What one member said in a case, as a row."""

    reporter_community_id: int
    reporter_id: int
    reason: ReportReason
    detail: str
    created_at: datetime
    reporter_name: str

    def report(self) -> CaseReport:
        """Return the row as what it means."""
        return CaseReport(
            reporter=Key(self.reporter_community_id, self.reporter_id),
            reporter_name=self.reporter_name,
            reason=self.reason,
            detail=self.detail,
            created_at=self.created_at,
        )


class ActionLine(Struct, frozen=True):
    """One line of the audit trail, as a row."""

    community_id: int
    action_id: int
    move: Move
    thing_kind: ThingKind
    thing_community_id: int
    thing_id: int
    subject_community_id: int
    subject_id: int
    done_by: str
    reason: str
    case_id: int | None
    happened_at: datetime
    subject_name: str
    done_by_name: str

    def action(self) -> ModerationAction:
        """Return the row as what it means."""
        return ModerationAction(
            key=Key(self.community_id, self.action_id),
            move=self.move,
            thing=Thing(self.thing_kind, Key(self.thing_community_id, self.thing_id)),
            subject=Key(self.subject_community_id, self.subject_id),
            subject_name=self.subject_name,
            by=self.done_by,
            by_name=self.done_by_name,
            reason=self.reason,
            case=None if self.case_id is None else Key(self.community_id, self.case_id),
            happened_at=self.happened_at,
        )
