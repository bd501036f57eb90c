"""A loader yields what is made, in order, ahead of time, and ends when nobody wants more."""

from threading import Event, active_count, current_thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.feed.examples.loader import Loader

WAIT_SECONDS = 10


@given(st.integers(0, 20), st.integers(0, 20), st.integers(1, 5))
def test_every_step_comes_once_in_order(start: int, steps: int, ahead: int):
    with Loader(lambda step: step * step, start, start + steps, ahead) as loader:
        assert [step * step for step in range(start, start + steps)] == list(loader)
        assert list(loader) == []


def test_batches_are_made_ahead_and_no_further():
    made: list[int] = []
    three, more = Event(), Event()

    def make(step: int) -> int:
        made.append(step)
        (three if len(made) == 3 else more if len(made) > 3 else Event()).set()
        return step

    with Loader(make, 0, 100, ahead=3) as loader:
        assert three.wait(WAIT_SECONDS)
        assert not more.is_set()
        assert next(loader) == 0
        assert more.wait(WAIT_SECONDS)
        assert made == [0, 1, 2, 3]


def test_an_error_comes_where_its_step_would_have_come():
    def make(step: int) -> int:
        if step == 3:
            raise ValueError("step 3 is broken")
        return step

    with Loader(make, 0, 10) as loader:
        assert [next(loader) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match="step 3 is broken"):
            next(loader)
        assert list(loader) == []


def test_leaving_ends_the_thread_although_it_waits_for_room():
    before = active_count()

    with Loader(lambda step: step, 0, 1_000_000, ahead=1) as loader:
        assert next(loader) == 0
        assert active_count() == before + 1

    assert active_count() == before
    assert list(loader) == []
    loader.close()


def test_an_error_of_training_ends_the_thread_too():
    before = active_count()

    with pytest.raises(RuntimeError, match="training"), Loader(lambda step: step, 0, 99) as loader:
        raise RuntimeError(f"training failed after {next(loader)}")

    assert active_count() == before


def test_an_error_that_nobody_waited_for_is_dropped_with_the_rest():
    failed = Event()

    def make(step: int) -> int:
        failed.set()
        raise ValueError("nobody asked")

    with Loader(make, 0, 5):
        assert failed.wait(WAIT_SECONDS)


def test_batches_are_made_by_another_thread():
    with Loader(lambda step: current_thread().name, 0, 2) as loader:
        assert list(loader) == ["millrace-loader", "millrace-loader"]
