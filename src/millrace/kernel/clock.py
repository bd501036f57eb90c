"""Time is passed in, so that every simulation and every failure replays."""

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """What a room may ask of time."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return time.monotonic()


class ShiftedClock:
    """The machine's clock set to another time: it runs on from there, as a past that is relived."""

    def __init__(self, start: datetime) -> None:
        self._system = SystemClock()
        self.set(start)

    def set(self, moment: datetime) -> None:
        """Let it be `moment` now; the monotonic reading goes on as it was."""
        assert moment.tzinfo is not None, "ShiftedClock needs an aware moment"
        self._shift = moment - self._system.now()

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        return self._system.now() + self._shift

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self._system.monotonic()


class ManualClock:
    """A clock that stands still until it is moved; the fake beside the real one."""

    def __init__(self, start: datetime) -> None:
        assert start.tzinfo is not None, "ManualClock needs an aware start"
        self._now = start
        self._seconds = 0.0

    def now(self) -> datetime:
        """Return the wall time, aware, in UTC."""
        return self._now

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self._seconds

    def move(self, seconds: float) -> None:
        """Move both readings forward by `seconds`."""
        assert seconds >= 0, "time does not run backwards"
        self._now += timedelta(seconds=seconds)
        self._seconds += seconds
