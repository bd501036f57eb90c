"""What members did with the feeds of each variant, as people read it. Pure: no reads."""

from msgspec import Struct

from millrace.feed.types import FlagOutcomes, VariantOutcome
from millrace.release.flags.difference import CODE_DEFAULT
from millrace.web.crowds import exact
from millrace.web.figures import UNKNOWN

NORMAL_95 = 1.96  # standard errors on each side that hold the truth in 95 of 100 cases


class OutcomeLine(Struct, frozen=True, kw_only=True):
    """What came of one variant. engaged: the share of shown posts, and how sure it is."""

    variant: str
    members: str
    feeds: str
    impressions: str
    engaged: str


class OutcomeView(Struct, frozen=True, kw_only=True):
    """What came of a flag, variant by variant; `about` says of whom and when."""

    about: str
    lines: list[OutcomeLine]


def outcome_view(found: FlagOutcomes | None) -> OutcomeView | None:
    """Show the outcomes of a flag of the feed; None where there are none."""
    if found is None or not found.variants:
        return None
    whom = "all members" if found.share >= 1 else f"{100 * found.share:.3g} % of the members"
    lines = [
        OutcomeLine(
            variant=one.variant or CODE_DEFAULT,
            members=exact(one.members),
            feeds=exact(one.feeds),
            impressions=exact(one.impressions),
            engaged=_engaged(one),
        )
        for one in found.variants
    ]
    about = f"{found.since:%Y-%m-%d %H:%M} to {found.until:%Y-%m-%d %H:%M} UTC, of {whom}."
    return OutcomeView(about=about, lines=lines)


def _engaged(one: VariantOutcome) -> str:
    if one.engaged_rate is None:
        return UNKNOWN
    share = f"{100 * one.engaged_rate:.2f} %"
    if one.engaged_rate_error is None:
        return share
    return f"{share} ± {100 * NORMAL_95 * one.engaged_rate_error:.2f}"
