"""Ids are ordered by time, never repeat, and name the same imported thing the same way."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.kernel.clock import ManualClock
from millrace.kernel.ids import (
    COUNT_MAX,
    EPOCH,
    NODE_MAX,
    TAIL_MAX,
    IdMaker,
    floor_at,
    id_at,
    time_of,
)

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
BIGINT_MAX = (1 << 63) - 1
moments = st.integers(0, 69 * 365 * 86_400_000_000).map(
    lambda passed: EPOCH + timedelta(microseconds=passed)
)


def test_ids_of_one_millisecond_rise() -> None:
    maker = IdMaker(ManualClock(NOON), node=7)

    made = [maker.next() for _ in range(3 * COUNT_MAX)]

    assert made == sorted(set(made))
    assert all(0 < number <= BIGINT_MAX for number in made)


def test_a_clock_that_stands_still_borrows_from_the_next_millisecond() -> None:
    maker = IdMaker(ManualClock(NOON), node=0)

    last = [maker.next() for _ in range(COUNT_MAX + 2)][-1]

    assert time_of(last) == NOON + timedelta(milliseconds=1)


class TurningBack:
    """A wall clock that an administrator set back."""

    def __init__(self) -> None:
        self.moments = [NOON, NOON - timedelta(hours=1), NOON - timedelta(minutes=30)]

    def now(self) -> datetime:
        """Return the next of the moments."""
        return self.moments.pop(0)

    def monotonic(self) -> float:
        """Return nothing of use."""
        return 0.0


def test_a_clock_set_back_does_not_repeat_ids() -> None:
    maker = IdMaker(TurningBack(), node=1)

    made = [maker.next() for _ in range(3)]

    assert made == sorted(set(made))
    assert [time_of(number) for number in made] == [NOON] * 3


@given(st.integers(0, NODE_MAX), st.integers(0, NODE_MAX))
def test_two_nodes_never_make_the_same_id(one: int, other: int) -> None:
    if one == other:
        return
    left, right = (IdMaker(ManualClock(NOON), node) for node in (one, other))

    assert {left.next() for _ in range(50)}.isdisjoint({right.next() for _ in range(50)})


@pytest.mark.parametrize("node", [-1, NODE_MAX + 1])
def test_a_node_outside_its_bits_is_refused(node: int) -> None:
    with pytest.raises(AssertionError, match=str(node)):
        IdMaker(ManualClock(NOON), node)


@given(moments, moments, st.text(), st.text())
def test_ids_order_as_their_moments_do(one: datetime, other: datetime, a: str, b: str) -> None:
    first, second = sorted((one, other))
    if second - first < timedelta(milliseconds=1):
        return

    assert id_at(first, a) < floor_at(second + timedelta(milliseconds=1))
    assert floor_at(first) <= id_at(first, a) <= floor_at(first) + TAIL_MAX
    assert id_at(first, a) < id_at(second + timedelta(milliseconds=1), b)


@given(moments, st.text())
def test_the_moment_is_in_the_id(moment: datetime, name: str) -> None:
    found = time_of(id_at(moment, name))

    assert found <= moment < found + timedelta(milliseconds=1)


def test_the_same_imported_thing_gets_the_same_id_in_every_release() -> None:
    """A changed id would import everything twice, so the value itself stands here."""
    assert id_at(NOON, "post/1") == 2235389548955648028


def test_moments_before_the_epoch_stand_at_its_start() -> None:
    assert floor_at(EPOCH - timedelta(days=900)) == 0
    assert 0 <= id_at(EPOCH - timedelta(days=900), "old") <= TAIL_MAX
