"""Wire forms of what members did by variant."""

from datetime import datetime

from msgspec import Struct

from millrace.feed import types as feed


class Outcome(Struct, frozen=True, kw_only=True):
    """What members did with the feeds of one variant.

    engaged: impressions with an engagement for the post; engaged_rate its share, with the standard
        error where each member counts once. engagements: impressions with each kind; rates: shares.
    """

    variant: str
    members: int
    feeds: int
    impressions: int
    engaged: int
    engaged_rate: float | None
    engaged_rate_error: float | None
    engagements: dict[str, int]
    rates: dict[str, float | None]


class Outcomes(Struct, frozen=True, kw_only=True):
    """The same of every variant of a flag.

    share: of the members who were counted, drawn evenly; 1 where that is all of them.
    """

    key: str
    since: datetime
    until: datetime
    share: float
    variants: list[Outcome]


def outcome(found: feed.VariantOutcome) -> Outcome:
    """Return what members did with the feeds of one variant."""
    return Outcome(
        variant=found.variant,
        members=found.members,
        feeds=found.feeds,
        impressions=found.impressions,
        engaged=found.engaged,
        engaged_rate=found.engaged_rate,
        engaged_rate_error=found.engaged_rate_error,
        engagements=found.kinds,
        rates=found.rates,
    )


def outcomes(found: feed.FlagOutcomes) -> Outcomes:
    """Return what members did, by variant."""
    return Outcomes(
        key=found.flag,
        since=found.since,
        until=found.until,
        share=found.share,
        variants=[outcome(one) for one in found.variants],
    )
