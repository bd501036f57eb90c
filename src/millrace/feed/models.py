"""The scorers that were fitted, and which one serves."""

import asyncio
from importlib import resources
from pathlib import Path

import msgspec

from millrace.feed.embeddings import Embeddings
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES
from millrace.feed.scorer import prior
from millrace.feed.scorer_fit import fitted
from millrace.feed.scorers import Scorers
from millrace.feed.training import Training
from millrace.feed.types import FeedConfig, FitReport
from millrace.feed.value import Values, parse
from millrace.kernel.errors import SetupError
from millrace.store.session import document


class Models:
    """Fits scorers and keeps them in the table; `Scorers` lends them."""

    def __init__(self, parts: FeedParts, embeddings: Embeddings, scorers: Scorers) -> None:
        self._parts = parts
        self._scorers = scorers
        self._training = Training(parts, embeddings)

    async def fit(self) -> FitReport:
        """Fit a scorer to what members did; keep it where it beats the prior on later examples."""
        began, encoder = self._parts.clock.monotonic(), self._parts.encoder.version
        pooled = self._parts.encoder.history is not None
        found = await self._training.examples()
        now = self._parts.clock.now()
        version = f"pointwise-{now:%Y%m%d%H%M%S}"
        lens = found.lens or (await self._scorers.newest(encoder)).lens
        begin = prior(pooled=pooled)
        made, actions = await asyncio.to_thread(fitted, found.examples, begin, version, lens)
        if made is not None:
            async with self._parts.router.write() as session:
                await session.run(
                    QUERIES["insert_scorer"],
                    scorer_version=version,
                    fitted_at=now,
                    examples=len(found.examples.labels),
                    model=document(msgspec.to_builtins(made)),
                )
        better = [one.action for one in actions if one.fitted]
        return FitReport(
            scorer_version=(await self._scorers.newest(encoder, pooled=pooled)).version,
            logged=found.logged,
            replayed=found.replayed,
            actions=actions,
            saved=made is not None,
            reason=f"better than the prior on later examples: {', '.join(better)}"
            if better
            else "no action had enough examples, or none was better than the prior on later ones",
            seconds=self._parts.clock.monotonic() - began,
        )


def values_of(config: FeedConfig) -> Values:
    """Return the action weights of the settings, or those of the package.

    Raises:
        SetupError: the file cannot be read, or a weight is wrong.
    """
    if not config.value_file:
        return parse(
            (resources.files("millrace.feed") / "value.toml").read_text(encoding="utf-8"),
            "feed/value.toml",
        )
    path = Path(config.value_file)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(
            f"the value file {path} cannot be read: {exc}",
            field="feed.value_file",
            value=str(path),
            next_step="name a readable file, or leave the setting empty",
        ) from exc
    return parse(text, str(path))
