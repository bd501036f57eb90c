"""Who is given what, of all members: counted in slices, in a thread, while requests go on.

A member is asked about as a request of theirs would be: with their rings, their market, and the app
that they were last seen with.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol, TypeVar

from msgspec import Struct

from millrace.community.types import Key
from millrace.kernel.clock import Clock
from millrace.kernel.errors import InvalidError
from millrace.release.flags.audience import Audience, Difference, compare, count
from millrace.release.flags.contexts import TRACK, App
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.repository import EVALUATORS, METADATA, QUERIES, SHARED
from millrace.release.flags.types import Context, Ring
from millrace.store.router import Router

SLICE = 5_000  # members that are asked about between two looks at the database
REMEMBERED_SECONDS = 10.0
REMEMBERED_MAX = 500
BEFORE_ALL = Key(0, 0)

People = list[tuple[str, Context]]
S = TypeVar("S")


class Known(Protocol):
    """What a census needs of the room: see Decisions."""

    def context_of(self, member: Key, app: App) -> Context:
        """Return what a decision about a member may look at."""
        ...

    def flagset(self) -> FlagSet:
        """Return the compiled flags as they stand."""
        ...

    def etag(self) -> str:
        """Return what changes with every change."""
        ...


class Person(Struct, frozen=True):
    """A member, and the app that they were last seen with."""

    community_id: int
    member_id: int
    track: str
    version: str


class Remembered(Struct, frozen=True):
    """What was counted a moment ago."""

    etag: str
    at: float
    audience: Audience


class Census:
    """Counts over all members, one after the other: many who ask at once share what one counted."""

    def __init__(self, *, router: Router, clock: Clock, known: Known) -> None:
        self._router = router
        self._clock = clock
        self._known = known
        self._remembered: dict[str, Remembered] = {}
        self._turn = asyncio.Lock()

    async def audiences(self, keys: Sequence[str]) -> dict[str, Audience]:
        """Return how many members are given each variant of some flags, by ring and market.

        What was counted in the last seconds is not counted again, unless something has changed.
        """
        async with self._turn:
            flags, etag = self._known.flagset(), self._known.etag()
            new = [key for key in dict.fromkeys(keys) if not self._is_fresh(key, etag)]
            found = await self._counted(new, flags) if new else {}
            at = self._clock.monotonic()
            for key, audience in found.items():
                self._remembered.pop(key, None)
                self._remembered[key] = Remembered(etag, at, audience)
            answer = {key: self._remembered[key].audience for key in keys}
            while len(self._remembered) > REMEMBERED_MAX:
                self._remembered.pop(next(iter(self._remembered)))
        return answer

    async def preview(self, key: str, content: str) -> Difference:
        """Return whom a change of a flag would give another variant; empty content removes it.

        Raises:
            InvalidError: it is what all flags share, which has no variants of its own.
        """
        if key in SHARED:
            raise InvalidError(
                f"{key} has no variants of its own",
                field="key",
                value=key,
                limit=f"not {EVALUATORS} or {METADATA}",
                next_step="preview a flag that refers to it",
            )
        before = self._known.flagset()
        after = before.with_changes({key: content or None})
        now = self._clock.now().timestamp()

        def asked(people: People) -> Difference:
            return compare(before, after, key, people, now)

        found = asked([])
        async with self._turn:
            async for part in self._slices(asked):
                found = found.merged(part)
        return found

    async def rings(self, track: str) -> dict[Ring, int]:
        """Return how many members have each ring of a track as their innermost."""
        known = self._known

        def asked(persons: Sequence[Person]) -> Counter[Ring]:
            members = (Key(one.community_id, one.member_id) for one in persons)
            return Counter(
                Ring(known.context_of(member, App(track=track))["ring"]) for member in members
            )

        found = Counter[Ring]()
        async with self._turn:
            async for part in self._each(asked):
                found += part
        return dict(found)

    async def within(self, track: str, ring: Ring, limit: int, after: Key | None) -> list[Key]:
        """Return members who are in a ring, also by one that is inside of it, in order of their keys.

        Args:
            track: of the ring.
            ring: whose members.
            limit: at most so many.
            after: only those behind this one.
        """
        known = self._known

        def asked(persons: Sequence[Person]) -> list[Key]:
            members = [Key(one.community_id, one.member_id) for one in persons]
            return [
                member
                for member in members
                if ring in known.context_of(member, App(track=track))["rings"]
            ]

        found: list[Key] = []
        async for part in self._each(asked, after or BEFORE_ALL):
            found += part
            if len(found) >= limit:
                break
        return found[:limit]

    def _is_fresh(self, key: str, etag: str) -> bool:
        held = self._remembered.get(key)
        if held is None or held.etag != etag:
            return False
        return self._clock.monotonic() - held.at < REMEMBERED_SECONDS

    async def _counted(self, keys: Sequence[str], flags: FlagSet) -> dict[str, Audience]:
        now = self._clock.now().timestamp()

        def asked(people: People) -> dict[str, Audience]:
            return {key: count(flags, key, people, now) for key in keys}

        found = asked([])
        async for part in self._slices(asked):
            found = {key: audience.merged(part[key]) for key, audience in found.items()}
        return found

    def _slices(self, asked: Callable[[People], S]) -> AsyncGenerator[S]:
        """Yield what is found of all members, each with the app that they were last seen with."""
        return self._each(lambda persons: self._asked(persons, asked))

    async def _each(
        self, asked: Callable[[Sequence[Person]], S], last: Key = BEFORE_ALL
    ) -> AsyncGenerator[S]:
        """Yield what is found of all members, slice by slice; each is asked about in a thread."""
        while True:
            async with self._router.read() as session:
                persons = await session.rows(
                    QUERIES["people"],
                    Person,
                    after_community=last.community_id,
                    after_member=last.id,
                    limit=SLICE,
                )
            if persons:
                last = Key(persons[-1].community_id, persons[-1].member_id)
                yield await asyncio.to_thread(asked, persons)
            if len(persons) < SLICE:
                return

    def _asked(self, persons: Sequence[Person], asked: Callable[[People], S]) -> S:
        people: People = []
        for one in persons:
            member = Key(one.community_id, one.member_id)
            app = App(track=one.track or TRACK, version=one.version)
            people.append((str(member), self._known.context_of(member, app)))
        return asked(people)
