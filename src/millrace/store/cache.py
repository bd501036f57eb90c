"""A cache that cannot lie for longer than the change stream lags, and never to its own writer.

The port is `VersionedCache`; `InProcessCache` is the tier inside one process. A shared tier stands
behind the same port.

Two orders hold it together. The values of one living row are ordered by `system_version`.
Everything else (fills, floors, deletes, lists made of many rows) is ordered by positions of the
log. An entry carries the position that it is at least from: what the change stream had brought
when its load began. A look at the log would not do: PostgreSQL writes a commit there an instant
before others see it, so such a position may promise a commit that the load after it does not find.
The stream tells a commit only when it is seen.

    position of an entry <= what it holds             everything up to there is in it, maybe more
    an entry is current as of max(its position, applied), because the stream would have dropped it
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from msgspec import Struct

from millrace.store.flights import Flight, Flights
from millrace.store.floors import BUCKETS, Floors
from millrace.store.types import Position

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
K_contra = TypeVar("K_contra", bound=Hashable, contravariant=True)


class Loaded(Struct, Generic[V], frozen=True):
    """What a load found for a key. A key that it leaves out is absent, and that is kept too.

    version: `system_version` of the row; None for what is made of several rows.
    """

    value: V
    version: int | None = None


class Held(Struct, Generic[V]):
    """An answer that the cache holds. value: None where the row is absent.

    lsn: it is at least from there.
    """

    value: V | None
    version: int | None
    lsn: int
    weight: int


class Bounds(Struct, frozen=True, kw_only=True):
    """How much a cache may hold: keys, what they weigh together (0: no bound), and its floors."""

    entries_max: int = 10_000
    weight_max: int = 0
    buckets: int = BUCKETS


BOUNDS = Bounds()


class CacheStatistics(Struct, frozen=True, kw_only=True):
    """What a cache did since it was made, and how full it is.

    joins: reads that shared a load that somebody else had begun.
    refused: loaded values that were given to their readers and not kept, because something newer
        had been heard meanwhile, or nothing was heard at all.
    """

    hits: int = 0
    misses: int = 0
    loads: int = 0
    joins: int = 0
    refused: int = 0
    dropped: int = 0
    evictions: int = 0
    entries: int = 0
    weight: int = 0


class Tokens(Protocol):
    """What a cache asks of the router: who vouches for a token. `Router` is one."""

    def claimed(self, token: str) -> Position | None:
        """Return the position that a token of ours names, wherever that is; None for another."""
        ...

    async def position_of(self, token: str) -> Position | None:
        """Return the position a token asks for, or None where nothing is promised by it."""
        ...


class VersionedCache(Protocol[K_contra, V]):
    """A look-aside cache of what was committed.

    Readers bring tokens, the change stream brings positions. Whoever writes to the database never
    writes here: a rollback leaves no trace.
    """

    async def read(self, key: K_contra, token: str = "") -> V | None:
        """Return the value of a key, or None where it is absent, never older than the token."""
        ...

    def held(self, key: K_contra, position: Position | None = None) -> Held[V] | None:
        """Return what is held, if it counts for a reader who must see `position`; else None."""
        ...

    def begin(self, position: Position) -> None:
        """Follow the stream from here on: nothing older counts."""
        ...

    def advance(self, position: Position) -> None:
        """Hear that everything committed up to here has been applied."""
        ...

    def lost(self) -> None:
        """Hear that the stream is interrupted: entries count by their own position alone."""
        ...

    def put(self, key: K_contra, value: V, version: int, position: Position) -> None:
        """Hear what a row is after a commit."""
        ...

    def invalidate(self, key: K_contra, position: Position) -> None:
        """Hear that a commit changed, made or deleted what a key stands for."""
        ...

    def forget_all(self, position: Position) -> None:
        """Hear that a commit changed more than can be told key by key."""
        ...

    def statistics(self) -> CacheStatistics:
        """Return what happened so far."""
        ...


Load = Callable[[Sequence[K]], Awaitable[Mapping[K, Loaded[V]]]]
"""Reads the tables of the primary as they are now."""


class InProcessCache(Generic[K, V]):
    """The tier inside one process: a bounded map, least recently used first out.

    Not for threads: everything runs in one event loop, and what has no `await` cannot be torn.
    """

    def __init__(
        self,
        *,
        tokens: Tokens,
        load: Load[K, V],
        weigh: Callable[[V], int] | None = None,
        bounds: Bounds = BOUNDS,
    ) -> None:
        """Take what fills it and its bounds.

        Args:
            tokens: the router.
            load: reads the tables; it is handed keys without repetition.
            weigh: tells the weight of a value; without it each counts 1.
            bounds: how much it may hold.
        """
        assert bounds.entries_max > 0, "a cache holds at least one entry"
        self._tokens = tokens
        self._load = load
        self._weigh = weigh
        self._bounds = bounds
        self._entries: OrderedDict[K, Held[V]] = OrderedDict()
        self._floors = Floors(bounds.buckets)
        self._flights: Flights[K, Loaded[V]] = Flights(self._fly)
        self._log: tuple[str, int] | None = None
        self._applied: int | None = None
        self._turn = 0
        self._weight = 0
        self._hits = self._misses = self._loads = self._joins = 0
        self._refused = self._dropped = self._evictions = 0

    # ------------------------------------------------- readers

    def held(self, key: K, position: Position | None = None) -> Held[V] | None:
        """Return what is held, if it counts for a reader who must see `position`; else None.

        Without a position the reader takes what the stream has brought so far: then an interrupted
        stream makes nothing count.
        """
        entry = self._entries.get(key)
        if entry is None or not self._counts(entry, position):
            return None
        self._entries.move_to_end(key)
        self._hits += 1
        return entry

    async def read(self, key: K, token: str = "") -> V | None:
        """Return the value of a key, or None where it is absent, never older than the token.

        What the load raises is raised to those who waited for it, and nothing of it is kept.
        """
        return (await self.read_many([key], token)).get(key)

    async def read_many(self, keys: Sequence[K], token: str = "") -> dict[K, V]:
        """Return the values of those keys that are there, never older than the token.

        Each is as of its own moment: two keys may show two states of the database.
        """
        asked = self._tokens.claimed(token) if token else None
        found, missing = self._look(dict.fromkeys(keys), asked)
        if missing and asked is not None and not self.reached(asked):
            # Beyond the primary, or of another cluster, it promises nothing: so the bound is asked.
            asked = await self._tokens.position_of(token)
            again, missing = self._look(dict.fromkeys(missing), asked)
            found |= again
        if missing:
            self._misses += len(missing)
            found |= await self._fetched(missing, asked)
        return found

    def reached(self, position: Position) -> bool:
        """Say whether the stream has been applied at least up to a position."""
        return (
            self._applied is not None
            and position.lsn <= self._applied
            and self._log == (position.cluster, position.timeline)
        )

    def _counts(self, entry: Held[V], position: Position | None) -> bool:
        """Say whether an entry is new enough for a reader."""
        if position is None:
            return self._applied is not None
        if self.reached(position):
            return True
        return entry.lsn >= position.lsn and self._log == (position.cluster, position.timeline)

    def _look(self, keys: dict[K, None], asked: Position | None) -> tuple[dict[K, V], list[K]]:
        found: dict[K, V] = {}
        missing: list[K] = []
        for key in keys:
            entry = self.held(key, asked)
            if entry is None:
                missing.append(key)
            elif entry.value is not None:
                found[key] = entry.value
        return found, missing

    # ------------------------------------------------- loads

    async def _fetched(self, keys: Sequence[K], asked: Position | None) -> dict[K, V]:
        mine: dict[K, Flight[K, Loaded[V]]] = {}
        for key in keys:
            flight = self._flights.find(key, lambda k, f: self._will_do(k, f, asked))
            if flight is not None:
                self._joins += 1
                mine[key] = flight
        alone = [key for key in keys if key not in mine]
        if alone:
            mine |= dict.fromkeys(alone, self._flights.start(alone))
        found: dict[K, V] = {}
        for key, flight in mine.items():  # a flight may bring other keys too, which will not do
            loaded = (await flight.landed()).get(key)
            if loaded is not None:
                found[key] = loaded.value
        return found

    def _will_do(self, key: K, flight: Flight[K, Loaded[V]], asked: Position | None) -> bool:
        """Say whether a load that has begun to read gives a reader what they must see.

        The floor stands for what other readers were given already: nobody goes back behind it.
        """
        if flight.turn != self._turn:
            return False
        if flight.lsn is None:
            return asked is None
        if flight.lsn < self._floors.of(key):
            return False
        return asked is None or (
            self._log == (asked.cluster, asked.timeline) and asked.lsn <= flight.lsn
        )

    async def _fly(self, flight: Flight[K, Loaded[V]]) -> Mapping[K, Loaded[V]]:
        flight.lsn, flight.turn = self._applied, self._turn  # before anything is read
        flight.reads = True
        self._loads += 1
        loaded = await self._load(flight.keys)
        for key in flight.keys:
            self._fill(key, loaded.get(key), flight)
        return loaded

    def _fill(self, key: K, loaded: Loaded[V] | None, flight: Flight[K, Loaded[V]]) -> None:
        """Keep what was loaded, unless something newer was heard since the load began."""
        before = self._entries.get(key)
        if not self._may_keep(key, flight):
            self._refused += 1
            # Its readers may have seen something newer than what is held: nobody falls back to that.
            if before is not None:
                self._drop(key)
            return
        if before is not None:
            self._drop(key)
            self._dropped -= 1
        value, version = (loaded.value, loaded.version) if loaded else (None, None)
        weight = 1 if self._weigh is None or value is None else self._weigh(value)
        assert flight.lsn is not None, "_may_keep said so"
        self._entries[key] = Held(value, version, flight.lsn, weight)
        self._weight += weight
        self._fit()

    def _may_keep(self, key: K, flight: Flight[K, Loaded[V]]) -> bool:
        """Say whether what a load brought is at least from where everything heard of the key is."""
        return (
            flight.lsn is not None
            and flight.turn == self._turn
            and flight.lsn >= self._floors.of(key)
        )

    # ------------------------------------------------- the stream

    def begin(self, position: Position) -> None:
        """Follow the stream from here on: nothing older counts."""
        log = (position.cluster, position.timeline)
        if log != self._log:  # positions of two logs do not compare
            self._entries.clear()
            self._weight = 0
            self._floors.reset()
            self._log = log
        self._applied = position.lsn
        self._turn += 1
        self.forget_all(position)

    def advance(self, position: Position) -> None:
        """Hear that everything committed up to here has been applied."""
        self._expect(position)
        if self._applied is not None:
            self._applied = max(self._applied, position.lsn)

    def lost(self) -> None:
        """Hear that the stream is interrupted: entries count by their own position alone."""
        self._applied = None
        self._turn += 1

    def put(self, key: K, value: V, version: int, position: Position) -> None:
        """Hear what a row is after a commit. It replaces an older value, and never fills a gap.

        Where nothing is held, or an absent row, a reader may already have been given something
        newer than this, by a load that ran ahead of the stream: the next load decides.
        """
        self._expect(position)
        self._floors.rise(key, position.lsn)
        entry = self._entries.get(key)
        if entry is None or position.lsn <= entry.lsn:
            return
        if entry.version is None:
            self._drop(key)
            return
        if version > entry.version:
            entry.value, entry.version = value, version
            self._reweigh(entry)
        # Not the whole position: the same transaction may have more to say of the row.
        entry.lsn = position.lsn - 1
        self._fit()

    def invalidate(self, key: K, position: Position) -> None:
        """Hear that a commit changed, made or deleted what a key stands for."""
        self._expect(position)
        self._floors.rise(key, position.lsn)
        entry = self._entries.get(key)
        if entry is not None and entry.lsn < position.lsn:
            self._drop(key)

    def invalidate_where(self, concerned: Callable[[K, V], bool], position: Position) -> None:
        """Hear that a commit concerns whatever satisfies a test; loads under way are not kept."""
        self._expect(position)
        self._floors.rise_all(position.lsn)
        for key, entry in list(self._entries.items()):
            if entry.lsn < position.lsn and (entry.value is None or concerned(key, entry.value)):
                self._drop(key)

    def fold(self, key: K, change: Callable[[V], None], position: Position) -> None:
        """Hear a commit that can be worked into the value where it lies.

        `change` may be called again with what is in the value already, and must not mind.
        """
        self._expect(position)
        self._floors.rise(key, position.lsn)
        entry = self._entries.get(key)
        if entry is None or position.lsn <= entry.lsn:
            return
        if entry.value is None:
            self._drop(key)
            return
        change(entry.value)
        self._reweigh(entry)
        self._fit()

    def forget_all(self, position: Position) -> None:
        """Hear that a commit changed more than can be told key by key."""
        self._expect(position)
        self._floors.rise_all(position.lsn)
        for key in [key for key, entry in self._entries.items() if entry.lsn < position.lsn]:
            self._drop(key)

    def statistics(self) -> CacheStatistics:
        """Return what happened so far."""
        return CacheStatistics(
            hits=self._hits,
            misses=self._misses,
            loads=self._loads,
            joins=self._joins,
            refused=self._refused,
            dropped=self._dropped,
            evictions=self._evictions,
            entries=len(self._entries),
            weight=self._weight,
        )

    # ------------------------------------------------- bounds

    def _expect(self, position: Position) -> None:
        assert self._log == (position.cluster, position.timeline), "begin() comes first"

    def _drop(self, key: K) -> None:
        self._weight -= self._entries.pop(key).weight
        self._dropped += 1

    def _reweigh(self, entry: Held[V]) -> None:
        if self._weigh is not None and entry.value is not None:
            weight = self._weigh(entry.value)
            self._weight += weight - entry.weight
            entry.weight = weight

    def _fit(self) -> None:
        """Let go of what was not asked for longest."""
        while self._entries and (
            len(self._entries) > self._bounds.entries_max
            or 0 < self._bounds.weight_max < self._weight
        ):
            _, entry = self._entries.popitem(last=False)
            self._weight -= entry.weight
            self._evictions += 1
