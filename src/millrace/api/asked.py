"""What a handler asks of its request: who, what body, which page."""

from datetime import datetime
from typing import Any, TypeAlias, TypeVar, cast

import msgspec
from litestar import Request

from millrace.api.errors import UNREADABLE, MalformedError, malformed_body
from millrace.community.types import BIGINT_MAX, Viewer
from millrace.wiring import Program

Asked: TypeAlias = Request[Any, Any, Any]
T = TypeVar("T")


def program_of(request: Asked) -> Program:
    """Return the program that the application was made for."""
    return cast(Program, request.app.state.program)


def viewer_of(request: Asked) -> Viewer:
    """Return who asks; the gate let nobody unknown come here."""
    viewer: Viewer | None = request.scope["state"]["viewer"]
    assert viewer is not None, "only a route whose scope is public has no viewer"
    return viewer


async def read(request: Asked, form: type[T]) -> T:
    """Return the body as a Struct, strictly: no text is taken for a number.

    A body of another form is a MalformedError that names the path in it.
    """
    try:
        return msgspec.json.decode(await request.body(), type=form)
    except UNREADABLE as exc:
        error = malformed_body(exc)
        raise error from exc


def number_of(text: str, field: str) -> int:
    """Read the id of a community.

    Raises:
        MalformedError: it is no whole number of 64 bits.
    """
    if text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= BIGINT_MAX:
        return int(text)
    raise MalformedError(
        f"{field} {text[:60]!r} is not the id of a community",
        field=field,
        value=text,
        limit=f"a whole number from 0 to {BIGINT_MAX}",
        next_step="use an id that the API returned",
    )


def aware(moment: datetime, field: str) -> datetime:
    """Return a moment that a parameter names.

    Raises:
        MalformedError: it has no time zone.
    """
    if moment.tzinfo is not None:
        return moment
    raise MalformedError(
        f"{field} {moment.isoformat()} has no time zone",
        field=field,
        value=moment.isoformat(),
        limit="a date and time with a time zone, as in RFC 3339",
        next_step="send for example 2026-05-01T00:00:00Z",
    )
