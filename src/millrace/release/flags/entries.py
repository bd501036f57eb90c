"""Who is put into rings, by whom and why; and the rules of rings, with the trail of both."""

from datetime import datetime
from typing import NoReturn

import msgspec
from msgspec import Struct

from millrace.community.types import Key
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from millrace.kernel.ids import IdMaker
from millrace.release.flags.limits import expect_limit, expect_text, expect_track
from millrace.release.flags.repository import QUERIES, EntryRow
from millrace.release.flags.rings import TRACKS, check_entry, check_rule
from millrace.release.flags.types import (
    REASON_MAX,
    Actor,
    Choice,
    FlagConfig,
    FlagMove,
    Ring,
    RingChange,
    RingEntry,
    RingRule,
)
from millrace.store.router import Router
from millrace.store.session import Session

ATTRIBUTE_MAX = 100
VALUES_MAX = 1_000


class ChangeRow(Struct, frozen=True):
    """A line of the trail of entries as a row."""

    id: int
    community_id: int
    member_id: int
    track: str
    ring: str
    choice: str
    actor: str
    reason: str
    at: datetime

    def change(self) -> RingChange:
        """Return it as the noun."""
        return RingChange(
            id=self.id,
            track=self.track,
            ring=Ring(self.ring),
            member=Key(self.community_id, self.member_id),
            choice=Choice(self.choice) if self.choice else None,
            actor=self.actor,
            reason=self.reason,
            at=self.at,
        )


class CountRow(Struct, frozen=True):
    """How many entries a ring has of a kind, as a row."""

    ring: str
    choice: str
    members: int


class RingDesk:
    """Writes entries and rules of rings. Who decides by them is in memory: see live.py."""

    def __init__(self, *, router: Router, clock: Clock, ids: IdMaker, config: FlagConfig) -> None:
        self._router = router
        self._clock = clock
        self._ids = ids
        self._config = config

    async def entries(
        self, track: str, ring: Ring | None, limit: int, after: Key | None
    ) -> list[RingEntry]:
        """Return the entries of a track, of one ring or of all, by member."""
        expect_limit(limit)
        async with self._router.read() as session:
            found = await session.rows(
                QUERIES["ring_entries"],
                EntryRow,
                track=track,
                ring=None if ring is None else ring.value,
                after_community=after.community_id if after else 0,
                after_member=after.id if after else 0,
                limit=limit,
            )
        return [row.entry() for row in found]

    async def counts(self, track: str) -> dict[tuple[Ring, Choice], int]:
        """Return how many entries each ring of a track has of each kind."""
        async with self._router.read() as session:
            found = await session.rows(QUERIES["count_entries"], CountRow, track=track)
        return {(Ring(row.ring), Choice(row.choice)): row.members for row in found}

    async def of_member(self, member: Key) -> list[RingEntry]:
        """Return a member's entries in all tracks."""
        async with self._router.read() as session:
            found = await session.rows(
                QUERIES["entries_of_member"],
                EntryRow,
                community_id=member.community_id,
                member_id=member.id,
            )
        return [row.entry() for row in found]

    async def history(self, member: Key, limit: int) -> list[RingChange]:
        """Return the trail of a member's entries, newest first."""
        expect_limit(limit)
        async with self._router.read() as session:
            found = await session.rows(
                QUERIES["ring_history"],
                ChangeRow,
                community_id=member.community_id,
                member_id=member.id,
                limit=limit,
            )
        return [row.change() for row in found]

    async def put(self, entry: RingEntry, reason: str) -> RingEntry:
        """Put a member into a ring by name, or note their own wish.

        What is so already stays as it was, without a line in the trail, which nobody can shorten.

        Passes on:
            NotFoundError: there is no such member.
            ConflictError: it is a wish, and somebody listed the member there.
            ForbiddenError: members do not enter this ring by themselves.
            InvalidError: the track, the ring or the reason cannot be.
        """
        self._expect_allowed(entry, reason)
        now = self._clock.now()
        place = _place(entry.track, entry.ring, entry.member)
        async with self._router.write() as session:
            stands = await session.row(QUERIES["entry"], EntryRow, **place)
            if stands is not None and stands.choice == entry.choice.value:
                return stands.entry()
            found = await session.value(
                QUERIES["put_entry"],
                **place,
                choice=entry.choice.value,
                actor=entry.actor,
                now=now,
            )
            if found is None:
                member = entry.member
                there = await session.value(
                    QUERIES["member_there"], community_id=member.community_id, member_id=member.id
                )
                _refuse_put(entry, there=bool(there))
            await self._tell(session, entry, reason, entry.choice.value)
        return msgspec.structs.replace(entry, at=now)

    async def remove(self, entry: RingEntry, reason: str) -> bool:
        """Take an entry away; say whether there was one.

        As a wish (`choice`) only a wish is taken back, and nothing that somebody else decided.

        Passes on:
            InvalidError: the track or the reason cannot be.
        """
        expect_track(entry.track)
        expect_text("reason", reason, REASON_MAX, needed=True)
        async with self._router.write() as session:
            place = _place(entry.track, entry.ring, entry.member)
            choice = entry.choice.value
            if not await session.run(QUERIES["take_entry"], **place, choice=choice):
                return False
            await self._tell(session, entry, reason, "")
        return True

    async def _tell(self, session: Session, entry: RingEntry, reason: str, choice: str) -> None:
        await session.run(
            QUERIES["tell_entry"],
            **_place(entry.track, entry.ring, entry.member),
            change_id=self._ids.next(),
            choice=choice,
            actor=entry.actor,
            reason=reason,
            now=self._clock.now(),
        )

    def _expect_allowed(self, entry: RingEntry, reason: str) -> None:
        """Refuse a wish that the installation does not offer.

        Raises:
            ForbiddenError: members do not enter this ring by themselves.
            InvalidError: members choose among the tracks there are, or anybody could fill memory.
        """
        expect_track(entry.track)
        if entry.choice is not Choice.LISTED and entry.track not in TRACKS:
            raise InvalidError(
                f"members choose nothing for the track {entry.track}",
                field="track",
                value=entry.track,
                limit=", ".join(TRACKS),
                next_step="name one of these",
            )
        expect_text("reason", reason, REASON_MAX, needed=True)
        check_entry(entry)
        if entry.choice is Choice.OPTED_IN and entry.ring not in self._config.opt_in_rings:
            offered = ", ".join(ring.value for ring in self._config.opt_in_rings) or "none"
            raise ForbiddenError(
                f"members do not enter the ring {entry.ring.value} by themselves",
                field="ring",
                value=entry.ring.value,
                limit=offered,
                next_step="ask a release manager, who can list a member",
            )

    # ------------------------------------------------- rules

    async def rules(self) -> list[RingRule]:
        """Return the rules that somebody wrote; a ring without one has its default."""
        async with self._router.read() as session:
            return await session.rows(QUERIES["ring_rules"], RingRule)

    async def put_rule(self, rule: RingRule, actor: Actor, reason: str) -> RingRule:
        """Write the rule of a ring; `version` is that which it was made from, 0 for the first.

        Raises:
            ConflictError: the rule has another version; names both.

        Passes on:
            InvalidError: the rule would put nobody into its ring, or cannot be kept.
        """
        _expect_rule(rule, reason)
        now = self._clock.now()
        place = {"track": rule.track, "ring": rule.ring.value}
        async with self._router.write() as session:
            await session.value(QUERIES["lock_flags"])
            held = await session.row(QUERIES["hold_ring_rule"], RingRule, **place)
            stands = held.version if held else 0
            if stands != rule.version:
                raise ConflictError(
                    f"the rule of ring {rule.ring.value} of {rule.track} was made from version "
                    f"{rule.version}, and it has version {stands}",
                    field="version",
                    value=rule.version,
                    limit=stands,
                    next_step="look at what was changed meanwhile, and make your change from there",
                )
            made = msgspec.structs.replace(rule, version=stands + 1)
            session.later(
                QUERIES["tell_change"],
                change_id=self._ids.next(),
                key=rule_key(rule.track, rule.ring),
                version=made.version,
                move=FlagMove.RULE.value,
                actor=actor.name,
                reason=reason,
                before="" if held is None else _written(held),
                after=_written(made),
                owner="",
                request_id=None,
                now=now,
            )
            await session.run(
                QUERIES["put_ring_rule"],
                **place,
                attribute=made.attribute,
                values=list(made.values),
                percentage=made.percentage,
                version=made.version,
                now=now,
            )
        return made


