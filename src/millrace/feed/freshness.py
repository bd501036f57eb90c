"""Keeps vectors true to the tables, and says how far they are: here, beside, or elsewhere.

The embedding consumer (embedder.py) turns on a named slot, which one process has at a time: that
one embeds, and the log tells the indexes of all. `Freshness` is the process that embeds, or waits
to; `Beside` has a process of its own for that (process.py); `Elsewhere` relies on somebody else's.
"""

import asyncio
import logging
from collections.abc import Callable

from msgspec.structs import replace

from millrace.community.types import Key
from millrace.feed.embedder import Embedder, ended
from millrace.feed.embeddings import Embeddings, Made, unpacked
from millrace.feed.encoders import Encoders
from millrace.feed.following import Following
from millrace.feed.parts import FeedParts
from millrace.feed.process import EmbeddingProcess
from millrace.feed.repository import QUERIES, MemberKeyRow, PendingRow
from millrace.feed.types import Embedding
from millrace.kernel.errors import MillraceError, UnavailableError
from millrace.store.changes.named import NamedStream
from millrace.store.changes.types import StreamState
from millrace.store.types import Position

SETTLE_SECONDS_MAX = 600.0
LOOK_SECONDS = 0.25  # between two looks at whether the slot is ours, or at what another one does
TABLES_SECONDS = 15.0  # between two looks at what is left to do for whoever has the slot
NO_STREAM = StreamState(
    name="embedding", connected=False, applied=None, lag_bytes=0, lag_seconds=0.0,
    changes=0, batches=0, failures=0, restarts=0,
)  # fmt: skip

logger = logging.getLogger(__name__)


class Elsewhere:
    """Somebody else embeds: what is known of it stands in the tables."""

    def __init__(
        self, parts: FeedParts, embeddings: Embeddings, *, held: Callable[[], int]
    ) -> None:
        """Take what the process holds in memory.

        Args:
            parts: the feed's surroundings.
            embeddings: makes vectors.
            held: how many posts the index of this process has.
        """
        self._parts = parts
        self._encoders = Encoders(parts, embeddings)
        self.version = embeddings.version
        """The encoder whose vectors serve here: what is left to do is counted for it."""
        self._held = held
        self._watch: asyncio.Task[None] | None = None
        self._found = 0
        self._found_since: float | None = None

    async def start(self) -> None:
        """Begin to watch. Safe to call twice."""
        if self._watch is None:
            await self._begin()
            self._watch = asyncio.create_task(self._watching())

    async def stop(self) -> None:
        """Stop watching. Safe to call twice."""
        if self._watch is not None:
            await ended([self._watch])
            self._watch = None

    @property
    def running(self) -> bool:
        """Return whether changes are followed, by this process or by the one that has the slot."""
        return self._watch is not None

    @property
    def failures(self) -> int:
        """Return how often embedding failed since the start, as far as this process knows."""
        return 0

    def stream(self) -> StreamState:
        """Return how the stream of the embedding consumer does, as far as this process knows."""
        return NO_STREAM

    def missing(self) -> int:
        """Return how many posts had no vector at all when the tables were last looked at."""
        return self._found

    def progress(self) -> tuple[int, int]:
        """Return how many posts can be found by meaning, and how many there are."""
        return self._held(), self._held() + self.missing()

    def waiting(self) -> int:
        """Return how many posts are new or changed and have no vector of that yet."""
        return self._found

    def lag(self) -> float:
        """Return for how many seconds the oldest change that this process knows of has waited."""
        since = self._found_since
        return 0.0 if since is None else max(self._parts.clock.monotonic() - since, 0.0)

    async def embed_member(self, member: Key, version: str = "") -> Made | None:
        """Make a member's vector now, for a request that waits; None where there is no such member.

        Args:
            member: whose.
            version: of the encoder; by default the one that this process began with.
        """
        embeddings = await self._encoders.called(version)
        return await embeddings.embed_member(member)

    async def embeddings(self, version: str) -> Embeddings:
        """Return what makes the vectors of an encoder.

        Passes on:
            SetupError: its model cannot be loaded.
        """
        return await self._encoders.called(version)

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

    async def _begin(self) -> None:
        """Do what comes before watching."""

    async def _look(self) -> None:
        """Look at what may have changed since a moment ago."""

    def _is_ours(self) -> bool:
        """Return whether this process knows better than the tables."""
        return False

    async def _watching(self) -> None:
        """Look at whose the slot is, and at what is left to do where it is another's."""
        looked_at = float("-inf")
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._look()
            now = self._parts.clock.monotonic()
            if not self._is_ours() and now - looked_at >= TABLES_SECONDS:
                looked_at = now
                try:
                    await self._left()
                except MillraceError as exc:
                    logger.debug("the tables do not tell what is left to embed: %s", exc)

    async def _embedded(self, position: Position) -> bool:
        """Return whether the tables say that vectors are made up to there; waits for a moment."""
        await asyncio.sleep(LOOK_SECONDS)
        async with self._parts.router.read() as session:
            safe = await session.value(QUERIES["embedded_up_to"])
        if safe is None or int(safe) < position.lsn:
            return False
        return await self._left() == 0

    async def _left(self) -> int:
        """Return how many posts and members the tables call out of date."""
        asked = {"model_version": self.version, "limit": 1}
        async with self._parts.router.read() as session:
            posts = await session.rows(QUERIES["posts_to_embed"], PendingRow, **asked)
            members = await session.rows(QUERIES["members_to_embed"], MemberKeyRow, **asked)
        self._found = posts[0].missing if posts else 0
        if not self._found:
            self._found_since = None
        elif self._found_since is None:
            self._found_since = self._parts.clock.monotonic()
        return len(posts) + len(members)

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


