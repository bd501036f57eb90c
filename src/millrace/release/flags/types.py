"""Nouns of flags: what may be asked, what is answered, and who changes what."""

from collections.abc import Mapping
from datetime import date, datetime
from enum import StrEnum
from typing import Any, TypeAlias

from msgspec import Struct

from millrace.community.types import Key

Context: TypeAlias = Mapping[str, Any]
"""What a decision may look at; `targetingKey` names whom it is for. JSON values only."""

TARGETING_KEY = "targetingKey"
KEY_MAX = 200
REASON_MAX = 1_000


class FlagType(StrEnum):
    """What kind of value a caller can use. JSON has one kind of number; these are two."""

    BOOLEAN = "boolean"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    OBJECT = "object"


class Reason(StrEnum):
    """Why a value is what it is. The list is closed: clients refuse what they do not know.

    STATIC: the flag has no targeting. TARGETING_MATCH: its rules chose. SPLIT: a percentage did.
    DEFAULT: its rules chose nothing. DISABLED: it is switched off. ERROR: see the error code.
    """

    STATIC = "STATIC"
    TARGETING_MATCH = "TARGETING_MATCH"
    SPLIT = "SPLIT"
    DEFAULT = "DEFAULT"
    DISABLED = "DISABLED"
    ERROR = "ERROR"


class ErrorCode(StrEnum):
    """Why there is no value, in OpenFeature's terms."""

    FLAG_NOT_FOUND = "FLAG_NOT_FOUND"
    PARSE_ERROR = "PARSE_ERROR"
    TYPE_MISMATCH = "TYPE_MISMATCH"
    TARGETING_KEY_MISSING = "TARGETING_KEY_MISSING"
    INVALID_CONTEXT = "INVALID_CONTEXT"
    GENERAL = "GENERAL"


class Absent:
    """The one value of its kind: there is none, and the caller's own default holds."""

    def __repr__(self) -> str:
        return "ABSENT"


ABSENT = Absent()


class Resolution(Struct, frozen=True, gc=False):
    """What one evaluation answers.

    value: ABSENT where the caller's default holds.
    variant: empty where none was chosen.
    metadata: of the flag, over that of the whole set.
    message: for people; empty unless there is an error.
    """

    key: str
    value: Any
    variant: str
    reason: Reason
    metadata: Mapping[str, Any]
    error: ErrorCode | None = None
    message: str = ""


class Problem(Struct, frozen=True):
    """What is wrong with a definition.

    place: a JSON pointer (RFC 6901) from the flag, or from the document, that was checked.
    grave: whether it must be mended before it is stored; otherwise it is a warning.
    """

    place: str
    message: str
    grave: bool = True


class Actor(Struct, frozen=True):
    """Who changes something, as the audit trail names them: `operator ops`, `member 7-42`."""

    name: str


class Flag(Struct, frozen=True, kw_only=True):
    """A stored flag.

    content: the definition as flagd writes it, as JSON text; what was written is what is read.
    version: raised by every change; a change names the version that it was made from.
    """

    key: str
    content: str
    version: int
    owner: str
    created_at: datetime
    changed_at: datetime


class FlagMove(StrEnum):
    """What kind of change it was. RULE is that of a ring, whose trail is kept beside the flags'."""

    PUT = "put"
    RAMP = "ramp"
    KILL = "kill"
    REVIVE = "revive"
    REVERT = "revert"
    REMOVE = "remove"
    IMPORT = "import"
    RULE = "rule"


class FlagChange(Struct, frozen=True, kw_only=True):
    """One line of the audit trail, which nobody can change. Texts are JSON, empty for none.

    owner: of the flag, after the change.
    request_id: of the request that was carried out; None where nobody had to wait.
    """

    id: int
    key: str
    version: int
    move: FlagMove
    actor: str
    reason: str
    before: str
    after: str
    owner: str
    request_id: int | None
    at: datetime


class Wait(Struct, frozen=True, kw_only=True):
    """That a version is used by a share of those who are active in a market.

    track: `android`, `ios`, `desktop`, `server`. version: this or a later one (semantic version).
    country: ISO 3166 alpha-2; empty for everywhere. community: None for all. share: from 0 to 1.
    """

    track: str
    version: str
    share: float
    country: str = ""
    community_id: int | None = None


class Ring(StrEnum):
    """A circle of exposure. Whoever is in one is in all that come after it."""

    EMPLOYEES = "employees"
    ALPHA = "alpha"
    BETA = "beta"
    ONE_PERCENT = "one_percent"
    EVERYONE = "everyone"


RINGS = tuple(Ring)
"""From the inside out."""


class Approval(StrEnum):
    """Whether a change needs a second pair of eyes. A kill never does."""

    NONE = "none"
    REQUIRED = "required"


