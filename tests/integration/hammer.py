"""A program that writes as hard as it can, notes what was acknowledged, and is killed for it.

`python hammer.py` is a stem: it has imported everything, and forks a child for every line on its
standard input, so that a start costs no imports. A child opens the data folder, follows the river
and lets four members write through the real rooms, until somebody kills it.

Every note is one line, written before an operation (`try`) and after it (`ok`, or `no` where the
room refused). What the last `ok` of a fact says must be true after any kill, unless somebody tried
another value since.
"""

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg

from millrace.community.testing import OPERATOR, Rooms, as_member
from millrace.community.types import (
    Action,
    Engagement,
    Impression,
    Key,
    NewPost,
    PostChanges,
    ProfileChanges,
    Viewer,
)
from millrace.feed.proof import proved
from millrace.feed.testing import feeding, parts_for
from millrace.feed.types import FeedConfig, HistoryForm
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import MillraceError, UnavailableError
from millrace.kernel.rng import rng
from millrace.store.embedded import EmbeddedServer
from millrace.store.migrate import migrate
from millrace.store.testing import opened

MEMBERS = 6
PROOF_SECONDS_MAX = 15.0
WRITERS = 4
WORDS = ["harbour", "boat", "sail", "rope", "tide", "anchor", "soup", "bread", "oven", "garden"]
# A history in prompts is the one that engagements, blocks and edits of posts have to be heard for.
CONFIG = FeedConfig(coalesce_seconds=0.05, fit_minutes=0, history=HistoryForm.PROMPT)
ACTIONS = (Action.CLICK, Action.LONG_DWELL, Action.SHARE)  # a like would also be a fact
ABSENT = "there is none"
Fact = tuple[object, ...]


class Notes:
    """The file of notes: a line is in it when `write` returns, whoever is killed then."""

    def __init__(self, file: Path) -> None:
        self._handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, said: str, fact: Fact, value: object) -> None:
        os.write(self._handle, json.dumps([said, fact, value]).encode() + b"\n")
        os.fsync(self._handle)

    async def acknowledged(self, fact: Fact, value: object, work: Awaitable[object]) -> None:
        """Do something, and note both that it is tried and that it is done."""
        self.write("try", fact, value)
        try:
            await work
        except UnavailableError:
            raise  # nobody knows
        except MillraceError:
            self.write("no", fact, value)
        else:
            self.write("ok", fact, value)


