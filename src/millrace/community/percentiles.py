"""Where a number stands among its community's, without scanning.

A scale holds 99 rising cuts per metric; cut i is the value below which i per cent of the samples
lie. Refreshing reads the tables; reading is a binary search in a scale that is kept in memory for
SCALE_SECONDS, and a little longer while it is read again. So a percentile may be SCALE_SECONDS_MAX
and the time since the last refresh out of date.
Ages alone grow by themselves: their cuts grow with them on reading.
"""

import asyncio
import logging
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, get_args

from msgspec import Struct

from millrace.community.intake import QUERIES
from millrace.community.types import PostCounts
from millrace.kernel.clock import Clock
from millrace.kernel.errors import InvalidError
from millrace.store.router import Router

logger = logging.getLogger(__name__)

SCALE_SECONDS = 60.0
SCALE_SECONDS_MAX = 120.0
SCALES_MAX = 10_000
REMADE_AFTER = timedelta(hours=12)
"""Scales are made anew after this time even where no counter moved: members may have left."""

CUTS = 99
MIDDLE = 50
RATE_PRIOR_VIEWS = 10
"""Views that every post is given, so that one like on one view is no record."""

Metric = Literal[
    "views",
    "likes",
    "comments",
    "shares",
    "engagement_rate",
    "age_hours",
    "author_followers",
    "author_views",
    "author_posts",
]
METRICS: tuple[str, ...] = get_args(Metric)


def engagement_rate(counts: PostCounts) -> float:
    """Return positive engagements per view, damped for posts with few views."""
    engaged = counts.clicks + counts.long_dwells + counts.likes + counts.comments + counts.shares
    return engaged / (counts.views + RATE_PRIOR_VIEWS)


class Scales:
    """The scales of one community at one moment."""

    def __init__(self, cuts: Mapping[str, Sequence[float]]) -> None:
        self._cuts = cuts

    def of(self, metric: str, value: float) -> int:
        """Return how many per cent of the community's samples lie below `value`: 0 to 99.

        A metric without samples answers 50 for everything. Never falls as `value` rises.

        Raises:
            InvalidError: the metric is unknown.
        """
        if metric not in METRICS:
            known = ", ".join(METRICS)
            raise InvalidError(
                f"metric {metric!r} is unknown",
                field="metric",
                value=metric,
                limit=known,
                next_step=f"ask for one of: {known}",
            )
        cuts = self._cuts.get(metric)
        return MIDDLE if cuts is None else bisect_left(cuts, value)

    def cuts(self, metric: str) -> Sequence[float] | None:
        """Return the rising cuts of a metric, for many values at once; None without samples."""
        return self._cuts.get(metric)


class ScaleRow(Struct, frozen=True):
    """One stored scale."""

    metric: str
    cuts: list[float]
    made_at: datetime

    def at(self, now: datetime) -> tuple[float, ...]:
        """Return the cuts at a moment: every sample of an age has grown since they were made."""
        if self.metric != "age_hours":
            return tuple(self.cuts)
        grown = max((now - self.made_at).total_seconds(), 0.0) / 3600
        return tuple(cut + grown for cut in self.cuts)


class MovedRow(Struct, frozen=True):
    """A community whose scales are to be made."""

    community_id: int


class Percentiles:
    """Scales of every community: read often from memory, refreshed now and then."""

    def __init__(self, *, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock
        self._kept: dict[int, tuple[float, Scales]] = {}
        self._reading: dict[int, asyncio.Task[Scales]] = {}

    async def scales(self, community_id: int) -> Scales:
        """Return the scales of a community as they were stored some seconds ago.

        After SCALE_SECONDS they are read again, once for all who ask, and nobody waits for it;
        whoever finds them older than SCALE_SECONDS_MAX does.
        """
        read_at, kept = self._kept.get(community_id, (float("-inf"), None))
        age = self._clock.monotonic() - read_at
        if kept is not None and age < SCALE_SECONDS:
            return kept
        reading = self._reading.get(community_id)
        if reading is None:
            reading = asyncio.create_task(self._read(community_id))
            self._reading[community_id] = reading
            reading.add_done_callback(partial(self._was_read, community_id))
        if kept is not None and age < SCALE_SECONDS_MAX:
            return kept
        return await asyncio.shield(reading)

    async def _read(self, community_id: int) -> Scales:
        read_at = self._clock.monotonic()
        async with self._router.read() as session:
            rows = await session.rows(QUERIES["scales"], ScaleRow, community_id=community_id)
        made = Scales({row.metric: row.at(self._clock.now()) for row in rows})
        if self._reading.get(community_id) is asyncio.current_task():  # else they were made anew
            if len(self._kept) >= SCALES_MAX:
                self._kept.clear()
            self._kept[community_id] = (read_at, made)
        return made

    def _was_read(self, community_id: int, reading: "asyncio.Task[Scales]") -> None:
        """Forget a reading that has ended; where nobody waits for it, say why it failed."""
        if self._reading.get(community_id) is reading:
            del self._reading[community_id]
        if not reading.cancelled() and (failure := reading.exception()) is not None:
            logger.info("the scales of community %d were not read: %s", community_id, failure)

    async def refresh(self, community_ids: Sequence[int] | None = None) -> None:
        """Make the scales of these communities, or of all, from the tables."""
        ids = None if community_ids is None else list(community_ids)
        now = self._clock.now()
        async with self._router.write() as session:
            await session.value(QUERIES["lock_scales"])
            await session.run(QUERIES["mark_scales"], ids=ids, now=now)
            for query in ("refresh_post_scales", "refresh_author_scales"):
                await session.run(QUERIES[query], ids=ids, now=now, prior_views=RATE_PRIOR_VIEWS)
        for community_id in list(self._kept) if ids is None else ids:
            self._kept.pop(community_id, None)
            self._reading.pop(community_id, None)

    async def refresh_moved(self) -> list[int]:
        """Make the scales of those communities whose numbers moved; return which they are."""
        async with self._router.read() as session:
            rows = await session.rows(
                QUERIES["communities_moved"], MovedRow, old=self._clock.now() - REMADE_AFTER
            )
        for row in rows:  # one at a time: each statement stays short, and so does the lock
            await self.refresh([row.community_id])
        return [row.community_id for row in rows]
