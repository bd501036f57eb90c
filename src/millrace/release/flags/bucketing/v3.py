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
VALUES_MAX = 10_000  # in a key; a long text counts by its kilobytes


def place(key: object) -> int | None:
    """Return where a key lies, None for null and for what has no encoding."""
    if key is None:
        return None
    try:
        return mmh3.hash(_Encoder().encoded(key, DEPTH_MAX), 0, False)  # noqa: FBT003 - positional: in C
    except ValueError:
        return None


def place_of(flag_key: str) -> Callable[[str], int | None]:
    """Return where the targeting keys of a flag lie: the list of flag key and targeting key."""

    hashed = mmh3.hash
    try:
        start = _head(4, 2) + _Encoder().encoded(flag_key, DEPTH_MAX)
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


class _Encoder:
    """Canonical CBOR of one key, which may hold the same list over and over."""

    def __init__(self) -> None:
        self.left = VALUES_MAX

    def encoded(self, value: Any, depth: int) -> bytes:
        """Return the encoding of a JSON value.

        Raises:
            ValueError: it is nested too deep, too long, or holds what JSON does not have.
        """
        self.left -= 1 + (len(value) >> 10 if type(value) is str else 0)
        if depth == 0 or self.left < 0:
            raise ValueError("nested too deep, or too long, for a key")
        match value:
            case str():
                text = value.encode()
                return _head(3, len(text)) + text
            case bool() | None:
                return {False: b"\xf4", True: b"\xf5", None: b"\xf6"}[value]
            case int():
                return _whole(value)
            case float():
                return _number(value)
            case list():
                items = cast("list[Any]", value)
                parts = [self.encoded(item, depth - 1) for item in items]
                return _head(4, len(items)) + b"".join(parts)
            case dict():
                return self.map(cast("dict[Any, Any]", value), depth - 1)
            case _:
                raise ValueError(f"{type(value).__name__} is not of JSON")

    def map(self, value: dict[Any, Any], depth: int) -> bytes:
        """Return an object with its keys by their bytes: for texts that is the shorter first."""
        pairs = [(self.encoded(name, depth), self.encoded(it, depth)) for name, it in value.items()]
        return _head(5, len(pairs)) + b"".join(part for pair in sorted(pairs) for part in pair)


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
