"""Cursors: signed, and good for one list only, so that a page never continues another list."""

import base64
import binascii
import hashlib
import hmac
from typing import Annotated, NoReturn

from litestar.params import FromQuery, QueryParameter
from msgspec import Struct

from millrace.api.errors import MalformedError

LIMIT_DEFAULT = 20
LIMIT_MAX = 100
CURSOR_CHARACTERS_MAX = 200
SIGNATURE_BYTES = 12


Limit = Annotated[int, QueryParameter(ge=1, le=LIMIT_MAX)]


class PageAsked(Struct, frozen=True):
    """Which page of a list is asked for."""

    limit: int
    cursor: str


def page_asked(limit: Limit = LIMIT_DEFAULT, cursor: FromQuery[str] = "") -> PageAsked:
    """Read the two parameters that every list has."""
    return PageAsked(limit, cursor)


def _signature(secret: bytes, listed: str, place: str) -> bytes:
    said = f"cursor.1\0{listed}\0{place}".encode()
    return hmac.new(secret, said, hashlib.sha256).digest()[:SIGNATURE_BYTES]


def cursor_at(secret: bytes, listed: str, place: str) -> str:
    """Return the cursor of a place in a list; `listed` names the list with its filters."""
    body = _signature(secret, listed, place) + place.encode()
    return base64.urlsafe_b64encode(body).decode().rstrip("=")


def place_in(secret: bytes, listed: str, cursor: str) -> str | None:
    """Return the place that a cursor stands for, or None for an empty one.

    A cursor that is not one of ours, or of another list, is a MalformedError.
    """
    if not cursor:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        body = base64.b64decode(padded, altchars=b"-_", validate=True)
        place = body[SIGNATURE_BYTES:].decode("ascii")
    except (binascii.Error, ValueError):
        _refuse(cursor)
    good = _signature(secret, listed, place)
    if len(cursor) > CURSOR_CHARACTERS_MAX or not hmac.compare_digest(body[:SIGNATURE_BYTES], good):
        _refuse(cursor)
    return place


def _refuse(cursor: str) -> NoReturn:
    """Refuse a cursor.

    Raises:
        MalformedError: says what a cursor is.
    """
    raise MalformedError(
        "the cursor does not belong to this list",
        field="cursor",
        value=cursor,
        limit="a next_cursor of the same list with the same filters",
        next_step="begin again without a cursor",
    )
