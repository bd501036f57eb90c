"""Cases and the audit trail as moderators read them. Pure: no reads, no markup."""

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import urlencode

from msgspec import Struct

from millrace.community.docket import Case, CaseReport, ModerationAction
from millrace.community.moves import Move, ReportReason, State, Thing, ThingKind
from millrace.community.types import REASON_MAX, Key, Member
from millrace.web.face import Face, face_of
from millrace.web.text import Body, body_of
from millrace.web.when import When, when_of

REASONS = {
    ReportReason.SPAM: "Advertising or spam",
    ReportReason.SCAM: "Fraud",
    ReportReason.HARASSMENT: "Somebody is attacked",
    ReportReason.HATE: "Hate against a group",
    ReportReason.VIOLENCE: "Violence or a threat",
    ReportReason.SEXUAL: "Sexual content",
    ReportReason.PRIVACY: "Private facts about somebody",
    ReportReason.FALSEHOOD: "A dangerous falsehood",
    ReportReason.OFF_TOPIC: "Does not belong here",
    ReportReason.OTHER: "Something else",
}
MOVES = {
    Move.HIDE: "Hide",
    Move.REMOVE: "Remove",
    Move.RESTORE: "Restore",
    Move.DISMISS: "Dismiss",
    Move.WARN: "Warn",
    Move.BAN: "Ban",
    Move.LIFT: "Lift the ban",
}
MOVES_DONE = {
    Move.HIDE: "Hidden",
    Move.REMOVE: "Removed",
    Move.RESTORE: "Restored",
    Move.DISMISS: "Dismissed",
    Move.WARN: "Warned",
    Move.BAN: "Banned",
    Move.LIFT: "Ban lifted",
}
MOVES_MEAN = {
    Move.HIDE: "Only the author and moderators see it; it can be restored.",
    Move.REMOVE: "Gone for everybody, and never comes back.",
    Move.RESTORE: "Everybody sees it again.",
    Move.DISMISS: "Nothing is wrong with it; the reports are settled.",
    Move.WARN: "The author is told your reason; nothing else changes.",
    Move.BAN: "Shut out: they cannot sign in, and nobody sees what they wrote.",
    Move.LIFT: "They are back, with everything that they wrote.",
}
MOVE_ICONS = {
    Move.HIDE: "hide",
    Move.REMOVE: "trash",
    Move.RESTORE: "restore",
    Move.DISMISS: "done",
    Move.WARN: "alert",
    Move.BAN: "block",
    Move.LIFT: "following",
}
STATE_ICONS = {
    State.STANDING: "done",
    State.HIDDEN: "hide",
    State.BANNED: "block",
    State.REMOVED: "trash",
}
MILDEST_FIRST = (
    Move.DISMISS, Move.RESTORE, Move.LIFT, Move.WARN, Move.HIDE, Move.BAN, Move.REMOVE,
)  # fmt: skip
HARSH = frozenset({Move.REMOVE, Move.BAN})
KINDS = {ThingKind.POST: "Post", ThingKind.COMMENT: "Comment", ThingKind.MEMBER: "Member"}
STATES = {
    State.STANDING: "Standing",
    State.HIDDEN: "Hidden",
    State.BANNED: "Banned",
    State.REMOVED: "Removed",
}


class Choice(Struct, frozen=True, kw_only=True):
    """A move that may be made. `harsh`: it cannot be taken back, or shuts somebody out."""

    value: str
    label: str
    icon: str
    means: str
    harsh: bool


class ReasonCount(Struct, frozen=True):
    """How many members gave a reason."""

    label: str
    count: int


class CaseCard(Struct, frozen=True, kw_only=True):
    """A case in the queue.

    address: the thing's own page. earlier, upheld: the author's record.
    """

    key: str
    kind: str
    kind_label: str
    thing_key: str
    address: str
    title: str
    body: Body
    written: When
    state: str
    state_label: str
    state_icon: str
    author: str
    author_key: str
    author_headline: str
    face: Face
    author_moderates: bool
    reports: int
    reasons: list[ReasonCount]
    opened: When
    reported: When
    settled: When | None
    settled_by: str
    outcome: str
    record: str
    choices: list[Choice]


class Said(Struct, frozen=True, kw_only=True):
    """What one member said in a case."""

    name: str
    key: str
    reason: str
    detail: str
    when: When


