"""Waiting for what must come, with a bound: tests never sleep for a time that they hope is enough."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

SECONDS_MAX = 60.0
"""Far more than anything takes, and less than anybody wants to wait for a failure."""
LOOK_SECONDS = 0.005


async def until(
    condition: Callable[[], Awaitable[object]] | Callable[[], object],
    what: str = "",
    *,
    seconds_max: float = SECONDS_MAX,
) -> Any:
    """Wait until a condition holds, and return what it then gave.

    Args:
        condition: is asked again and again; may be a coroutine function.
        what: is waited for, for whoever reads a failure.
        seconds_max: how long at most.
    """
    try:
        async with asyncio.timeout(seconds_max):
            while not (found := await _now(condition)):
                await asyncio.sleep(LOOK_SECONDS)
            return found
    except TimeoutError:
        raise AssertionError(f"not within {seconds_max:g} s: {what or condition}") from None


async def _now(condition: Callable[[], Awaitable[object]] | Callable[[], object]) -> object:
    found = condition()
    return await found if isinstance(found, Awaitable) else found
