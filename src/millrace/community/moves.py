"""What may be done about a thing, by whom, and what it is then. Pure: the one list of legal moves.

    a post, a comment                        a member

        hide            remove                    ban            remove
    standing ⇄ hidden ─────────▶ removed      standing ⇄ banned ────────▶ removed
        restore                                   lift
    standing ──────────────────▶ removed      standing ─────────────────▶ removed

`dismiss` and `warn` leave the thing as it is. `dismiss` needs an open case; every move settles the
open case of its thing. A removal is final.

Who: a moderator of the community that judges, or an operator; nobody about what is their own; and
only an operator bans, removes or brings back a moderator. The database refuses the same moves once
more (schema.sql), where it can know.
"""

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct

from millrace.community.rights import moderates
from millrace.community.types import Key, Role, Viewer
from millrace.kernel.errors import ConflictError, ForbiddenError


class ThingKind(StrEnum):
    """What can be reported and judged."""

    POST = "post"
    COMMENT = "comment"
    MEMBER = "member"


class ReportReason(StrEnum):
    """Why a member reports a thing."""

    SPAM = "spam"
    SCAM = "scam"
    HARASSMENT = "harassment"
    HATE = "hate"
    VIOLENCE = "violence"
    SEXUAL = "sexual"
    PRIVACY = "privacy"
    FALSEHOOD = "falsehood"
    OFF_TOPIC = "off_topic"
    OTHER = "other"


class Move(StrEnum):
    """What a moderator does about a thing."""

    HIDE = "hide"
    REMOVE = "remove"
    RESTORE = "restore"
    DISMISS = "dismiss"
    WARN = "warn"
    BAN = "ban"
    LIFT = "lift"


class State(StrEnum):
    """What a thing is. Posts and comments are hidden, members are banned."""

    STANDING = "standing"
    HIDDEN = "hidden"
    BANNED = "banned"
    REMOVED = "removed"


class Thing(Struct, frozen=True):
    """A post, a comment or a member, named."""

    kind: ThingKind
    key: Key

    def __str__(self) -> str:
        return f"{self.kind} {self.key}"


class Standing(Struct, frozen=True):
    """A thing as a judgement finds it.

    home: the community whose moderators judge.
    subject: whom it concerns: the author, or the member.
    reported: whether it has an open case.
    """

    thing: Thing
    state: State
    home: int
    subject: Key
    subject_role: Role
    reported: bool


_STAYS: Mapping[State, State] = {state: state for state in State}
_WRITTEN: Mapping[Move, Mapping[State, State]] = {
    Move.HIDE: {State.STANDING: State.HIDDEN},
    Move.RESTORE: {State.HIDDEN: State.STANDING},
    Move.REMOVE: {State.STANDING: State.REMOVED, State.HIDDEN: State.REMOVED},
    Move.WARN: _STAYS,
    Move.DISMISS: _STAYS,
}
LEGAL: Mapping[ThingKind, Mapping[Move, Mapping[State, State]]] = {
    ThingKind.POST: _WRITTEN,
    ThingKind.COMMENT: _WRITTEN,
    ThingKind.MEMBER: {
        Move.BAN: {State.STANDING: State.BANNED},
        Move.LIFT: {State.BANNED: State.STANDING},
        Move.REMOVE: {State.STANDING: State.REMOVED, State.BANNED: State.REMOVED},
        Move.WARN: {State.STANDING: State.STANDING},
        Move.DISMISS: _STAYS,
    },
}
"""Every legal move: of which thing, from which state, to which."""

AGAINST_PEERS = frozenset({Move.BAN, Move.REMOVE, Move.LIFT})
"""Moves about a member that only an operator makes where the member is a moderator."""


def legal(viewer: Viewer, found: Standing) -> list[Move]:
    """Return what this viewer may do about a thing now, in the order of `Move`."""
    if not _may_judge(viewer, found):
        return []
    return [
        move
        for move, steps in sorted(
            LEGAL[found.thing.kind].items(), key=lambda one: [*Move].index(one[0])
        )
        if found.state in steps
        and (found.reported or move is not Move.DISMISS)
        and not _is_peer(viewer, move, found)
    ]


def judged(viewer: Viewer, move: Move, found: Standing) -> State:
    """Return what the thing is after the move.

    Raises:
        ForbiddenError: the viewer does not judge this thing, or not in this way.
        ConflictError: the thing is not in a state from which the move leads anywhere.
    """
    thing = found.thing
    if not _may_judge(viewer, found):
        own = viewer.member == found.subject
        raise ForbiddenError(
            f"{viewer.name} may not {move} {thing}",
            field="thing",
            value=str(thing),
            limit="not one's own" if own else f"a moderator of community {found.home}",
            next_step="leave it to another moderator or an operator",
        )
    if _is_peer(viewer, move, found):
        raise ForbiddenError(
            f"{thing} is a moderator, whom {viewer.name} may not {move}",
            field="thing",
            value=str(thing),
            limit="an operator",
            next_step="ask an operator",
        )
    after = LEGAL[thing.kind].get(move, {}).get(found.state)
    if after is None or (move is Move.DISMISS and not found.reported):
        said = ", ".join(legal(viewer, found))
        idle = " and has no open case" if move is Move.DISMISS and not found.reported else ""
        raise ConflictError(
            f"{thing} is {found.state}{idle}, so that {move!s} is not possible",
            field="move",
            value=str(move),
            limit=said or "nothing",
            next_step="look at the thing again and decide anew",
        )
    return after


def _may_judge(viewer: Viewer, found: Standing) -> bool:
    return moderates(viewer, found.home) and viewer.member != found.subject


def _is_peer(viewer: Viewer, move: Move, found: Standing) -> bool:
    return (
        found.thing.kind is ThingKind.MEMBER
        and move in AGAINST_PEERS
        and found.subject_role is Role.MODERATOR
        and not viewer.oversees
    )
