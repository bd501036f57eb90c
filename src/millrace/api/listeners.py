"""Who listens to what arrives for them: the places, and the streams of events.

A stream holds no queue. What arrives only wakes those whom it may reach, and each of them then asks
the database, through the one rule of visibility, what is newer than their page; so a stream that
nobody reads costs a few bytes per second for a few minutes, and then it ends. A stream of the page of
a post says only that there is something to look at.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import datetime
from typing import Any, assert_never

import msgspec
from msgspec import Struct

from millrace.community.types import Audience, Key
from millrace.feed.arrivals import Arrival, Departure, News, Talk
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


Arrivals = Callable[[], AsyncGenerator[News]]
Newer = Callable[[Key, datetime, int], Awaitable[Sequence[Key]]]
"""Return the posts that are newer for a member than a moment, at most so many, newest first."""
StillGood = Callable[[], Awaitable[bool]]
"""Return whether who opened a stream may still listen, to the post too where it is about one."""


class NewerPosts(Struct, frozen=True):
    """What a `newer` event says: how many posts by others came since the page was loaded.

    posts: their ids, newest first. more: whether there are more than are named and counted.
    """

    count: int
    posts: list[str]
    more: bool


class TalkedOf(Struct, frozen=True):
    """What a `thread` event says: there is something new under a post, or there may be."""

    post_id: str


NOTHING = NewerPosts(0, [], more=False)


class Listener:
    """One open stream.

    post: whose page it belongs to; None for that of a feed.
    said: the last `newer` event. wake: there may be something to say. doubted: the member was shut
        out, as it seems, so that who listens is asked for anew.
    """

    def __init__(self, member: Key, since: datetime, post: Key | None) -> None:
        self.member = member
        self.since = since
        self.post = post
        self.said = NOTHING
        self.wake = asyncio.Event()
        self.doubted = asyncio.Event()

    def hear(self, news: News) -> None:
        """Wake up, if it concerns this stream."""
        match news:
            case Arrival():
                concerned = self.post is None and self.may_get(news)
            case Talk(post):
                concerned = post == self.post
            case Departure(member):
                concerned = member == self.member
                if concerned:
                    self.doubted.set()
            case _:
                assert_never(news)
        if concerned:
            self.wake.set()

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
            listener.doubted.set()  # it may be pausing
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
        self, member: Key, since: datetime, still_good: StillGood, post: Key | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield events until the token ends, the server stops, or the stream has lived long enough."""
        if not self._has_room(member):
            return  # others came since the request was let in; the browser comes again
        loop = asyncio.get_running_loop()
        ends = loop.time() + self.life_seconds
        checks = loop.time() + self.heartbeat_seconds
        with self._place(Listener(member, since, post)) as listener:
            yield f"retry: {RETRY_MILLISECONDS}\n\n".encode()
            listener.wake.set()  # what came while the page was on its way
            while not self._closed and loop.time() < ends:
                await _within(checks - loop.time(), listener.wake)
                if self._closed:
                    return
                due = listener.doubted.is_set() or loop.time() >= checks
                woken = listener.wake.is_set()
                listener.wake.clear()
                listener.doubted.clear()
                if (due or post is not None) and not await still_good():
                    return
                if due:
                    self._begin_following()
                    yield b": still here\n\n"
                    checks = loop.time() + self.heartbeat_seconds
                if woken:
                    event = await self._event(listener)
                    if event:
                        yield event
                    await _within(_pause(listener.said), listener.doubted)

    async def _event(self, listener: Listener) -> bytes:
        """Return what there is to say; nothing where that was said already, or is not known."""
        if listener.post is not None:
            return _event("thread", listener.since, TalkedOf(str(listener.post)))
        found = await self._found(listener)
        if found is None or found == listener.said:
            return b""
        listener.said = found
        return _event("newer", listener.since, found)

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
    def _place(self, listener: Listener) -> Generator[Listener]:
        """Hold a place while the stream is open. The first one begins to follow what happens."""
        member = listener.member
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
        """Follow what happens, unless somebody does; a source that ended is taken up again."""
        if self._following is None or self._following.done():
            self._following = asyncio.create_task(self._follow())

    def _rest(self) -> None:
        """Stop following what happens where nobody listens any more."""
        if not self._open and self._following is not None:
            self._following.cancel()
            self._following = None

    async def _follow(self) -> None:
        """Wake those whom something may concern."""
        async with aclosing(self._arrivals()) as happening:
            async for news in happening:
                for listener in self._open:
                    listener.hear(news)


async def _within(seconds: float, event: asyncio.Event) -> None:
    """Wait for an event, and no longer than that."""
    with suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), max(seconds, 0.0))


def _pause(said: NewerPosts) -> float:
    """Return how long to gather what comes close together: longer, the more wait already."""
    return PACE_SECONDS * min(1 + said.count, SLOWER_MAX)


def _event(name: str, since: datetime, said: NewerPosts | TalkedOf) -> bytes:
    """Return an event. Its id is the moment that it counts from, so that a reader who comes again
    goes on counting from there.
    """
    number = int(since.timestamp() * 1000)
    return f"id: {number}\nevent: {name}\ndata: {msgspec.json.encode(said).decode()}\n\n".encode()
