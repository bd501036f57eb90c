"""Members at work: posts and visits arrive at their rates, and feeds are asked for, over HTTP.

Everybody carries a token of their own and the consistency token of their last write, as a page
does. What arrives goes through the doors that anybody's does.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from time import perf_counter

import msgspec
import numpy as np
from msgspec import Struct, field

from millrace.community.types import Key
from millrace.kernel.errors import MillraceError
from millrace.lab.light import Answer, Connection, Connections

POSTS_PER_SECOND = 20.0
VISITS_PER_SECOND = 20.0
ENGAGEMENTS_PER_VISIT = 5
FEED_LIMIT = 20
KINDS = ("click", "long_dwell", "click", "share", "click")
NEWEST = "/v1/posts?limit=20"
REASON_MAX = 300  # characters
REASONS_MAX = 20
_NUMBERS = re.compile(r"[0-9]{3,}")


class _Problem(Struct):
    """What a refusal says of itself (RFC 9457)."""

    detail: str


class Caller(Struct):
    """A member at a client. `seen`: the consistency token of the last write."""

    key: Key
    token: str
    seen: str = ""

    @property
    def feed(self) -> str:
        """Return where the member's feed is."""
        return f"/v1/members/{self.key}/feed?limit={FEED_LIMIT}"


class Tally(Struct):
    """What was asked, and how it went. Milliseconds per answer, in the order of the answers.

    reasons: why requests failed, in the server's words or ours, and how often.
    """

    milliseconds: list[float] = field(default_factory=list[float])
    failures: int = 0
    degraded: int = 0
    reasons: Counter[str] = field(default_factory=Counter[str])

    def fail(self, reason: str) -> None:
        """Count a request that failed."""
        self.failures += 1
        self.reasons[reason] += 1

    def take(self, answer: Answer, seconds: float) -> None:
        """Count one answer."""
        if answer.status >= 300:
            self.fail(said(answer))
            return
        self.milliseconds.append(seconds * 1000)
        self.degraded += b'"degraded":[]' not in answer.body and b'"degraded"' in answer.body


