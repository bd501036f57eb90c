"""Single flight: however many readers miss a key, one load of it is under way.

A reader joins the load under way only if that load will do: it may have begun to read before what
the reader must see was committed. Everybody for whom it will not do shares the next one, which
begins when the first has ended. So there are never more than two loads of a key, one of them
waiting.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Flight(Generic[K, V]):
    """One load of some keys.

    reads: whether it has begun to read; before that it will do for everybody.
    lsn: the position that everything it reads is at least from; None where the stream was
        interrupted when it began.
    turn: how often the stream had begun or been lost by then.
    """

    def __init__(self, keys: Sequence[K], after: Sequence["asyncio.Task[Mapping[K, V]]"]) -> None:
        self.keys = keys
        self.after = after
        self.reads = False
        self.lsn: int | None = None
        self.turn = 0
        self.task: asyncio.Task[Mapping[K, V]] | None = None

    async def landed(self) -> Mapping[K, V]:
        """Return what was loaded. Whoever stops waiting leaves the load to the others.

        What the load raised is raised to each who waits.
        """
        assert self.task is not None, "a flight that is joined has been started"
        return await asyncio.shield(self.task)


class Flights(Generic[K, V]):
    """The loads under way, and those that wait for them."""

    def __init__(self, fly: Callable[[Flight[K, V]], Awaitable[Mapping[K, V]]]) -> None:
        """Take what performs a flight: fixes where it begins, loads, and keeps what came."""
        self._fly = fly
        self._under_way: dict[K, Flight[K, V]] = {}
        self._waiting: dict[K, Flight[K, V]] = {}

    def find(self, key: K, will_do: Callable[[K, Flight[K, V]], bool]) -> Flight[K, V] | None:
        """Return a load of the key that a reader may join, or None."""
        flight = self._under_way.get(key)
        if flight is not None and (not flight.reads or will_do(key, flight)):
            return flight
        return self._waiting.get(key)

    def start(self, keys: Sequence[K]) -> Flight[K, V]:
        """Start a load of keys that `find` has none for; it begins when their loads have ended."""
        before = {id(f): f for key in keys if (f := self._under_way.get(key)) is not None}
        flight: Flight[K, V] = Flight(keys, [f.task for f in before.values() if f.task])
        self._waiting.update(dict.fromkeys(keys, flight))
        flight.task = asyncio.create_task(self._run(flight))
        flight.task.add_done_callback(_heard)
        return flight

    async def _run(self, flight: Flight[K, V]) -> Mapping[K, V]:
        try:
            if flight.after:
                await asyncio.wait(flight.after)
                flight.after = ()
            for key in flight.keys:
                del self._waiting[key]
                self._under_way[key] = flight
            return await self._fly(flight)
        finally:
            for places in (self._under_way, self._waiting):
                for key in flight.keys:
                    if places.get(key) is flight:
                        del places[key]


def _heard(task: "asyncio.Task[Mapping[K, V]]") -> None:
    """Take note of a failure that nobody waits for any more, so that it is no warning."""
    if not task.cancelled():
        task.exception()
