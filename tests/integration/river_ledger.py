"""A consumer that keeps the rows of its tables: what it holds must equal what the tables hold.

The simplest wheel there is, shared by the tests of the river.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from millrace.store.changes.types import UNCHANGED, Batch, Change, Operation, Snapshot
from millrace.store.queries import Query
from millrace.store.types import Position

WAIT_SECONDS = 30.0


def q(text: str) -> Query:
    """A statement of a test."""
    return Query("test", "", text)


class Ledger:
    """Replays changes over a snapshot, and notes what cannot be."""

    def __init__(self, *tables: str, name: str = "ledger", keys: Sequence[str] = ("id",)) -> None:
        self.name = name
        self.tables = frozenset(tables)
        self._keys = tuple(keys)
        self.rows: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {t: {} for t in tables}
        self.surprises: list[str] = []
        self.changes: list[Change] = []
        self.sizes: list[int] = []
        self.position: Position | None = None
        self.begins = self.losses = 0
        self.before_apply: Callable[[Batch], Any] | None = None
        self.before_begin: Callable[[], Any] | None = None

    async def begin(self, snapshot: Snapshot) -> None:
        if self.before_begin is not None:
            await self.before_begin()
        for table in self.tables:
            found = await snapshot.session.rows(q(f"select * from {table}"), dict)
            self.rows[table] = {tuple(row[k] for k in self._keys): row for row in found}
        self.position = snapshot.position
        self.begins += 1

    async def apply(self, batch: Batch) -> None:
        if self.before_apply is not None:
            await self.before_apply(batch)
        self.sizes.append(len(batch.changes))
        for change in batch.changes:
            self._replay(change)
            self.changes.append(change)
        if batch.position is not None:
            assert self.position is None or batch.position >= self.position, "time runs backwards"
            self.position = batch.position

    def lost(self) -> None:
        self.losses += 1

    def safe(self) -> Position | None:
        return self.position

    def _replay(self, change: Change) -> None:
        rows = self.rows[change.table]
        if change.op is Operation.TRUNCATE:
            rows.clear()
            return
        if change.op is Operation.CREATE:
            if change.key in rows:
                self.surprises.append(f"made twice: {change}")
            rows[change.key] = dict(change.after)
            return
        old_key = tuple(change.before[k] for k in self._keys) if change.before else change.key
        if old_key not in rows:
            self.surprises.append(f"of no row: {change}")
        old = rows.pop(old_key, {})
        if change.op is Operation.UPDATE:
            rows[change.key] = {
                name: old.get(name) if value is UNCHANGED else value
                for name, value in change.after.items()
            }


async def position_now(conninfo: str) -> Position:
    """The position of everything committed so far, as a token names it."""
    from millrace.store.queries import load

    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
        cursor = db.cursor(row_factory=dict_row)
        await cursor.execute(load("millrace.store")["position"].text)
        return Position(**await cursor.fetchone())


def as_text(value: object) -> object:
    """Times compare as moments, whatever zone they are written in."""
    return value.timestamp() if isinstance(value, datetime) else value
