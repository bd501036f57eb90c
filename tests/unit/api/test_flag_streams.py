"""Goal: everybody who listens hears of a change, places are bounded, and an end ends every stream."""

import asyncio
from contextlib import aclosing

import pytest

from millrace.api.evaluations import Evaluations
from millrace.api.flag_streams import (
    EACH_MAX,
    KEPT,
    MEMBER_EACH_MAX,
    STREAMS_MAX,
    FlagStreams,
    Reader,
)
from millrace.api.wire_ofrep import event_stream
from millrace.community.types import Key, Role, Viewer
from millrace.kernel.errors import TooManyError, UnavailableError
from millrace.release.flags.flagset import FlagSet

MANAGER = Viewer(Role.RELEASE_MANAGER, None, "operator:rita")


class Moving:
    """Definitions whose name can be changed."""

    def __init__(self) -> None:
        self._etag = "1"
        self._common = "1"
        self._own: dict[Key, str] = {}
        self._moved = asyncio.Event()
        self._hears = lambda concerned: None

    def etag(self) -> str:
        return self._etag

    def etag_of(self, member: Key) -> str:
        return f"{self._common} {self._own.get(member, '')}".strip()

    def listen(self, hears) -> None:
        self._hears = hears

    def move(self, etag: str, member: Key | None = None) -> None:
        """Change what is about one member, or what is about all."""
        self._etag = etag
        if member is not None:
            self._own[member] = etag
        else:
            self._common = etag
        self._hears(None if member is None else frozenset({member}))
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def changed(self, etag: str, seconds: float) -> str:
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


async def nobody(names) -> frozenset[str]:
    """Say that no admission has ended."""
    return frozenset()


A = Reader("a", None, good)


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
    streams = FlagStreams(flags, nobody)
    new, known = streams.stream(A, ""), streams.stream(Reader("b", None, good), "1")
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
    streams = FlagStreams(flags, nobody)
    held = [streams.stream(A, "") for _ in range(EACH_MAX)]
    for stream in held:
        await next_event(stream)
    streams.expect_room("b", None)
    with pytest.raises(TooManyError):
        streams.expect_room("a", None)

    ends = [asyncio.create_task(next_event(stream)) for stream in held]
    await asyncio.sleep(0)
    streams.close()
    assert await asyncio.gather(*ends) == ["(end)"] * EACH_MAX
    with pytest.raises(UnavailableError):
        streams.expect_room("b", None)


async def test_members_leave_places_for_servers():
    """One member holds few places, and all of them together not the last ones."""
    streams, held = FlagStreams(Moving(), nobody), []

    async def listens(number):
        member = Key(7, number)
        streams.expect_room(f"member:{member}", member)
        held.append(streams.stream(Reader(f"member:{member}", member, good), ""))
        await next_event(held[-1])

    for number in range((STREAMS_MAX - KEPT) // MEMBER_EACH_MAX):
        for _ in range(MEMBER_EACH_MAX):
            await listens(number)
        if not number:
            with pytest.raises(TooManyError):
                await listens(number)
    with pytest.raises(UnavailableError):
        await listens(-1)
    late = streams.stream(Reader("member:7-1", Key(7, 1), good), "")
    assert await next_event(late) == "(end)"
    streams.expect_room("operator:shop", None)
    await held.pop().aclose()
    await listens(-1)
    assert len(streams) == STREAMS_MAX - KEPT
    for stream in held:
        await stream.aclose()


async def test_a_stream_ends_with_its_token():
    """A heartbeat asks whether the reader may still listen."""
    streams = FlagStreams(Moving(), nobody, heartbeat_seconds=0.01)
    stream = streams.stream(Reader("a", None, ended), "1")

    assert await next_event(stream) == "(end)"


async def test_one_question_ends_the_streams_of_all_who_were_shut_out():
    """Whoever came by an admission is asked about with the others, however many there are."""
    asked: list[set[str]] = []

    async def banned(names) -> frozenset[str]:
        asked.append(set(names))
        if len(asked) == 1:
            raise UnavailableError("the database is away")
        return frozenset({"member:7-1"})

    streams = FlagStreams(Moving(), banned, heartbeat_seconds=0.01)
    names = [f"member:7-{number}" for number in range(50)]
    held = [streams.stream(Reader(name, None, None), "1") for name in [*names, "member:7-1"]]
    ends = [asyncio.create_task(next_event(stream)) for stream in [held[1], held[-1]]]
    others = [asyncio.create_task(next_event(one)) for one in [held[0], *held[2:-1]]]

    assert await asyncio.gather(*ends) == ["(end)", "(end)"]
    assert asked == [set(names), set(names)]
    assert not any(other.done() for other in others)
    streams.close()
    await asyncio.gather(*others)


async def test_a_member_in_a_ring_wakes_nobody_else():
    """The member hears of it, and whoever follows all; another change everybody."""
    flags, heard = Moving(), []
    streams = FlagStreams(flags, nobody)
    ada, ben = Key(7, 1), Key(7, 2)
    readers = {"ada": ada, "ben": ben, "server": None}

    async def read(name: str, member: Key | None) -> None:
        async with aclosing(streams.stream(Reader(name, member, good), "")) as stream:
            while (event := await next_event(stream)) != "(end)":
                heard.append((name, event))

    tasks = [asyncio.create_task(read(*reader)) for reader in readers.items()]
    await events(heard, 3)
    heard.clear()
    flags.move("2", ada)
    await events(heard, 2)
    told = set(heard)
    heard.clear()
    flags.move("3")
    await events(heard, 3)

    assert told == {("ada", "1 2"), ("server", "2")}
    assert set(heard) == {("ada", "3 2"), ("ben", "3"), ("server", "3")}
    streams.close()
    await asyncio.gather(*tasks)


async def events(heard: list, count: int) -> None:
    """Wait for so many, and for whatever more is on its way."""
    async with asyncio.timeout(10):
        while len(heard) < count:
            await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)


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
