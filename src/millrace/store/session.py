"""One borrowed connection: a transaction, or a series of reads. Rooms see no driver."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

import msgspec
from psycopg import AsyncConnection
from psycopg.rows import DictRow
from psycopg.types.json import Jsonb

from millrace.store.faults import spoken
from millrace.store.queries import Query

T = TypeVar("T")


def _filled(into: type[T], line: Mapping[str, Any]) -> T:
    """Check and convert one row, so that a wrong type is found here and not three rooms later."""
    return msgspec.convert(line, into, builtin_types=(bytes, datetime))


def document(value: object) -> Jsonb:
    """Wrap a plain value as a jsonb parameter; datetimes become ISO text."""
    return Jsonb(value, dumps=lambda found: msgspec.json.encode(found).decode())


class Session:
    """Runs named queries. Parameters are keyword arguments, rows become Structs.

    No method raises what the driver raises: see faults.py.
    """

    def __init__(self, connection: AsyncConnection[DictRow]) -> None:
        self._connection = connection

    async def rows(self, query: Query, into: type[T], /, **params: object) -> list[T]:
        """Return all rows as `into`, a Struct whose field names are the column names."""
        with spoken():
            cursor = await self._connection.execute(query.text, params or None)
            lines = await cursor.fetchall()
        return [_filled(into, line) for line in lines]

    async def row(self, query: Query, into: type[T], /, **params: object) -> T | None:
        """Return the first row as `into`, or None."""
        line = await self._first(query, params)
        return None if line is None else _filled(into, line)

    async def value(self, query: Query, /, **params: object) -> Any:
        """Return the first column of the first row, or None where there is no row."""
        line = await self._first(query, params)
        return None if line is None else next(iter(line.values()))

    async def run(self, query: Query, /, **params: object) -> int:
        """Run a statement and return how many rows it touched."""
        with spoken():
            cursor = await self._connection.execute(query.text, params or None)
        return cursor.rowcount

    async def run_many(self, query: Query, lines: Sequence[Mapping[str, object]], /) -> int:
        """Run a statement once per line, in one round trip; return the rows touched in all."""
        if not lines:
            return 0
        with spoken():
            async with self._connection.cursor() as cursor:
                await cursor.executemany(query.text, lines)
                return cursor.rowcount

    async def copy_in(self, query: Query, lines: Iterable[Sequence[object]], /) -> None:
        """Stream rows into a `copy ... from stdin` statement."""
        with spoken():
            async with self._connection.cursor() as cursor, cursor.copy(query.text) as copy:
                for line in lines:
                    await copy.write_row(line)

    async def _first(self, query: Query, params: Mapping[str, object]) -> DictRow | None:
        with spoken():
            cursor = await self._connection.execute(query.text, params or None)
            return await cursor.fetchone()
