"""Every error leaves through here, as an RFC 9457 problem.

One table maps the codes of the error tree to statuses. `docs/errors.md` explains each code; a
test compares the two.
"""

import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar, cast

import msgspec
from litestar.exceptions import HTTPException, SerializationException, ValidationException
from msgspec import Struct

from millrace.kernel.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    MillraceError,
    NotFoundError,
    TooLargeError,
    TooManyError,
)
from millrace.release.flags.types import Problem as Wrong

MEDIA_TYPE = "application/problem+json"
VALUE_CHARACTERS_MAX = 120
RETRY_SECONDS = 1.0
# What msgspec raises on a body. The last is for JSON that is nested deeper than it follows.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
VERSIONS = frozenset({"system_version", "version"})  # what If-Match names, by the rooms' words
MISSING = re.compile(r"Missing required \w+ parameter '(\w+)'")


class MalformedError(InvalidError):
    """The request cannot be read: its JSON, a parameter or a header has another form."""

    code = "malformed"


class BodyTooLargeError(TooLargeError):
    """The body is larger than the route takes."""

    code = "body_too_large"


class UrlTooLongError(TooLargeError):
    """The address is longer than any route needs."""

    code = "url_too_long"


class MediaTypeError(InvalidError):
    """The body is of a type that the route does not read."""

    code = "unsupported_media_type"


class BodyTimeoutError(MillraceError):
    """The body did not arrive in time."""

    code = "body_timeout"


class MethodError(MillraceError):
    """The path exists, the method does not."""

    code = "method_not_allowed"

    def __init__(self, message: str, *, allow: str) -> None:
        super().__init__(message, limit=allow, next_step="use one of the methods in Allow")
        self.allow = allow


class OriginError(ForbiddenError):
    """A page of another origin tried to act with this session's cookie."""

    code = "foreign_origin"


class PreconditionError(ConflictError):
    """If-Match names another version than the present one."""

    code = "precondition_failed"


class KeyReusedError(InvalidError):
    """The idempotency key was used for another request."""

    code = "idempotency_key_reused"


class KeyInUseError(ConflictError):
    """A request with this idempotency key has begun, and has not been answered."""

    code = "idempotency_key_in_use"

    def __init__(self, message: str, *, next_step: str, retry_seconds: float | None) -> None:
        super().__init__(message, field="Idempotency-Key", next_step=next_step)
        self.retry_seconds = retry_seconds


class DefinitionError(InvalidError):
    """A flag's definition is wrong."""

    code = "wrong_definition"

    def __init__(self, message: str, *, field: str, problems: Sequence[Wrong]) -> None:
        super().__init__(message, field=field, next_step="mend the places in `problems`")
        self.problems = problems


class InternalError(MillraceError):
    """Something that we did not foresee. The log has the cause under the request id."""

    code = "internal"


STATUS: dict[str, int] = {
    "malformed": 400,
    "unauthenticated": 401,
    "banned": 401,
    "forbidden": 403,
    "foreign_origin": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "body_timeout": 408,
    "conflict": 409,
    "idempotency_key_in_use": 409,
    "precondition_failed": 412,
    "body_too_large": 413,
    "url_too_long": 414,
    "unsupported_media_type": 415,
    "invalid": 422,
    "too_large": 422,
    "idempotency_key_reused": 422,
    "wrong_definition": 422,
    "too_many": 429,
    "error": 500,
    "internal": 500,
    "setup": 500,
    "unavailable": 503,
}


class Misplaced(Struct, frozen=True, kw_only=True):
    """What is wrong at one place of a definition, a JSON pointer; `grave` must be mended."""

    place: str
    message: str
    grave: bool


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What went wrong, in the terms of RFC 9457.

    type: `urn:millrace:problem:` and the code; docs/errors.md explains each.
    title: what kind of problem, the same for every occurrence of the code.
    status: the HTTP status.
    detail: this occurrence, in a sentence.
    code: the stable name of the kind.
    request_id: names the request in the log.
    field: the part of the request that is wrong.
    value: what the field held, shortened.
    limit: what it may hold.
    next_step: what to do about it.
    problems: all that is wrong, where the body is a definition.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    field: str | None = None
    value: str | int | float | bool | None = None
    limit: str | int | float | bool | None = None
    next_step: str | None = None
    problems: list[Misplaced] | None = None


def titles() -> dict[str, str]:
    """Return the title of every code: the first sentence of its error's docstring."""
    found: dict[str, str] = {}
    waiting: list[type[MillraceError]] = [MillraceError]
    while waiting:
        kind = waiting.pop()
        about = (kind.__doc__ or kind.__name__).strip().splitlines()[0]
        if kind.code in STATUS:
            found.setdefault(kind.code, about.rstrip("."))
        waiting.extend(kind.__subclasses__())
    return found


