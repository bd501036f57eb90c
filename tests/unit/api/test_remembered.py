"""Goal: a token is asked about once in five seconds, by one question, and its end is heard in time."""

import asyncio
from datetime import UTC, datetime

import pytest

from millrace.api.remembered import AHEAD_SECONDS, SECONDS, Remembered
from millrace.community.types import Role, Viewer
from millrace.kernel.clock import ManualClock
from millrace.kernel.errors import UnauthenticatedError

RITA = Viewer(Role.RELEASE_MANAGER, None, "operator:rita")


class Answering:
    """Knows one token, until it is ended."""

    def __init__(self) -> None:
        self.asked = 0
        self.ended = False

    async def authenticate(self, bearer: str) -> Viewer:
        self.asked += 1
        await asyncio.sleep(0)
        if self.ended or bearer != "good":
            raise UnauthenticatedError("the token does not hold")
        return RITA


async def test_those_who_ask_at_once_share_a_question():
    """One question stands for all, and its answer for the next seconds."""
    identity = Answering()
    remembered = Remembered(identity, ManualClock(datetime(2026, 1, 1, tzinfo=UTC)))
    found = await asyncio.gather(*(remembered.authenticate("good") for _ in range(10)))

    assert found == [RITA] * 10
    assert (remembered.known("good"), remembered.known("bad")) == (RITA, None)
    with pytest.raises(UnauthenticatedError):
        await remembered.authenticate("bad")
    assert remembered.known("bad") is None
    assert identity.asked == 2


async def test_who_keeps_asking_never_waits_and_an_end_is_heard_early():
    """Before an answer is too old it is asked anew, beside the requests that it still serves."""
    clock, identity = ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), Answering()
    remembered = Remembered(identity, clock)
    await remembered.authenticate("good")
    clock.move(SECONDS - AHEAD_SECONDS + 0.1)
    assert [remembered.known("good") for _ in range(3)] == [RITA] * 3
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()})
    clock.move(SECONDS - 0.1)
    assert (remembered.known("good"), identity.asked) == (RITA, 2)

    identity.ended = True
    await asyncio.gather(*asyncio.all_tasks() - {asyncio.current_task()}, return_exceptions=True)
    assert remembered.known("good") is None
