"""Who listens to changes of flags: a stream for each reader, which says "ask again".

A change wakes those whose answers may be others: one of a flag everybody, one of a member's place in a
ring that member, and whoever follows all that decides. A stream holds no queue. It knows of what its
reader has heard, and tells what is present; how many changes there were between does not matter.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Generator
from contextlib import contextmanager, suppress
from typing import Protocol

import msgspec
from msgspec import Struct

from millrace.community.types import Key
from millrace.kernel.errors import MillraceError, TooManyError, UnavailableError

EACH_MAX = 64  # an application asks with one token for many of its processes
MEMBER_EACH_MAX = 8  # a member has some pages open
STREAMS_MAX = 2_000
KEPT = 400  # places that members do not fill: a server with its provider hears of a kill for many
HEARTBEAT_SECONDS = 15.0
LIFE_SECONDS = 3600.0  # then the reader comes again
RETRY_MILLISECONDS = 1_000
RETRY_SECONDS = 5.0

StillGood = Callable[[], Awaitable[bool]]
Ended = Callable[[Collection[str]], Awaitable[Collection[str]]]
"""Return which of some subjects may do nothing any more."""


class Refetch(Struct, frozen=True):
    """What an event says: evaluate again. `etag` names the definitions that there are now."""

    type: str
    etag: str


class Changes(Protocol):
    """What streams need of the flags."""

    def etag(self) -> str:
        """Return what names the present definitions."""
        ...

    def etag_of(self, member: Key) -> str:
        """Return what names all that decides for a member."""
        ...

    def listen(self, hears: Callable[[frozenset[Key] | None], None]) -> None:
        """Tell somebody of every change: whose answers may be others, None for everybody's."""
        ...


class Reader(Struct, frozen=True):
    """Who listens.

    name: as rates and logs have it, and as what may end them is asked about.
    member: whose answers alone they follow; None for all that decides.
    still_good: whether they may still listen; None for a reader by admission, who is asked about
        with all the others.
    """

    name: str
    member: Key | None
    still_good: StillGood | None


class _Listener:
    """One open stream. wake: there may be something to say. over: its reader may listen no more."""

    __slots__ = ("over", "reader", "wake")

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.wake = asyncio.Event()
        self.over = False


class FlagStreams:
    """The open streams of this process."""

    def __init__(
        self,
        flags: Changes,
        ended: Ended,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        life_seconds: float = LIFE_SECONDS,
    ) -> None:
        self._flags = flags
        self._ended = ended
        self.heartbeat_seconds = heartbeat_seconds
        self.life_seconds = life_seconds
        self._listening: dict[Key | None, set[_Listener]] = {}
        self._held: Counter[str] = Counter()
        self._open = 0
        self._of_members = 0
        self._asking: asyncio.Task[None] | None = None
        self._closed = False
        flags.listen(self._hear)

    def __len__(self) -> int:
        """Return how many streams are open."""
        return self._open

    def close(self) -> None:
        """End every stream and take no more: the server is about to stop."""
        self._closed = True
        self._hear(None)

    def expect_room(self, name: str, member: Key | None) -> None:
        """Refuse a stream that there is no place for.

        Args:
            name: of who asks.
            member: as whom, None for a server and for those who run the installation.

        Raises:
            UnavailableError: the server is stopping, or as many listen as it can hold.
            TooManyError: the caller has as many streams as one may have.
        """
        full = self._open >= STREAMS_MAX
        if member is not None:
            full = full or self._of_members >= STREAMS_MAX - KEPT
        if self._closed or full:
            raise UnavailableError(
                "the server is stopping" if self._closed else "too many listen already",
                limit=STREAMS_MAX,
                next_step="try again in a moment",
            )
        each = EACH_MAX if member is None else MEMBER_EACH_MAX
        if self._held[name] >= each:
            limit = f"{each} streams at once"
            raise TooManyError(f"{name} has {limit}", retry_seconds=RETRY_SECONDS, limit=limit)

    async def stream(self, reader: Reader, heard: str) -> AsyncGenerator[bytes]:
        """Yield an event at once unless the reader has heard of what decides now, and then at each
        change, until the proof ends, the server stops, or the stream has lived long enough.

        Args:
            reader: who listens.
            heard: the `etag` that the reader last heard of; empty for none.
        """
        try:
            self.expect_room(reader.name, reader.member)
        except (UnavailableError, TooManyError):
            return  # others came between the question and the stream; the reader comes again
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.life_seconds
        checks = loop.time() + self.heartbeat_seconds
        with self._place(reader) as listener:
            yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            while not self._closed and loop.time() < ends:
                listener.wake.clear()
                now = self._etag(reader.member)
                if now != heard:
                    heard = now
                    yield _event(now)
                with suppress(TimeoutError):
                    await asyncio.wait_for(listener.wake.wait(), max(checks - loop.time(), 0.0))
                if listener.over or self._closed:
                    return
                if loop.time() >= checks:
                    if reader.still_good is not None and not await reader.still_good():
                        return
                    self._begin_asking()
                    yield b": still here\n\n"
                    checks = loop.time() + self.heartbeat_seconds

    def _etag(self, member: Key | None) -> str:
        return self._flags.etag() if member is None else self._flags.etag_of(member)

    def _hear(self, concerned: frozenset[Key] | None) -> None:
        """Wake those whose answers may be others, and who follow all that decides."""
        known = self._listening
        found = known if concerned is None else ({None} | concerned) & known.keys()
        for member in found:
            for listener in known[member]:
                listener.wake.set()

    @contextmanager
    def _place(self, reader: Reader) -> Generator[_Listener]:
        """Hold a place while the stream is open."""
        listener, same = _Listener(reader), self._listening.setdefault(reader.member, set())
        same.add(listener)
        self._open += 1
        self._of_members += reader.member is not None
        self._held[reader.name] += 1
        self._begin_asking()
        try:
            yield listener
        finally:
            same.discard(listener)
            if not same:
                del self._listening[reader.member]
            self._open -= 1
            self._of_members -= reader.member is not None
            self._held[reader.name] -= 1
            if not self._held[reader.name]:
                del self._held[reader.name]
            if not self._open and self._asking is not None:
                self._asking.cancel()
                self._asking = None

    def _begin_asking(self) -> None:
        """Ask about those who showed an admission, unless somebody does."""
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        """End the streams of those who may do nothing any more: one question for all admissions.

        A token is asked about by its own stream; an admission has none, and names only its bearer.
        """
        while True:
            await asyncio.sleep(self.heartbeat_seconds)
            listeners = [one for same in self._listening.values() for one in same]
            admitted = [one for one in listeners if one.reader.still_good is None]
            if not admitted:
                continue
            try:
                ended = await self._ended({one.reader.name for one in admitted})
            except MillraceError:
                continue  # nobody knows; it is asked again
            for listener in admitted:
                if listener.reader.name in ended:
                    listener.over = True
                    listener.wake.set()


def _event(etag: str) -> bytes:
    """Return an event. Its id is what the reader has heard of then, for when they come again."""
    data = msgspec.json.encode(Refetch("refetchEvaluation", etag)).decode()
    return f"id: {etag}\nevent: message\ndata: {data}\n\n".encode()
