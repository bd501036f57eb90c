"""Figures and pictures of the operator's page: units, shapes, and nothing made up."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.types import StageTotal
from millrace.store.cache import CacheStatistics
from millrace.store.changes.slots import SlotState
from millrace.store.changes.types import StreamState
from millrace.store.types import Position
from millrace.web.figures import (
    FUNNEL_WIDTH,
    UNKNOWN,
    amount,
    bytes_text,
    funnel_of,
    hit_gauges,
    log_place,
    ring_of,
    seconds_text,
    shape_of,
    slot_rows,
    stream_row,
)

NUMBER = re.compile(r"^-?\d+(\.\d+)?$")


def a_state(**changes) -> StreamState:
    """Return a stream that flows."""
    fields = {
        "name": "memory", "connected": True, "applied": Position(cluster="c", timeline=1, lsn=1 << 33),
        "lag_bytes": 2048, "lag_seconds": 0.25, "changes": 12_345, "batches": 7, "failures": 0,
        "restarts": 0,
    }  # fmt: skip
    return StreamState(**(fields | changes))


@pytest.mark.parametrize(
    ("number", "said"), [(0, "0"), (0.4, "0.4"), (7, "7"), (9.96, "10"), (12_345, "12,345")]
)
def test_amounts_are_short(number, said):
    """Small averages keep a digit, large numbers their commas."""
    assert amount(number) == said


@pytest.mark.parametrize(
    ("number", "said"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (3 << 20, "3.0 MiB"), (500 << 30, "500 GiB")],
)
def test_bytes_have_their_unit(number, said):
    """A number of bytes is never without its unit."""
    assert bytes_text(number) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 ms"), (0.0123, "12 ms"), (3.44, "3.4 s"), (61, "61 s"), (600, "10 min"), (9000, "2 h")],
)
def test_times_have_their_unit(seconds, said):
    """So has a time."""
    assert seconds_text(seconds) == said


def test_the_channel_narrows_from_stage_to_stage():
    """What leaves a stage is as wide as what comes to the next; an average of the runs."""
    found = funnel_of(
        [
            StageTotal(stage="hydrate_member", runs=2, seconds=0.02),
            StageTotal(stage="sources", runs=2, seconds=0.02, taken=0, left=600),
            StageTotal(stage="filters", runs=2, seconds=0.04, taken=600, left=150,
                       removed={"seen": 440, "age": 10, "block": 0}),
            StageTotal(stage="a_new_stage", runs=2, seconds=0.0, taken=150, left=150),
        ]
    )  # fmt: skip
    member, sources, filters, new = found.stages

    assert (found.runs, found.milliseconds) == ("2", "40 ms")
    assert (member.label, member.flows) == ("Know the member", False)
    assert (sources.taken, sources.left) == ("0", "300")
    assert sources.shape.split()[2:] == ["100.00,100", "0.00,100"]
    assert filters.shape.split()[:2] == ["0.00,0", "100.00,0"]
    assert filters.shape.split()[2:] == ["62.50,100", "37.50,100"]
    assert new.shape.split()[:2] == ["37.50,0", "62.50,0"]
    assert [(loss.label, loss.value) for loss in filters.losses] == [("Seen", "220"), ("Age", "5")]
    assert (filters.share, new.label) == (50, "A new stage")


def test_without_a_feed_the_pipeline_is_not_known():
    """No run is no picture, and no zero milliseconds."""
    found = funnel_of([])

    assert (found.stages, found.milliseconds) == ([], UNKNOWN)


@given(above=st.floats(0, FUNNEL_WIDTH), below=st.floats(0, FUNNEL_WIDTH))
def test_shapes_stay_inside_their_drawing(above, below):
    """Four corners, plain numbers, between 0 and the width."""
    corners = [corner.split(",") for corner in shape_of(above, below).split()]

    assert len(corners) == 4
    assert all(NUMBER.match(value) for corner in corners for value in corner)
    assert all(0 <= float(x) <= FUNNEL_WIDTH for x, _ in corners)


def test_a_stream_that_is_interrupted_says_so():
    """Colour is never alone: the word is there, and what is not known is called that."""
    flows, broken = (
        stream_row(a_state(), "x"),
        stream_row(a_state(connected=False, applied=None), "x"),
    )

    assert (flows.health_word, flows.lag, flows.behind) == ("in order", "250 ms", "2.0 KiB")
    assert flows.applied == log_place(1 << 33) == "2/0"
    assert (broken.health, broken.health_word, broken.applied) == ("bad", "not connected", UNKNOWN)
    assert stream_row(a_state(lag_seconds=6.0), "x").health == "watch"


def test_slots_are_drawn_beside_what_they_may_hold():
    """With a cap the whole is the cap; without one the largest, and that is said."""
    slots = [
        SlotState(name="a", active=True, temporary=True, wal_status="reserved", held_bytes=1 << 20),
        SlotState(name="b", active=False, temporary=False, wal_status="lost", held_bytes=4 << 20),
    ]
    capped, free = slot_rows(slots, 8 << 20), slot_rows(slots, None)

    assert [row.percent for row in capped] == [12.5, 50.0]
    assert [row.percent for row in free] == [25.0, 100.0]
    assert "of at most 8.0 MiB" in capped[0].value
    assert "without a limit" in free[0].value
    assert (capped[1].health_word, capped[1].note) == ("lost", "nobody reads from it; stays")


def test_a_cache_that_nobody_read_has_no_share():
    """0 of 0 is not 0 %."""
    used, fresh = hit_gauges(
        {"profiles": CacheStatistics(hits=3, misses=1, entries=2), "histories": CacheStatistics()}
    )

    assert (used.value, used.percent) == ("75.0 %", 75.0)
    assert (fresh.value, fresh.percent) == ("no reads yet", 0.0)


def test_a_ring_is_never_full_before_the_end():
    """One post that is missing is seen."""
    assert ring_of(9_999, 10_000).percent == "99.9 %"
    assert ring_of(10_000, 10_000).percent == "100 %"
    assert ring_of(0, 0).words == "no posts yet"
