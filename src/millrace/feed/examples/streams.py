"""Reads what happened from the tables, a stretch at a time, in one global order of time.

Each kind of thing is a cursor of one transaction, so all of them see the same moment of the database,
and however much there is, a few thousand rows are in memory.
"""

import heapq
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from msgspec import Struct

from millrace.feed.examples.types import Instant
from millrace.feed.repository import QUERIES
from millrace.store.session import Session


class Timed(Protocol):
    """A row that happened at a time."""

    @property
    def at(self) -> Instant:
        """Return when."""
        ...


T = TypeVar("T", bound=Timed)


class Source(Generic[T]):
    """One cursor: its rows in the order of time."""

    def __init__(
        self,
        session: Session,
        queries: tuple[str, str],
        into: type[T],
        hear: Callable[[list[T]], Awaitable[None]] | None = None,
    ) -> None:
        """Name a cursor.

        Args:
            session: of the transaction.
            queries: the names of what opens it and of what reads on.
            into: what a row is.
            hear: is told each stretch before it is given away, to read what goes with it.
        """
        self._session = session
        self._open, self._more = queries
        self._into = into
        self._hear = hear

    async def open(self, **params: object) -> None:
        """Begin to read."""
        await self._session.run(QUERIES[self._open], **params)

    async def more(self) -> list[T]:
        """Return the next stretch; empty at the end."""
        rows = await self._session.rows(QUERIES[self._more], self._into)
        if rows and self._hear is not None:
            await self._hear(rows)
        return rows


class Stretch(Struct, Generic[T], frozen=True):
    """Some rows of a source that come one after another in the order of time.

    source: the place of their source in the list.
    """

    source: int
    rows: Sequence[T]


async def merged(sources: Sequence[Source[Any]]) -> AsyncGenerator[Stretch[Any]]:
    """Yield the rows of all sources in the order of time, as stretches of one source each.

    Of rows of the same time those of an earlier source come first.
    """
    rows = [await source.more() for source in sources]
    places = [0] * len(sources)
    heap = [(found[0].at, place) for place, found in enumerate(rows) if found]
    heapq.heapify(heap)
    while heap:
        _, turn = heapq.heappop(heap)
        found, begin = rows[turn], places[turn]
        end = _end(found, begin, turn, heap[0] if heap else None)
        yield Stretch(turn, found[begin:end])
        if end == len(found):
            rows[turn], end = await sources[turn].more(), 0
        places[turn] = end
        if rows[turn]:
            heapq.heappush(heap, (rows[turn][end].at, turn))


def _end(found: Sequence[Timed], begin: int, turn: int, other: tuple[Instant, int] | None) -> int:
    """Return how far a source goes on before another one's row comes."""
    end = begin + 1
    while end < len(found) and (other is None or (found[end].at, turn) < other):
        end += 1
    return end
