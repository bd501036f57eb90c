"""Goal: whatever the driver raises has a meaning in our words; none passes as it is."""

import psycopg
import pytest
from psycopg import errors
from psycopg_pool import PoolClosed, PoolTimeout, TooManyRequests

from millrace.kernel.errors import (
    ConflictError,
    InvalidError,
    MillraceError,
    SetupError,
    TooLargeError,
    UnavailableError,
)
from millrace.store.faults import spoken, translated

# Every SQLSTATE that the driver knows, by its exception class.
EVERY = [
    found
    for found in vars(errors).values()
    if isinstance(found, type) and isinstance(getattr(found, "sqlstate", None), str)
]


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (errors.DiskFull("x"), UnavailableError),
        (errors.TooManyConnections("x"), UnavailableError),
        (errors.OutOfMemory("x"), UnavailableError),
        (errors.IoError("x"), UnavailableError),
        (errors.CannotConnectNow("x"), UnavailableError),
        (errors.AdminShutdown("x"), UnavailableError),
        (errors.CrashShutdown("x"), UnavailableError),
        (errors.ConnectionFailure("x"), UnavailableError),
        (errors.IdleInTransactionSessionTimeout("x"), UnavailableError),
        (errors.QueryCanceled("x"), UnavailableError),
        (errors.SerializationFailure("x"), ConflictError),
        (errors.DeadlockDetected("x"), ConflictError),
        (errors.LockNotAvailable("x"), ConflictError),
        (errors.UniqueViolation("x"), ConflictError),
        (errors.ForeignKeyViolation("x"), InvalidError),
        (errors.NumericValueOutOfRange("x"), InvalidError),
        (errors.UntranslatableCharacter("x"), InvalidError),
        (errors.ProgramLimitExceeded("x"), TooLargeError),
        (errors.InsufficientPrivilege("x"), SetupError),
        (errors.UndefinedTable("x"), SetupError),
        (errors.SyntaxError("x"), MillraceError),
        (errors.ReadOnlySqlTransaction("x"), MillraceError),
        (errors.InternalError_("x"), MillraceError),
        (psycopg.OperationalError("server closed the connection unexpectedly"), UnavailableError),
        (psycopg.InterfaceError("the connection is closed"), UnavailableError),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes"), InvalidError),
        (psycopg.ProgrammingError("cannot adapt type"), MillraceError),
        (PoolTimeout("x"), UnavailableError),
        (PoolClosed("x"), UnavailableError),
        (TooManyRequests("x"), UnavailableError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else value.__name__,
)
def test_meanings(raised, expected):
    """Trying again helps, the input is wrong, the installation is wrong, or the program is."""
    error = translated(raised)

    assert type(error) is expected
    assert error.next_step


@pytest.mark.parametrize("kind", EVERY, ids=lambda kind: kind.sqlstate)
def test_every_state_is_spoken(kind):
    """No SQLSTATE at all leaves as a driver exception."""
    with pytest.raises(MillraceError) as caught, spoken():
        raise kind("said by the server")

    assert caught.value.next_step
    assert caught.value.__cause__.sqlstate == kind.sqlstate


@pytest.mark.parametrize("raised", [psycopg.OperationalError("gone"), errors.AdminShutdown("gone")])
def test_a_commit_on_its_way_is_never_called_undone(raised):
    """Who cannot know does not promise."""
    inside, committing = translated(raised), translated(raised, committing=True)

    assert "nothing of this request was kept" in inside.next_step
    assert "whole or absent" in committing.next_step


def test_other_errors_pass():
    """What is not the driver's is not touched."""
    with pytest.raises(ZeroDivisionError), spoken():
        raise ZeroDivisionError
