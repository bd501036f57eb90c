"""Who was asked for a moment ago, so that a question answered in microseconds asks nobody else.

Everywhere else the database is asked about every token, and an end of a token counts at once.
An evaluation of flags costs a hundredth of that question, and tells nobody anything of somebody
else: here the end of a token counts within five seconds. docs/decisions/0131 has the reasons.
"""

import asyncio
from collections import OrderedDict
from hashlib import blake2b

from msgspec import Struct

from millrace.api.auth import Authenticates
from millrace.community.types import Viewer
from millrace.kernel.clock import Clock
from millrace.kernel.errors import UnauthenticatedError

SECONDS = 5.0
AHEAD_SECONDS = (
    1.5  # before that is over, whoever still asks has it asked anew, and waits for nothing
)
TOKENS_MAX = 20_000


class _Known(Struct, frozen=True, gc=False):
    viewer: Viewer
    until: float


class Remembered:
    """Checks tokens like the identity behind it, and remembers who held for a moment."""

    def __init__(self, identity: Authenticates, clock: Clock) -> None:
        self._identity = identity
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Viewer]] = {}

    def known(self, bearer: str) -> Viewer | None:
        """Return whose token this is, where that was asked a moment ago."""
        place = _print_of(bearer)
        found = self._known.get(place)
        if found is None:
            return None
        left = found.until - self._clock.monotonic()
        if left <= 0:
            return None
        if left < AHEAD_SECONDS and place not in self._asking:
            self._begin(place, bearer)
        return found.viewer

    async def authenticate(self, bearer: str) -> Viewer:
        """Return who carries this token. Those who ask at once share one question.

        Passes on:
            UnauthenticatedError: the token does not hold.
        """
        viewer = self.known(bearer)
        if viewer is not None:
            return viewer
        place = _print_of(bearer)
        task = self._asking.get(place) or self._begin(place, bearer)
        return await asyncio.shield(task)

    def _begin(self, place: bytes, bearer: str) -> "asyncio.Task[Viewer]":
        task = self._asking[place] = asyncio.create_task(self._ask(place, bearer))
        task.add_done_callback(lambda done: self._asked(place, done))
        return task

    def _asked(self, place: bytes, done: "asyncio.Task[Viewer]") -> None:
        """Let go of a question. Whoever asked may have left, and then nobody takes its error."""
        del self._asking[place]
        if not done.cancelled():
            done.exception()

    async def _ask(self, place: bytes, bearer: str) -> Viewer:
        try:
            viewer = await self._identity.authenticate(bearer)
        except UnauthenticatedError:
            self._known.pop(place, None)  # it counts at once where it is heard of early
            raise
        self._known[place] = _Known(viewer, self._clock.monotonic() + SECONDS)
        self._known.move_to_end(place)
        while len(self._known) > TOKENS_MAX:
            self._known.popitem(last=False)
        return viewer


def _print_of(bearer: str) -> bytes:
    """Return what a token is remembered by; the token itself is not kept."""
    return blake2b(bearer.encode(errors="replace"), digest_size=16).digest()
