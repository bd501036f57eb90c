"""Both clocks keep the same promises; the manual one moves only when it is told."""

from datetime import UTC, datetime, timedelta

import pytest

from millrace.kernel.clock import Clock, ManualClock, SystemClock
from millrace.kernel.rng import rng

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize("clock", [SystemClock(), ManualClock(NOON)], ids=["system", "manual"])
def test_a_clock_is_aware_in_utc_and_never_runs_backwards(clock: Clock) -> None:
    assert clock.now().utcoffset() == timedelta(0)
    assert clock.monotonic() <= clock.monotonic()


def test_a_manual_clock_moves_both_readings() -> None:
    clock = ManualClock(NOON)

    clock.move(90.5)

    assert clock.now() == NOON + timedelta(seconds=90.5)
    assert clock.monotonic() == 90.5


def test_a_manual_clock_refuses_to_run_backwards() -> None:
    with pytest.raises(AssertionError, match="backwards"):
        ManualClock(NOON).move(-1)


def test_a_manual_clock_refuses_a_naive_start() -> None:
    with pytest.raises(AssertionError, match="aware"):
        ManualClock(datetime(2026, 11, 21))  # noqa: DTZ001 - the very mistake


def test_a_seed_replays_its_draws() -> None:
    assert [rng(7).random() for _ in range(3)] == [rng(7).random() for _ in range(3)]
    assert rng(7).random() != rng(8).random()