class Writer:
    """One member who does one thing after the other. Facts are their own, so they do not race."""

    def __init__(self, rooms: Rooms, people: list[Viewer], place: int, notes: Notes) -> None:
        self._rooms = rooms
        self._me = people[place]
        self._followable, self._blockable = people[:2], people[2:]
        self._blocks = place < 2
        self._notes = notes
        self._draw = rng(os.getpid() * 10 + place)
        self._mine: list[Key] = []
        self._posts: list[Key] = []

    async def run(self) -> None:
        steps: list[Callable[[], Awaitable[None]]] = [
            self._write, self._write, self._edit, self._remove, self._like, self._like, self._like,
            self._act, self._act, self._comment, self._follow, self._headline,
        ]  # fmt: skip
        if self._blocks:
            steps.append(self._block)
        while True:
            try:
                if not self._posts or self._draw.random() < 0.1:
                    newest = await self._rooms.posts.newest(self._me, limit=20)
                    self._posts = [view.post.key for view in newest]
                await self._draw.choice(steps)()
            except MillraceError:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0)

    def _text(self) -> str:
        return " ".join(self._draw.choices(WORDS, k=6))

    async def _write(self) -> None:
        text = self._text()
        post = await self._rooms.posts.write(self._me, NewPost(text=text))
        self._notes.write("ok", ("post", str(post.key)), text)
        self._mine.append(post.key)

    async def _edit(self) -> None:
        if self._mine:
            key, text = self._draw.choice(self._mine), self._text()
            work = self._rooms.posts.edit(self._me, key, PostChanges(text=text))
            await self._notes.acknowledged(("post", str(key)), text, work)

    async def _remove(self) -> None:
        if len(self._mine) > 3:
            key = self._mine.pop(0)
            work = self._rooms.posts.remove(self._me, key, "done with it")
            await self._notes.acknowledged(("post", str(key)), None, work)

    async def _like(self) -> None:
        if self._posts:
            post, likes = self._draw.choice(self._posts), self._draw.random() < 0.7
            verb = self._rooms.reactions.like if likes else self._rooms.reactions.unlike
            fact = ("like", str(self._me.member), str(post))
            await self._notes.acknowledged(fact, likes, verb(self._me, post))

    async def _act(self) -> None:
        if self._posts:
            post, kind = self._draw.choice(self._posts), self._draw.choice(ACTIONS)
            now = self._rooms.clock.now()
            shown = Impression(member=self._me.member, post=post, shown_at=now, position=0)
            done = Engagement(member=self._me.member, post=post, kind=kind, happened_at=now)
            result = await self._rooms.activity.record(self._me, [shown], [done])
            if result.created == 2:
                fact = ("act", str(self._me.member), str(post), kind.value, now.isoformat())
                self._notes.write("ok", fact, True)

    async def _comment(self) -> None:
        if self._posts:
            text = self._text()
            made = await self._rooms.threads.comment(self._me, self._draw.choice(self._posts), text)
            self._notes.write("ok", ("comment", str(made.key)), text)

    async def _follow(self) -> None:
        target, follows = self._draw.choice(self._followable), self._draw.random() < 0.6
        verb = self._rooms.relations.follow if follows else self._rooms.relations.unfollow
        if target.member != self._me.member and self._blocks:
            fact = ("follow", str(self._me.member), str(target.member))
            await self._notes.acknowledged(fact, follows, verb(self._me, target.member))

    async def _block(self) -> None:
        target, blocks = self._draw.choice(self._blockable), self._draw.random() < 0.4
        verb = self._rooms.relations.block if blocks else self._rooms.relations.unblock
        fact = ("block", str(self._me.member), str(target.member))
        await self._notes.acknowledged(fact, blocks, verb(self._me, target.member))

    async def _headline(self) -> None:
        text = self._text()
        work = self._rooms.members.update(
            self._me, self._me.member, ProfileChanges(headline=text), expected_version=None
        )
        await self._notes.acknowledged(("headline", str(self._me.member)), text, work)


async def peopled(rooms: Rooms) -> list[Viewer]:
    """Return the members of the village; made where there is none, or only a part of it."""
    home = await rooms.community("village")
    names = [f"member{n}" for n in range(MEMBERS)]
    there = {one.external_id: one.key for one in await rooms.members.list(OPERATOR, home)}
    if len(there) < MEMBERS:
        return await rooms.people(home, *names)
    return [as_member(there[name]) for name in names]


@asynccontextmanager
async def owned(folder: Path) -> AsyncIterator[EmbeddedServer]:
    """Lend the server as its owner, as `up` has it: one that was just killed may still hold it."""
    async with EmbeddedServer(folder, durable=False) as server:
        while not server.owns:
            await server.stop()
            await asyncio.sleep(0.02)
            await server.start()
        yield server


async def living(folder: Path, notes: Path, *, prove: bool) -> None:
    """Write until killed; first prove that what the last one left is made up for."""
    async with owned(folder) as server, opened(server.conninfo) as router:
        await migrate(router)
        rooms = Rooms(router, SystemClock())
        people = await peopled(rooms)
        async with feeding(rooms, server.conninfo, config=CONFIG) as feed:
            if prove:
                await feed.settled(PROOF_SECONDS_MAX)
                found = await proved(
                    parts_for(rooms, server.conninfo, config=CONFIG), lambda *_: None
                )
                differing = [one for one in found if one.differing]
                sys.stderr.writelines(f"{one}\n" for one in differing)
                say("wrong" if differing else "right", os.getpid())
            say("up", os.getpid())

            async def reading() -> None:
                while True:
                    for one in people:
                        try:
                            await feed.page(one.member, limit=3)
                            await rooms.percentiles.refresh_moved()
                        except MillraceError:
                            pass
                        await asyncio.sleep(0.02)

            file = Notes(notes)
            writers = [Writer(rooms, people, place, file).run() for place in range(WRITERS)]
            await asyncio.gather(reading(), *writers)


