"""Rates of a variant, and how sure they are."""

import numpy as np
import pytest

from millrace.community.types import Action
from millrace.feed.outcomes import OutcomeRow, outcome


def row(shown: list[int], engaged: list[int]) -> OutcomeRow:
    """What the tables would say of members who were shown and did so much."""
    return OutcomeRow(
        variant="on", members=len(shown), feeds=len(shown), impressions=sum(shown),
        engaged=sum(engaged), squares=sum(n**2 for n in shown),
        engaged_squares=sum(n**2 for n in engaged),
        products=sum(n * m for n, m in zip(shown, engaged, strict=True)),
        kinds={Action.LIKE: sum(engaged)},
    )  # fmt: skip


def test_a_share_is_as_sure_as_its_members_agree():
    """Beside what members drawn again and again say."""
    rng = np.random.default_rng(3)
    shown = rng.integers(1, 60, 400)
    taste = rng.beta(1, 4, 400)
    engaged = rng.binomial(shown, taste)
    found = outcome(row(shown.tolist(), engaged.tolist()))
    draws = rng.integers(0, 400, (4_000, 400))
    spread = (engaged[draws].sum(axis=1) / shown[draws].sum(axis=1)).std()
    alone = np.sqrt(found.engaged_rate * (1 - found.engaged_rate) / shown.sum())

    assert found.engaged_rate_error == pytest.approx(spread, rel=0.1)
    assert found.engaged_rate_error > 2 * alone, "what one member does is not many opinions"
    assert found.rates["like"] == found.engaged_rate
    assert found.rates["hide"] == 0.0


def test_nothing_shown_has_no_rate_and_one_member_no_error():
    nothing, one = outcome(row([0, 0], [0, 0])), outcome(row([4], [1]))

    assert (nothing.engaged_rate, nothing.engaged_rate_error) == (None, None)
    assert set(nothing.rates.values()) == {None}
    assert (one.engaged_rate, one.engaged_rate_error) == (0.25, None)
