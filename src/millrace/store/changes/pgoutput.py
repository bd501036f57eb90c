"""The messages of the server's own output plugin, read. Nothing here touches a connection.

Source: "Logical Replication Message Formats" of PostgreSQL's documentation, protocol version 1,
which sends a transaction when it is committed, whole. The same in PostgreSQL 15 to 18.
"""

import struct
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import NoReturn, TypeAlias

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.store.changes.types import UNCHANGED, Operation, Value
from millrace.store.changes.values import Reader, reader_of

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
SHOWN_BYTES_MAX = 40

_BEGIN = struct.Struct("!qqI")
_COMMIT = struct.Struct("!bqqq")
_RELATION = struct.Struct("!bh")
_COLUMN = struct.Struct("!Ii")
_SAID = struct.Struct("!bq")
_TRUNCATE = struct.Struct("!ib")
_NUMBER = struct.Struct("!I")
_LENGTH = struct.Struct("!i")
_COUNT = struct.Struct("!h")
_PART_OF_KEY = 1
_TRANSACTIONAL = 1
_NULL, _SAME, _TEXT = b"nut"
_OLD_KEY, _OLD_ROW, _NEW = b"KON"


class Begin(Struct, frozen=True):
    """A transaction begins. `commit_lsn` is where its commit is written; its end is not known yet."""

    commit_lsn: int
    committed_at: datetime
    xid: int


class Commit(Struct, frozen=True):
    """A transaction ends, and `end_lsn` is the first place behind it."""

    commit_lsn: int
    end_lsn: int


class RowChange(Struct, frozen=True):
    """One change of one row of a wanted table."""

    op: Operation
    table: str
    key: tuple[Value, ...]
    before: dict[str, Value] | None
    after: dict[str, Value] | None


class Truncated(Struct, frozen=True):
    """Wanted tables that lost all rows."""

    tables: tuple[str, ...]


class Said(Struct, frozen=True):
    """What pg_logical_emit_message wrote. Only a transactional one belongs to a commit."""

    prefix: str
    content: bytes
    transactional: bool


Message: TypeAlias = Begin | Commit | RowChange | Truncated | Said | None
"""None: a message that says nothing to anybody here."""


class _Relation(Struct, frozen=True):
    """A table as the log described it last.

    columns: each with what reads it.
    key: the primary key's columns, in the key's own order.
    flagged: the columns that the log has of a deleted row.
    """

    table: str
    columns: tuple[tuple[str, Reader], ...]
    key: tuple[str, ...]
    flagged: tuple[str, ...]


class Decoder:
    """Reads the messages of one stream, in their order: later ones stand on earlier ones.

    Bad input is an InvalidError, whatever it is; nothing is allocated that the input does not
    itself contain.
    """

    def __init__(self, tables: Collection[str], keys: Mapping[str, tuple[str, ...]]) -> None:
        """Read for `tables`.

        Args:
            tables: whose rows are decoded; those of others are not looked at.
            keys: the columns of each table's primary key in its order, as the catalog has them.
                The log itself says which columns, but not in which order.
        """
        self._tables = frozenset(tables)
        self._keys = dict(keys)
        self._relations: dict[int, _Relation | None] = {}
        self._verbs: dict[int, Callable[[bytes], Message]] = {
            ord("B"): _begin,
            ord("C"): _commit,
            ord("O"): _nothing,
            ord("Y"): _nothing,
            ord("R"): self._relation,
            ord("I"): self._insert,
            ord("U"): self._update,
            ord("D"): self._delete,
            ord("T"): self._truncate,
            ord("M"): _said,
        }

    def read(self, data: bytes) -> Message:
        """Return what a message says.

        Raises:
            InvalidError: it is no message of this protocol, or it contradicts itself.
        """
        verb = self._verbs.get(data[0]) if data else None
        if verb is None:
            _refuse("a message of an unknown kind", data)
        try:
            return verb(data)
        except (struct.error, IndexError, OverflowError, ValueError) as exc:
            raise InvalidError(
                f"a message of the change stream cannot be read: {exc}",
                field=chr(data[0]),
                value=data[:SHOWN_BYTES_MAX].hex(),
                limit="pgoutput, protocol version 1",
                next_step="report this with the version of PostgreSQL",
            ) from exc

    def _relation(self, data: bytes) -> None:
        number = _NUMBER.unpack_from(data, 1)[0]
        _, at = _string(data, 5)
        table, at = _string(data, at)
        if table not in self._tables:
            self._relations[number] = None
            return
        _, count = _RELATION.unpack_from(data, at)
        at += _RELATION.size
        columns: list[tuple[str, Reader]] = []
        flagged: list[str] = []
        for _ in range(count):
            in_key = data[at] & _PART_OF_KEY
            name, at = _string(data, at + 1)
            kind, _ = _COLUMN.unpack_from(data, at)
            at += _COLUMN.size
            columns.append((name, reader_of(kind)))
            if in_key:
                flagged.append(name)
        self._relations[number] = _Relation(
            table, tuple(columns), self._ordered(table, flagged), tuple(flagged)
        )

    def _ordered(self, table: str, flagged: list[str]) -> tuple[str, ...]:
        """Return the key in the catalog's order, where log and catalog mean the same key."""
        known = self._keys.get(table, ())
        return known if known and set(known) <= set(flagged) else tuple(flagged)

    def _of(self, data: bytes) -> _Relation | None:
        number = _NUMBER.unpack_from(data, 1)[0]
        try:
            return self._relations[number]
        except KeyError:
            _refuse(f"a change of the table number {number}, which was never described", data)

    def _insert(self, data: bytes) -> RowChange | None:
        relation = self._of(data)
        if relation is None:
            return None
        _expect(data, 5, _NEW)
        row, _ = _row(data, 6, relation)
        return RowChange(Operation.CREATE, relation.table, _key(row, relation), None, row)

    def _update(self, data: bytes) -> RowChange | None:
        relation = self._of(data)
        if relation is None:
            return None
        before, at = None, 5
        if data[at] in (_OLD_KEY, _OLD_ROW):
            old, end = _row(data, at + 1, relation)
            before, at = _kept(old, data[at], relation), end
        _expect(data, at, _NEW)
        row, _ = _row(data, at + 1, relation)
        return RowChange(Operation.UPDATE, relation.table, _key(row, relation), before, row)

    def _delete(self, data: bytes) -> RowChange | None:
        relation = self._of(data)
        if relation is None:
            return None
        if data[5] not in (_OLD_KEY, _OLD_ROW):
            _refuse("a delete without its old row", data)
        old, _ = _row(data, 6, relation)
        before = _kept(old, data[5], relation)
        return RowChange(Operation.DELETE, relation.table, _key(old, relation), before, None)

    def _truncate(self, data: bytes) -> Truncated:
        count, _ = _TRUNCATE.unpack_from(data, 1)
        numbers = struct.unpack_from(f"!{count}I", data, 1 + _TRUNCATE.size)
        relations = [self._relations.get(number) for number in numbers]
        return Truncated(tuple(found.table for found in relations if found is not None))


