"""Changes that wait, as people read them. Pure: no reads, no markup."""

from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct

from millrace.release.flags.repository import SHARED
from millrace.release.flags.types import (
    OPEN_STATES,
    Adoption,
    ChangeRequest,
    Flag,
    FlagMove,
    RequestState,
    Wait,
)
from millrace.web.crowds import exact, share_text
from millrace.web.flag_crowds import DifferenceView
from millrace.web.flag_forms import pretty
from millrace.web.flag_places import all_with_places
from millrace.web.flag_views import by_whom, changed_words, flag_address
from millrace.web.when import When, when_of

STATES = {
    RequestState.PROPOSED: "Waits for approval",
    RequestState.APPROVED: "Waits for its time",
    RequestState.APPLIED: "Made",
    RequestState.REJECTED: "Rejected",
    RequestState.CANCELLED: "Called off",
    RequestState.FAILED: "Failed",
}
STATE_ICONS = {
    RequestState.PROPOSED: "eyes",
    RequestState.APPROVED: "event",
    RequestState.APPLIED: "done",
    RequestState.REJECTED: "close",
    RequestState.CANCELLED: "close",
    RequestState.FAILED: "alert",
}
DECIDED = {
    RequestState.REJECTED: "rejected by",
    RequestState.CANCELLED: "called off by",
}
WHATS = {
    FlagMove.PUT: "Change",
    FlagMove.RAMP: "Ramp",
    FlagMove.REVIVE: "Switch on",
    FlagMove.REVERT: "Revert",
    FlagMove.REMOVE: "Remove",
    FlagMove.IMPORT: "Import",
}


class WaitingLine(Struct, frozen=True, kw_only=True):
    """A change that waits, on the page of its flag."""

    id: int
    what: str
    state: str
    when: str
    by: str
    reason: str


class RequestCard(Struct, frozen=True, kw_only=True):
    """A change that waits or waited.

    address: of the flag's page; empty for what all flags share.
    waits: for what, in sentences. outdated: why it can no longer be made; empty where it can.
    own: whether who looks proposed it. typed: the note that they wrote, and that was refused.
    """

    id: int
    key: str
    address: str
    what: str
    state: str
    state_label: str
    icon: str
    by: str
    proposed: When
    decided: When | None
    decided_words: str
    decided_by: str
    reason: str
    words: list[str]
    outdated: str
    waits: list[str]
    note: str
    before: str
    after: str
    open: bool
    own: bool
    approvable: bool
    typed: str
    difference: DifferenceView | None


class Looked(Struct, frozen=True, kw_only=True):
    """What is known beside a request when it is shown.

    flag: as it stands; None where there is none. viewer: the name of who looks.
    names: of communities, by number.
    """

    flag: Flag | None
    adoption: Adoption | None
    viewer: str
    now: datetime
    names: Mapping[str, str]
    typed: str = ""
    difference: DifferenceView | None = None


def waiting_line(request: ChangeRequest) -> WaitingLine:
    """Show a change that waits in a line."""
    return WaitingLine(
        id=request.id,
        what=what_of(request),
        state=STATES[request.state],
        when=" ".join(waits_of(request, None)),
        by=by_whom(request.proposed_by),
        reason=request.reason,
    )


def what_of(request: ChangeRequest) -> str:
    """Say what a request would do."""
    if request.move is FlagMove.PUT and not request.base_version:
        return "Make"
    return WHATS.get(request.move, "Change")


def waits_of(request: ChangeRequest, adoption: Adoption | None) -> list[str]:
    """Say what a change waits for, apart from approval."""
    waits: list[str] = []
    if request.due_at is not None:
        waits.append(f"Not before {when_of(request.due_at, request.due_at).full}.")
    if request.wait is not None:
        waits.append(wait_words(request.wait, adoption))
    return waits


def wait_words(wait: Wait, adoption: Adoption | None) -> str:
    """Say which version has to be used by how many, and by how many it is used now."""
    who = "those active on " + wait.track
    if wait.country:
        who += f" in {wait.country}"
    if wait.community_id is not None:
        who += f" of community {wait.community_id}"
    wanted = f"Not before {100 * wait.share:g} % of {who} use version {wait.version} or later."
    if adoption is None:
        return wanted
    if not adoption.active:
        return f"{wanted} Now: nobody was seen there within seven days."
    share = share_text(adoption.members, adoption.active)
    return f"{wanted} Now: {share}, {exact(adoption.members)} of {exact(adoption.active)}."


def request_card(request: ChangeRequest, looked: Looked) -> RequestCard:
    """Show a request with everything that is known of it."""
    stands = looked.flag.content if looked.flag else ""
    own = request.proposed_by == looked.viewer
    outdated = _outdated(request, looked.flag)
    return RequestCard(
        id=request.id,
        key=request.key,
        address="" if request.key in SHARED else flag_address(request.key),
        what=what_of(request),
        state=request.state.value,
        state_label=STATES[request.state],
        icon=STATE_ICONS[request.state],
        by=by_whom(request.proposed_by),
        proposed=when_of(request.proposed_at, looked.now),
        decided=when_of(request.decided_at, looked.now) if request.decided_at else None,
        decided_words=DECIDED.get(request.state, "approved by"),
        decided_by=by_whom(request.decided_by),
        reason=request.reason,
        words=all_with_places(_words(request, stands), looked.names),
        outdated=outdated,
        waits=waits_of(request, looked.adoption) if request.state in OPEN_STATES else [],
        note=request.note[:1].upper() + request.note[1:],
        before=pretty(stands),
        after=pretty(request.content),
        open=request.state in OPEN_STATES,
        own=own,
        approvable=request.state is RequestState.PROPOSED and not own and not outdated,
        typed=looked.typed,
        difference=looked.difference,
    )


def _words(request: ChangeRequest, stands: str) -> list[str]:
    if request.state not in OPEN_STATES:
        return []
    words = changed_words(request.key, stands, request.content)
    return words or ["The owner, and nothing of the definition."]


def _outdated(request: ChangeRequest, flag: Flag | None) -> str:
    """Say that the flag was changed since a request was made from it; empty where it was not."""
    stands = flag.version if flag else 0
    if request.state not in OPEN_STATES or request.base_version >= stands:
        return ""
    return (
        f"It was made from version {request.base_version}, and the flag is at version {stands} now: "
        "it cannot be made any more. Call it off, and make the change again from what stands."
    )
