"""What this process decides with: every flag compiled, who is in which ring, and every market.

It follows the log in a stream of its own: a switch that is thrown is here within milliseconds, also
while an import fills the other stream. While the database is away, the last known decisions hold.
"""

import asyncio
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, cast

from msgspec import Struct

from millrace.community.types import Key
from millrace.kernel.clock import Clock
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.marks import Concerned, Marks
from millrace.release.flags.repository import EVALUATORS, METADATA, QUERIES, SHARED, EntryRow
from millrace.release.flags.rings import RingBook
from millrace.release.flags.types import RINGS, Choice, Flag, Ring, RingEntry, RingRule
from millrace.store.changes.types import UNCHANGED, Batch, Change, Operation, Row, Snapshot
from millrace.store.session import Session

TABLES = frozenset({"flag", "ring_entry", "ring_rule", "community"})
PUBLICATION = "millrace_flags"
COMPILED_AT_ONCE = 20  # definitions between two turns of the event loop
LETTERS_AT_ONCE = 50_000  # of them
REFERS = re.compile(r'"(?:\$|\\u0024)(?:r|\\u)')
"""A text that may hold `"$ref"`, which JSON can write in several ways."""

Hears = Callable[[Concerned], None]
"""Is told, on the event loop, whose answers may be others; None for everybody's."""


class Market(Struct, frozen=True):
    """Where a community is."""

    community_id: int
    country: str


class Held(Struct):
    """The rows that everything is made from."""

    texts: dict[str, str]
    versions: dict[str, int]
    entries: dict[tuple[Key, str, str], RingEntry]
    rules: dict[tuple[str, str], RingRule]
    countries: dict[int, str]


