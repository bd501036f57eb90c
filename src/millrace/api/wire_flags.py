"""What the API answers about flags and rings."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Any, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from millrace.api.wire import KeyText, NumberText
from millrace.release.flags import audience as audiences
from millrace.release.flags import bringing, rings, stale
from millrace.release.flags import types as flags
from millrace.release.flags.stale import Kind
from millrace.release.flags.types import Choice, FlagMove, RequestState, Ring

ENABLED = "ENABLED"


class FlagCard(Struct, frozen=True, kw_only=True):
    """A flag in one line. state: `ENABLED` or `DISABLED`, as flagd has it."""

    key: str
    state: str
    owner: str
    version: int
    created_at: datetime
    changed_at: datetime


class Flag(Struct, frozen=True, kw_only=True):
    """A flag. definition: flagd's JSON, in the order in which it was written."""

    key: str
    state: str
    owner: str
    version: int
    created_at: datetime
    changed_at: datetime
    definition: dict[str, Any]


class Wait(Struct, frozen=True, kw_only=True):
    """What a request waits for; empty for everywhere and for every community."""

    track: str
    version: str
    share: float
    country: str
    community_id: NumberText | None


class FlagRequest(Struct, frozen=True, kw_only=True):
    """A change that is not made yet, or was decided. definition: null to remove the flag."""

    id: NumberText
    key: str
    move: FlagMove
    definition: Any
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


class Place(Struct, frozen=True, kw_only=True):
    """What is wrong at a place of a definition: a JSON pointer. `grave` must be mended."""

    place: str
    message: str
    grave: bool


class Changed(Struct, frozen=True, kw_only=True):
    """What became of a change: the flag as it stands now, or the request that waits.

    flag: null where it is gone, or where the change waits. warnings: what is allowed, and odd, such
        as a split that would be drawn anew.
    """

    flag: Flag | None
    request: FlagRequest | None
    warnings: list[Place]


class FlagChange(Struct, frozen=True, kw_only=True):
    """One line of the trail. before, after: definitions, null for none."""

    id: NumberText
    key: str
    version: int
    move: FlagMove
    by: str
    reason: str
    before: Any
    after: Any
    owner: str
    request_id: NumberText | None
    at: datetime


class FlagUsage(Struct, frozen=True, kw_only=True):
    """How often a variant was given on a day. variant: empty where none was."""

    variant: str
    day: date
    evaluations: int
    errors: int
    last_at: datetime


class UsageList(Struct, frozen=True, kw_only=True):
    """How often a flag was evaluated, as far back as that is kept."""

    key: str
    items: list[FlagUsage]


class FlagFinding(Struct, frozen=True, kw_only=True):
    """One reason why a flag may go. since: from when on it was so, as far as is known."""

    key: str
    kind: Kind
    owner: str
    since: datetime
    evidence: str
    next_step: str


class FlagScan(Struct, frozen=True, kw_only=True):
    """The newest scan of a repository. flags: that were looked for; unnamed: that no place names."""

    repository: str
    scanned_at: datetime
    files: int
    flags: int
    unnamed: int
    by: str


class FlagScans(Struct, frozen=True, kw_only=True):
    """The newest scan of each repository, by name."""

    items: list[FlagScan]


class Checked(Struct, frozen=True, kw_only=True):
    """What is wrong with a definition. sound: nothing that must be mended."""

    sound: bool
    problems: list[Place]


class RingEntry(Struct, frozen=True, kw_only=True):
    """That a member is in a ring by name, or out of it by their own wish."""

    track: str
    ring: Ring
    member_id: KeyText
    choice: Choice
    by: str
    at: datetime


class RingRule(Struct, frozen=True, kw_only=True):
    """Who else is in a ring of a track."""

    track: str
    ring: Ring
    attribute: str
    values: list[str]
    percentage: float
    version: int


class RingMember(Struct, frozen=True, kw_only=True):
    """A member who is in a ring. ring: the innermost that they are in."""

    member_id: KeyText
    ring: Ring


