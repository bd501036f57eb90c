"""What a failed command says and which status it leaves with."""

import sys
import traceback

import click

from millrace.kernel.errors import (
    ConflictError,
    InvalidError,
    MillraceError,
    NotFoundError,
    SetupError,
    UnavailableError,
)
from millrace.world.types import EXIT_BROKEN, EXIT_REJECTED

# The statuses are documented in docs/cli.md; scripts rely on them.
DONE = 0
NOT_ALL_WELL = 1
WRONG_INPUT = 2
WRONG_SETUP = 3
NOT_FOUND = 4
CONFLICT = 5
UNAVAILABLE = 6
UNEXPECTED = 70
INTERRUPTED = 130

MEANINGS: dict[int, str] = {
    DONE: "done",
    NOT_ALL_WELL: "the command ran, and not all is well: a check failed",
    WRONG_INPUT: "the command line or its input is wrong",
    WRONG_SETUP: "the installation is wrong: a setting, a folder, a port, a version",
    NOT_FOUND: "there is no such member, post or file",
    CONFLICT: "the thing is not in the state that the command expects",
    UNAVAILABLE: "the database does not answer now; trying again may help",
    EXIT_BROKEN: "`millrace import` met a file that is cut; what stood before is loaded",
    EXIT_REJECTED: "`millrace import` rejected some rows; the rest is loaded",
    UNEXPECTED: "a fault of Millrace; `--debug` prints where",
    INTERRUPTED: "ended by Ctrl-C",
}

_STATUS: list[tuple[type[MillraceError], int]] = [
    (InvalidError, WRONG_INPUT),
    (SetupError, WRONG_SETUP),
    (NotFoundError, NOT_FOUND),
    (ConflictError, CONFLICT),
    (UnavailableError, UNAVAILABLE),
]


def status_of(failure: MillraceError) -> int:
    """Return the exit status of an error that was raised on purpose."""
    for kind, status in _STATUS:
        if isinstance(failure, kind):
            return status
    return NOT_ALL_WELL


def explain(failure: MillraceError) -> None:
    """Print the message with its limit and the next step to standard error."""
    limit = "" if failure.limit is None else f" (limit: {failure.limit})"
    click.echo(f"error: {failure.message}{limit}", err=True)
    if failure.next_step:
        click.echo(f"  next: {failure.next_step}", err=True)


def confess(failure: BaseException, *, debug: bool) -> None:
    """Print a fault of our own: one line, or all of it."""
    if debug:
        traceback.print_exception(failure, file=sys.stderr)
    click.echo(f"error: unexpected {type(failure).__name__}: {failure}", err=True)
    if not debug:
        click.echo("  next: run again as `millrace --debug ...` to see where", err=True)
