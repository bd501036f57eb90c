"""Makes the vectors of posts and members as the log tells: a durable consumer of the river.

The log says what to look at; what a vector is made of is read from the tables. An obligation is in
memory, and then the log is kept for it, or it can be told from the tables alone (versions, and
`stale_at` of members), and then nothing need remember it. So a kill at any moment loses none, and
memory is bounded: what is too much to remember is written down, and found again by a scan.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

from millrace.community.types import Key
from millrace.feed.embeddings import Embeddings
from millrace.feed.heard import TABLES, Heard, heard
from millrace.feed.obligations import MEMBERS_MAX, POSTS_MAX, Queue, Safe
from millrace.feed.parts import FeedParts
from millrace.feed.repository import QUERIES, MemberKeyRow, PendingRow, PostKeyRow, columns
from millrace.feed.scans import TRIES_MAX, Round, Tries
from millrace.feed.sweep import Sweep
from millrace.feed.turns import Line, Urgency
from millrace.kernel.errors import MillraceError, UnavailableError
from millrace.store.changes.types import Batch, Snapshot
from millrace.store.types import Position

RETRY_SECONDS = 2.0
POSTS_PER_LOOK = 8
MEMBERS_PER_LOOK = 4
MEMBER_LATE_SECONDS = 0.75
"""After their moment has come; then a member need not let every new post go first any more."""
LOOKS = 3  # at once of each kind: one is encoded while others are read and stored
FOUND_MAX = 1_000  # posts of one scan
FOUND_MEMBERS_MAX = 200  # a few seconds' work: one who visits meanwhile is not made twice
AUTHORED_MAX = 20  # an author's newest posts are looked at at once when the profile changes
FAILURES_MAX = 3  # in a row, before whoever waits for vectors is told
NAP_SECONDS = 0.25  # the longest between two looks at the clock: a test moves it by hand

ENCODERS = "encoder_version"

logger = logging.getLogger(__name__)
Row = TypeVar("Row", PendingRow, MemberKeyRow)
Work = Callable[[Sequence[Key]], Awaitable[object]]


class Follows(Protocol):
    """Makes vectors of an encoder that does not serve, behind the one that does."""

    def heard(self, *, posts: Sequence[Key] = (), members: Sequence[Key] = ()) -> None:
        """Hear whose vectors of the one that serves were made."""
        ...


class Embedder:
    """The consumer `embedding`, and the loops that do what it heard."""

    def __init__(self, parts: FeedParts, embeddings: Embeddings) -> None:
        self._parts = parts
        self._embeddings = embeddings
        self._safe = Safe()
        self._posts = Queue(self._safe, POSTS_MAX)
        self._members = Queue(self._safe, MEMBERS_MAX)
        self._shut: set[Key] = set()
        self._in_words = True  # until the table of encoders says otherwise
        self.sweep = Sweep(parts, embeddings, self._is_busy)
        self._wake_posts = asyncio.Event()
        self._wake_members = asyncio.Event()
        self._backlog = Round()
        self._marked = Round()
        self._moved = asyncio.Condition()  # something was done, or failed
        self._hurry = 0
        self._missing = 0
        self._missing_since: float | None = None
        self._in_a_row = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self.failures = 0
        self.followed: list[Follows] = []
        self.versions_moved = asyncio.Event()
        """The log said that the table of encoders is another."""

    @property
    def version(self) -> str:
        """Return the encoder that vectors are made of: the one that serves."""
        return self._embeddings.version

    @property
    def line(self) -> Line:
        """Return the line in which encoders are waited for."""
        return self._embeddings.turns.line

    def lead(self, embeddings: Embeddings) -> None:
        """Make the vectors of another encoder from now on, and look for what it lacks."""
        self._embeddings = self.sweep.embeddings = embeddings
        self._backlog.ask()
        self._marked.ask()

    # ------------------------------------------------- the consumer

    @property
    def name(self) -> str:
        """Return the name of the slot."""
        return "embedding"

    @property
    def tables(self) -> frozenset[str]:
        """Return what changes vectors."""
        return TABLES | {ENCODERS}

    async def begin(self, snapshot: Snapshot) -> None:
        """Let everything be looked at again: nobody knows what the log said before this.

        Posts and profiles tell by their versions. What members did is told by no version, so where
        prompts show it all are marked.
        """
        self._safe = Safe()
        self._posts = Queue(self._safe, POSTS_MAX)
        self._members = Queue(self._safe, MEMBERS_MAX)
        await self._recall()
        if self._in_words:
            await self._mark("mark_everybody")
        self._safe.reached(snapshot.position)
        self._backlog.ask()
        self.versions_moved.set()

    async def apply(self, batch: Batch) -> None:
        """Remember what a batch asks for, in memory or in the tables."""
        changes = [change for change in batch.changes if change.table != ENCODERS]
        if len(changes) < len(batch.changes):
            self.versions_moved.set()
        if changes:
            await self._remember(heard(changes, in_words=self._in_words))
        if batch.position is not None:
            self._safe.reached(batch.position)

    def lost(self) -> None:
        """Hear that the stream is interrupted: what is known is done, and the rest comes again."""

    def safe(self) -> Position | None:
        """Return the position below which nothing waits in memory alone."""
        return self._safe.position()

    async def _remember(self, found: Heard) -> None:
        turned = {key for key, shut in found.shut.items() if shut != (key in self._shut)}
        await self._write_down(found, turned)
        self._shut = (self._shut | turned) - {key for key in turned if not found.shut[key]}
        now = self._parts.clock.monotonic()
        for key in found.posts | await self._newest_of(found.authors):
            self._posts.add(key, now, now)
        for key in found.at_once:
            self._members.add(key, now, now)
        for key in found.members:
            self._members.add(key, now, now + self._parts.config.coalesce_seconds)
        if self._posts.overflow() or found.backlog or found.authors:
            self._backlog.ask()
        if too_many := self._members.overflow():
            await self._mark("mark_members", too_many)
        self.sweep.note(found.scales)
        self._wake_posts.set()
        self._wake_members.set()

    async def _write_down(self, found: Heard, turned: Collection[Key]) -> None:
        """Mark members in the table: those of bulk work, and those whose histories changed."""
        if found.everybody:
            await self._mark("mark_everybody")
            return
        if found.many_members:
            await self._mark("mark_members", found.many_members)
        if self._in_words and (found.edited or turned):
            authors = columns(turned, "author_communities", "authors")
            await self._mark("mark_readers", found.edited, **authors)
        if found.communities:
            await self._mark("mark_communities", communities=sorted(found.communities))

    async def _mark(self, query: Any, keys: Collection[Key] = (), **more: object) -> None:
        """Say in the table that vectors of members are to be made again."""
        named = {} if "communities" in more else columns(keys, "communities", "ids")
        async with self._parts.router.write() as session:
            marked = await session.run(QUERIES[query], **named, **more)
        if marked:
            self._marked.ask()

    async def _newest_of(self, authors: Collection[Key]) -> set[Key]:
        if not authors:
            return set()
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["newest_posts_of"],
                PostKeyRow,
                each=AUTHORED_MAX,
                **columns(authors, "communities", "ids"),
            )
        return {row.key for row in rows}

    async def _recall(self) -> None:
        """Read who is banned: a change says what is, and not what was; and what prompts show."""
        async with self._parts.router.read() as session:
            rows = await session.rows(QUERIES["members_banned"], MemberKeyRow)
            in_words = await session.value(QUERIES["history_in_words"])
        self._shut = {row.key for row in rows}
        self._in_words = bool(in_words) or self._embeddings.encoder.history is None

    async def show_histories(self, *, in_words: bool) -> None:
        """Hear whether the prompts of any encoder show histories, before one of them is embedded."""
        if in_words != self._in_words:
            await self._recall()

    # ------------------------------------------------- the loops

    async def start(self) -> None:
        """Begin to do what is heard, after a look for what the tables say."""
        self._stopping = False
        await self._recall()
        self._backlog.ask()
        self._marked.ask()
        loops = (
            *[self._do_posts] * LOOKS, *[self._do_members] * LOOKS,
            self._do_backlog, self._do_marked, self.sweep.run,
        )  # fmt: skip
        self._tasks += [asyncio.create_task(self._kept(loop)) for loop in loops]

    async def stop(self) -> None:
        """Stop; what is open stays open. Safe to call twice."""
        self._stopping = True
        await ended(self._tasks)
        self._tasks.clear()

    @property
    def running(self) -> bool:
        """Return whether what is heard is done."""
        return bool(self._tasks)

    async def _kept(self, loop: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Keep a loop going: one that died without a word would leave vectors stale for ever."""
        while not self._stopping:
            try:
                await loop()
            except Exception as exc:
                self.failures += 1
                if isinstance(exc, MillraceError):
                    logger.warning("embedding broke off and begins again: %s", exc)
                else:
                    logger.exception("embedding broke off and begins again")
                await asyncio.sleep(RETRY_SECONDS)

    async def _do_posts(self) -> None:
        """Embed posts that were named, the newest first."""
        while True:
            now = self._parts.clock.monotonic()
            keys = self._posts.take(now, POSTS_PER_LOOK, newest=True)
            if keys:
                await self._worked(self._posts, keys, self._embed_posts)
            else:
                self._wake_posts.clear()
                await self._wake_posts.wait()

    async def _do_members(self) -> None:
        """Embed members whose visit is over; one who never opened a feed waits until they do."""
        while True:
            now = self._parts.clock.monotonic()
            until = float("inf") if self._hurry else now
            due = self._members.first_due()
            keys = self._members.take(until, MEMBERS_PER_LOOK)
            if keys:
                late = due is not None and now - due >= MEMBER_LATE_SECONDS
                work = self._embed_late if late else self._embed_members
                await self._worked(self._members, keys, work)
            else:
                await self._nap(until)

    async def _nap(self, now: float) -> None:
        """Wait until the next member is due, or somebody is named."""
        due = self._members.first_due()
        self._wake_members.clear()
        seconds = None if due is None else min(max(due - now, 0.001), NAP_SECONDS)
        try:
            async with asyncio.timeout(seconds):
                await self._wake_members.wait()
        except TimeoutError:
            return

    async def _embed_posts(self, keys: Sequence[Key], urgency: Urgency = Urgency.POST) -> None:
        await self._embeddings.embed_posts(keys, urgency)
        for one in self.followed:
            one.heard(posts=keys)

    async def _embed_members(self, keys: Sequence[Key], urgency: Urgency = Urgency.MEMBER) -> None:
        await self._embeddings.embed_members(keys, urgency)
        for one in self.followed:
            one.heard(members=keys)

    async def _embed_late(self, keys: Sequence[Key]) -> None:
        """Embed members who have waited for long, in one line with posts: neither starves."""
        await self._embed_members(keys, Urgency.POST)

    async def _worked(self, queue: Queue, keys: list[Key], work: Work) -> None:
        """Work on keys, and strike out those that are done."""
        try:
            failed = await self._each(keys, work)
        except BaseException as exc:
            queue.put_back(keys, failed=False)
            if not isinstance(exc, _OUTAGES):
                raise
            await self._failed(exc)
            return
        queue.done(set(keys) - set(failed))
        queue.put_back(failed, failed=True)
        for key in queue.dropped(lambda one: one.tries >= TRIES_MAX):
            logger.error("%s cannot be embedded; the next scan tries it again", key)
        await self._went_on()
        if failed:
            await asyncio.sleep(RETRY_SECONDS)

    async def _each(self, keys: Sequence[Key], work: Work) -> list[Key]:
        """Work on keys together; if that fails, one by one. Return those that fail by themselves.

        An outage is nobody's fault, and is passed on.
        """
        try:
            await work(keys)
        except _OUTAGES:
            raise
        except (MillraceError, RuntimeError, ValueError) as exc:
            self.failures += 1
            logger.warning("embedding failed and tries again: %s", exc)
            if len(keys) == 1:
                return list(keys)
            return [key for one in keys for key in await self._each([one], work)]
        return []

    # ------------------------------------------------- what only the tables know

    async def _do_backlog(self) -> None:
        """Embed the posts that the tables say lack a current vector."""
        while True:
            await self._asked(self._backlog, self._scan_posts)

    async def _do_marked(self) -> None:
        """Embed the members that the table says are to be."""
        while True:
            await self._asked(self._marked, self._scan_members)

    async def _asked(self, scans: Round, scan: Callable[[], Awaitable[None]]) -> None:
        """Do one scan, when it is asked for, or after some time for what nobody asked."""
        if scans.done >= scans.asked:
            scans.wake.clear()
            try:
                async with asyncio.timeout(self._parts.config.catch_up_seconds):
                    await scans.wake.wait()
            except TimeoutError:
                scans.ask()
        asked = scans.asked
        try:
            await scan()
        except _OUTAGES as exc:
            await self._failed(exc)
            return
        scans.done = asked
        await self._went_on()

    async def _scan_posts(self) -> None:
        for query in ("drop_fallen_posts", "drop_fallen_members"):
            async with self._parts.router.write() as session:
                await session.run(QUERIES[query])
        size, tries = self._parts.config.embed_batch, Tries("posts")
        while rows := await self._found("posts_to_embed", PendingRow, FOUND_MAX):
            self._counted(rows[0].missing)
            keys = tries.left([row.key for row in rows if row.key not in self._posts])
            if not keys:
                break
            failed: list[Key] = []
            for start in range(0, len(keys), size):
                piece = keys[start : start + size]
                failed += await self._each(piece, self._in_backlog)
                self._counted(max(self._missing - len(piece), 0))
            if len(rows) < FOUND_MAX and not failed:
                break  # that was all; what is written meanwhile is told by the log
        self._counted(0)

    async def _in_backlog(self, keys: Sequence[Key]) -> None:
        await self._embed_posts(keys, Urgency.BACKLOG)

    def _is_busy(self) -> bool:
        """Return whether a post waits, or a member whose moment has come."""
        due = self._members.first_due()
        return len(self._posts) > 0 or (due is not None and due <= self._parts.clock.monotonic())

    def _counted(self, missing: int) -> None:
        self._missing = missing
        if not missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = self._parts.clock.monotonic()

    async def _scan_members(self) -> None:
        tries = Tries("members")
        while rows := await self._found("members_to_embed", MemberKeyRow, FOUND_MEMBERS_MAX):
            keys = tries.left([row.key for row in rows])
            for start in range(0, len(keys), MEMBERS_PER_LOOK):
                await self._each(keys[start : start + MEMBERS_PER_LOOK], self._marked_members)
            if not keys:
                break

    async def _marked_members(self, keys: Sequence[Key]) -> None:
        await self._embed_members(keys, Urgency.BACKLOG)

    async def _found(self, query: Any, into: type[Row], limit: int) -> list[Row]:
        async with self._parts.router.read() as session:
            return await session.rows(QUERIES[query], into, model_version=self.version, limit=limit)

    # ------------------------------------------------- who waits

    async def idle(self) -> None:
        """Wait until all that was heard, and all that the tables say, is in vectors.

        Raises:
            UnavailableError: the database or the encoder fails again and again.
        """
        before = self._in_a_row  # what failed earlier may just have been mended
        number = self._safe.number
        backlog, marked = self._backlog.ask(), self._marked.ask()

        def over() -> bool:
            done = self._backlog.done >= backlog and self._marked.done >= marked
            heard_done = self._posts.done_before(number) and self._members.done_before(number)
            return (done and heard_done) or self._in_a_row >= before + FAILURES_MAX

        self._hurry += 1
        self._wake_members.set()
        try:
            async with self._moved:
                await self._moved.wait_for(over)
        finally:
            self._hurry -= 1
        if self._in_a_row >= before + FAILURES_MAX:
            raise UnavailableError(
                f"not every post has a vector: embedding failed {self._in_a_row} times in a row",
                next_step="see the warnings before this, and try again",
            )

    @property
    def missing(self) -> int:
        """Return how many posts had no vector at all when the tables were last looked at."""
        return self._missing

    def waiting(self) -> int:
        """Return how many posts are new or changed and have no vector of that yet."""
        return self._missing + len(self._posts)

    def lag(self) -> float:
        """Return for how many seconds the oldest post that is known to wait has waited."""
        since = [self._posts.since(), self._missing_since]
        begun = min((one for one in since if one is not None), default=None)
        return 0.0 if begun is None else max(self._parts.clock.monotonic() - begun, 0.0)

    async def _went_on(self) -> None:
        self._in_a_row = 0
        async with self._moved:
            self._moved.notify_all()

    async def _failed(self, exc: BaseException) -> None:
        """Count an outage, let whoever waits hear of it, and rest."""
        self.failures += 1
        self._in_a_row += 1
        logger.warning("embedding failed and tries again: %s", exc)
        async with self._moved:
            self._moved.notify_all()
        await asyncio.sleep(RETRY_SECONDS)


_OUTAGES = (UnavailableError, OSError)


async def ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they end: a driver that is connecting may swallow a cancellation."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1.0)
