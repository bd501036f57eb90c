"""Keeps vectors true to the tables, and says how far they are.

The embedding consumer (embedder.py) turns on a named slot, which one process has at a time: that
one embeds, and the log tells the indexes of all.
"""

import asyncio
from collections.abc import Callable

from millrace.feed.embedder import Embedder, ended
from millrace.feed.embeddings import Embeddings
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES, MemberKeyRow, PendingRow
from millrace.kernel.errors import UnavailableError
from millrace.store.changes.named import NamedStream
from millrace.store.changes.types import StreamState
from millrace.store.types import Position

SETTLE_SECONDS_MAX = 600.0
LOOK_SECONDS = 0.25  # between two looks at whether the slot is ours, or at what another one does


class Freshness:
    """One process's part: it embeds where it has the slot, and knows what it waits for."""

    def __init__(
        self,
        parts: FeedParts,
        embeddings: Embeddings,
        *,
        held: Callable[[], int],
    ) -> None:
        """Take what the process holds in memory.

        Args:
            parts: the feed's surroundings.
            embeddings: makes vectors.
            held: how many posts the index of this process has.
        """
        self._parts = parts
        self._held = held
        self._embedder = Embedder(parts, embeddings)
        self._stream = NamedStream(parts.conninfo, self._embedder)
        self._watch: asyncio.Task[None] | None = None
        self._elsewhere = 0

    async def start(self) -> None:
        """Take the slot, or wait for it beside the process that has it. Safe to call twice."""
        if self._watch is None:
            await self._stream.start()
            await self._look()
            self._watch = asyncio.create_task(self._watching())

    async def stop(self) -> None:
        """Stop embedding; the slot stays. Safe to call twice."""
        if self._watch is not None:
            await ended([self._watch])
            self._watch = None
        await self._stream.stop()
        await self._embedder.stop()

    @property
    def running(self) -> bool:
        """Return whether changes are followed, by this process or by the one that has the slot."""
        return self._watch is not None

    @property
    def failures(self) -> int:
        """Return how often embedding failed since the start."""
        return self._embedder.failures

    def stream(self) -> StreamState:
        """Return how the stream of the embedding consumer does."""
        return self._stream.state()

    def progress(self) -> tuple[int, int]:
        """Return how many posts can be found by meaning, and how many there are."""
        missing = self._embedder.missing if self._ours else self._elsewhere
        return self._held(), self._held() + missing

    def waiting(self) -> int:
        """Return how many posts are new or changed and have no vector of that yet."""
        return self._embedder.waiting() if self._ours else self._elsewhere

    def lag(self) -> float:
        """Return for how many seconds the oldest change that this process knows of has waited."""
        return self._embedder.lag()

    async def settled(self, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Wait until everything committed before this call is in vectors.

        Passes on:
            UnavailableError: the database or the encoder fails again and again.
            TimeoutError: it took longer than `seconds_max`.
        """
        async with asyncio.timeout(seconds_max):
            position = await self._now()
            while not await self._embedded(position):
                pass

    async def _embedded(self, position: Position) -> bool:
        """Return whether the vectors are made, by whoever has the slot; waits for a moment."""
        if self._ours:
            if not await self._stream.reached(position, LOOK_SECONDS):
                return False
            await self._embedder.idle()
            return True
        await asyncio.sleep(LOOK_SECONDS)
        async with self._parts.router.read() as session:
            safe = await session.value(QUERIES["embedded_up_to"])
        if safe is None or int(safe) < position.lsn:
            return False
        return await self._left() == 0

    async def _left(self) -> int:
        """Return how many posts and members the tables call out of date."""
        asked = {"model_version": self._parts.encoder.version, "limit": 1}
        async with self._parts.router.read() as session:
            posts = await session.rows(QUERIES["posts_to_embed"], PendingRow, **asked)
            members = await session.rows(QUERIES["members_to_embed"], MemberKeyRow, **asked)
        self._elsewhere = posts[0].missing if posts else 0
        return len(posts) + len(members)

    @property
    def _ours(self) -> bool:
        """Whether this process has the slot."""
        return self._stream.applied is not None

    async def _watching(self) -> None:
        """Embed while the slot is ours; another process may take it when we lose the server."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()

    async def _look(self) -> None:
        if self._ours and not self._embedder.running:
            await self._embedder.start()
        elif not self._ours and self._embedder.running:
            await self._embedder.stop()

    async def _now(self) -> Position:
        """Return the end of the log.

        Raises:
            UnavailableError: the server was replaced between two questions.
        """
        router = self._parts.router
        position = await router.position_of(await router.token())
        if position is None:
            raise UnavailableError("the database was replaced just now", next_step="try again")
        return position
