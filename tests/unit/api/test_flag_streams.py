"""Goal: everybody who listens hears of a change, places are bounded, and an end ends every stream."""

import asyncio
from contextlib import aclosing

import pytest

from millrace.api.evaluations import Evaluations
from millrace.api.flag_streams import EACH_MAX, FlagStreams
from millrace.api.wire_ofrep import event_stream
from millrace.community.types import Role, Viewer
from millrace.kernel.errors import TooManyError, UnavailableError
from millrace.release.flags.flagset import FlagSet

MANAGER = Viewer(Role.RELEASE_MANAGER, None, "operator:rita")


class Moving:
    """Definitions whose name can be changed."""

    def __init__(self) -> None:
        self._etag = "1"
        self._moved = asyncio.Event()
        self.waited = 0

    def etag(self) -> str:
        return self._etag

    def move(self, etag: str) -> None:
        self._etag = etag
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def changed(self, etag: str, seconds: float) -> str:
        self.waited += 1
        async with asyncio.timeout(seconds):
            while self._etag == etag:
                await self._moved.wait()
        return self._etag

    def evaluate_all(self, context):
        return []

    def enriched(self, context, *, trusted):
        return context

    def flagset(self):
        return FlagSet.compile({"metadata": {"etag": self._etag}})


async def good() -> bool:
    """Let everybody listen on."""
    return True


async def ended() -> bool:
    """Say that a token has ended."""
    return False


async def next_event(stream) -> str:
    """Return what the next event names, past comments."""
    async with asyncio.timeout(10):
        async for piece in stream:
            for line in piece.decode().splitlines():
                if line.startswith("id: "):
                    return line[4:]
    return "(end)"


async def test_every_stream_hears_of_a_change_once():
    """Two readers, one of whom knows the present definitions, hear the next ones."""
    flags = Moving()
    streams = FlagStreams(flags)
    new, known = streams.stream("a", "", good), streams.stream("b", "1", good)
    async with aclosing(new), aclosing(known):
        assert await next_event(new) == "1"
        waiting = asyncio.create_task(next_event(known))
        while len(streams) < 2:
            await asyncio.sleep(0)
        flags.move("2")

        assert await waiting == "2"
        assert await next_event(new) == "2"
    assert len(streams) == 0


async def test_places_are_bounded_and_an_end_ends_all():
    """One caller holds so many, a stopping server takes none and ends what is open."""
    flags = Moving()
    streams = FlagStreams(flags)
    held = [streams.stream("a", "", good) for _ in range(EACH_MAX)]
    for stream in held:
        await next_event(stream)
    streams.expect_room("b")
    with pytest.raises(TooManyError):
        streams.expect_room("a")

    ends = [asyncio.create_task(next_event(stream)) for stream in held]
    await asyncio.sleep(0)
    streams.close()
    assert await asyncio.gather(*ends) == ["(end)"] * EACH_MAX
    with pytest.raises(UnavailableError):
        streams.expect_room("b")


async def test_a_stream_ends_with_its_token():
    """A heartbeat asks whether the reader may still listen."""
    streams = FlagStreams(Moving(), heartbeat_seconds=0.01)
    stream = streams.stream("a", "1", ended)

    assert await next_event(stream) == "(end)"


@pytest.mark.parametrize(("announced", "waits"), [("2", True), ("1", False), ("", False)])
async def test_a_refetch_waits_for_the_change_that_was_announced(announced, waits):
    """An event of another process may be faster than the change is here."""
    flags = Moving()
    evaluations = Evaluations(flags)
    asking = asyncio.create_task(
        evaluations.every(MANAGER, b"{}", event_stream("", "/x"), "", announced)
    )
    for _ in range(5):
        await asyncio.sleep(0)
    assert asking.done() != waits
    flags.move("2")

    assert f'"etag":"{2 if waits else 1}"'.encode() in (await asking).body
