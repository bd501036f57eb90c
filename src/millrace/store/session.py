"""One borrowed connection: a transaction, or a series of reads. Rooms see no driver."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct
from psycopg.pq.abc import PGresult
from psycopg.types.json import Jsonb

from millrace.store.faults import spoken
from millrace.store.lane import Lane
from millrace.store.queries import Query

T = TypeVar("T")
S = TypeVar("S")
BUILT_IN = (bytes, datetime)  # what the driver hands over as it is meant


def document(value: object) -> Jsonb:
    """Wrap a plain value as a jsonb parameter; datetimes become ISO text."""
    return Jsonb(value, dumps=lambda found: msgspec.json.encode(found).decode())


class Ask(Struct, Generic[T], frozen=True):
    """A statement, what its rows become, and its values; for several in one round trip."""

    query: Query
    into: type[T]
    params: Mapping[str, object]


class Session:
    """Runs named queries. Parameters are keyword arguments, rows become Structs.

    No method raises what the driver raises: see faults.py.
    """

    def __init__(self, lane: Lane) -> None:
        self._lane = lane

    async def rows(self, query: Query, into: type[T], /, **params: object) -> list[T]:
        """Return all rows as `into`, a Struct whose field names are the column names."""
        with spoken():
            (answer,) = await self._lane.ask((query, params))
            lines = self._lane.lines(answer)
        return _filled(lines, into)

    async def two(self, one: Ask[T], other: Ask[S], /) -> tuple[list[T], list[S]]:
        """Return the rows of two statements, which are asked together."""
        with spoken():
            first, second = await self._lane.ask(
                (one.query, one.params), (other.query, other.params)
            )
            lines, others = self._lane.lines(first), self._lane.lines(second)
        return _filled(lines, one.into), _filled(others, other.into)

    async def row(self, query: Query, into: type[T], /, **params: object) -> T | None:
        """Return the first row as `into`, or None."""
        with spoken():
            (answer,) = await self._lane.ask((query, params))
            lines = self._lane.lines(answer)
        return msgspec.convert(lines[0], into, builtin_types=BUILT_IN) if lines else None

    async def value(self, query: Query, /, **params: object) -> Any:
        """Return the first column of the first row, or None where there is no row."""
        with spoken():
            (answer,) = await self._lane.ask((query, params))
            return self._lane.first(answer)

    async def run(self, query: Query, /, **params: object) -> int:
        """Run a statement and return how many rows it touched."""
        with spoken():
            (answer,) = await self._lane.ask((query, params))
        return _touched(answer)

    def later(self, query: Query, /, **params: object) -> None:
        """Run a statement with the next one, or with the commit, in the order of the calls.

        For what nobody waits for: the round trip is saved. Where it fails, what it went with fails.
        """
        with spoken():
            self._lane.later(query, params)

    async def last_rows(self, query: Query, into: type[T], /, **params: object) -> list[T]:
        """Return all rows of a statement that ends the transaction: it is committed with it.

        For a write whose answer needs nothing more: the round trip of the commit is saved. What
        fails now keeps nothing of the transaction; behind it nothing may follow.
        """
        with spoken(committing=lambda: True):
            lines = self._lane.lines(await self._lane.last(query, params))
        return _filled(lines, into)

    async def run_many(self, query: Query, lines: Sequence[Mapping[str, object]], /) -> int:
        """Run a statement once per line, in one round trip; return the rows touched in all."""
        if not lines:
            return 0
        with spoken():
            answers = await self._lane.ask(*((query, line) for line in lines))
        return sum(_touched(answer) for answer in answers)

    async def copy_in(self, query: Query, lines: Iterable[Sequence[object]], /) -> None:
        """Stream rows into a `copy ... from stdin` statement."""
        with spoken():
            await self._lane.flush()
            async with self._lane.connection.cursor() as cursor, cursor.copy(query.text) as copy:
                for line in lines:
                    await copy.write_row(line)

    async def script(self, query: Query, /) -> None:
        """Run a text of several statements, which take no values."""
        with spoken():
            await self._lane.flush()
            await self._lane.connection.execute(query.text)


def _filled(lines: list[dict[str, Any]], into: type[T]) -> list[T]:
    """Check and convert rows, so that a wrong type is found here and not three rooms later."""
    return msgspec.convert(lines, list[into], builtin_types=BUILT_IN)


def _touched(answer: PGresult) -> int:
    """Return how many rows a statement touched or returned."""
    count = answer.command_tuples
    return -1 if count is None else count
