"""Flags and rings: what is asked of them, and what changes them. What other rooms and doors call."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from millrace.community.types import Key
from millrace.kernel.clock import Clock
from millrace.kernel.errors import MillraceError, NotFoundError
from millrace.kernel.ids import IdMaker
from millrace.release.flags import lives
from millrace.release.flags.adoption import AppBook
from millrace.release.flags.audience import Audience, Difference
from millrace.release.flags.book import Book, refuse_missing
from millrace.release.flags.census import Census
from millrace.release.flags.changes import AT_ONCE, Changes, name_of
from millrace.release.flags.contexts import App
from millrace.release.flags.decisions import Decisions
from millrace.release.flags.entries import RingDesk
from millrace.release.flags.limits import LIST_MAX, expect_limit
from millrace.release.flags.live import PUBLICATION, LiveFlags
from millrace.release.flags.repository import SHARED
from millrace.release.flags.requests import Requests
from millrace.release.flags.rings import Explanation
from millrace.release.flags.scans import ScanBook
from millrace.release.flags.stale import Finding
from millrace.release.flags.types import (
    Actor,
    Adoption,
    Approval,
    ChangeRequest,
    Choice,
    Flag,
    FlagChange,
    FlagConfig,
    RequestState,
    Ring,
    RingChange,
    RingEntry,
    RingRule,
    Terms,
    Usage,
    Wait,
)
from millrace.release.flags.usage import UsageBook
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.changes.types import StreamState
from millrace.store.router import Router

ARRIVAL_SECONDS_MAX = 1.0
"""So long a writer waits until its change decides in its own process too."""
LOOK_SECONDS = 0.5
"""So often what stands is read while the stream is away and the database is not."""

logger = logging.getLogger(__name__)


class FlagParts(Struct, frozen=True, kw_only=True):
    """The surroundings of flags. conninfo: where the change stream is read."""

    router: Router
    clock: Clock
    ids: IdMaker
    conninfo: str
    config: FlagConfig = FlagConfig()


class Flags(Decisions, Changes):
    """Flags and rings of one installation: `start` it where a process stays, else `load` it."""

    def __init__(self, parts: FlagParts) -> None:
        router, clock, ids, config = parts.router, parts.clock, parts.ids, parts.config
        self._router = router
        self.config = config
        self.apps = AppBook(router=router, clock=clock)
        self.scans = ScanBook(router=router, clock=clock, ids=ids)
        self.desk = RingDesk(router=router, clock=clock, ids=ids, config=config)
        book = Book(router=router, clock=clock, ids=ids)
        pending = Requests(
            router=router,
            clock=clock,
            ids=ids,
            book=book,
            met=self.apps.met,
            reviewed=config.approval is Approval.REQUIRED,
        )
        Changes.__init__(
            self, book=book, pending=pending, approval=config.approval, arrived=self._await
        )
        Decisions.__init__(
            self,
            clock=clock,
            live=LiveFlags(clock),
            usage_book=UsageBook(router=router, clock=clock, days=config.usage_days),
        )
        self.census = Census(router=router, clock=clock, known=self)
        self._stream = TemporaryStream(
            parts.conninfo, [self.live], clock=clock, name="flags", publication=PUBLICATION
        )
        self._tasks: list[asyncio.Task[None]] = []

    # ------------------------------------------------- its life

    async def start(self) -> None:
        """Follow every change, write counts now and then, and carry out what is due.

        Following begins when the transactions of this moment have ended, and an import may run for
        long: what stands is read meanwhile, now and whenever the stream is away.
        """
        if not self._tasks:
            config = self.config
            repeated = (
                (LOOK_SECONDS, self.load),
                (config.usage_seconds, self.flush),
                (config.schedule_seconds, self._due),
            )
            self._tasks = [asyncio.create_task(self._repeat(*each)) for each in repeated]
        await self._stream.start()

    async def load(self) -> None:
        """Read what stands now, unless it is followed: for a command that does not stay."""
        if not self.live.following:
            async with self._router.read() as session:
                await self.live.load(session)

    async def stop(self) -> None:
        """End what `start` began, and write what was counted. Safe to call twice."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._stream.stop()
        try:
            await self.flush()
        except MillraceError as exc:
            logger.warning("the last counts of flags were not written: %s", exc)

    async def flush(self) -> None:
        """Write what was counted and noted since the last time."""
        self.set_clock()
        try:
            await self.usage_book.flush()
        finally:
            await self.apps.flush()

    async def _due(self) -> None:
        await self.pending.apply_due(self._clock.now())

    async def _repeat(self, seconds: float, work: Callable[[], Awaitable[None]]) -> None:
        """Do some work again and again; what fails is told once, and tried again."""
        told = False
        while True:
            await asyncio.sleep(seconds)
            try:
                await work()
                told = False
            except MillraceError as exc:
                if not told:
                    logger.warning("flags: %s; it is tried again", exc)
                told = True

    def state(self) -> StreamState:
        """Return how the stream of changes does, for metrics and pages."""
        return self._stream.state()

    async def _await(self, key: str, version: int) -> None:
        """Wait a moment until this process decides by a version of a flag."""
        await self._until(lambda live: live.has(key, version))

    async def _until(self, true: Callable[[LiveFlags], bool]) -> None:
        """Wait a moment until something that was written decides here too."""
        if self.live.following:
            await self.live.until(true, ARRIVAL_SECONDS_MAX)

    # ------------------------------------------------- what there is

    async def get(self, key: str) -> Flag:
        """Return a flag as it is stored.

        Passes on:
            NotFoundError: there is none with this key.
        """
        return await self.book.get(key)

    async def find(self, key: str) -> Flag | None:
        """Return a flag as it is stored; None where there is none with this key."""
        try:
            return await self.book.get(key)
        except NotFoundError:
            return None

    async def every(self, prefix: str = "") -> Sequence[Flag]:
        """Return all flags that begin with a prefix, by key, without what they share."""
        return [
            flag
            for flag in await self.book.every()
            if flag.key not in SHARED and flag.key.startswith(prefix)
        ]

    async def history(
        self, key: str, limit: int = 50, before: int | None = None
    ) -> list[FlagChange]:
        """Return the trail of a flag, newest first, also of one that is gone.

        Args:
            key: of the flag.
            limit: at most so many lines.
            before: only versions before this one.
        """
        return await self.book.history(key, limit, before)

    async def change_to(self, key: str, version: int) -> FlagChange:
        """Return the line of the trail that made a version.

        Passes on:
            NotFoundError: there never was such a version.
        """
        return await self.book.change_to(key, version)

    async def shared(self) -> Mapping[str, Flag]:
        """Return what flags share, `$evaluators` and `$metadata`, where somebody wrote them."""
        return await self.book.shared()

    async def put_shared(
        self,
        key: str,
        content: str,
        *,
        version: int | None,
        actor: Actor,
        reason: str,
        terms: Terms = AT_ONCE,
    ) -> Flag | ChangeRequest:
        """Write what flags share; all is as in `put`."""
        return await self.put(
            key, content, version=version, actor=actor, reason=reason, terms=terms
        )

    async def usage(self, key: str | None = None) -> list[Usage]:
        """Return how often a flag was evaluated, or every flag, newest day first.

        What is not written yet is not in it.
        """
        return await self.usage_book.of(key)

    async def last_evaluated(self) -> Mapping[str, datetime]:
        """Return when each flag was last evaluated, in any process."""
        return await self.usage_book.last()

    def dependents(self) -> Mapping[str, Sequence[str]]:
        """Return, for each flag that others depend on, which."""
        return lives.dependents(self.live.texts)

    async def findings(
        self, days: int | None = None, counts: Mapping[str, int] | None = None
    ) -> list[Finding]:
        """Return which flags may go and why, by key.

        Args:
            days: younger flags are left alone; without it `flags.stale_days`.
            counts: how many places name each flag, where code was searched now: this goes over
                what the newest scans say.
        """
        found = lives.every_life(
            await self.every(), await self.last_evaluated(), await self.scans.seen()
        )
        known = counts or {}
        found = [replace(life, references=known.get(life.key)) for life in found]
        limit = self.config.stale_days if days is None else days
        return lives.findings(found, self._clock.now(), limit)

    # ------------------------------------------------- changes that wait

    async def requests(
        self,
        states: Collection[RequestState] = (),
        key: str | None = None,
        limit: int = 100,
        before: int | None = None,
    ) -> list[ChangeRequest]:
        """Return requests, newest first: of some states or of all, of one flag, before one of them.

        At most `LIST_MAX` are open at a time.
        """
        return await self.pending.list(states, key, limit, before)

    async def waiting(self) -> int:
        """Return how many changes wait."""
        return await self.pending.waiting()

    async def request(self, request_id: int) -> ChangeRequest:
        """Return one request.

        Passes on:
            NotFoundError: there is none with this number.
        """
        return await self.pending.get(request_id)

    async def approve(self, request_id: int, actor: Actor) -> ChangeRequest:
        """Let a proposed change be made; at once, where it waits for nothing else.

        Passes on:
            ForbiddenError: it is the actor's own.
            NotFoundError: there is no such request.
            ConflictError: it is decided already.
        """
        made = await self.pending.approve(request_id, Actor(name_of(actor)))
        if made.due_at is None and made.wait is None:
            await self.pending.carry_out(request_id)
            made = await self.pending.get(request_id)
            if made.state is RequestState.APPLIED:
                await self._await(made.key, made.base_version + 1 if made.content else 0)
        return made

    async def reject(self, request_id: int, actor: Actor, note: str) -> ChangeRequest:
        """Say no to a proposed change, and why.

        Passes on:
            NotFoundError: there is no such request.
            ConflictError: it is decided already.
        """
        return await self.pending.reject(request_id, Actor(name_of(actor)), note)

    async def cancel(self, request_id: int, actor: Actor, note: str = "") -> ChangeRequest:
        """Take a change back that is not made yet.

        Passes on:
            NotFoundError: there is no such request.
            ConflictError: it is made or decided already.
        """
        return await self.pending.cancel(request_id, Actor(name_of(actor)), note)

    async def apply_due(self, now: datetime) -> int:
        """Carry out what is due at a moment; return how many changes were made."""
        return await self.pending.apply_due(now)

    # ------------------------------------------------- who gets what

    async def audience(self, key: str) -> Audience:
        """Return how many members are given each variant of a flag, by ring and market.

        Exact for the moment when it was counted, some seconds ago at most.

        Passes on:
            NotFoundError: there is no such flag.
        """
        return (await self.audiences([key]))[key]

    async def audiences(self, keys: Sequence[str]) -> Mapping[str, Audience]:
        """Return the same of several flags, from one look at all members.

        Passes on:
            NotFoundError: one of them is not there.
        """
        for key in keys:
            if key not in self.live.texts:
                refuse_missing(key)
        return await self.census.audiences(keys)

    async def preview(self, key: str, content: str) -> Difference:
        """Return whom a change of a flag would give another variant; empty content removes it.

        Passes on:
            InvalidError: it is what all flags share, which has no variants of its own.
        """
        return await self.census.preview(key, content)

    async def ring_counts(self, track: str) -> Mapping[Ring, int]:
        """Return how many members have each ring of a track as their innermost, exactly."""
        return await self.census.rings(track)

    # ------------------------------------------------- rings

    async def ring_members(
        self, track: str, ring: Ring, limit: int = LIST_MAX, after: Key | None = None
    ) -> list[Key]:
        """Return members who are in a ring, in order of their keys. It asks about every member."""
        expect_limit(limit)
        return await self.census.within(track, ring, limit, after)

    async def ring_entries(
        self,
        track: str,
        ring: Ring | None = None,
        limit: int = LIST_MAX,
        after: Key | None = None,
    ) -> list[RingEntry]:
        """Return who is in a ring of a track by name, or out of it by their wish; by member."""
        return await self.desk.entries(track, ring, limit, after)

    async def ring_entry_counts(self, track: str) -> Mapping[tuple[Ring, Choice], int]:
        """Return how many are in each ring of a track by name, or out of it by their wish."""
        return await self.desk.counts(track)

    async def ring_entries_of(self, member: Key) -> list[RingEntry]:
        """Return a member's entries in all tracks."""
        return await self.desk.of_member(member)

    async def ring_history(self, member: Key, limit: int = 50) -> list[RingChange]:
        """Return what was done about a member's entries, newest first."""
        return await self.desk.history(member, limit)

    async def ring_put(self, entry: RingEntry, *, reason: str) -> RingEntry:
        """Put a member into a ring by name, or note their own wish.

        Passes on:
            NotFoundError: there is no such member.
            ForbiddenError: members do not enter this ring by themselves.
            InvalidError: the track, the ring or the reason cannot be.
        """
        made = await self.desk.put(entry, reason)
        await self._until(lambda live: live.chose(made) is made.choice)
        return made

    async def ring_remove(self, entry: RingEntry, *, reason: str) -> bool:
        """Take an entry away, by `entry.actor`; say whether there was one."""
        removed = await self.desk.remove(entry, reason)
        await self._until(lambda live: live.chose(entry) is None)
        return removed

    async def ring_rules(self) -> list[RingRule]:
        """Return the rules that somebody wrote; a ring without one has its default."""
        return await self.desk.rules()

    async def ring_rule_put(self, rule: RingRule, *, actor: Actor, reason: str) -> RingRule:
        """Write the rule of a ring; its `version` is that which it was made from, 0 for the first.

        Passes on:
            ConflictError: the rule has another version; names both.
            InvalidError: the rule would put nobody into its ring, or cannot be kept.
        """
        made = await self.desk.put_rule(rule, Actor(name_of(actor)), reason)
        await self._until(lambda live: live.rule_version(made.track, made.ring) >= made.version)
        return made

    def ring_explain(self, track: str, member: Key) -> Explanation:
        """Say in which ring of a track a member is, and what decided it."""
        return self.live.rings.explain(track, member, self.context_of(member, App(track=track)))

    # ------------------------------------------------- versions of apps

    async def note_app(self, member: Key, track: str, version: str) -> None:
        """Remember with which version a member comes. Whoever is no member is not remembered."""
        if member.community_id in self.live.countries:
            self.apps.note(member, track, version)

    async def adoption(self, wait: Wait) -> Adoption:
        """Return how many of those who are active in a market have a version or a later one.

        Passes on:
            InvalidError: it is no version.
        """
        return await self.apps.adoption(wait)

    # Last in the class: after it, `list` in an annotation would mean this method.
    async def list(self, prefix: str = "", limit: int = LIST_MAX, after: str = "") -> "list[Flag]":
        """Return flags as they are stored, by key: those behind `after` that begin with a prefix."""
        return await self.book.list(prefix, limit, after)
