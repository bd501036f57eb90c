"""What members did with the feeds of each variant, as people read it. Pure: no reads."""

from collections.abc import Sequence

from msgspec import Struct

from millrace.feed.types import VariantOutcome
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


def outcome_lines(found: Sequence[VariantOutcome]) -> list[OutcomeLine]:
    """Show the outcomes of a flag, variant by variant."""
    return [
        OutcomeLine(
            variant=one.variant or CODE_DEFAULT,
            members=exact(one.members),
            feeds=exact(one.feeds),
            impressions=exact(one.impressions),
            engaged=_engaged(one),
        )
        for one in found
    ]


def _engaged(one: VariantOutcome) -> str:
    if one.engaged_rate is None:
        return UNKNOWN
    share = f"{100 * one.engaged_rate:.2f} %"
    if one.engaged_rate_error is None:
        return share
    return f"{share} ± {100 * NORMAL_95 * one.engaged_rate_error:.2f}"
