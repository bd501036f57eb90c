"""ETags: what a client has seen, and what it means to change.

A tag is `"<system_version>-<fingerprint>"`. The fingerprint makes it strong: a card also shows
counters, which move without a new version. If-Match compares the version alone, so that somebody's
like does not refuse the author's edit.
"""

from typing import Any, TypeVar

import msgspec
from litestar import MediaType, Response

from millrace.api.asked import Asked
from millrace.api.errors import PreconditionError
from millrace.kernel.hashing import fingerprint

T = TypeVar("T")


def tag_of(version: int, body: bytes) -> str:
    """Return the strong tag of a representation."""
    return f'"{version}-{fingerprint(body)}"'


def tags_in(header: str) -> list[str]:
    """Return the tags of an If-Match or If-None-Match header."""
    return [part.strip() for part in header.split(",") if part.strip()]


def versioned(request: Asked, found: T, version: int, status: int = 200) -> Response[T]:
    """Answer with a tag; 304 where the client has this very representation."""
    body = msgspec.json.encode(found)
    tag = tag_of(version, body)
    held = tags_in(request.headers.get("if-none-match", ""))
    if request.method == "GET" and ("*" in held or tag in [t.removeprefix("W/") for t in held]):
        same: Any = Response(None, status_code=304, headers={"etag": tag})
        return same
    answer: Any = Response(
        body, status_code=status, media_type=MediaType.JSON, headers={"etag": tag}
    )
    return answer


def expected_version(request: Asked) -> int | None:
    """Return the version that the client means to change, or None where it does not say.

    Raises:
        PreconditionError: no tag of If-Match can be one of ours.
    """
    header = request.headers.get("if-match")
    if header is None or header.strip() == "*":
        return None
    tags = tags_in(header)
    if len(tags) == 1:
        number = tags[0].strip('"').partition("-")[0]
        if tags[0].startswith('"') and number.isascii() and number.isdigit() and len(number) <= 18:
            return int(number)
    raise PreconditionError(
        "If-Match names no version of this resource",
        field="If-Match",
        value=header,
        limit="one strong ETag that the API returned",
        next_step="read the resource again and send its ETag",
    )


def require(expected: int | None, present: int) -> None:
    """Refuse where the client has seen another version.

    Raises:
        PreconditionError: the present version is another.
    """
    if expected is not None and expected != present:
        raise PreconditionError(
            f"the resource is at version {present}, the request expects {expected}",
            field="If-Match",
            value=expected,
            limit=present,
            next_step="read the resource again, and decide anew",
        )
