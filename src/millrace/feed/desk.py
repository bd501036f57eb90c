"""The embedding process from inside: it keeps vectors true, answers its server, and reports.

It needs no farewell: whatever it had begun is told again by the log or the tables.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from millrace.feed.embeddings import Embeddings, packed
from millrace.feed.freshness import Freshness, ended
from millrace.feed.models import Models
from millrace.feed.parts import FeedParts
from millrace.feed.scorers import Scorers
from millrace.feed.types import FitReport
from millrace.feed.wire import (
    Answered,
    Asked,
    Line,
    Report,
    Told,
    Verb,
    failure_of,
)
from millrace.kernel.errors import MillraceError

REPORT_SECONDS = 0.25
REPORT_SECONDS_MAX = 2.0  # a sign of life
SWITCH_SECONDS = 0.0005

logger = logging.getLogger(__name__)


class Desk:
    """One process that embeds. Use `start` and `stop`."""

    def __init__(self, parts: FeedParts, say: Callable[[Line], None]) -> None:
        """Take the surroundings of a feed, and who hears how it does."""
        self._parts = parts
        self._say = say
        self._embeddings = Embeddings(parts)
        self.freshness = Freshness(parts, self._embeddings, held=lambda: 0)
        self._models: dict[str, Models] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Say which model there is, and begin to embed."""
        sys.setswitchinterval(SWITCH_SECONDS)
        threadpool_limits(limits=1, user_api="blas")
        encoder = self._parts.encoder
        self._say(
            Told(
                version=encoder.version,
                dims=encoder.dims,
                tokens_max=encoder.tokens_max,
                history=encoder.history,
            )
        )
        self._begin(self._reporting())
        await self.freshness.start()

    async def stop(self) -> None:
        """Stop embedding, and leave the slot."""
        await ended(self._tasks)
        await self.freshness.stop()

    def hear(self, asked: Asked) -> None:
        """Take a question; the answer is said when it is known."""
        self._begin(self._answer(asked))

    def report(self) -> Report:
        """Return how freshness does."""
        fresh = self.freshness
        return Report(
            missing=fresh.missing(),
            waiting=fresh.waiting(),
            lag=fresh.lag(),
            failures=fresh.failures,
            stream=fresh.stream(),
        )

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, asked: Asked) -> None:
        try:
            self._say(await self._answered(asked))
        except (MillraceError, TimeoutError, RuntimeError, OSError, ValueError) as exc:
            self._say(Answered(number=asked.number, failure=failure_of(exc)))

    async def _answered(self, asked: Asked) -> Answered:
        match asked.verb:
            case Verb.EMBED:
                assert asked.member is not None, "a member is named"
                made = await self.freshness.embed_member(asked.member, asked.version)
                if made is None:
                    return Answered(number=asked.number)
                return Answered(
                    number=asked.number, vector=packed(made.vector), position=made.position
                )
            case Verb.SETTLE:
                await self.freshness.settled(asked.seconds)
                return Answered(number=asked.number)
            case Verb.FIT:
                return Answered(number=asked.number, report=await self._fit(asked.version))

    async def _fit(self, wanted: str) -> FitReport:
        """Fit the scorer for an encoder: the one that serves where it is asked for."""
        version = wanted or self.freshness.version
        if version not in self._models:
            embeddings = await self.freshness.embeddings(version)
            parts = replace(self._parts, encoder=embeddings.encoder)
            self._models = {version: Models(parts, embeddings, Scorers(parts))}
        return await self._models[version].fit()

    async def _reporting(self) -> None:
        """Say how it does, when that has changed, and now and then."""
        clock = self._parts.clock
        said, said_at = None, 0.0
        while True:
            report = self.report()
            if report != said or clock.monotonic() - said_at >= REPORT_SECONDS_MAX:
                self._say(report)
                said, said_at = report, clock.monotonic()
            await asyncio.sleep(REPORT_SECONDS)
