"""Who listens to what arrives for them: the places, and the streams of events.

A stream holds no queue. What arrives only wakes those whom it may reach, and each of them then asks
the database, through the one rule of visibility, what is newer than their page; so a stream that
nobody reads costs a few bytes per second for a few minutes, and then it ends.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import datetime
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from millrace.community.types import Audience, Key
from millrace.kernel.errors import MillraceError, TooManyError, UnavailableError

EACH_MAX = 8
ALL_MAX = 512
HEARTBEAT_SECONDS = 15.0
PACE_SECONDS = 0.5
SLOWER_MAX = 10  # whoever has that many posts waiting hears of the next ones every five seconds
LIFE_SECONDS = 600.0  # then the browser comes again; what a reader left unread goes with the stream
RETRY_MILLISECONDS = 2_000
RETRY_SECONDS = 5.0
POSTS_MAX = 50  # named in an event; more are only counted as "more"


class Arrival(Protocol):
    """A post that may be shown from now on."""

    @property
    def author(self) -> Key:
        """Return who wrote it."""
        ...

    @property
    def audience(self) -> Audience:
        """Return whom it is for."""
        ...

    @property
    def community_id(self) -> int:
        """Return the community that it belongs to."""
        ...


Arrivals = Callable[[], AsyncGenerator[Arrival]]
Newer = Callable[[Key, datetime, int], Awaitable[Sequence[Key]]]
"""Return the posts that are newer for a member than a moment, at most so many, newest first."""
StillGood = Callable[[], Awaitable[bool]]
"""Return whether the token that opened a stream still holds."""


class NewerPosts(Struct, frozen=True):
    """What a `newer` event says: how many posts by others came since the page was loaded.

    posts: their ids, newest first. more: whether there are more than are named and counted.
    """

    count: int
    posts: list[str]
    more: bool


class Listener:
    """One open stream."""

    def __init__(self, member: Key, since: datetime) -> None:
        self.member = member
        self.since = since
        self.wake = asyncio.Event()

    def may_get(self, arrival: Arrival) -> bool:
        """Return whether an arrival may reach this member; the database says whether it does."""
        if arrival.author == self.member:
            return False
        at_home = arrival.community_id == self.member.community_id
        return at_home or arrival.audience is not Audience.COMMUNITY


class Listeners:
    """The open streams of this process."""

    def __init__(
        self,
        arrivals: Arrivals,
        newer: Newer,
        log: Any,
        *,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        life_seconds: float = LIFE_SECONDS,
    ) -> None:
        self._arrivals = arrivals
        self._newer = newer
        self._log = log
        self.heartbeat_seconds = heartbeat_seconds
        self.life_seconds = life_seconds
        self._open: set[Listener] = set()
        self._held: Counter[Key] = Counter()
        self._following: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        """Return how many streams are open."""
        return len(self._open)

    def close(self) -> None:
        """End every stream and take no more: the server is about to stop."""
        self._closed = True
        for listener in self._open:
            listener.wake.set()

    def expect_room(self, member: Key) -> None:
        """Refuse a stream that there is no place for.

        Raises:
            UnavailableError: the server is stopping, or as many listen as it can hold.
            TooManyError: the member has as many streams as one may have.
        """
        if self._closed or len(self._open) >= ALL_MAX:
            raise UnavailableError(
                "the server is stopping" if self._closed else "too many listen already",
                limit=ALL_MAX,
                next_step="try again in a moment",
            )
        if self._held[member] >= EACH_MAX:
            limit = f"{EACH_MAX} streams at once"
            raise TooManyError(
                f"member {member} has {limit}", retry_seconds=RETRY_SECONDS, limit=limit
            )

    def _has_room(self, member: Key) -> bool:
        full = len(self._open) >= ALL_MAX or self._held[member] >= EACH_MAX
        return not (self._closed or full)

    async def stream(
        self, member: Key, since: datetime, still_good: StillGood
    ) -> AsyncGenerator[bytes]:
        """Yield events until the token ends, the server stops, or the stream has lived long enough."""
        if not self._has_room(member):
            return  # others came since the request was let in; the browser comes again
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.life_seconds
        checks = loop.time() + self.heartbeat_seconds
        said: NewerPosts | None = None
        with self._place(member, since) as listener:
            yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            listener.wake.set()  # what came while the page was on its way
            while not self._closed and loop.time() < ends:
                with suppress(TimeoutError):
                    await asyncio.wait_for(listener.wake.wait(), max(checks - loop.time(), 0.0))
                if listener.wake.is_set() and not self._closed:
                    listener.wake.clear()
                    found = await self._found(listener)
                    if found is not None and found != (said or NewerPosts(0, [], more=False)):
                        said = found
                        yield _event("newer", since, found)
                    await asyncio.sleep(_pause(said))
                if loop.time() >= checks and not self._closed:
                    if not await still_good():
                        return
                    self._begin_following()
                    yield b": still here\n\n"
                    checks = loop.time() + self.heartbeat_seconds

    async def _found(self, listener: Listener) -> NewerPosts | None:
        """Return what is newer now, None where the database does not say."""
        try:
            keys = await self._newer(listener.member, listener.since, POSTS_MAX + 1)
        except MillraceError as exc:
            self._log.warning("newer_posts_unknown", reason=exc.message)
            return None
        named = [str(key) for key in keys[:POSTS_MAX]]
        return NewerPosts(len(named), named, more=len(keys) > POSTS_MAX)

    @contextmanager
    def _place(self, member: Key, since: datetime) -> Generator[Listener]:
        """Hold a place while the stream is open. The first one begins to follow what arrives."""
        listener = Listener(member, since)
        self._open.add(listener)
        self._held[member] += 1
        self._begin_following()
        try:
            yield listener
        finally:
            self._open.discard(listener)
            self._held[member] -= 1
            if not self._held[member]:
                del self._held[member]
            self._rest()

    def _begin_following(self) -> None:
        """Follow what arrives, unless somebody does; a source that ended is taken up again."""
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())

    def _rest(self) -> None:
        """Stop following what arrives where nobody listens any more."""
        if not self._open and self._following is not None:
            self._following.cancel()
            self._following = None

    async def _follow(self) -> None:
        """Wake those whom an arrival may reach."""
        async with aclosing(self._arrivals()) as arriving:
            async for arrival in arriving:
                for listener in self._open:
                    if listener.may_get(arrival):
                        listener.wake.set()


def _pause(said: NewerPosts | None) -> float:
    """Return how long to gather what comes close together: longer, the more wait already."""
    waiting = 0 if said is None else said.count
    return PACE_SECONDS * min(1 + waiting, SLOWER_MAX)


def _event(name: str, since: datetime, said: NewerPosts) -> bytes:
    """Return an event. Its id is the moment that it counts from, so that a reader who comes again
    goes on counting from there.
    """
    number = int(since.timestamp() * 1000)
    return f"id: {number}\nevent: {name}\ndata: {msgspec.json.encode(said).decode()}\n\n".encode()
