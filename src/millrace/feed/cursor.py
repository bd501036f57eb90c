"""Cursors of feed pages, version 1. Frozen: `1.<member>.<served feed>.<day>.<offset>.<signature>`.

The signature (first 16 bytes of HMAC-SHA256, hexadecimal) keeps anybody from reading a served feed
that is not theirs, or from asking for offsets of their own making.
"""

import hashlib
import hmac
from datetime import UTC, date, datetime
from typing import NoReturn

from msgspec import Struct

from millrace.community.types import Key, parse_key
from millrace.kernel.errors import InvalidError

FORMAT = "1"
LENGTH_MAX = 200
NEXT_STEP = "ask for the first page without a cursor"


class Cursor(Struct, frozen=True):
    """A place in a served feed: the offset of the next page's first post."""

    member: Key
    served_feed_id: int
    day: date
    offset: int

    @property
    def moment(self) -> datetime:
        """Return where the day begins."""
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)


def sign(cursor: Cursor, secret: bytes) -> str:
    """Return the text of a cursor."""
    body = f"{FORMAT}.{cursor.member}.{cursor.served_feed_id}.{cursor.day:%Y%m%d}.{cursor.offset}"
    return f"{body}.{_signature(body, secret)}"


def verify(text: str, member: Key, secret: bytes) -> Cursor:
    """Read a cursor of this member.

    Passes on:
        InvalidError: it was not made by us, or for somebody else.
    """
    body, _, signature = text[: LENGTH_MAX + 1].rpartition(".")
    given, made = signature.encode("utf-8", "replace"), _signature(body, secret).encode()
    if len(text) > LENGTH_MAX or not hmac.compare_digest(given, made):
        _refuse(text, "is not one that this feed gave out")
    _, name, served, day, offset = body.split(".")
    found = Cursor(
        parse_key(name, "cursor"),
        int(served),
        datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC).date(),
        int(offset),
    )
    if found.member != member:
        _refuse(text, "belongs to another member's feed")
    return found


def expired(text: str) -> NoReturn:
    """Refuse a cursor whose feed is gone.

    Passes on:
        InvalidError: always.
    """
    _refuse(text, "has expired")


def _refuse(text: str, reason: str) -> NoReturn:
    """Refuse a cursor.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"the cursor {text[:40]!r} {reason}",
        field="cursor",
        value=text[:40],
        limit="a cursor that this member's feed returned lately",
        next_step=NEXT_STEP,
    )


def _signature(body: str, secret: bytes) -> str:
    text = f"feed-cursor.{body}".encode("utf-8", "replace")
    return hmac.new(secret, text, hashlib.sha256).hexdigest()[:32]
