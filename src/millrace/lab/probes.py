"""How long a change takes to be seen by somebody else, watched from outside, over HTTP.

Each probe makes a change through its door, waits for the answer, and asks for somebody else's feed,
without the writer's consistency token, until the effect is there. So a time holds one whole feed at
least. What the feed did not show yet is asked for again after a pause, and probes come slowly: the
feeds of the probes are a part of the load, and are counted.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import cycle
from time import perf_counter
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from millrace.community.types import Key
from millrace.feed import record
from millrace.kernel.errors import MillraceError, UnavailableError
from millrace.lab.filling import QUERIES
from millrace.lab.light import Answer
from millrace.lab.town_load import NEWEST, Caller, Tally, Town, said, unanswered
from millrace.store.router import Router

Who = TypeVar("Who")
EFFECT_SECONDS_MAX = 10.0
POLL_SECONDS = 0.005
PAUSE_SECONDS = 0.5
PREPARING = 6  # pairs at once
FEED_LIMIT = 100
WORDS = "a lighthouse keeper repairs foghorns and paints the gallery white"
TRADES = (
    "lighthouse keeper", "cooper", "glassblower", "beekeeper", "saddler", "piano tuner", "falconer",
    "cartographer", "thatcher", "bookbinder", "clockmaker", "diver", "stonemason", "weaver",
    "locksmith", "shipwright",
)  # fmt: skip
DEEDS = (
    "repairs foghorns", "collects snuffboxes", "maps caves", "restores tapestries", "breeds newts",
    "carves chess pieces", "records dialects", "brews cider", "polishes lenses", "trains owls",
    "forges sickles", "presses ferns", "rows across fjords", "counts meteors",
)  # fmt: skip


class Times(Struct):
    """Milliseconds from the answer of a change until its effect; `late` were given up.

    asked: the same until the feed that had it was asked for: what is left without that feed.
    """

    milliseconds: list[float] = field(default_factory=list[float])
    asked: list[float] = field(default_factory=list[float])
    late: int = 0


class Pair(Struct, frozen=True):
    """Somebody who writes, and somebody else who follows them and reads.

    reader: somebody new, with no history: whether somebody's old likings leave room for a post among
        the first hundred is a matter of ranking, and not of freshness.
    words: what the author writes about, and what the reader is interested in. Of two posts with the
        same words, or of one author, a feed shows one and lets the other wait.
    """

    author: Caller
    reader: Caller
    words: str = WORDS


def pairs_of(authors: Sequence[Caller], readers: Sequence[Caller]) -> list[Pair]:
    """Return pairs, each with words of its own as far as they go."""
    return [
        Pair(author, reader, f"a {TRADES[n % len(TRADES)]} {DEEDS[n % len(DEEDS)]}, number {n}")
        for n, (author, reader) in enumerate(zip(authors, readers, strict=True))
    ]


class Probes:
    """The four changes, by pairs of members who do nothing else."""

    def __init__(self, town: Town, router: Router, peer: Caller) -> None:
        """Take who asks, where, and who writes what nobody's feed is waiting for."""
        self._town = town
        self._router = router
        self._peer = peer
        self._number = 0
        self.posts = Times()
        self.newest = Times()
        self.edits = Times()
        self.blocks = Times()
        self.members = Times()
        self.feeds = Tally()
        self.writes = Tally()  # only those that failed

    async def prepare(self, pairs: list[Pair]) -> None:
        """Let the readers say what interests them, and follow their authors."""
        left = iter(pairs)

        async def some() -> None:
            for pair in left:
                me = f"/v1/members/{pair.reader.key}"
                await self._sent(pair.reader, "PATCH", me, {"headline": pair.words})
                follows = _relation(pair.reader, "follows", pair.author)
                await self._sent(pair.reader, "PUT", follows)
                await self._feed(pair.reader)

        await asyncio.gather(*(some() for _ in range(PREPARING)))

    async def for_ever(self, pairs: Sequence[Pair], visitors: Sequence[Caller]) -> None:
        """Watch posts, edits and blocks by pairs, and visits by others, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for start, act in enumerate((self.post, self.edit, self.block)):
                group.create_task(self._again(act, pairs[start::3]))
            group.create_task(self._again(self.engage, visitors))

    async def _again(self, act: Callable[[Who], Awaitable[None]], whose: Sequence[Who]) -> None:
        """Do one after the other, each time by somebody else, until all had their turn, and again.

        Posts of one author, or with the same words, would step behind one another in a feed, which
        is not what is watched here.
        """
        for one in cycle(whose):
            try:
                await act(one)
            except MillraceError as exc:
                self.writes.fail(unanswered(exc))
            await asyncio.sleep(PAUSE_SECONDS)

    async def post(self, pair: Pair) -> None:
        """Write a post, and wait until the reader's feed has it; then the same with the peer."""
        written = await self._write(pair.author, pair.words)
        await self._until(self.posts, pair.reader, lambda body: written.encode() in body)
        another = await self._write(self._peer, WORDS)
        began = perf_counter()
        async with self._town.connections.lent() as connection:
            answer = await connection.ask("GET", NEWEST, pair.reader.token)
        if another.encode() in answer.body:  # else twenty newer ones came in between
            self.newest.milliseconds.append((perf_counter() - began) * 1000)

    async def edit(self, pair: Pair) -> None:
        """Write a post that is shown, change its title, and wait until the feed has the new one."""
        written = await self._write(pair.author, pair.words)
        shown = Times()
        await self._until(shown, pair.reader, lambda body: written.encode() in body)
        title = f"{pair.words}, corrected {self._number}"
        await self._sent(pair.author, "PATCH", f"/v1/posts/{written}", {"title": title})
        await self._until(self.edits, pair.reader, lambda body: title.encode() in body)

    async def block(self, pair: Pair) -> None:
        """Have the author of a shown post block the reader, and wait until the post is gone."""
        written = await self._write(pair.author, pair.words)
        shown = Times()
        await self._until(shown, pair.reader, lambda body: written.encode() in body)
        name = f'"{pair.author.key}"'.encode()
        where = _relation(pair.author, "blocks", pair.reader)
        await self._sent(pair.author, "PUT", where)
        await self._until(self.blocks, pair.reader, lambda body: name not in body)
        await self._sent(pair.author, "DELETE", where)
        await self._sent(pair.reader, "PUT", _relation(pair.reader, "follows", pair.author))

    async def engage(self, visitor: Caller) -> None:
        """Engage with posts, and ask for the visitor's own feed until it is ranked by all of them.

        Without the token of the visit: how soon what somebody did counts, wherever they ask next.

        Raises:
            UnavailableError: the server did not take the visit.
        """
        posts = self._town.some_posts()
        answer = await self._town.visit(visitor, posts)
        if answer.status >= 300:
            raise UnavailableError(said(answer))
        began = perf_counter()
        while perf_counter() - began < EFFECT_SECONDS_MAX:
            asked = perf_counter()
            await self._feed(visitor)
            answered = perf_counter()
            if await self._pooled(visitor.key) >= {*posts}:
                self.members.milliseconds.append((answered - began) * 1000)
                self.members.asked.append((asked - began) * 1000)
                return
            await asyncio.sleep(POLL_SECONDS)
        self.members.late += 1

    async def _pooled(self, member: Key) -> set[Key]:
        """Return the posts that the member's newest feed was pooled from."""
        async with self._router.read() as session:
            content = await session.value(
                QUERIES["newest_record"], community_id=member.community_id, member_id=member.id
            )
        pooled = None if content is None else record.decode(content).pooled
        return set() if pooled is None else {*pooled.posts}

    async def _write(self, author: Caller, words: str) -> str:
        """Write a post that the reader is interested in; return its id."""
        self._number += 1
        body = {"title": f"Number {self._number}", "text": words, "audience": "public"}
        answer = await self._sent(author, "POST", "/v1/posts", body)
        return str(msgspec.json.decode(answer.body)["id"])

    async def _until(self, times: Times, reader: Caller, is_so: Callable[[bytes], bool]) -> None:
        """Ask for the reader's feed until something is so in it."""
        began = perf_counter()
        while perf_counter() - began < EFFECT_SECONDS_MAX:
            asked = perf_counter()
            answer = await self._feed(reader)
            if answer.status == 200 and is_so(answer.body):
                times.milliseconds.append((perf_counter() - began) * 1000)
                times.asked.append((asked - began) * 1000)
                return
            await asyncio.sleep(POLL_SECONDS)
        times.late += 1

    async def _feed(self, reader: Caller) -> Answer:
        async with self._town.connections.lent() as connection:
            answer = await connection.ask("GET", _feed_of(reader), reader.token)
        self.feeds.take(answer, answer.seconds)
        return answer

    async def _sent(self, caller: Caller, method: str, path: str, body: object = None) -> Answer:
        content = b"" if body is None else msgspec.json.encode(body)
        async with self._town.connections.lent() as connection:
            answer = await connection.ask(method, path, caller.token, content)
        if answer.status >= 300:
            raise UnavailableError(said(answer))
        return answer


def _feed_of(reader: Caller) -> str:
    """Return a long page: whether a post is among the first twenty is a matter of ranking."""
    return f"/v1/members/{reader.key}/feed?limit={FEED_LIMIT}"


def _relation(whose: Caller, kind: str, other: Caller) -> str:
    return f"/v1/members/{whose.key}/{kind}/{other.key}"