class RingCircle(Struct, frozen=True, kw_only=True):
    """A ring with its rule. members: all who are in it, those of the rings inside it too."""

    ring: Ring
    members: int
    rule: RingRule


class RingTrack(Struct, frozen=True, kw_only=True):
    """The rings of a track, from the inside out."""

    track: str
    rings: list[RingCircle]


class RingStep(Struct, frozen=True, kw_only=True):
    """Whether a member is in one ring, and why."""

    ring: Ring
    inside: bool
    because: str


class RingExplanation(Struct, frozen=True, kw_only=True):
    """The innermost ring of a member."""

    ring: Ring
    sentence: str
    steps: list[RingStep]


class OwnRings(Struct, frozen=True, kw_only=True):
    """The rings of a member on a track. open_rings: those that members enter by themselves."""

    track: str
    explanation: RingExplanation
    choices: list[RingEntry]
    open_rings: list[Ring]


class Audience(Struct, frozen=True, kw_only=True):
    """How many members each variant reaches, in all and by innermost ring, country and community.

    A variant without a name is where the default of the calling code holds.
    """

    key: str
    members: int
    variants: dict[str, int]
    rings: dict[str, dict[str, int]]
    countries: dict[str, dict[str, int]]
    communities: dict[str, dict[str, int]]


class Turn(Struct, frozen=True, kw_only=True):
    """Whom a change gives a variant, and from whom it takes it; the first few by their ids."""

    variant: str
    before: int
    after: int
    added: int
    dropped: int
    added_ids: list[str]
    dropped_ids: list[str]


class Preview(Struct, frozen=True, kw_only=True):
    """What a definition would do. changed: members who would get another variant."""

    key: str
    members: int
    changed: int
    turns: list[Turn]
    problems: list[Place]


class Imported(Struct, frozen=True, kw_only=True):
    """What became of a document, by key.

    waiting: those that somebody has to approve. left_out: those that cannot be kept; problems say
        why, with places in the document.
    """

    created: list[str]
    changed: list[str]
    unchanged: list[str]
    waiting: list[str]
    left_out: list[str]
    problems: list[Place]


class Document(Struct, frozen=True, kw_only=True):
    """Every flag, as flagd reads them."""

    flags: dict[str, Any]
    evaluators: dict[str, Any] | UnsetType = field(name="$evaluators", default=UNSET)
    metadata: dict[str, Any] | UnsetType = UNSET


def card(flag: flags.Flag) -> FlagCard:
    """Return a flag in one line."""
    return FlagCard(
        key=flag.key,
        state=state_of(flag),
        owner=flag.owner,
        version=flag.version,
        created_at=flag.created_at,
        changed_at=flag.changed_at,
    )


def flag(found: flags.Flag) -> Flag:
    """Return a flag with its definition."""
    return Flag(
        key=found.key,
        state=state_of(found),
        owner=found.owner,
        version=found.version,
        created_at=found.created_at,
        changed_at=found.changed_at,
        definition=cast("dict[str, Any]", json_of(found.content)),
    )


def state_of(found: flags.Flag) -> str:
    """Return whether a flag is switched on."""
    content = json_of(found.content)
    state = cast("dict[str, Any]", content).get("state") if isinstance(content, dict) else None
    return state if isinstance(state, str) else ENABLED


def json_of(text: str) -> Any:
    """Return stored JSON, None for none."""
    return msgspec.json.decode(text) if text else None


def request(found: flags.ChangeRequest) -> FlagRequest:
    """Return a request."""
    wait = found.wait
    return FlagRequest(
        id=str(found.id),
        key=found.key,
        move=found.move,
        definition=json_of(found.content),
        owner=found.owner,
        base_version=found.base_version,
        reason=found.reason,
        state=found.state,
        proposed_by=found.proposed_by,
        proposed_at=found.proposed_at,
        decided_by=found.decided_by,
        decided_at=found.decided_at,
        due_at=found.due_at,
        wait=None
        if wait is None
        else Wait(
            track=wait.track,
            version=wait.version,
            share=wait.share,
            country=wait.country,
            community_id=None if wait.community_id is None else str(wait.community_id),
        ),
        note=found.note,
    )