def _nothing(_: bytes) -> None:
    return None


def _begin(data: bytes) -> Begin:
    lsn, moment, xid = _BEGIN.unpack_from(data, 1)
    return Begin(lsn, EPOCH + timedelta(microseconds=moment), xid)


def _commit(data: bytes) -> Commit:
    _, lsn, end, _ = _COMMIT.unpack_from(data, 1)
    return Commit(lsn, end)


def _said(data: bytes) -> Said:
    flags, _ = _SAID.unpack_from(data, 1)
    prefix, at = _string(data, 1 + _SAID.size)
    content, _ = _counted(data, at)
    return Said(prefix, content, bool(flags & _TRANSACTIONAL))


def _row(data: bytes, at: int, relation: _Relation) -> tuple[dict[str, Value], int]:
    """Return the columns of a row, and the place behind it."""
    (count,) = _COUNT.unpack_from(data, at)
    at += _COUNT.size
    if count != len(relation.columns):
        wanted = len(relation.columns)
        _refuse(f"a row of {relation.table} with {count} columns, not {wanted}", data)
    row: dict[str, Value] = {}
    size = len(data)
    for name, read in relation.columns:
        kind = data[at]
        if kind == _TEXT:
            # Slices, because this runs for every column of every row. A length that is negative
            # reads as one of gigabytes, and one that is cut off lies behind the end.
            start = at + 5
            end = start + int.from_bytes(data[at + 1 : start])
            if end > size:
                _refuse(f"a column {relation.table}.{name} that ends behind the message", data)
            row[name] = read(data[start:end])
            at = end
        elif kind == _NULL:
            row[name] = None
            at += 1
        elif kind == _SAME:
            row[name] = UNCHANGED
            at += 1
        else:
            _refuse(f"a column {relation.table}.{name} in a form that was not asked for", data)
    return row, at


def _key(row: dict[str, Value], relation: _Relation) -> tuple[Value, ...]:
    return tuple([row[name] for name in relation.key])


def _kept(old: dict[str, Value], kind: int, relation: _Relation) -> dict[str, Value]:
    """Return what the log really has of an old row: mostly the key, and nulls in place of the rest."""
    if kind == _OLD_ROW:
        return old
    return {name: old[name] for name in relation.flagged}


def _string(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        _refuse("a name without an end", data)
    return data[at:end].decode(), end + 1


def _counted(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(data, at)
    start = at + _LENGTH.size
    if length < 0 or start + length > len(data):
        _refuse(f"a content of {length} bytes", data)
    return data[start : start + length], start + length


def _expect(data: bytes, at: int, kind: int) -> None:
    if data[at] != kind:
        _refuse(f"{chr(data[at])!r} where {chr(kind)!r} has to stand", data)


def _refuse(what: str, data: bytes) -> NoReturn:
    """Say what came that cannot be.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"the change stream has {what}",
        value=data[:SHOWN_BYTES_MAX].hex(),
        limit="pgoutput, protocol version 1",
        next_step="report this with the version of PostgreSQL",
    )
