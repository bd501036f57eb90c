"""Who listens to changes of flags: one wait for all, and a stream for each that says "ask again".

A stream holds no queue. It knows which definitions its reader has heard of, and tells the present
ones; how many changes there were between does not matter.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from typing import Protocol

import msgspec
from msgspec import Struct

from millrace.kernel.errors import TooManyError, UnavailableError

EACH_MAX = 64  # an application asks with one token for many of its processes
STREAMS_MAX = 2_000
HEARTBEAT_SECONDS = 15.0
LIFE_SECONDS = 3600.0  # then the reader comes again
RETRY_MILLISECONDS = 1_000
RETRY_SECONDS = 5.0

StillGood = Callable[[], Awaitable[bool]]


class Refetch(Struct, frozen=True):
    """What an event says: evaluate again. `etag` names the definitions that there are now."""

    type: str
    etag: str


class Changes(Protocol):
    """What streams need of the flags."""

    def etag(self) -> str:
        """Return what names the present definitions."""
        ...

    async def changed(self, etag: str, seconds: float) -> str:
        """Wait until the definitions have another name, and return it."""
        ...


class FlagStreams:
    """The open streams of this process."""

    def __init__(
        self,
        flags: Changes,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        life_seconds: float = LIFE_SECONDS,
    ) -> None:
        self._flags = flags
        self.heartbeat_seconds = heartbeat_seconds
        self.life_seconds = life_seconds
        self._held: Counter[str] = Counter()
        self._open = 0
        self._moved = asyncio.Event()
        self._following: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """Return how many streams are open."""
        return self._open

    def close(self) -> None:
        """End every stream and take no more: the server is about to stop."""
        self._closed = True
        self._moved.set()

    def expect_room(self, name: str) -> None:
        """Refuse a stream that there is no place for.

        Raises:
            UnavailableError: the server is stopping, or as many listen as it can hold.
            TooManyError: the caller has as many streams as one may have.
        """
        if self._closed or self._open >= STREAMS_MAX:
            raise UnavailableError(
                "the server is stopping" if self._closed else "too many listen already",
                limit=STREAMS_MAX,
                next_step="try again in a moment",
            )
        if self._held[name] >= EACH_MAX:
            limit = f"{EACH_MAX} streams at once"
            raise TooManyError(f"{name} has {limit}", retry_seconds=RETRY_SECONDS, limit=limit)

    async def stream(self, name: str, heard: str, still_good: StillGood) -> AsyncGenerator[bytes]:
        """Yield an event at once unless the reader has heard of the present flags, and then at each
        change, until the proof ends, the server stops, or the stream has lived long enough.

        Args:
            name: who listens.
            heard: the definitions that the reader last heard of; empty for none.
            still_good: whether they may still listen.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.life_seconds
        checks = loop.time() + self.heartbeat_seconds
        with self._place(name):
            yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            while not self._closed and loop.time() < ends:
                moved, now = self._moved, self._flags.etag()
                if now != heard:
                    heard = now
                    yield _event(now)
                with suppress(TimeoutError):
                    await asyncio.wait_for(moved.wait(), max(checks - loop.time(), 0.0))
                if loop.time() >= checks:
                    if self._closed or not await still_good():
                        return
                    self._begin_following()
                    yield b": still here\n\n"
                    checks = loop.time() + self.heartbeat_seconds

    @contextmanager
    def _place(self, name: str) -> Generator[None]:
        """Hold a place while the stream is open. The first one begins to wait for changes."""
        self._open += 1
        self._held[name] += 1
        self._begin_following()
        try:
            yield
        finally:
            self._open -= 1
            self._held[name] -= 1
            if not self._held[name]:
                del self._held[name]
            if not self._open and self._following is not None:
                self._following.cancel()
                self._following = None

    def _begin_following(self) -> None:
        """Wait for changes, unless somebody does."""
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow(self._flags.etag()))

    async def _follow(self, etag: str) -> None:
        """Wake every stream when the definitions have another name."""
        while not self._closed:
            found = await self._flags.changed(etag, self.heartbeat_seconds)
            if found != etag:
                etag = found
                moved, self._moved = self._moved, asyncio.Event()
                moved.set()


def _event(etag: str) -> bytes:
    """Return an event. Its id is what the reader has heard of then, for when they come again."""
    data = msgspec.json.encode(Refetch("refetchEvaluation", etag)).decode()
    return f"id: {etag}\nevent: message\ndata: {data}\n\n".encode()