class Freshness(Elsewhere):
    """This process embeds where it has the slot, and waits for it where another has."""

    def __init__(
        self, parts: FeedParts, embeddings: Embeddings, *, held: Callable[[], int]
    ) -> None:
        super().__init__(parts, embeddings, held=held)
        self._embedder = Embedder(parts, embeddings)
        self._following = Following(parts, embeddings, self._encoders, self._embedder, self._leads)
        self._stream = NamedStream(parts.conninfo, self._embedder)

    def _leads(self, version: str) -> None:
        """Hear whose vectors are made first from now on."""
        self.version = version

    async def stop(self) -> None:
        """Stop embedding; the slot stays. Safe to call twice."""
        await super().stop()
        await self._following.stop()
        await self._stream.stop()
        await self._embedder.stop()

    @property
    def failures(self) -> int:
        """Return how often embedding failed since the start."""
        return self._embedder.failures

    def stream(self) -> StreamState:
        """Return how the stream of the embedding consumer does."""
        return self._stream.state()

    async def embed_member(self, member: Key, version: str = "") -> Made | None:
        """Make a member's vector now; other encoders make theirs by and by."""
        made = await super().embed_member(member, version)
        self._following.heard(members=[member])
        return made

    def missing(self) -> int:
        """Return how many posts had no vector at all when the tables were last looked at."""
        return self._embedder.missing if self._is_ours() else super().missing()

    def waiting(self) -> int:
        """Return how many posts are new or changed and have no vector of that yet."""
        return self._embedder.waiting() if self._is_ours() else super().waiting()

    def lag(self) -> float:
        """Return for how many seconds the oldest change that this process knows of has waited."""
        return self._embedder.lag()

    async def _begin(self) -> None:
        """Take the slot, or wait for it beside the process that has it."""
        await self._stream.start()
        await self._look()

    async def _look(self) -> None:
        """Embed while the slot is ours; another process may take it when we lose the server."""
        if self._is_ours() and not self._embedder.running:
            await self._embedder.start()
            await self._following.start()
        elif not self._is_ours() and self._embedder.running:
            await self._following.stop()
            await self._embedder.stop()

    def _is_ours(self) -> bool:
        return self._stream.applied is not None

    async def _embedded(self, position: Position) -> bool:
        """Return whether the vectors are made, by whoever has the slot; waits for a moment."""
        if not self._is_ours():
            return await super()._embedded(position)
        if not await self._stream.reached(position, LOOK_SECONDS):
            return False
        await self._embedder.idle()
        return True


class Beside(Elsewhere):
    """A process of our own embeds, tells how it does, and makes what a request waits for."""

    def __init__(
        self,
        parts: FeedParts,
        embeddings: Embeddings,
        process: EmbeddingProcess,
        *,
        held: Callable[[], int],
    ) -> None:
        super().__init__(parts, embeddings, held=held)
        self._process = process

    @property
    def failures(self) -> int:
        """Return how often embedding failed since the process began, and how often it began again."""
        report = self._process.report
        return self._process.restarts + (0 if report is None else report.failures)

    def stream(self) -> StreamState:
        """Return how the stream of the embedding consumer does; while its process is gone, not well."""
        report = self._process.report
        state = NO_STREAM if report is None else report.stream
        silent = self._process.silent()
        if not silent:
            return state
        return replace(state, connected=False, applied=None, lag_seconds=state.lag_seconds + silent)

    def missing(self) -> int:
        """Return how many posts had no vector at all when the tables were last looked at."""
        report = self._process.report
        return super().missing() if report is None else report.missing

    def waiting(self) -> int:
        """Return how many posts are new or changed and have no vector of that yet."""
        report = self._process.report
        return super().waiting() if report is None else report.waiting

    def lag(self) -> float:
        """Return how long the oldest change has waited; while the process is gone, it grows."""
        report = self._process.report
        return (super().lag() if report is None else report.lag) + self._process.silent()

    async def embed_member(self, member: Key, version: str = "") -> Made | None:
        """Have the process make a member's vector now; None where there is no such member.

        Passes on:
            UnavailableError: the process is gone, or cannot.
        """
        answer = await self._process.embed(member, version)
        if answer.vector is None:
            return None
        return Made(vector=unpacked(answer.vector), position=answer.position)

    async def settled(self, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Wait until everything committed before this call is in vectors.

        Passes on:
            UnavailableError: the database or the encoder fails again and again.
            TimeoutError: it took longer than `seconds_max`.
        """
        async with asyncio.timeout(seconds_max):
            await self._process.ready()
            while not await self._process.settle(seconds_max):
                await asyncio.sleep(LOOK_SECONDS)
                await self._process.ready()

    def _is_ours(self) -> bool:
        return self._process.report is not None


def freshness_of(parts: FeedParts, embeddings: Embeddings, held: Callable[[], int]) -> Elsewhere:
    """Return what keeps vectors fresh, as the settings say.

    A program that was given no process of its own embeds here, unless somebody else is to.
    """
    if parts.process is not None:
        return Beside(parts, embeddings, parts.process, held=held)
    if parts.config.embedding is Embedding.ELSEWHERE:
        return Elsewhere(parts, embeddings, held=held)
    return Freshness(parts, embeddings, held=held)
