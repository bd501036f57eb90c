"""Where a read or a write goes.

At rung 0 there is one server, so both go there. The shape is already that of the ladder: a read
says which token it must not be older than, a write gives the next token.
"""

from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar

import msgspec
from msgspec import Struct

from millrace.store.lane import Behind
from millrace.store.pool import Pool
from millrace.store.queries import load
from millrace.store.session import Session
from millrace.store.tokens import sign, verify
from millrace.store.types import Position

QUERIES = load("millrace.store")


class Noted(Struct):
    """How far the log was behind the last commit of somebody who has it noted."""

    position: Position | None = None


_NOTED: ContextVar[Noted | None] = ContextVar("noted", default=None)


class Router:
    """Lends sessions for reading and writing."""

    def __init__(self, primary: Pool, secret: bytes) -> None:
        self._primary = primary
        self._secret = secret

    @asynccontextmanager
    async def read(self, token: str = "") -> AsyncGenerator[Session]:
        """Lend a read-only session that is not older than `token`.

        An unsigned, foreign or impossible token is ignored: see `position_of`. Each statement of
        the session sees what was committed when it began.
        """
        pool = self._reader_for(verify(token, self._secret))
        async with pool.transaction(read_only=True) as lane:
            yield Session(lane)

    @asynccontextmanager
    async def write(self) -> AsyncGenerator[Session]:
        """Lend a session on the primary; it commits when the block ends without an error."""
        noted = _NOTED.get()
        asked = None if noted is None else Behind(QUERIES["position"])
        async with self._primary.transaction(read_only=False, behind=asked) as lane:
            yield Session(lane)
        if noted is not None and asked is not None and asked.line is not None:
            noted.position = msgspec.convert(asked.line, Position)

    @contextmanager
    def noting(self) -> Generator[Noted]:
        """Note how far the log is behind the commits of the block, for its token.

        It costs no round trip, because the question goes with the commit. Only commits of this
        task and of tasks that it starts in the block are noted.
        """
        noted = Noted()
        before = _NOTED.set(noted)
        try:
            yield noted
        finally:
            _NOTED.reset(before)

    async def token(self, noted: Noted | None = None) -> str:
        """Return the token of everything committed so far; take it after the commit.

        With what was noted, it is the token of everything up to the last commit in there.
        """
        position = None if noted is None else noted.position
        return sign(position or await self._now(), self._secret)

    def claimed(self, token: str) -> Position | None:
        """Return the position that a token of ours names, or None for another text.

        Whoever has applied the log of that cluster and timeline up to there needs no more. Else
        `position_of` says whether it promises anything.
        """
        return verify(token, self._secret)

    async def position_of(self, token: str) -> Position | None:
        """Return the position a token asks for, or None where nothing is promised by it.

        A position of another cluster or timeline, or one that the primary has not reached, is
        ignored: else anybody with an old backup could pin reads to the primary.
        """
        asked = verify(token, self._secret)
        if asked is None:
            return None
        now = await self._now()
        same = (asked.cluster, asked.timeline) == (now.cluster, now.timeline)
        return asked if same and asked.lsn <= now.lsn else None

    def _reader_for(self, _asked: Position | None) -> Pool:
        """Return the server that is far enough. At rung 0 there is one, and it always is."""
        return self._primary

    async def _now(self) -> Position:
        async with self.read() as session:
            position = await session.row(QUERIES["position"], Position)
        assert position is not None, "the position query always has a row"
        return position