def _refuse_put(entry: RingEntry, *, there: bool) -> NoReturn:
    """Say why an entry was not written.

    Raises:
        NotFoundError: there is no such member.
        ConflictError: somebody listed the member there, and this is a wish.
    """
    if not there:
        raise NotFoundError(
            f"there is no member {entry.member}",
            field="member",
            value=str(entry.member),
            next_step="use an id that the API returned",
        )
    raise ConflictError(
        f"a release manager listed {entry.member} in the ring {entry.ring.value} of {entry.track}",
        field="ring",
        value=entry.choice.value,
        limit=Choice.LISTED.value,
        next_step="ask a release manager to take the member off the list",
    )


def rule_key(track: str, ring: Ring) -> str:
    """Return under which key the trail of a ring's rule is kept, beside those of flags."""
    return f"$ring/{track}/{ring.value}"


def _place(track: str, ring: Ring, member: Key) -> dict[str, object]:
    return {
        "track": track,
        "ring": ring.value,
        "community_id": member.community_id,
        "member_id": member.id,
    }


def _written(rule: RingRule) -> str:
    return msgspec.json.encode(rule).decode()


def _expect_rule(rule: RingRule, reason: str) -> None:
    """Refuse a rule that cannot be kept.

    Raises:
        InvalidError: it has too many values.
    """
    expect_track(rule.track)
    expect_text("reason", reason, REASON_MAX, needed=True)
    expect_text("attribute", rule.attribute, ATTRIBUTE_MAX, needed=False)
    for value in rule.values:
        expect_text("values", value, ATTRIBUTE_MAX, needed=True)
    if len(rule.values) > VALUES_MAX:
        raise InvalidError(
            f"the rule has {len(rule.values):,} values",
            field="values",
            value=len(rule.values),
            limit=VALUES_MAX,
            next_step="list members by name, or use another attribute",
        )
    check_rule(rule)
