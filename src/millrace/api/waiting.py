"""How many requests may wait for their body at once, so that slow senders leave room for others.

A request that waits for its body holds one of the server's places, for up to half a minute. Rates
do not help: a minute's requests may come at once. So one caller may hold few places, and all who
wait together may not hold the last ones. Most bodies are there at once, and those never count: a
burst of quick requests is what rates are for.
"""

import asyncio
from collections import Counter
from collections.abc import Coroutine, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

from millrace.kernel.errors import TooManyError, UnavailableError

PLACES_PER_CALLER = 32
PLACES_MAX = 192  # of the server's 256 that are not for streams: the rest is for requests that have no body to wait for
RETRY_SECONDS = 1.0
QUICK_SECONDS = 1.0  # a body that is here by then never held a place

T = TypeVar("T")


class Waiting:
    """The places that are held now, by caller. Nothing is kept of who holds none."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._all = 0

    async def patiently(self, caller: str, reading: Coroutine[Any, Any, T]) -> T:
        """Return what is read. A place is held only while it takes longer than a moment.

        Passes on:
            TooManyError: the caller holds as many places as one may.
            UnavailableError: there is none left for anybody.
        """
        task = asyncio.ensure_future(reading)
        try:
            await asyncio.wait({task}, timeout=QUICK_SECONDS)
            if task.done():
                return task.result()
            with self.place(caller):
                return await task
        finally:
            task.cancel()

    @contextmanager
    def place(self, caller: str) -> Generator[None]:
        """Hold a place while the block reads a body.

        Raises:
            TooManyError: the caller holds as many as one may.
            UnavailableError: there is none left for anybody.
        """
        if self._held[caller] >= PLACES_PER_CALLER:
            limit = f"{PLACES_PER_CALLER} unfinished requests at once"
            raise TooManyError(f"{caller} has {limit}", retry_seconds=RETRY_SECONDS, limit=limit)
        if self._all >= PLACES_MAX:
            raise UnavailableError(
                "too many requests wait for their bodies",
                limit=PLACES_MAX,
                next_step="try again in a moment",
            )
        self._held[caller] += 1
        self._all += 1
        try:
            yield
        finally:
            self._all -= 1
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]

    def __len__(self) -> int:
        """Return how many places are held."""
        return self._all
