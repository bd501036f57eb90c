"""Whose turn it is to rank, and time for everybody else between two feeds."""

import asyncio

# Turns of the event loop. An answer of the database that has come needs two to reach whoever waits
# for it, what they send then goes out at once, and a model of the loop has more gain nothing.
ROUNDS = 5


class RankingTurn:
    """Lets one feed be ranked at a time, and the event loop go round between two.

    Ranking keeps the loop for some milliseconds. Without a pause the next one begins before anybody
    heard what came meanwhile, and each wait for the database lasts as long as one or two rankings.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        await self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._pass_on(ROUNDS)

    def _pass_on(self, rounds: int) -> None:
        """Give the turn to the next one after so many rounds. Who had it goes on at once."""
        if rounds:
            asyncio.get_running_loop().call_soon(self._pass_on, rounds - 1)
        else:
            self._lock.release()