def _plain(value: object) -> str | int | float | bool | None:
    """Return a value that is safe to show: short, and of a plain type."""
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"


class Answer(Struct, frozen=True):
    """A problem with the headers that belong to it."""

    problem: Problem
    headers: dict[str, str]

    MEDIA_TYPE: ClassVar[str] = MEDIA_TYPE

    def body(self) -> bytes:
        """Return the problem as JSON."""
        return msgspec.json.encode(self.problem)


def answer_of(error: MillraceError, request_id: str) -> Answer:
    """Return what to answer for an error."""
    status = STATUS.get(error.code, 500)
    headers: dict[str, str] = {}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="millrace"'
    if isinstance(error, MethodError):
        headers["allow"] = error.allow
    retry = _retry_seconds(error)
    if retry is not None:
        headers["retry-after"] = str(max(1, round(retry + 0.499)))
    problem = Problem(
        type=f"urn:millrace:problem:{error.code}",
        title=titles().get(error.code, HTTPStatus(status).phrase),
        status=status,
        detail=error.message,
        code=error.code,
        request_id=request_id,
        field=error.field,
        value=_plain(error.value),
        limit=_plain(error.limit),
        next_step=error.next_step,
        problems=_misplaced(error),
    )
    return Answer(problem, headers)


def _misplaced(error: MillraceError) -> list[Misplaced] | None:
    if not isinstance(error, DefinitionError):
        return None
    return [
        Misplaced(place=one.place, message=one.message, grave=one.grave) for one in error.problems
    ]


def _retry_seconds(error: MillraceError) -> float | None:
    if isinstance(error, TooManyError | KeyInUseError):
        return error.retry_seconds
    return RETRY_SECONDS if error.code == "unavailable" else None


def known(error: Exception, sent: Mapping[str, str] | None = None) -> MillraceError:
    """Return the error of our tree that says what a foreign error means.

    Args:
        error: what was raised.
        sent: the parameters of the query, to tell the value of a wrong one.

    What nobody foresaw, or what only the operator can mend, becomes an `InternalError` without
    any detail: the log has that.
    """
    if type(error) is ConflictError and error.field in VERSIONS:
        return _other_version(error)
    if isinstance(error, MillraceError) and STATUS.get(error.code, 500) != 500:
        return error
    if isinstance(error, ValidationException):
        return _parameter(error, sent or {})
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _of_litestar(error)
    return InternalError(
        "the server met a condition that it did not foresee",
        next_step="send the request_id to the operator; the log has the cause",
    )


def _other_version(error: ConflictError) -> PreconditionError:
    """Tell about an edit of an old version in the words of HTTP, where If-Match names it."""
    return PreconditionError(
        error.message,
        field="If-Match",
        value=error.value,
        limit=error.limit,
        next_step=error.next_step,
    )


def _parameter(error: ValidationException, sent: Mapping[str, str]) -> MillraceError:
    """Tell about the first wrong parameter; the framework lists them all."""
    found = cast("list[dict[str, Any]]", error.extra or [{}])
    first = found[0]
    missing = MISSING.match(error.detail)
    if missing is not None:
        return MalformedError(
            f"the parameter {missing[1]} is missing",
            field=missing[1],
            limit="a parameter that is needed",
            next_step="send it; /openapi.json has its type",
        )
    field = str(first.get("key", "")) or None
    message = str(first.get("message", "") or error.detail)
    return MalformedError(
        f"parameter {field}: {message}" if field else message,
        field=field,
        value=sent.get(field) if field else None,
        limit=message if field else None,
        next_step="correct the parameter; /openapi.json has its type",
    )


def _of_litestar(error: HTTPException) -> MillraceError:
    status = error.status_code
    if status == 404:
        return NotFoundError(
            "there is nothing at this address", next_step="see /openapi.json for the addresses"
        )
    if status == 405:
        allow = (error.headers or {}).get("allow", "")
        return MethodError("the method is not allowed here", allow=allow)
    cause = error.__cause__
    detail = str(cause) if isinstance(cause, SerializationException) else error.detail
    return MalformedError(detail or "the request cannot be read", next_step="correct it")


def place_and_reason(error: Exception) -> tuple[str, str]:
    """Return the path at which msgspec refused something, empty for the whole, and why."""
    reason, _, at = str(error).partition(" - at `")
    return at.rstrip("`").removeprefix("$").removeprefix("."), reason


def malformed_body(error: Exception) -> MalformedError:
    """Return the error for a body that msgspec refused, with the path that msgspec names."""
    field, reason = place_and_reason(error)
    return MalformedError(
        f"the body is not what this route reads: {error}",
        field=field or None,
        limit=reason if field else None,
        next_step="correct the body; /openapi.json has its form",
    )