class Scan(Struct, frozen=True, kw_only=True):
    """What one look at a repository found.

    at: when it began. files: how many were read. places: for each flag that was looked for, how
    many places name it.
    """

    repository: str
    at: datetime
    files: int
    places: Mapping[str, int]


class ScanLine(Struct, frozen=True, kw_only=True):
    """The newest scan of a repository, and who sent it. unnamed: flags that no place names."""

    repository: str
    at: datetime
    files: int
    flags: int
    unnamed: int
    actor: str


class Seen(Struct, frozen=True, kw_only=True):
    """What the newest scans say of a flag; those made before there was the flag say nothing.

    places: in all of them. at: of the oldest. repositories: the oldest first.
    whole: whether every repository that is known was searched for it.
    """

    key: str
    places: int
    at: datetime
    repositories: list[str]
    whole: bool

    @property
    def is_unnamed(self) -> bool:
        """Whether no code names it, as far as any is known."""
        return self.whole and not self.places


class FlagConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How flags are kept.

    approval: `required` makes every change but a kill a request that somebody else approves.
    opt_in_rings: rings that members may enter by themselves, of alpha and beta.
    stale_days: after so long without use, or fully rolled out, a flag is called stale.
    usage_seconds: how often counts of evaluations, and versions of apps, are written.
    usage_days: how long counts are kept.
    schedule_seconds: how often a process looks for changes whose time has come.
    """

    approval: Approval = Approval.NONE
    opt_in_rings: tuple[Ring, ...] = (Ring.BETA,)
    stale_days: int = 30
    usage_seconds: float = 10.0
    usage_days: int = 400
    schedule_seconds: float = 2.0


class Terms(Struct, frozen=True, kw_only=True):
    """Under which a change is made.

    owner: whose the flag is from then on; None keeps it.
    due_at: not before; None for at once. wait: not before that either.
    """

    owner: str | None = None
    due_at: datetime | None = None
    wait: Wait | None = None


class RequestState(StrEnum):
    """Where a proposed change is: it waits for a second pair of eyes, then for its time."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    APPLIED = "applied"
    REJECTED = "rejected"
    CANCELLED = "cancelled"
    FAILED = "failed"


OPEN_STATES = (RequestState.PROPOSED, RequestState.APPROVED)
SETTLED_STATES = tuple(state for state in RequestState if state not in OPEN_STATES)


class ChangeRequest(Struct, frozen=True, kw_only=True):
    """A change that is not made yet.

    content: the definition after it; empty to remove the flag.
    base_version: the version that it was made from; 0 for a new flag. Of a chain, that which the
        request before it will make.
    due_at: not before; None for at once. wait: not before that either.
    note: why it failed or was rejected.
    """

    id: int
    key: str
    move: FlagMove
    content: str
    owner: str
    base_version: int
    reason: str
    state: RequestState
    proposed_by: str
    proposed_at: datetime
    decided_by: str
    decided_at: datetime | None
    due_at: datetime | None
    wait: Wait | None
    note: str


class Usage(Struct, frozen=True, kw_only=True):
    """How often a flag was evaluated, by variant and day, in all processes.

    variant: empty where none was given. errors: of the evaluations, those that failed.
    """

    key: str
    variant: str
    day: date
    evaluations: int
    errors: int
    last_at: datetime


class Adoption(Struct, frozen=True, kw_only=True):
    """How many of the members who are active in a market have a version or a later one."""

    members: int
    active: int

    @property
    def share(self) -> float:
        """Return the share, 0 where nobody is active."""
        return self.members / self.active if self.active else 0.0


class Choice(StrEnum):
    """How somebody came to be, or not to be, in a ring by name."""

    LISTED = "listed"
    OPTED_IN = "opted_in"
    OPTED_OUT = "opted_out"


class RingEntry(Struct, frozen=True, kw_only=True):
    """That a member is in a ring of a track by name, or out of it by their own wish."""

    track: str
    ring: Ring
    member: Key
    choice: Choice
    actor: str
    at: datetime


class RingChange(Struct, frozen=True, kw_only=True):
    """One line of the audit trail of ring entries. choice: None where the entry was taken away."""

    id: int
    track: str
    ring: Ring
    member: Key
    choice: Choice | None
    actor: str
    reason: str
    at: datetime


class RingRule(Struct, frozen=True, kw_only=True):
    """Who else is in a ring of a track.

    attribute, values: members whose attribute of the context is one of these; empty for none.
    percentage: of all members, by a sticky hash over track and member; 0 for none.
    """

    track: str
    ring: Ring
    attribute: str = ""
    values: tuple[str, ...] = ()
    percentage: float = 0.0
    version: int = 0