class LiveFlags:
    """An in-memory consumer of the change stream. All that is asked of it is answered at once."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held = Held({}, {}, {}, {}, {})
        self._marks = Marks()
        self._hearing: list[Hears] = []
        self._news = asyncio.Event()
        self._reading = asyncio.Lock()
        self.flagset = FlagSet.compile({})
        self.rings = RingBook([], [])
        self.following = False
        """Whether changes come; else the last known decisions hold."""
        self.compiled = 0
        """How many definitions were compiled since the start."""
        self.changed_at = clock.monotonic()

    @property
    def name(self) -> str:
        """Return the name for logs and metrics."""
        return "flags"

    @property
    def tables(self) -> frozenset[str]:
        """Return the tables whose changes it wants."""
        return TABLES

    @property
    def versions(self) -> Mapping[str, int]:
        """Return the version of every flag, and of what they share."""
        return self._held.versions

    @property
    def texts(self) -> Mapping[str, str]:
        """Return the definition of every flag as it was written, and of what they share."""
        return self._held.texts

    @property
    def entries(self) -> Collection[RingEntry]:
        """Return who is in a ring by name."""
        return self._held.entries.values()

    @property
    def rules(self) -> Collection[RingRule]:
        """Return who else is in a ring."""
        return self._held.rules.values()

    @property
    def countries(self) -> Mapping[int, str]:
        """Return the country of every community; empty where nobody said."""
        return self._held.countries

    @property
    def etag(self) -> str:
        """Return what is the same in two processes that decide from the same rows."""
        return self._marks.etag()

    def etag_of(self, member: Key) -> str:
        """Return the same for what one member is decided by: it stays while others enter rings."""
        return self._marks.etag_of(member)

    def listen(self, hears: Hears) -> None:
        """Tell somebody of every change from now on, for as long as this is there."""
        self._hearing.append(hears)

    async def news(self, etag: str, seconds: float) -> str:
        """Wait until the etag is another one, or for so long; return what it is then."""
        try:
            async with asyncio.timeout(seconds):
                while self.etag == etag:
                    await self._news.wait()
        except TimeoutError:
            pass
        return self.etag

    async def until(self, true: "Callable[[LiveFlags], bool]", seconds: float) -> bool:
        """Wait until something is so here; say whether it was in time."""
        try:
            async with asyncio.timeout(seconds):
                while not true(self):
                    await self._news.wait()
        except TimeoutError:
            return False
        return True

    def has(self, key: str, version: int) -> bool:
        """Return whether a version of a flag, or a later one, decides here; 0 for: it is gone."""
        stands = self._held.versions.get(key, 0)
        return stands >= version if version else stands == 0

    def chose(self, entry: RingEntry) -> Choice | None:
        """Return how a member came to the place of an entry, as it decides here; None for no entry."""
        found = self._held.entries.get((entry.member, entry.track, entry.ring.value))
        return None if found is None else found.choice

    def rule_version(self, track: str, ring: Ring) -> int:
        """Return the version of a ring's rule that decides here, 0 where nobody wrote one."""
        found = self._held.rules.get((track, ring.value))
        return 0 if found is None else found.version

    # ------------------------------------------------- from the tables

    async def begin(self, snapshot: Snapshot) -> None:
        """Make everything anew from a snapshot. Definitions that are the same stay compiled."""
        async with self._reading:
            await self._read(snapshot.session)
            self.following = True

    async def load(self, session: Session) -> None:
        """Read what stands now, unless it is followed."""
        async with self._reading:
            if not self.following:
                await self._read(session)

    async def _read(self, session: Session) -> None:
        flags = await session.rows(QUERIES["every_flag"], Flag)
        entries = await session.rows(
            QUERIES["ring_entries"],
            EntryRow,
            track=None,
            ring=None,
            after_community=0,
            after_member=0,
            limit=None,
        )
        rules = await session.rows(QUERIES["ring_rules"], RingRule)
        markets = await session.rows(QUERIES["countries"], Market)
        held = Held(
            texts={flag.key: flag.content for flag in flags},
            versions={flag.key: flag.version for flag in flags},
            entries={(e.member, e.track, e.ring): e for e in (row.entry() for row in entries)},
            rules={(rule.track, rule.ring): rule for rule in rules},
            countries={market.community_id: market.country for market in markets},
        )
        before = self._held
        keys = before.texts.keys() | held.texts.keys()
        other = {key for key in keys if before.texts.get(key) != held.texts.get(key)}
        flagset = await self._recompiled(held.texts, other)
        rings = RingBook(held.entries.values(), held.rules.values())
        self._held, self.flagset, self.rings = held, flagset, rings
        self._mark_all(held)
        self._tell()

    def lost(self) -> None:
        """Hear that the stream is interrupted: the last known decisions hold."""
        self.following = False

    # ------------------------------------------------- from the stream

    async def apply(self, batch: Batch) -> None:
        """Take a batch: compile what changed, and decide with all of it from one moment on."""
        if not batch.changes:
            return
        before = self._held
        held = Held(
            texts=dict(before.texts),
            versions=dict(before.versions),
            entries=before.entries,
            rules=before.rules,
            countries=before.countries,
        )
        other: set[str] = set()
        for change in batch.changes:
            if change.op is Operation.TRUNCATE:
                self._emptied(held, change.table, other)
            elif change.table == "flag":
                self._flag(held, change, other)
            else:
                _ROWS[change.table](self, held, change)
        if other:
            self.flagset = await self._recompiled(held.texts, other)
        self.rings = self._ringed(held, batch.changes)
        self._held = held
        self._tell()

    def _ringed(self, held: Held, changes: Sequence[Change]) -> RingBook:
        """Return who is in which ring: anew where a rule changed, else with those who changed."""
        if any(
            change.table == "ring_rule"
            or (change.table == "ring_entry" and change.op is Operation.TRUNCATE)
            for change in changes
        ):
            return RingBook(held.entries.values(), held.rules.values())
        others: dict[tuple[str, str], list[RingEntry]] = {}
        for change in changes:
            if change.table == "ring_entry":
                community, number, track, _ = cast("tuple[int, int, str, str]", change.key)
                member = Key(community, number)
                places = [(member, track, ring.value) for ring in RINGS]
                found = [held.entries[place] for place in places if place in held.entries]
                others[track, str(member)] = found
        return self.rings.with_members(others) if others else self.rings

    def _flag(self, held: Held, change: Change, other: set[str]) -> None:
        key = str(change.key[0])
        other.add(key)
        if change.after is None:
            held.texts.pop(key, None)
            held.versions.pop(key, None)
            self._marks.mark("flag", key, None)
            return
        content = change.after["content"]
        if content is not UNCHANGED:  # else only its owner is another
            held.texts[key] = str(content)
        held.versions[key] = cast("int", change.after["version"])
        self._marks.mark("flag", key, str(held.versions[key]))

    def _entry(self, held: Held, change: Change) -> None:
        community, member, track, ring = cast("tuple[int, int, str, str]", change.key)
        place = (Key(community, member), track, ring)
        if change.after is None:
            held.entries.pop(place, None)
            self._mark_entry(*place, None)
            return
        row = cast("Mapping[str, Any]", change.after)
        entry = EntryRow(**{name: row[name] for name in EntryRow.__struct_fields__}).entry()
        held.entries[place] = entry
        self._mark_entry(*place, entry.choice)

    def _rule(self, held: Held, change: Change) -> None:
        track, ring = cast("tuple[str, str]", change.key)
        if change.after is None:
            held.rules.pop((track, ring), None)
            self._marks.mark("ring_rule", f"{track}/{ring}", None)
            return
        rule = _rule_of(change.after)
        held.rules[track, ring] = rule
        self._marks.mark("ring_rule", f"{track}/{ring}", str(rule.version))

    def _community(self, held: Held, change: Change) -> None:
        community = cast("int", change.key[0])
        if change.after is None:
            held.countries.pop(community, None)
            self._marks.mark("community", str(community), None)
            return
        country = str(change.after["country"])
        held.countries[community] = country
        self._marks.mark("community", str(community), country)

    def _emptied(self, held: Held, table: str, other: set[str]) -> None:
        """Forget a whole table; nobody does this but a person at the database."""
        if table == "flag":
            other |= held.texts.keys()
            held.texts.clear()
            held.versions.clear()
        else:
            rows = {"ring_entry": held.entries, "ring_rule": held.rules}
            rows.get(table, held.countries).clear()
        self._mark_all(held)

    # ------------------------------------------------- compiling

    async def _recompiled(self, texts: Mapping[str, str], other: set[str]) -> FlagSet:
        """Return the set with other definitions compiled, a few at a time: requests go on."""
        flagset = self.flagset
        if METADATA in other:
            flagset = FlagSet.of({}, texts.get(EVALUATORS, "{}"), texts.get(METADATA, "{}"))
            other = set(texts)
        elif EVALUATORS in other:  # the others stay: a switch that comes next does not wait
            flagset = flagset.with_evaluators(texts.get(EVALUATORS, "{}"))
            other = other | {key for key, text in texts.items() if REFERS.search(text)}
        for part in _portions(sorted(other - set(SHARED)), texts):
            flagset = flagset.with_changes({key: texts.get(key) for key in part})
            self.compiled += len(part)
            await asyncio.sleep(0)
        return flagset

    # ------------------------------------------------- telling

    def _mark_entry(self, member: Key, track: str, ring: str, choice: Choice | None) -> None:
        said = None if choice is None else choice.value
        self._marks.mark("ring_entry", f"{member}/{track}/{ring}", said, member)

    def _mark_all(self, held: Held) -> None:
        """Note what all rows say, in place of what was noted."""
        mark = self._marks.mark
        self._marks.clear()
        for key, version in held.versions.items():
            mark("flag", key, str(version))
        for place, entry in held.entries.items():
            self._mark_entry(*place, entry.choice)
        for (track, ring), rule in held.rules.items():
            mark("ring_rule", f"{track}/{ring}", str(rule.version))
        for community, country in held.countries.items():
            mark("community", str(community), country)

    def _tell(self) -> None:
        """Wake everybody who waits for news."""
        self.changed_at = self._clock.monotonic()
        concerned = self._marks.publish()  # not before: who has the etag has what it stands for
        news, self._news = self._news, asyncio.Event()
        news.set()
        if concerned is None or concerned:
            for hears in self._hearing:
                hears(concerned)


def _portions(keys: Sequence[str], texts: Mapping[str, str]) -> Iterator[list[str]]:
    """Yield keys whose definitions are compiled in one turn: few, and fewer where they are long."""
    part: list[str] = []
    length = 0
    for key in keys:
        part.append(key)
        length += len(texts.get(key, ""))
        if len(part) == COMPILED_AT_ONCE or length > LETTERS_AT_ONCE:
            yield part
            part, length = [], 0
    if part:
        yield part


_ROWS = {
    "ring_entry": LiveFlags._entry,  # pyright: ignore[reportPrivateUsage]
    "ring_rule": LiveFlags._rule,  # pyright: ignore[reportPrivateUsage]
    "community": LiveFlags._community,  # pyright: ignore[reportPrivateUsage]
}
assert _ROWS.keys() | {"flag"} == TABLES, "every table that is asked for has what applies it"


def _rule_of(row: Row) -> RingRule:
    """Return the rule of a row of the log."""
    return RingRule(
        track=str(row["track"]),
        ring=Ring(str(row["ring"])),
        attribute=str(row["attribute"]),
        values=tuple(cast("list[str]", row["values"])),
        percentage=float(cast("float", row["percentage"])),
        version=cast("int", row["version"]),
    )
