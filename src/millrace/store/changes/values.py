"""Columns as the log has them, text, made Python's own.

The server is asked for text, not for its binary form: every type has one, also those that nobody
here knows, and Python reads numbers from text as fast as from bytes.
"""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias, TypeVar

from millrace.store.changes.types import Value

Reader: TypeAlias = Callable[[bytes], Value]
T = TypeVar("T")

text: Callable[[bytes], str] = bytes.decode
"""Text as it stands; anything but UTF-8 is a ValueError."""

# One element of an array of text: quoted, with escapes, or plain.
ELEMENT = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"\\]+)', re.DOTALL)
ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def _boolean(data: bytes) -> bool:
    return data == b"t"


def _binary(data: bytes) -> Value:
    """Read bytes in hex, which is how the connection asks for them."""
    return bytes.fromhex(data[2:].decode()) if data.startswith(b"\\x") else text(data)


def _moment(data: bytes) -> Value:
    """Read a time with its zone; one that Python cannot hold (infinity, 4713 BC) stays text."""
    written = data.decode()
    try:
        return datetime.fromisoformat(written)
    except ValueError:
        return written


def _numbers(number: Callable[[bytes], T]) -> Callable[[bytes], list[T] | str]:
    """Return a reader of one-dimensional arrays; one with holes or more dimensions stays text."""

    def read(data: bytes) -> list[T] | str:
        if data == b"{}":
            return []
        if not data.startswith(b"{") or b"{" in data[1:]:
            return text(data)
        try:
            return [number(part) for part in data[1:-1].split(b",")]
        except ValueError:
            return text(data)

    return read


def _texts(data: bytes) -> list[str] | str:
    """Read an array of text; one with holes or more dimensions stays text."""
    written = data.decode()
    if written == "{}":
        return []
    if not (written.startswith("{") and written.endswith("}")):
        return written
    if '"' not in written and "{" not in written[1:]:
        plain = written[1:-1].split(",")
        return written if "NULL" in plain else plain
    found: list[str] = []
    at, end = 1, len(written) - 1
    while at < end:
        element = ELEMENT.match(written, at, end)
        if element is None or element[2] == "NULL":
            return written
        quoted: str | None = element[1]
        found.append(element[2] if quoted is None else ESCAPED.sub(r"\1", quoted))
        at = element.end()
        if at < end and written[at] != ",":
            return written
        at += 1
    return found if at == end + 1 else written


# The numbers are PostgreSQL's own, in pg_type; they never change.
READERS: Final[dict[int, Reader]] = {
    16: _boolean,
    17: _binary,
    20: int,  # int8, int2, int4, oid
    21: int,
    23: int,
    26: int,
    700: float,  # float4, float8
    701: float,
    1184: _moment,
    1005: _numbers(int),  # int2[], int4[], int8[]
    1007: _numbers(int),
    1016: _numbers(int),
    1021: _numbers(float),  # float4[], float8[]
    1022: _numbers(float),
    1009: _texts,  # text[], varchar[]
    1015: _texts,
}


def reader_of(type_number: int) -> Reader:
    """Return what reads a column of a type; text for types that nobody here knows."""
    return READERS.get(type_number, text)
