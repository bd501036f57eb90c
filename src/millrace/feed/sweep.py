"""Looks for vectors whose numbers are old: the lazy half of freshness.

A counter moves with every view, and a scale with every refresh, so neither is followed row by row.
A sweep walks over the vectors of the communities whose scales were made anew, and now and then over
all of them, because posts grow older by themselves. It rests much longer than it works.
"""

import asyncio
import logging
from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray

from millrace.community.percentiles import MIDDLE, RATE_PRIOR_VIEWS, Scales
from millrace.community.types import Key
from millrace.feed.embeddings import Embeddings
from millrace.feed.numbers import NumbersRow, Percentiles, due
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES
from millrace.feed.turns import Urgency

STRETCH = 1_000  # posts that are judged at once, some 5 ms of the event loop
BREATH_SECONDS = 0.05  # between two stretches, and two looks at whether others wait
LOOKS_MAX = 200  # some ten seconds of patience; then the next few posts are made all the same
PIECE = 4
PAUSE_SECONDS = 60.0
EVERYTHING_SECONDS = 600.0
REST_PER_WORK = 4.0
"""Seconds of rest per second of work: numbers take at most a fifth of the encoder, and of a core."""

logger = logging.getLogger(__name__)


class Sweep:
    """Walks over vectors; `note` says where scales moved."""

    def __init__(
        self,
        parts: FeedParts,
        embeddings: Embeddings,
        busy: Callable[[], bool],
        urgency: Urgency = Urgency.BACKLOG,
    ) -> None:
        """Take the surroundings of a feed.

        Args:
            parts: the feed's surroundings.
            embeddings: makes vectors.
            busy: whether anybody waits for a vector that is more than a number out of date.
            urgency: whose turn it is at the encoder.
        """
        self._parts = parts
        self.embeddings = embeddings
        self._busy = busy
        self._urgency = urgency
        self._noted: set[int] = set()
        self._everything_at = float("-inf")
        self.found = 0

    def note(self, communities: Collection[int]) -> None:
        """Hear that the scales of communities were made anew."""
        self._noted.update(communities)

    async def run(self) -> None:
        """Sweep for ever, and rest between."""
        while True:
            await asyncio.sleep(PAUSE_SECONDS)  # a start has more to do than to write numbers
            began = self._parts.clock.monotonic()
            everything = began - self._everything_at >= EVERYTHING_SECONDS
            noted, self._noted = self._noted, set()
            if everything:
                self._everything_at = began
            if everything or noted:
                await self._swept(None if everything else sorted(noted))
            looked = self._parts.clock.monotonic() - began
            await asyncio.sleep(max(REST_PER_WORK * looked - PAUSE_SECONDS, 0.0))

    async def _swept(self, communities: list[int] | None) -> None:
        """Look, and write what is due, leaving the encoder to others most of the time."""
        keys = await self.due(communities)
        for start in range(0, len(keys), PIECE):
            await self._idle()
            began = self._parts.clock.monotonic()
            await self.write(keys[start : start + PIECE])
            await asyncio.sleep(REST_PER_WORK * (self._parts.clock.monotonic() - began))

    async def due(self, communities: list[int] | None = None) -> list[Key]:
        """Return the posts whose numbers belong into a new vector; of all communities by default."""
        found: list[Key] = []
        after = Key(0, 0)
        while True:
            async with self._parts.router.read() as session:
                row = await session.row(
                    QUERIES["numbers_in_vectors"],
                    NumbersRow,
                    model_version=self.embeddings.version,
                    communities=communities,
                    community_id=after.community_id,
                    post_id=after.id,
                    limit=STRETCH,
                )
            assert row is not None, "an aggregate has one row"
            if row.posts:
                scales = {
                    community: _of(await self._parts.percentiles.scales(community))
                    for community in set(row.communities)
                }
                now = self._parts.clock.now().timestamp()
                chosen = np.flatnonzero(due(row, scales, now, RATE_PRIOR_VIEWS))
                places: list[int] = chosen.tolist()
                found += [Key(row.communities[place], row.posts[place]) for place in places]
            if len(row.posts) < STRETCH:
                return found
            after = Key(row.communities[-1], row.posts[-1])
            await asyncio.sleep(BREATH_SECONDS)

    async def write(self, keys: list[Key]) -> None:
        """Make the vectors of these posts again, after everybody who is in more of a hurry."""
        await self.embeddings.embed_posts(keys, self._urgency)
        self.found += len(keys)

    async def _idle(self) -> None:
        """Wait until nobody else waits for the encoder, or waits no longer for that."""
        for _ in range(LOOKS_MAX):
            if not self._busy():
                return
            await asyncio.sleep(BREATH_SECONDS)


def _of(scales: Scales) -> Percentiles:
    """Return the percentiles of many values at once."""

    def of(metric: str, values: NDArray[np.float64]) -> NDArray[np.int64]:
        cuts = scales.cuts(metric)
        if cuts is None:
            return np.full(len(values), MIDDLE)
        return np.searchsorted(np.asarray(cuts), values)

    return of
