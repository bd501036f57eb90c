"""A write that lost against another one in the database is made again, a few times."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from millrace.kernel.errors import ConflictError

T = TypeVar("T")

TRIES_MAX = 4


async def retried(work: Callable[[], Awaitable[T]]) -> T:
    """Run a whole transaction until it is not refused for a race, at most TRIES_MAX times.

    The store reports a lost race as a ConflictError without a field; one with a field is about
    what the caller asked, and trying again would not help.

    Raises:
        ConflictError: the last try was refused too, or the conflict is the caller's.
    """
    for _ in range(TRIES_MAX - 1):
        try:
            return await work()
        except ConflictError as exc:
            if exc.field is not None:
                raise
    return await work()
