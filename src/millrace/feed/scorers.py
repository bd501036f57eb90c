"""The scorers that may serve: the newest one, the prior, and any that a flag names."""

import asyncio
import logging
from collections.abc import Set as AbstractSet

import msgspec
import numpy as np
from msgspec import Struct

from millrace.feed.features import COLUMN
from millrace.feed.linear import Linear
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES
from millrace.feed.scorer import PRIORS, TYPICAL, TYPICAL_POOLED, Scorer, prior
from millrace.feed.variants import NEWEST, PRIOR
from millrace.kernel.errors import MillraceError

NAMED_MAX = 32
LINEAR_MAX = 256
AGAIN_SECONDS = 60.0  # after so long a scorer that was not there is looked for again

logger = logging.getLogger(__name__)


class ModelRow(Struct, frozen=True):
    """A stored scorer, as JSON has it."""

    model: dict[str, object]


class _Looked(Struct, frozen=True):
    """What the table said of a name, and when."""

    found: Scorer | None
    at: float


class Scorers:
    """Lends scorers. What was fitted is read from the table once."""

    def __init__(self, parts: FeedParts) -> None:
        self._parts = parts
        self._priors = (prior(), prior(pooled=True))
        self._named: dict[str, _Looked] = {}
        self._reading = asyncio.Lock()
        self._fitting: dict[str, _Looked] = {}  # the newest for an encoder that does not serve
        self._linear: dict[tuple[str, AbstractSet[str], bool], Linear] = {}
        self.serving: Scorer | None = None

    async def newest(self, encoder: str, *, pooled: bool = False) -> Scorer:
        """Return the newest scorer fitted for an encoder, or the prior where there is none.

        Args:
            encoder: its version.
            pooled: whether it pools histories; the prior is another one then.
        """
        async with self._parts.router.read() as session:
            row = await session.row(QUERIES["newest_scorer"], ModelRow, encoder=encoder)
        found = self._usable(row)
        return found if found is not None and found.fits(encoder) else self._priors[pooled]

    async def of(self, name: str, encoder: str, *, pooled: bool = False) -> Scorer | None:
        """Return the scorer of this name, for the vectors of an encoder.

        None where there is none that this release understands, or it is of another encoder. Where
        nothing was fitted it is the prior for vectors that are pooled, or are not.
        """
        serving = self.serving
        assert serving is not None, "the room gives a scorer before the first run"
        if name in PRIORS:
            return self._priors[PRIORS.index(name)]
        found = await self._called(name, serving, encoder)
        if found is not None and found.is_prior:
            return self._priors[pooled]
        return found if found is None or found.fits(encoder) else None

    async def _called(self, name: str, serving: Scorer, encoder: str) -> Scorer | None:
        if name in (NEWEST, serving.version) and serving.fits(encoder):
            return serving
        if name == NEWEST:
            return await self._newest_kept(encoder)
        if name == PRIOR:
            return self._priors[0]
        looked = self._looked(name)
        if looked is None:
            async with self._reading:  # who waited finds what the first one read
                looked = self._looked(name) or await self._look(name)
        return looked.found

    def linear(self, scorer: Scorer, off: AbstractSet[str], *, pooled: bool = False) -> Linear:
        """Return what makes probabilities, without the features that are off; made once."""
        name = (scorer.version, off, pooled)
        kept = self._linear.get(name)
        if kept is None:
            kept = linear(scorer, off, pooled=pooled)
            if len(self._linear) >= LINEAR_MAX:
                self._linear.clear()
            self._linear[name] = kept
        return kept

    async def _newest_kept(self, encoder: str) -> Scorer:
        """Return the newest scorer for an encoder that does not serve; looked for now and then."""
        kept, now = self._fitting.get(encoder), self._parts.clock.monotonic()
        if kept is None or kept.found is None or now - kept.at > AGAIN_SECONDS:
            try:
                kept = _Looked(await self.newest(encoder), now)
            except MillraceError as exc:
                logger.warning("no scorer can be read for encoder %s: %s", encoder, exc)
                kept = _Looked(self._priors[0], now)
            self._fitting[encoder] = kept
        return kept.found or self._priors[0]

    def _looked(self, name: str) -> _Looked | None:
        looked = self._named.get(name)
        if looked is None or looked.found is not None:
            return looked
        late = self._parts.clock.monotonic() - looked.at > AGAIN_SECONDS
        return None if late else looked

    async def _look(self, name: str) -> _Looked:
        found = None
        try:
            async with self._parts.router.read() as session:
                row = await session.row(QUERIES["scorer_named"], ModelRow, scorer_version=name)
            found = self._usable(row)
        except MillraceError as exc:
            logger.warning("the scorer %r cannot be read: %s", name[:80], exc)
        looked = _Looked(found, self._parts.clock.monotonic())
        if len(self._named) >= NAMED_MAX:
            self._named.clear()
        self._named[name] = looked
        return looked

    def _usable(self, row: ModelRow | None) -> Scorer | None:
        """Return a stored scorer; None where it is of another release."""
        if row is None:
            return None
        try:
            found = msgspec.convert(row.model, Scorer)
        except msgspec.ValidationError:
            return None
        return found if found.is_known else None


def linear(scorer: Scorer, off: AbstractSet[str], *, pooled: bool = False) -> Linear:
    """Return what makes probabilities, without the features that are off.

    Those count as if every post were a middling one, so that the rates stay what they are.
    """
    typical = TYPICAL_POOLED if pooled else TYPICAL
    weights = np.array(scorer.weights, dtype=np.float32).astype(np.float64)
    intercepts = np.array(scorer.intercepts, dtype=np.float64)
    for name in sorted(off):
        intercepts += weights[:, COLUMN[name]] * typical.get(name, 0.0)
        weights[:, COLUMN[name]] = 0.0
    return Linear(weights, intercepts.astype(np.float32).astype(np.float64))
