"""Turns at the encoder: one piece at a time, the most urgent first.

The encoder has one thread. A request that waits, then a post that somebody just wrote, then
members, then the backlog: whoever is asked between two pieces goes by this order, so nobody waits
longer than one piece of somebody less urgent. A member who has waited for long stands in one line
with posts, so that a flood of posts starves nobody.
"""

import asyncio
import heapq
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from millrace.feed.ports import Encoder
from millrace.feed.prompts.types import Prompt

PIECE_CHARACTERS = 1_200
"""About 270 tokens, some 25 ms of one core for MiniLM: the longest that somebody urgent waits.
Larger pieces are no quicker per text, except of very short texts."""
PROMPT_CHARACTERS = 1_100  # a prompt that is longer is cut by its budget of tokens
PIECE_PROMPTS_MAX = 16
LATE_SECONDS = 0.75


class Urgency(IntEnum):
    """Who goes first."""

    REQUEST = 0
    POST = 1
    MEMBER = 2
    BACKLOG = 3
    BESIDE = 4  # of an encoder that does not serve


class Turns:
    """Lends an encoder, a piece at a time."""

    def __init__(self, encoder: Encoder, line: "Line | None" = None) -> None:
        """Take the encoder, and the line in which its users wait; several encoders may share one."""
        self._encoder = encoder
        self.line = line or Line()
        self.seconds = 0.0  # that the encoder worked, on the wall
        self.prompts = 0

    async def embed(self, prompts: Sequence[Prompt], urgency: Urgency) -> NDArray[np.float32]:
        """Return one unit vector per prompt. Shape: (len(prompts), dims)."""
        loop = asyncio.get_running_loop()
        made: list[NDArray[np.float32]] = []
        for piece in pieces(prompts):
            async with self.line.turn(urgency):
                began = loop.time()
                made.append(await self._encoder.embed(piece))
                self.seconds += loop.time() - began
                self.prompts += len(piece)
        return np.concatenate(made) if made else np.zeros((0, self._encoder.dims), np.float32)


class Line:
    """Who waits for an encoder: one turn at a time, the most urgent first."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, float, asyncio.Future[None]]] = []
        self._busy = False
        self._asked = 0

    @asynccontextmanager
    async def turn(self, urgency: Urgency) -> AsyncGenerator[None]:
        """Wait for a turn, and lend it."""
        if self._busy:
            await self._called(urgency)
        self._busy = True
        try:
            yield
        finally:
            self._busy = False
            self._call_next()

    async def _called(self, urgency: Urgency) -> None:
        """Wait until it is our turn; whoever gives up while called lets the next one go."""
        loop = asyncio.get_running_loop()
        called: asyncio.Future[None] = loop.create_future()
        self._asked += 1
        heapq.heappush(self._waiting, (urgency, self._asked, loop.time(), called))
        gone = True
        try:
            await called
            gone = False
        finally:
            if gone and called.done() and not called.cancelled():
                self._busy = False
                self._call_next()

    def _call_next(self) -> None:
        self._hurry(asyncio.get_running_loop().time() - LATE_SECONDS)
        while self._waiting:
            *_, called = heapq.heappop(self._waiting)
            if not called.done():
                self._busy = True  # nobody may slip in before the called one runs
                called.set_result(None)
                return

    def _hurry(self, before: float) -> None:
        """Put members who have waited since before a moment in line with posts, by their order."""
        late = [one for one in self._waiting if one[0] == Urgency.MEMBER and one[2] <= before]
        if late:
            rest = [one for one in self._waiting if one not in late]
            self._waiting = [*rest, *((Urgency.POST, *one[1:]) for one in late)]
            heapq.heapify(self._waiting)


def pieces(prompts: Sequence[Prompt]) -> list[Sequence[Prompt]]:
    """Return prompts in pieces that take about one turn each, in their order."""
    found: list[Sequence[Prompt]] = []
    begin, characters = 0, 0
    for place, prompt in enumerate(prompts):
        length = min(sum(len(part) for part in prompt if isinstance(part, str)), PROMPT_CHARACTERS)
        full = characters + length > PIECE_CHARACTERS or place - begin >= PIECE_PROMPTS_MAX
        if place > begin and full:
            found.append(prompts[begin:place])
            begin, characters = place, 0
        characters += length
    if begin < len(prompts):
        found.append(prompts[begin:])
    return found
