"""How far a stream has been applied, and who waits for it."""

import asyncio
import heapq
from itertools import count

from millrace.store.types import Position

NUDGE_SECONDS = 0.05


class Applied:
    """The position up to which everything committed has been applied; None while interrupted."""

    def __init__(self) -> None:
        self.position: Position | None = None
        self.nudge = asyncio.Event()
        """Set while somebody has waited for longer than a busy stream takes."""
        self._waiting: list[tuple[int, int, Position, asyncio.Future[bool]]] = []
        self._numbers = count()
        self._left = 0

    def advance(self, position: Position) -> None:
        """Move forward, and wake whoever waits for no more than this."""
        if self.position is not None and not _is_behind(self.position, position):
            return
        self.position = position
        while self._waiting and self._waiting[0][0] <= position.lsn:
            _, _, asked, waiter = heapq.heappop(self._waiting)
            if not waiter.done():
                waiter.set_result(_same_log(asked, position))

    def lose(self) -> None:
        """Nothing is known any more; whoever waits goes on waiting."""
        self.position = None

    def covers(self, position: Position) -> bool:
        """Say whether everything up to a position has been applied."""
        now = self.position
        return now is not None and _same_log(now, position) and now.lsn >= position.lsn

    async def reached(self, position: Position, seconds_max: float) -> bool:
        """Wait until everything up to a position has been applied; say whether it was in time.

        A position of another cluster or timeline is never reached, and not waited for.
        """
        if self.covers(position):
            return True
        if self.position is not None and not _same_log(self.position, position):
            return False
        waiter: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (position.lsn, next(self._numbers), position, waiter))
        nudging = asyncio.get_running_loop().call_later(NUDGE_SECONDS, self.nudge.set)
        try:
            async with asyncio.timeout(seconds_max):
                return await waiter
        except TimeoutError:
            return False
        finally:
            nudging.cancel()
            if waiter.cancelled():  # who was waited for stays in the line until it is swept
                self._left += 1
                self._sweep()

    def _sweep(self) -> None:
        """Drop those who left, once they are the most."""
        if self._left > len(self._waiting) // 2:
            self._waiting = [entry for entry in self._waiting if not entry[3].done()]
            heapq.heapify(self._waiting)
            self._left = 0


def _same_log(one: Position, other: Position) -> bool:
    return (one.cluster, one.timeline) == (other.cluster, other.timeline)


def _is_behind(one: Position, other: Position) -> bool:
    return not _same_log(one, other) or one.lsn < other.lsn
