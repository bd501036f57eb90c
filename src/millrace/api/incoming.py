"""One request as the gate reads it, before any handler: names, limits, and the whole body."""

import asyncio
import re
from typing import Any, NoReturn

from litestar.types import Receive
from msgspec import Struct

from millrace.api.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    MalformedError,
    MediaTypeError,
    UrlTooLongError,
)
from millrace.api.inventory import Media, RouteRule

URL_BYTES_MAX = 8192
BODY_SECONDS_MAX = 30.0
DRAINED_BYTES_MAX = 8 * 1024 * 1024  # of a body that is too large, so that the refusal is heard
# PostgreSQL's text cannot hold NUL. In JSON it is written as an escape; an even number of
# backslashes before it means that the escape itself is only text.
JSON_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BEYOND_ASCII = re.compile(rb"[\x80-\xff]")
FORM_TYPE = "application/x-www-form-urlencoded"


class ClientGoneError(Exception):
    """The client hung up before its request was read; there is nobody to answer."""


class Incoming(Struct, kw_only=True):
    """What a request says of itself. `method` is GET for a HEAD; `head` remembers that."""

    scope: dict[str, Any]
    method: str
    head: bool
    path: str
    query: bytes
    headers: dict[str, str]
    request_id: str
    peer: str

    @property
    def media_type(self) -> str:
        """Return the body's media type without its parameters."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    @property
    def has_body(self) -> bool:
        """Whether a body may be on its way; HTTP/1 says so, later versions need not."""
        said = self.headers.get("content-length", "0") != "0" or "transfer-encoding" in self.headers
        return said or not str(self.scope.get("http_version", "")).startswith("1")

    @property
    def target(self) -> bytes:
        """Return path and query as one name of what is asked for."""
        return self.path.encode() + b"?" + self.query


def headers_of(scope: dict[str, Any]) -> dict[str, str]:
    """Return the headers by lower-case name; repeated ones are joined as HTTP says."""
    found: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        between = "; " if name == "cookie" else ", "
        found[name] = f"{found[name]}{between}{value}" if name in found else value
    return found


def query_of(scope: dict[str, Any]) -> bytes:
    """Return the query in the letters that an address may have, for whoever reads it from here on.

    Other bytes are encoded as a client should have done. Not every reader behind us takes them.
    """
    query: bytes = scope["query_string"]
    scope["query_string"] = BEYOND_ASCII.sub(lambda found: b"%%%02X" % ord(found[0]), query)
    return scope["query_string"]


def check_target(incoming: Incoming) -> None:
    """Refuse addresses that no route could mean.

    Raises:
        UrlTooLongError: the address is too long.
        MalformedError: it holds control characters.
    """
    raw: Any = incoming.scope.get("raw_path") or incoming.path.encode()
    length = len(raw) + len(incoming.query)
    if length > URL_BYTES_MAX:
        raise UrlTooLongError(
            f"the address has {length} bytes",
            field="url",
            value=length,
            limit=URL_BYTES_MAX,
            next_step="shorten the query",
        )
    if b"%00" in incoming.query or any(letter < " " for letter in incoming.path):
        raise MalformedError(
            "the address holds a control character",
            field="url",
            limit="printable characters",
            next_step="remove it",
        )


async def read_body(incoming: Incoming, rule: RouteRule, receive: Receive) -> bytes:
    """Read the whole body, within the route's limit in bytes and ours in time.

    What goes beyond the limit is not kept, only read for a while: see `_is_hopeless`.

    A body that is larger than the route takes, announced or not, is a BodyTooLargeError; one that
    did not arrive in time is a BodyTimeoutError.

    Raises:
        ClientGoneError: the client hung up.
    """
    announced = incoming.headers.get("content-length", "")
    if (
        announced.isdigit()
        and int(announced) > rule.body_bytes_max
        and _is_hopeless(incoming, int(announced) - rule.body_bytes_max)
    ):
        _refuse_size(rule, int(announced))
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_SECONDS_MAX):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                chunk, more = _chunk(message)
                size += len(chunk)
                if size <= rule.body_bytes_max:
                    chunks.append(chunk)
                elif size > rule.body_bytes_max + DRAINED_BYTES_MAX:
                    more = False
    except TimeoutError as exc:
        error = late_body()
        raise error from exc
    if size > rule.body_bytes_max:
        _refuse_size(rule, size)
    return b"".join(chunks)


def late_body() -> BodyTimeoutError:
    """Return what to say about a body that did not arrive in time."""
    return BodyTimeoutError(
        f"the body did not arrive within {BODY_SECONDS_MAX:.0f} s",
        limit=BODY_SECONDS_MAX,
        next_step="send it again over a better connection, or in smaller batches",
    )


def _is_hopeless(incoming: Incoming, excess: int) -> bool:
    """Return whether a body that is announced as too large is better not read at all.

    Otherwise it is read and thrown away, because most clients send all of it before they listen:
    an answer with the connection closed behind it would reach them as a broken connection.
    """
    return excess > DRAINED_BYTES_MAX or incoming.headers.get("expect", "") != ""


def _chunk(message: object) -> tuple[bytes, bool]:
    held: Any = message
    return held.get("body", b""), held.get("more_body", False)


def _refuse_size(rule: RouteRule, size: int) -> NoReturn:
    """Refuse the body, of which so many bytes are known.

    Raises:
        BodyTooLargeError: names the route and its limit.
    """
    step = "send less, or in several requests" if rule.body_bytes_max else "send no body"
    raise BodyTooLargeError(
        f"{rule.method} {rule.path} takes a body of at most {rule.body_bytes_max} bytes",
        field="body",
        value=size,
        limit=rule.body_bytes_max,
        next_step=step,
    )


def check_media(incoming: Incoming, rule: RouteRule, body: bytes) -> None:
    """Refuse a body of another type than the route reads.

    A body with a NUL character, which no text may hold, is a MalformedError.

    Raises:
        MediaTypeError: the type is another.
    """
    if rule.media is Media.NONE or (rule.media is Media.FORM and not body):
        return
    wanted = "application/json" if rule.media is Media.JSON else FORM_TYPE
    if incoming.media_type != wanted:
        raise MediaTypeError(
            f"the body is {incoming.media_type or 'of no named type'}",
            field="Content-Type",
            value=incoming.media_type,
            limit=wanted,
            next_step=f"send Content-Type: {wanted}",
        )
    refuse_nul(rule.media, body)


def refuse_nul(media: Media, body: bytes) -> None:
    """Refuse a body with a NUL character, which no text may hold.

    Raises:
        MalformedError: it has one.
    """
    if b"%00" in body if media is Media.FORM else JSON_NUL.search(body) is not None:
        raise MalformedError(
            "the body holds the character NUL",
            field="body",
            limit="text without NUL",
            next_step="remove it",
        )
