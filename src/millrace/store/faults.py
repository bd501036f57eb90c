"""What the driver says, in our words: no driver exception leaves the store.

A statement runs inside `spoken()`. Whatever the driver or the database raises there becomes an
error of kernel/errors.py that names the thing, and says whether trying again may help.
"""

import re
from collections.abc import Callable, Generator
from contextlib import contextmanager

import psycopg
from psycopg_pool import PoolTimeout, TooManyRequests

from millrace.kernel.errors import (
    ConflictError,
    InvalidError,
    MillraceError,
    SetupError,
    TooLargeError,
    UnavailableError,
)

TRY_AGAIN = "try again; nothing of this request was kept"
DETAIL = re.compile(r"^Key \((?P<columns>.*?)\)=\((?P<values>.*)\) ", re.DOTALL)
VALUE_CHARACTERS_MAX = 200


@contextmanager
def spoken(*, committing: Callable[[], bool] = lambda: False) -> Generator[None]:
    """Turn what the driver raises inside the block into an error of ours.

    Args:
        committing: asked when a connection is lost; whether the commit was already on its way,
            so that nobody can know if it arrived.
    """
    error: MillraceError
    try:
        yield
    except psycopg.Error as exc:
        error = translated(exc, committing=committing())
        raise error from exc
    except UnicodeEncodeError as exc:
        error = InvalidError(
            "the text holds a character that UTF-8 cannot express",
            value=ascii(exc.object[exc.start : exc.end]),
            next_step="remove unpaired surrogates",
        )
        raise error from exc


def translated(exc: psycopg.Error, *, committing: bool = False) -> MillraceError:
    """Return the error of ours that says what `exc` means."""
    if isinstance(exc, (PoolTimeout, TooManyRequests)):
        return UnavailableError("no database connection became free in time", next_step=TRY_AGAIN)
    state = exc.sqlstate
    if state is None:
        return _unnumbered(exc, committing=committing)
    made = _BY_STATE.get(state) or _BY_CLASS.get(state[:2])
    if made is None:
        return _refused(exc)
    if made is _gone and committing:
        return _unknown_outcome(exc)
    return made(exc)


def _refused(exc: psycopg.Error) -> MillraceError:
    return MillraceError(
        f"the database refused the statement ({exc.sqlstate}): {_said(exc)}",
        next_step="this is a mistake in the program: report it with this message",
    )


def _said(exc: psycopg.Error) -> str:
    return exc.diag.message_primary or str(exc).strip() or type(exc).__name__


def _unnumbered(exc: psycopg.Error, *, committing: bool) -> MillraceError:
    """Judge an error that the driver raised by itself, without the server's number."""
    if isinstance(exc, psycopg.DataError):
        return _data(exc)
    if isinstance(exc, (psycopg.OperationalError, psycopg.InterfaceError)):
        return _unknown_outcome(exc) if committing else _gone(exc)
    return MillraceError(
        f"the statement could not be sent: {_said(exc)}",
        next_step="this is a mistake in the program: report it with this message",
    )


def _gone(_: psycopg.Error) -> MillraceError:
    return UnavailableError("the database went away during the request", next_step=TRY_AGAIN)


def _unknown_outcome(_: psycopg.Error) -> MillraceError:
    return UnavailableError(
        "the database went away while the change was being committed",
        next_step="look whether the change is there before sending it again: it is whole or absent",
    )


def _slow(_: psycopg.Error) -> MillraceError:
    return UnavailableError(
        "a statement ran longer than store.statement_seconds_max and was stopped",
        next_step="ask for less at once, or try again when the database is less busy",
    )


def _outdated(exc: psycopg.Error) -> MillraceError:
    """Judge what the server cannot do: mostly a plan that is older than a change of a table."""
    if "cached plan" not in _said(exc):
        return _refused(exc)
    return UnavailableError(
        "a table was changed by a migration since the statement was planned", next_step=TRY_AGAIN
    )


def _exhausted(exc: psycopg.Error) -> MillraceError:
    return UnavailableError(
        f"the database has run out of something: {_said(exc)}",
        next_step="free disk, memory or connections of the database; nothing of this was kept",
    )


def _contended(_: psycopg.Error) -> MillraceError:
    return ConflictError("another write touched the same rows", next_step="send the request again")


def _key_of(exc: psycopg.Error) -> tuple[str | None, str | None]:
    """Return the columns and the values that a violated key names, where it names them."""
    found = DETAIL.match(exc.diag.message_detail or "")
    if found is None:
        return exc.diag.constraint_name, None
    return found["columns"], found["values"][:VALUE_CHARACTERS_MAX]


def _duplicate(exc: psycopg.Error) -> MillraceError:
    columns, values = _key_of(exc)
    return ConflictError(
        f"there is already a {exc.diag.table_name} with this {columns}",
        field=columns,
        value=values,
        next_step="choose another, or change the one that is there",
    )


def _reference(exc: psycopg.Error) -> MillraceError:
    columns, values = _key_of(exc)
    if "still referenced" in (exc.diag.message_detail or ""):
        return ConflictError(
            f"this {columns} is still referred to: {exc.diag.table_name}",
            field=columns,
            value=values,
            next_step="remove what refers to it first",
        )
    return InvalidError(
        f"this {exc.diag.table_name} refers to something that does not exist",
        field=columns,
        value=values,
        next_step="create what it refers to first, or correct the reference",
    )


def _rule(exc: psycopg.Error) -> MillraceError:
    field = exc.diag.column_name or exc.diag.constraint_name
    if field is None:  # for example: no partition for the row
        return MillraceError(
            f"the database refused the row: {_said(exc)}",
            next_step="this is a mistake in the program: report it with this message",
        )
    return InvalidError(
        f"this {exc.diag.table_name} breaks the rule {field}: {_said(exc)}",
        field=field,
        next_step="correct the value",
    )


def _data(exc: psycopg.Error) -> MillraceError:
    return InvalidError(
        f"the database cannot hold this value: {_said(exc)}", next_step="correct the value"
    )


def _too_large(exc: psycopg.Error) -> MillraceError:
    return TooLargeError(
        f"the value is too large for the database: {_said(exc)}", next_step="send less"
    )


def _forbidden(exc: psycopg.Error) -> MillraceError:
    return SetupError(
        f"the database role may not do this: {_said(exc)}",
        next_step="let the role own the database: alter database ... owner to ...",
    )


def _not_migrated(exc: psycopg.Error) -> MillraceError:
    return SetupError(
        f"the database does not have what this release needs: {_said(exc)}",
        next_step="start the program once with this release, so that it migrates the database",
    )


_BY_STATE: dict[str, Callable[[psycopg.Error], MillraceError]] = {
    "0A000": _outdated,
    "23503": _reference,
    "23505": _duplicate,
    "25P03": _gone,  # the server ended a transaction that had been idle for too long
    "42501": _forbidden,
    "42P01": _not_migrated,
    "55P03": _contended,
    "57014": _slow,
}
_BY_CLASS: dict[str, Callable[[psycopg.Error], MillraceError]] = {
    "08": _gone,
    "22": _data,
    "23": _rule,
    "28": _forbidden,
    "40": _contended,
    "53": _exhausted,
    "54": _too_large,
    "57": _gone,
    "58": _exhausted,
}
