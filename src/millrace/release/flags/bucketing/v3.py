"""Bucketing v3, frozen: as v2, but a key is any value, and its canonical CBOR is hashed.

So the number 1 and the text "1" lie apart, and flag "ab" with member "c" apart from flag "a" with
member "bc": without a key of its own a rule splits by the list [flag key, targeting key]. Numbers
without a fraction are whole numbers, whichever way JSON wrote them.

Source: flagd's decision of December 2025 on CBOR; RFC 7049, section 3.9. Never edit this file.
"""

import struct
from collections.abc import Callable, Sequence
from itertools import accumulate
from math import isnan
from typing import Any, cast

import mmh3

NAME = "v3"
SUM_MAX = 2**31 - 1
DEPTH_MAX = 32
BYTES_MAX = 2**20


def place(key: object) -> int | None:
    """Return where a key lies, None for null and for what has no encoding."""
    if key is None:
        return None
    try:
        return mmh3.hash(_encoded(key, DEPTH_MAX), 0, False)  # noqa: FBT003 - positional: in C
    except ValueError:
        return None


def place_of(flag_key: str) -> Callable[[str], int | None]:
    """Return where the targeting keys of a flag lie: the list of flag key and targeting key."""

    hashed = mmh3.hash
    try:
        start = _head(4, 2) + _encoded(flag_key, DEPTH_MAX)
    except ValueError:
        return lambda _targeting_key: None

    def place_of_targeting(targeting_key: str) -> int | None:
        try:
            text = targeting_key.encode()
        except UnicodeEncodeError:
            return None
        return hashed(start + _head(3, len(text)) + text, 0, False)  # noqa: FBT003 - as above

    return place_of_targeting


def bounds(weights: Sequence[int]) -> list[int]:
    """Return, for each weight but the last, the first place beyond its share.

    A place p is in the bucket `p * sum >> 32`, so it is beyond a share that ends at e when
    p >= ceil(e * 2^32 / sum).
    """
    total = sum(weights)
    return [-(-(end << 32) // total) for end in list(accumulate(weights))[:-1]]


def _encoded(value: Any, depth: int) -> bytes:
    """Return the canonical CBOR of a JSON value.

    Raises:
        ValueError: it is nested too deep, too long, or holds what JSON does not have.
    """
    if depth == 0:
        raise ValueError("nested too deep for a key")
    match value:
        case str():
            encoded = value.encode()
            return _head(3, len(encoded)) + encoded
        case bool() | None:
            return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
        case int():
            return _whole(value)
        case float():
            return _number(value)
        case list() | tuple():
            items = cast("list[Any]", value)
            return _joined(_head(4, len(items)), [_encoded(item, depth - 1) for item in items])
        case dict():
            return _map(cast("dict[Any, Any]", value), depth - 1)
        case _:
            raise ValueError(f"{type(value).__name__} is not of JSON")


def _map(value: dict[Any, Any], depth: int) -> bytes:
    """Return a map with its keys by their bytes, which for texts puts the shorter first."""
    pairs = [(_encoded(name, depth), _encoded(item, depth)) for name, item in value.items()]
    pairs.sort()
    return _joined(_head(5, len(pairs)), [part for pair in pairs for part in pair])


def _joined(head: bytes, parts: list[bytes]) -> bytes:
    """Return the parts after their head.

    Raises:
        ValueError: together they are longer than a key may be.
    """
    if sum(map(len, parts)) > BYTES_MAX:
        raise ValueError("too long for a key")
    return head + b"".join(parts)


def _head(major: int, number: int) -> bytes:
    """Return the shortest head of a major type and its number, below 2^64."""
    if number < 24:
        return bytes([major << 5 | number])
    size = 0 if number < 2**8 else 1 if number < 2**16 else 2 if number < 2**32 else 3
    return bytes([major << 5 | 24 + size]) + number.to_bytes(1 << size, "big")


def _whole(value: int) -> bytes:
    """Return a whole number; beyond 64 bits as a tagged string of bytes."""
    major, number = (0, value) if value >= 0 else (1, -1 - value)
    if number < 2**64:
        return _head(major, number)
    long = number.to_bytes((number.bit_length() + 7) // 8, "big")
    return _head(6, 2 + major) + _head(2, len(long)) + long


def _number(value: float) -> bytes:
    """Return a number with a fraction in the shortest form that keeps it."""
    if value.is_integer() and -(2**63) <= value <= 2**64 - 1:
        return _whole(int(value))
    if isnan(value):
        return b"\xf9\x7e\x00"
    for head, form in ((b"\xf9", ">e"), (b"\xfa", ">f")):
        try:
            packed = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, packed)[0] == value:
            return head + packed
    return b"\xfb" + struct.pack(">d", value)
