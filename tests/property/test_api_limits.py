"""Goal: a caller gets the rate, never more, and is told the truth about what is left."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.api.limits import WINDOW_SECONDS, Limits, decide, headers_of
from millrace.kernel.clock import ManualClock
from millrace.kernel.errors import SetupError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = st.lists(st.floats(0, 30, allow_nan=False), min_size=1, max_size=120)


@given(st.integers(1, 40), STEPS)
def test_never_more_than_the_rate(limit, steps):
    """From an empty bucket on, at most `limit` and what time gave back are allowed."""
    now, due, allowed, began = 0.0, 0.0, 0, 0.0
    for step in steps:
        now += step
        allowance, due = decide(now, due, limit)
        allowed += allowance.allowed

        assert allowed <= limit + (now - began) * limit / WINDOW_SECONDS + 1e-6
        assert due - now <= WINDOW_SECONDS + 1e-6


@given(st.integers(1, 40), STEPS)
def test_what_it_says_is_true(limit, steps):
    """`remaining` more are allowed at once and not one more; after `retry_seconds` one is."""
    now, due = 0.0, 0.0
    for step in steps:
        now += step
        allowance, due = decide(now, due, limit)
        later = due
        for _ in range(allowance.remaining):
            more, later = decide(now, later, limit)
            assert more.allowed
        assert not decide(now, later, limit)[0].allowed
        if not allowance.allowed:
            assert not decide(now + allowance.retry_seconds * 0.98, due, limit)[0].allowed
            assert decide(now + allowance.retry_seconds + 1e-6, due, limit)[0].allowed


def test_callers_and_classes_do_not_share():
    """One caller's greed costs nobody else anything."""
    clock = ManualClock(NOW)
    limits = Limits(clock, {"read": 2, "write": 1}, ["read", "write"])
    first = [limits.take("read", "a").allowed for _ in range(3)]

    assert first == [True, True, False]
    assert limits.take("read", "b").allowed
    assert limits.take("write", "a").allowed
    clock.move(30)
    assert limits.take("read", "a").allowed


def test_a_rate_that_cannot_work_is_refused():
    """A class without a rate is found when the program starts, not at the first request."""
    with pytest.raises(SetupError, match="no usable rate for 'write'") as caught:
        Limits(ManualClock(NOW), {"read": 1}, ["read", "write"])

    assert caught.value.field == "door.rates.write"


def test_headers_are_structured_fields():
    """The headers are those of the IETF draft."""
    clock = ManualClock(NOW)
    allowance = Limits(clock, {"read": 60}, ["read"]).take("read", "a")

    assert headers_of("read", allowance) == {
        "ratelimit-policy": '"read";q=60;w=60',
        "ratelimit": '"read";r=59;t=1',
    }
