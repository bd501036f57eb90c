"""Messages as the server writes them, for tests that need no server."""

import struct

from millrace.store.changes.types import UNCHANGED
from millrace.store.types import Position

HERE = Position("7", 1, 100)
INT8, TEXT = 20, 25


def name(text: str) -> bytes:
    return text.encode() + b"\0"


def relation(table: str, *columns: tuple[str, int, bool], number: int = 9) -> bytes:
    parts = [b"R", struct.pack("!I", number), name("public"), name(table), b"d"]
    parts.append(struct.pack("!h", len(columns)))
    for column, kind, in_key in columns:
        parts += [bytes([in_key]), name(column), struct.pack("!Ii", kind, -1)]
    return b"".join(parts)


def row(*values: object) -> bytes:
    parts = [struct.pack("!h", len(values))]
    for value in values:
        if value is None:
            parts.append(b"n")
        elif value is UNCHANGED:
            parts.append(b"u")
        else:
            parts.append(b"t" + struct.pack("!i", len(value)) + value)
    return b"".join(parts)


def change(kind: bytes, rest: bytes, number: int = 9) -> bytes:
    return kind + struct.pack("!I", number) + rest


def begin(lsn: int, xid: int = 5) -> bytes:
    return b"B" + struct.pack("!qqI", lsn, 1_000_000, xid)


def commit(lsn: int, end: int) -> bytes:
    return b"C" + struct.pack("!bqqq", 0, lsn, end, 1_000_000)


POST = relation(
    "post", ("community_id", INT8, True), ("post_id", INT8, True), ("body", TEXT, False)
)