class TrailLine(Struct, frozen=True, kw_only=True):
    """One line of the audit trail. owned: the thing is something of a member, not the member."""

    label: str
    icon: str
    harsh: bool
    kind_label: str
    owned: bool
    thing_key: str
    address: str
    judge: str
    subject: str
    subject_key: str
    by: str
    by_key: str
    reason: str
    case: str
    when: When


class JudgeForm(Struct, frozen=True, kw_only=True):
    """The form that judges a thing, with what was typed and what is wrong with it."""

    reason: str = ""
    error: str = ""
    reason_max: int = REASON_MAX


def choices_of(moves: Iterable[Move]) -> list[Choice]:
    """Return moves as buttons, the mildest first."""
    return [
        Choice(
            value=one.value,
            label=MOVES[one],
            icon=MOVE_ICONS[one],
            means=MOVES_MEAN[one],
            harsh=one in HARSH,
        )
        for one in sorted(moves, key=MILDEST_FIRST.index)
    ]


def case_card(case: Case, now: datetime) -> CaseCard:
    """Make the card of a case."""
    reasons = sorted(case.reasons.items(), key=lambda pair: -pair[1])
    return CaseCard(
        key=str(case.key),
        kind=case.thing.kind.value,
        kind_label=KINDS[case.thing.kind],
        thing_key=str(case.thing.key),
        address=address_of(case.thing, case.post),
        title=case.title,
        body=body_of(case.text),
        written=when_of(case.written_at, now),
        state=case.state.value,
        state_label=STATES[case.state],
        state_icon=STATE_ICONS[case.state],
        author=named(case.author),
        author_key=str(case.author.key),
        author_headline=case.author.headline,
        face=face_of(case.author),
        author_moderates=case.author.role == "moderator",
        reports=case.reports,
        reasons=[ReasonCount(REASONS[reason], count) for reason, count in reasons],
        opened=when_of(case.opened_at, now),
        reported=when_of(case.reported_at, now),
        settled=None if case.settled_at is None else when_of(case.settled_at, now),
        settled_by=judge_of(case.settled_by or ""),
        outcome="" if case.outcome is None else MOVES_DONE[case.outcome],
        record=record_of(case.earlier, case.upheld),
        choices=choices_of(case.moves),
    )


def said_of(report: CaseReport, now: datetime) -> Said:
    """Make a line of what was said."""
    return Said(
        name=report.reporter_name,
        key=str(report.reporter),
        reason=REASONS[report.reason],
        detail=report.detail,
        when=when_of(report.created_at, now),
    )


def trail_line(action: ModerationAction, now: datetime) -> TrailLine:
    """Make a line of the audit trail."""
    kind, _, name = action.by.partition(":")
    return TrailLine(
        label=MOVES_DONE[action.move],
        icon=MOVE_ICONS[action.move],
        harsh=action.move in HARSH,
        kind_label=KINDS[action.thing.kind],
        owned=action.thing.kind is not ThingKind.MEMBER,
        thing_key=str(action.thing.key),
        address=address_of(action.thing, None),
        judge=judge_address(action.thing),
        subject=action.subject_name,
        subject_key=str(action.subject),
        by=name if kind == "operator" else action.by_name,
        by_key=name if kind == "member" else "",
        reason=action.reason,
        case="" if action.case is None else str(action.case),
        when=when_of(action.happened_at, now),
    )


def judge_of(actor: str) -> str:
    """Return who settled a case, in words; the trail names a moderator."""
    kind, _, name = actor.partition(":")
    return f"{name}, operator" if kind == "operator" else "a moderator"


def record_of(earlier: int, upheld: int) -> str:
    """Say what is known of an author from earlier cases."""
    if not earlier:
        return "No earlier case"
    cases = "1 earlier case" if earlier == 1 else f"{earlier} earlier cases"
    return f"{cases}, {upheld or 'none'} upheld"


def address_of(thing: Thing, post: Key | None) -> str:
    """Return where a thing is seen in its place; empty where only its own page is known."""
    if thing.kind is ThingKind.MEMBER:
        return f"/members/{thing.key}"
    if thing.kind is ThingKind.POST:
        return f"/posts/{thing.key}"
    return f"/posts/{post}#comment-{thing.key}" if post else ""


def judge_address(thing: Thing) -> str:
    """Return the page where a thing is judged."""
    return f"/moderation/{thing.kind.value}/{thing.key}"


def query_of(**filters: str) -> str:
    """Return filters as the end of an address, those that are empty left out."""
    held = {name: value for name, value in filters.items() if value}
    return f"?{urlencode(held)}" if held else ""


def named(member: Member) -> str:
    """Return how people call a member."""
    return member.display_name or member.handle
