"""Looks for vectors whose numbers are old: the lazy half of freshness.

A counter moves with every view, and a scale with every refresh, so neither is followed row by row.
A sweep walks over the vectors of the communities whose scales were made anew, and now and then over
all of them, because posts grow older by themselves. It rests much longer than it works.
"""

import asyncio
import logging
from collections.abc import Collection

from millrace.community.percentiles import engagement_rate
from millrace.community.types import Key
from millrace.feed.embeddings import Embeddings
from millrace.feed.numbers import MOVED_MIN, NumbersRow, moved, passed_an_age, percentiles
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES
from millrace.feed.turns import Urgency

STRETCH = 200  # rows that are judged at once, some 4 ms of the event loop
BREATH_SECONDS = 0.02  # between two stretches: requests go first
PIECE = 4
PAUSE_SECONDS = 60.0
EVERYTHING_SECONDS = 600.0
REST_PER_WORK = 4.0
"""Seconds of rest per second of work: numbers take at most a fifth of the encoder, and of a core."""

logger = logging.getLogger(__name__)


class Sweep:
    """Walks over vectors; `note` says where scales moved."""

    def __init__(self, parts: FeedParts, embeddings: Embeddings) -> None:
        self._parts = parts
        self._embeddings = embeddings
        self._noted: set[int] = set()
        self._everything_at = 0.0
        self.found = 0

    def note(self, communities: Collection[int]) -> None:
        """Hear that the scales of communities were made anew."""
        self._noted.update(communities)

    async def run(self) -> None:
        """Sweep for ever, and rest between."""
        while True:
            began = self._parts.clock.monotonic()
            everything = began - self._everything_at >= EVERYTHING_SECONDS
            noted, self._noted = self._noted, set()
            if everything:
                self._everything_at = began
            if everything or noted:
                await self._swept(None if everything else sorted(noted))
            looked = self._parts.clock.monotonic() - began
            await asyncio.sleep(max(PAUSE_SECONDS, REST_PER_WORK * looked))

    async def _swept(self, communities: list[int] | None) -> None:
        """Look, and write what is due, leaving the encoder to others most of the time."""
        keys = await self.due(communities)
        for start in range(0, len(keys), PIECE):
            began = self._parts.clock.monotonic()
            await self.write(keys[start : start + PIECE])
            await asyncio.sleep(REST_PER_WORK * (self._parts.clock.monotonic() - began))

    async def due(self, communities: list[int] | None = None) -> list[Key]:
        """Return the posts whose numbers belong into a new vector; of all communities by default."""
        found: list[Key] = []
        after = Key(0, 0)
        while True:
            async with self._parts.router.read() as session:
                rows = await session.rows(
                    QUERIES["numbers_in_vectors"],
                    NumbersRow,
                    model_version=self._parts.encoder.version,
                    communities=communities,
                    community_id=after.community_id,
                    post_id=after.id,
                    limit=STRETCH,
                )
            found += [row.key for row in rows if await self._is_due(row)]
            if len(rows) < STRETCH:
                return found
            after = rows[-1].key
            await asyncio.sleep(BREATH_SECONDS)

    async def write(self, keys: list[Key]) -> None:
        """Make the vectors of these posts again, after everybody who is in more of a hurry."""
        await self._embeddings.embed_posts(keys, Urgency.BACKLOG)
        self.found += len(keys)

    async def _is_due(self, row: NumbersRow) -> bool:
        now = self._parts.clock.now()
        if passed_an_age(row.created_at, row.made_at, now):
            return True
        scales = await self._parts.percentiles.scales(row.community_id)
        fresh = percentiles(row, engagement_rate(row.counts), scales.of, now)
        return moved(row.percentiles, fresh) >= MOVED_MIN
