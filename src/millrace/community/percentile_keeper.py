"""Keeps the percentile scales near the numbers while a program serves."""

import asyncio
import logging

from millrace.community.percentiles import Percentiles
from millrace.kernel.clock import Clock
from millrace.kernel.rng import Rng

PAUSE_SECONDS = 60.0
REST_PER_WORK = 20.0
"""Seconds of rest per second of work: on a large installation scales cost at most a twentieth."""

logger = logging.getLogger(__name__)


class PercentileKeeper:
    """A loop that makes the scales of communities whose numbers moved, then rests.

    Several processes may run one: what the first has made, the others no longer find to do. Their
    rests are jittered, so that they do not look at the same moment.
    """

    def __init__(
        self,
        *,
        percentiles: Percentiles,
        clock: Clock,
        rng: Rng,
        pause_seconds: float = PAUSE_SECONDS,
    ) -> None:
        self._percentiles = percentiles
        self._clock = clock
        self._rng = rng
        self._pause_seconds = pause_seconds

    async def run(self) -> None:
        """Keep the scales for ever; a round that fails is said, and the next one tries again."""
        while True:
            began = self._clock.monotonic()
            try:
                await self._percentiles.refresh_moved()
            except Exception:  # whatever it was: without a word, every percentile would grow stale
                logger.exception("the percentile scales were not refreshed")
            await asyncio.sleep(self._rest(self._clock.monotonic() - began))

    def _rest(self, worked_seconds: float) -> float:
        """Return the seconds until the next round."""
        return max(self._pause_seconds, REST_PER_WORK * worked_seconds) * self._rng.uniform(
            0.75, 1.25
        )