class Town:
    """Whoever comes by, on connections that are kept."""

    def __init__(
        self,
        connections: Connections,
        readers: Sequence[Caller],
        writers: Sequence[Caller],
        posts: Sequence[Key],
        rng: np.random.Generator,
    ) -> None:
        """Take who there is.

        Args:
            connections: to the server.
            readers: who asks for feeds, and visits.
            writers: who writes posts.
            posts: what visits are about.
            rng: decides who comes next.
        """
        self.connections = connections
        self.written = 0
        self.engaged = 0
        self.writes = Tally()  # only those that failed
        self._readers = readers
        self._writers = writers
        self._posts = posts
        self._rng = rng
        self._next = 0

    def reader(self) -> Caller:
        """Return the next member; everybody's turn comes."""
        self._next += 1
        return self._readers[(self._next - 1) % len(self._readers)]

    # ------------------------------------------------- what arrives

    async def arrive(self) -> None:
        """Let posts and visits arrive until cancelled, at their rates and at random moments."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._at_rate(POSTS_PER_SECOND, self.write_post))
            group.create_task(self._at_rate(VISITS_PER_SECOND, self.visit))

    async def _at_rate(self, rate: float, act: Callable[[], Awaitable[object]]) -> None:
        """Begin an act at random moments, however long the others take."""
        due = perf_counter()
        running: set[asyncio.Task[None]] = set()

        async def once() -> None:
            try:
                await act()
            except MillraceError as exc:
                self.writes.fail(unanswered(exc))

        try:
            while True:
                due += self._rng.exponential(1 / rate)
                await asyncio.sleep(max(due - perf_counter(), 0))
                task = asyncio.create_task(once())
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            for task in running:
                task.cancel()

    async def write_post(self) -> Answer:
        """Have somebody write a post."""
        writer = self._writers[int(self._rng.integers(len(self._writers)))]
        self.written += 1
        body = {
            "title": f"Written now, number {self.written}",
            "text": f"The {self.written}th post of this run is about the bridge and the market.",
            "topics": [f"topic-{self.written % 400}"],
            "audience": "public",
        }
        return await self._sent(writer, "POST", "/v1/posts", body)

    def some_posts(self) -> list[Key]:
        """Return as many posts as a visit is about."""
        places: list[int] = self._rng.integers(
            len(self._posts), size=ENGAGEMENTS_PER_VISIT
        ).tolist()
        return [self._posts[place] for place in places]

    async def visit(
        self, caller: Caller | None = None, posts: Sequence[Key] | None = None
    ) -> Answer:
        """Have somebody engage with a few posts, as one sends them after a visit."""
        caller = caller or self._readers[int(self._rng.integers(len(self._readers)))]
        now = datetime.now(UTC)  # noqa: TID251 - what a client says of the time
        items = [
            {
                "post_id": str(post),
                "kind": KINDS[place % len(KINDS)],
                "happened_at": (now - timedelta(milliseconds=place)).isoformat(),
            }
            for place, post in enumerate(self.some_posts() if posts is None else posts)
        ]
        self.engaged += len(items)
        return await self._sent(caller, "POST", "/v1/engagements", {"items": items})

    async def _sent(self, caller: Caller, method: str, path: str, body: object) -> Answer:
        async with self.connections.lent() as connection:
            answer = await connection.ask(
                method, path, caller.token, msgspec.json.encode(body), caller.seen
            )
        caller.seen = answer.header(b"millrace-token") or caller.seen
        if answer.status >= 300:
            self.writes.fail(said(answer))
        return answer

    # ------------------------------------------------- what is measured

    async def one_by_one(self, seconds: float, *, newest: bool = False) -> Tally:
        """Ask for one feed after the other for so long, on one connection."""
        tally, end = Tally(), perf_counter() + seconds
        async with self.connections.lent() as connection:
            while perf_counter() < end:
                await _asked(connection, self.reader(), tally, newest=newest)
        return tally

    async def each_once(self, clients: int, seconds_max: float) -> Tally:
        """Have every member open the feed for the first time, within so many seconds.

        A member whom the server does not know yet costs a read of their whole history.
        """
        tally, end = Tally(), perf_counter() + seconds_max
        left = iter(self._readers)

        async def client() -> None:
            async with self.connections.lent() as connection:
                for caller in left:
                    if perf_counter() > end:
                        return
                    await _asked(connection, caller, tally)

        await asyncio.gather(*(client() for _ in range(clients)))
        return tally

    async def closed_loop(
        self, clients: int, seconds: float, *, newest: bool = False
    ) -> tuple[Tally, float]:
        """Have so many clients ask without a pause; return what was answered, and how many a second."""
        tally, end, began = Tally(), perf_counter() + seconds, perf_counter()

        async def client() -> None:
            async with self.connections.lent() as connection:
                while perf_counter() < end:
                    await _asked(connection, self.reader(), tally, newest=newest)

        await asyncio.gather(*(client() for _ in range(clients)))
        return tally, len(tally.milliseconds) / (perf_counter() - began)

    async def open_loop(self, rate: float, seconds: float) -> Tally:
        """Ask at random moments at a rate, whether or not the others were answered.

        The time of an answer runs from when it was due, so that a stall counts for all whom it
        kept waiting.
        """
        tally, due = Tally(), perf_counter()
        end = due + seconds
        running: set[asyncio.Task[None]] = set()

        async def ask(moment: float) -> None:
            caller = self.reader()
            try:
                async with self.connections.lent() as connection:
                    answer = await connection.ask(
                        "GET", caller.feed, caller.token, seen=caller.seen
                    )
            except MillraceError as exc:
                tally.fail(unanswered(exc))
                return
            tally.take(answer, perf_counter() - moment)

        while (due := due + self._rng.exponential(1 / rate)) < end:
            await asyncio.sleep(max(due - perf_counter(), 0))
            task = asyncio.create_task(ask(due))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)
        return tally


async def _asked(
    connection: Connection, caller: Caller, tally: Tally, *, newest: bool = False
) -> None:
    """Ask for one page and count how it went; no answer in time is a failure."""
    path = NEWEST if newest else caller.feed
    try:
        answer = await connection.ask("GET", path, caller.token, seen=caller.seen)
    except MillraceError as exc:
        tally.fail(unanswered(exc))
        return
    tally.take(answer, answer.seconds)


def reasons(*tallies: Tally) -> dict[str, int]:
    """Return why requests of all these failed, the most frequent reason first."""
    return dict(sum((one.reasons for one in tallies), Counter[str]()).most_common(REASONS_MAX))


def said(answer: Answer) -> str:
    """Return why the server refused: its status and its words, with every number left out."""
    try:
        words = msgspec.json.decode(answer.body, type=_Problem).detail
    except msgspec.DecodeError:
        words = answer.body[:REASON_MAX].decode(errors="replace")
    return f"{answer.status} {_NUMBERS.sub('#', words[:REASON_MAX])}"


def unanswered(exc: MillraceError) -> str:
    """Return why there was no answer, with every number left out."""
    return _NUMBERS.sub("#", str(exc)[:REASON_MAX])


class Arriving:
    """Lets things arrive as long as a block runs."""

    def __init__(self, town: Town) -> None:
        self._town = town
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Arriving":
        self._task = asyncio.create_task(self._town.arrive())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None, "the block has begun"
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