def change(found: flags.FlagChange) -> FlagChange:
    """Return a line of the trail."""
    return FlagChange(
        id=str(found.id),
        key=found.key,
        version=found.version,
        move=found.move,
        by=found.actor,
        reason=found.reason,
        before=json_of(found.before),
        after=json_of(found.after),
        owner=found.owner,
        request_id=None if found.request_id is None else str(found.request_id),
        at=found.at,
    )


def usage(key: str, found: Sequence[flags.Usage]) -> UsageList:
    """Return how often a flag was evaluated."""
    items = [
        FlagUsage(
            variant=one.variant,
            day=one.day,
            evaluations=one.evaluations,
            errors=one.errors,
            last_at=one.last_at,
        )
        for one in found
    ]
    return UsageList(key=key, items=items)


def finding(found: stale.Finding) -> FlagFinding:
    """Return why a flag may go."""
    return FlagFinding(
        key=found.key,
        kind=found.kind,
        owner=found.owner,
        since=found.since,
        evidence=found.evidence,
        next_step=found.next_step,
    )


def scan(found: flags.ScanLine) -> FlagScan:
    """Return the newest scan of a repository."""
    return FlagScan(
        repository=found.repository,
        scanned_at=found.at,
        files=found.files,
        flags=found.flags,
        unnamed=found.unnamed,
        by=found.actor,
    )


def places(problems: Sequence[flags.Problem]) -> list[Place]:
    """Return what is wrong with a definition."""
    return [Place(place=one.place, message=one.message, grave=one.grave) for one in problems]


def entry(found: flags.RingEntry) -> RingEntry:
    """Return a ring entry."""
    return RingEntry(
        track=found.track,
        ring=found.ring,
        member_id=str(found.member),
        choice=found.choice,
        by=found.actor,
        at=found.at,
    )


def rule(found: flags.RingRule) -> RingRule:
    """Return the rule of a ring."""
    return RingRule(
        track=found.track,
        ring=found.ring,
        attribute=found.attribute,
        values=list(found.values),
        percentage=found.percentage,
        version=found.version,
    )


def explanation(found: rings.Explanation) -> RingExplanation:
    """Return why a member is in a ring."""
    steps = [RingStep(ring=one.ring, inside=one.inside, because=one.because) for one in found.steps]
    return RingExplanation(ring=found.ring, sentence=found.sentence, steps=steps)


def audience(found: audiences.Audience) -> Audience:
    """Return who gets what."""
    return Audience(
        key=found.key,
        members=found.members,
        variants=dict(found.variants),
        rings={name: dict(counts) for name, counts in found.rings.items()},
        countries={name: dict(counts) for name, counts in found.countries.items()},
        communities={name: dict(counts) for name, counts in found.communities.items()},
    )


def preview(found: audiences.Difference, problems: Sequence[flags.Problem]) -> Preview:
    """Return what a definition would do."""
    turns = [
        Turn(
            variant=one.variant,
            before=one.before,
            after=one.after,
            added=one.added,
            dropped=one.dropped,
            added_ids=list(one.added_names),
            dropped_ids=list(one.dropped_names),
        )
        for one in found.turns
    ]
    return Preview(
        key=found.key,
        members=found.members,
        changed=found.changed,
        turns=turns,
        problems=places(problems),
    )


def imported(found: bringing.Imported) -> Imported:
    """Return what became of a document."""
    return Imported(
        created=list(found.created),
        changed=list(found.changed),
        unchanged=list(found.unchanged),
        waiting=list(found.waiting),
        left_out=list(found.left_out),
        problems=places(found.problems),
    )