def found(conninfo: str) -> dict[Fact, object]:
    """Return every fact as the database has it."""
    facts: dict[Fact, object] = {}
    with psycopg.connect(conninfo, connect_timeout=5) as db:
        for kind, number, text, gone in db.execute(
            "select community_id, post_id, text, removed_at is not null from post"
        ):
            facts["post", f"{kind}-{number}"] = None if gone else text
        for place, number, text in db.execute("select community_id, comment_id, text from comment"):
            facts["comment", f"{place}-{number}"] = text
        for place, number, text in db.execute(
            "select community_id, member_id, headline from member"
        ):
            facts["headline", f"{place}-{number}"] = text
        for table, name, target in (
            ("reaction", "like", "post_community_id, post_id"),
            ("follow", "follow", "target_community_id, target_id"),
            ("block", "block", "target_community_id, target_id"),
        ):
            for a, b, c, d in db.execute(f"select community_id, member_id, {target} from {table}"):
                facts[name, f"{a}-{b}", f"{c}-{d}"] = True
        for a, b, c, d, kind, at in db.execute(
            "select community_id, member_id, post_community_id, post_id, kind, happened_at"
            "  from engagement"
        ):
            facts["act", f"{a}-{b}", f"{c}-{d}", kind, at.isoformat()] = True
    return facts


def noted(file: Path) -> list[tuple[str, Fact, object]]:
    """Return the notes; a last line that was cut off says nothing."""
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")[:-1]
    return [(said, tuple(fact), value) for said, fact, value in map(json.loads, lines)]


def lost(
    before: list[tuple[str, Fact, object]],
    facts: dict[Fact, object],
    after: list[tuple[str, Fact, object]],
) -> list[str]:
    """Return the facts that were acknowledged before a look and are neither there nor superseded.

    Args:
        before: the notes before the look.
        facts: what was found.
        after: the notes after it.
    """
    allowed: dict[Fact, list[object]] = {}
    tried: dict[Fact, object] = {}  # and not answered yet
    unknown: dict[Fact, list[object]] = {}  # never answered: it may still happen, or not
    for place, (said, fact, value) in enumerate(after):
        if said == "try":
            if fact in tried:
                unknown.setdefault(fact, []).append(tried[fact])
            tried[fact] = value
        else:
            tried.pop(fact, None)
        if said == "ok" and place < len(before):
            allowed[fact] = [value, *unknown.get(fact, [])]
        elif fact in allowed:
            allowed[fact].append(value)
    wrong: list[str] = []
    for fact, values in allowed.items():
        is_relation = fact[0] in ("like", "follow", "block")
        value = facts.get(fact, False if is_relation else ABSENT)
        if value not in values:
            said = [(one, what) for one, name, what in after if name == fact]
            wrong.append(f"{fact}: {value!r}, and acknowledged was {values}; notes: {said}")
    return wrong


def say(word: str, child: int) -> None:
    """Tell whoever reads our standard output."""
    sys.stdout.write(f"{word} {child}\n")
    sys.stdout.flush()


def stem() -> None:
    """Fork a child for every line: the folder, the file of notes, whether to prove first."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    for line in sys.stdin:
        folder, notes, prove = line.split()
        child = os.fork()
        if child:
            say("forked", child)
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            asyncio.run(living(Path(folder), Path(notes), prove=prove == "prove"))
        except (MillraceError, TimeoutError):  # its server was killed while it started
            say("ended", os.getpid())
        except Exception:  # noqa: BLE001 - the test has to hear of whatever it is
            traceback.print_exc()
            say("broken", os.getpid())
        os._exit(0)


if __name__ == "__main__":
    stem()
