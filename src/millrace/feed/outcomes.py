"""What members did with their feeds, by the variant of a flag: every metric can be cut by variant.

Counted from the log of served feeds, the impressions and the engagements, when somebody asks.
"""

from datetime import datetime, timedelta
from math import sqrt
from typing import NoReturn

from msgspec import Struct

from millrace.community.types import POSITIVE_ACTIONS, Action
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES
from millrace.feed.types import FlagOutcomes, VariantOutcome
from millrace.feed.variants import BY_FLAG, PREFIX
from millrace.kernel.errors import InvalidError, NotFoundError

DAYS_DEFAULT = 7.0
FEEDS_MAX = 20_000  # with twenty impressions each, some seconds of the database
POSITIVE = sorted(action.value for action in POSITIVE_ACTIONS)


class OutcomeRow(Struct, frozen=True, kw_only=True):
    """One variant, as the tables say it. The sums are over members."""

    variant: str
    members: int
    feeds: int
    impressions: int
    engaged: int
    squares: float
    engaged_squares: float
    products: float
    kinds: dict[Action, int]


class Outcomes:
    """Reads outcomes. `latest` is what was counted last for those who only watch."""

    def __init__(self, parts: FeedParts) -> None:
        self._parts = parts
        self.latest: dict[str, FlagOutcomes] = {}

    async def of(
        self,
        flag: str,
        since: datetime | None = None,
        until: datetime | None = None,
        feeds_max: int = FEEDS_MAX,
    ) -> FlagOutcomes:
        """Return what members did with feeds that were ranked between two moments, by variant.

        Args:
            flag: one of those that decide something of the feed.
            since: a week before `until`, where nothing is said.
            until: now, where nothing is said.
            feeds_max: where there are more feeds, only a share of the members is counted.

        Passes on:
            NotFoundError: the flag decides nothing of the feed.
            InvalidError: the period is empty, or longer than served feeds are kept.
        """
        if flag not in BY_FLAG:
            _not_of_the_feed(flag)
        ended = until or self._parts.clock.now()
        days = float(self._parts.config.retention_days)
        began = since or ended - timedelta(days=min(DAYS_DEFAULT, days))
        if not timedelta() < ended - began <= timedelta(days=days):
            _no_period(began, ended, days)
        period = {"flag": flag, "since": began, "until": ended}
        async with self._parts.router.read() as session:
            feeds = int(await session.value(QUERIES["split_feeds"], **period))
            share = min(1.0, feeds_max / max(feeds, 1))
            rows = await session.rows(
                QUERIES["variant_outcomes"],
                OutcomeRow,
                **period,
                share=share,
                positive=POSITIVE,
            )
        return FlagOutcomes(
            flag=flag,
            since=began,
            until=ended,
            share=share,
            variants=[outcome(row) for row in rows],
        )


def outcome(row: OutcomeRow) -> VariantOutcome:
    """Return the rates of a variant, and how sure the first one is."""
    shown = row.impressions
    share = row.engaged / shown if shown else None
    return VariantOutcome(
        variant=row.variant,
        members=row.members,
        feeds=row.feeds,
        impressions=shown,
        engaged=row.engaged,
        kinds={action.value: row.kinds.get(action, 0) for action in Action},
        engaged_rate=share,
        engaged_rate_error=None if share is None else _error(row, share),
        rates={
            action.value: row.kinds.get(action, 0) / shown if shown else None for action in Action
        },
    )


def _error(row: OutcomeRow, share: float) -> float | None:
    """Return the standard error of the share of engaged posts, each member counted as one draw."""
    if row.members < 2:
        return None
    apart = row.engaged_squares - 2 * share * row.products + share**2 * row.squares
    return sqrt(max(apart, 0.0) * row.members / (row.members - 1)) / row.impressions


def _not_of_the_feed(flag: str) -> NoReturn:
    """Refuse a flag of something else.

    Raises:
        NotFoundError: always.
    """
    raise NotFoundError(
        f"the flag {flag[:80]!r} decides nothing of the feed, so no served feed names a variant of it",
        field="key",
        value=flag[:80],
        limit=f"a flag {PREFIX}<name> of the table in docs/flags.md",
        next_step="ask for a flag of the feed",
    )


def _no_period(since: datetime, until: datetime, days: float) -> NoReturn:
    """Refuse a period.

    Raises:
        InvalidError: always.
    """
    raise InvalidError(
        f"the period from {since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} cannot be counted",
        field="since",
        value=since.isoformat(),
        limit=f"more than nothing, and at most the {days:g} days that served feeds are kept",
        next_step="choose a moment before the end, within that time",
    )
