"""Nouns of the change stream, in the terms of Debezium's envelope.

Source: Debezium's PostgreSQL connector documentation (envelope: op, before, after, source), and
PostgreSQL's "Logical Replication Message Formats".
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import Enum, StrEnum
from typing import Final, Literal, Protocol, TypeAlias

from msgspec import Struct

from millrace.store.session import Session
from millrace.store.types import Position


class Operation(StrEnum):
    """What happened to a row. READ is a row of a snapshot; TRUNCATE names a table and no row."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"
    READ = "r"
    TRUNCATE = "t"
    MESSAGE = "m"


class Absent(Enum):
    """What the log does not carry."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Absent.UNCHANGED
"""A large value that an update did not touch: the log leaves it out. Keep the old one, or read
the row; never take it for a value."""

Value: TypeAlias = (
    bool | int | float | str | bytes | datetime | list[str] | list[int] | list[float]
    | Literal[Absent.UNCHANGED] | None
)  # fmt: skip
"""A column as Python has it. Types that the decoder does not know stay text."""

Row: TypeAlias = Mapping[str, Value]

MESSAGES: Final = ""
"""The table of changes that are no rows: what pg_logical_emit_message said in a transaction."""


class Change(Struct, frozen=True, kw_only=True):
    """One committed change of one row.

    table: without its schema; only tables of the publication come. Empty for a MESSAGE: a
        consumer that wants those names the table MESSAGES.
    key: the values of the primary key, in its order; empty for TRUNCATE and MESSAGE.
    before: the old row as far as the log has it: the key on a delete, nothing on most updates.
    after: the new row; None on a delete. A MESSAGE has `prefix` and `content` here.
    version: `system_version` of the row after the change; of a delete, the version that its
        tombstone keeps; None where the table has none.
    position: the end of the commit; of a transaction that goes out in parts a place inside of the
        commit. Every change of one transaction has the same, and it lies behind the end of every
        earlier one.
    number: the place in its transaction, from 0. (position, number) orders all changes.
    transaction: the 32-bit number of its transaction, 0 where it is not known.
    """

    op: Operation
    table: str
    key: tuple[Value, ...]
    before: Row | None
    after: Row | None
    version: int | None
    position: Position
    committed_at: datetime
    number: int
    transaction: int = 0


class Batch(Struct, frozen=True):
    """Changes in the order of their commits, bounded in number.

    position: everything committed up to here has been delivered when this batch is applied. None
        in the middle of a transaction that is larger than a batch. It may lie behind the last
        change, and a batch may be empty: then only the position moves.
    """

    changes: Sequence[Change]
    position: Position | None


class StreamState(Struct, frozen=True, kw_only=True):
    """How a stream does, for metrics and pages. Counts are since its start.

    connected: whether changes flow; False while it is interrupted, and of a named stream while
        another process has its slot.
    applied: everything committed up to here is applied; None while it is interrupted.
    lag_bytes: log that the server has and we have not applied, as far as it told us.
    lag_seconds: how long the oldest change that has arrived has waited to be applied; while the
        stream is interrupted, for how long it has been.
    failures: times that it was interrupted, by the connection, the server or a consumer.
    restarts: times that it began to flow again.
    """

    name: str
    connected: bool
    applied: Position | None
    lag_bytes: int
    lag_seconds: float
    changes: int
    batches: int
    failures: int
    restarts: int


class Snapshot(Struct, frozen=True):
    """The database as of a position: what `session` reads is everything before it, nothing after."""

    session: Session
    position: Position


class Consumer(Protocol):
    """A wheel of the river: what is derived from committed changes.

    Delivery is at least once, in commit order: after a crash or a lost connection changes come
    again, and `begin` may come again at any time. So `apply` compares positions or versions.
    """

    @property
    def name(self) -> str:
        """Return the name for logs, metrics and (of a durable one) the slot."""
        ...

    @property
    def tables(self) -> frozenset[str]:
        """Return the tables whose changes it wants; others are not even decoded."""
        ...

    async def begin(self, snapshot: Snapshot) -> None:
        """Make everything anew from a snapshot: at the start, and wherever changes were missed."""
        ...

    async def apply(self, batch: Batch) -> None:
        """Take a batch. While this waits, the stream reads no further: that is the back-pressure.

        What it raises is logged and counted; the stream then begins anew with `begin`.
        """
        ...

    def lost(self) -> None:
        """Hear that the stream is interrupted: from now on nothing held is known to be current."""
        ...


class DurableConsumer(Consumer, Protocol):
    """A consumer that owns a named slot: the server keeps the log until the work is safe."""

    def safe(self) -> Position | None:
        """Return the position up to which the work needs no log any more; None before the first.

        The slot is advanced to it now and then. Work that waits in memory is not safe.
        """
        ...
