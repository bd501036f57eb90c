"""One error tree for the package.

    MillraceError
    ├── InvalidError          the input is wrong: names field, value, limit
    │   └── TooLargeError     the input is longer than a limit
    ├── UnauthenticatedError  nobody, or a token that does not hold
    │   └── BannedError       the token holds, and its member was shut out
    ├── ForbiddenError        somebody, but not allowed
    ├── NotFoundError         there is no such thing, or the asker may not know of it
    ├── ConflictError         the thing is not in the state that the request expects
    ├── TooManyError          a rate or a quota is used up; `retry_seconds` says when to return
    ├── UnavailableError      a part that is needed does not answer now; trying again may help
    └── SetupError            the installation is wrong: path, port, permission, version

Every message names the thing, its value, the limit and the next step.
"""

from math import ceil
from typing import ClassVar


class MillraceError(Exception):
    """Root of all errors that Millrace raises on purpose.

    `code` is stable and documented; doors map it to an HTTP or exit status.
    """

    code: ClassVar[str] = "error"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        value: object = None,
        limit: object = None,
        next_step: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = value
        self.limit = limit
        self.next_step = next_step


class InvalidError(MillraceError):
    """The input is wrong."""

    code = "invalid"


class TooLargeError(InvalidError):
    """The input is longer or larger than a limit."""

    code = "too_large"


class UnauthenticatedError(MillraceError):
    """No token, or one that does not hold."""

    code = "unauthenticated"


class BannedError(UnauthenticatedError):
    """The member is banned."""

    code = "banned"


class ForbiddenError(MillraceError):
    """The asker is known and may not do this."""

    code = "forbidden"


class NotFoundError(MillraceError):
    """There is no such thing, or the asker may not know of it."""

    code = "not_found"


class ConflictError(MillraceError):
    """The thing is not in the state that the request expects."""

    code = "conflict"


class TooManyError(MillraceError):
    """A rate or a quota is used up."""

    code = "too_many"

    def __init__(self, message: str, *, retry_seconds: float, limit: object = None) -> None:
        # Rounded up: whoever returns a moment too early is only refused again.
        step = f"try again in {max(1, ceil(retry_seconds))} s"
        super().__init__(message, limit=limit, next_step=step)
        self.retry_seconds = retry_seconds


class UnavailableError(MillraceError):
    """A part that is needed does not answer now."""

    code = "unavailable"


class SetupError(MillraceError):
    """The installation is wrong, and a person has to mend it."""

    code = "setup"
