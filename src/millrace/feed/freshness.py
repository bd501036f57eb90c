"""Keeps vectors and index true to the tables: notices say what to look at, scans what was missed.

A notice names a row and may be lost, so nothing is believed but the table: `_look` reads the rows
and makes the index agree, and it alone writes to the index. A post that was removed, or whose
audience changed, is put right at once, before anything is embedded. Everything can be killed at
any point: what is missing is found again by the next scan.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from millrace.community.languages import primary
from millrace.community.types import Key
from millrace.feed.embeddings import Embeddings, unpacked
from millrace.feed.index import IndexEntry, PostIndex
from millrace.feed.parts import FeedParts
from millrace.feed.repository import (
    QUERIES,
    IndexedRow,
    MemberKeyRow,
    PendingRow,
    PostKeyRow,
    columns,
)
from millrace.kernel.errors import MillraceError, UnavailableError
from millrace.store.changes.notices import Notice, notices

STRETCH = 1_000  # rows of one read while the index is made
MEMBERS_MAX = 200  # members of one scan
RETRY_SECONDS = 2.0
SETTLE_SECONDS_MAX = 600.0
FAILURES_MAX = 3  # in a row, before whoever waits for vectors is told

logger = logging.getLogger(__name__)


class Freshness:
    """One process's part of the river: from changed rows to vectors, and from vectors to slots."""

    def __init__(self, parts: FeedParts, index: PostIndex, embeddings: Embeddings) -> None:
        self._parts = parts
        self._index = index
        self._embeddings = embeddings
        self._model = parts.encoder.version
        self._looks: set[Key] = set()
        self._stale: set[Key] = set()
        self._members: dict[Key, float] = {}
        self._member_busy = False
        self._stopping = False
        self._in_a_row = 0  # failures since something was embedded or found
        self._rebuild = False
        self._turn = asyncio.Lock()
        self._wake_look = asyncio.Event()
        self._wake_embed = asyncio.Event()
        self._scans_asked = 0
        self._scans_done = 0
        self._scanned = asyncio.Condition()
        self._missing = 0
        self._missing_since: float | None = None
        self._heard: dict[Key, float] = {}  # changed posts that wait, the oldest first
        self._indexed: set[Key] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self.failures = 0

    async def start(self) -> None:
        """Make the index from the table, then follow the changes."""
        self._stopping = False
        await self._make_index()
        self._scans_asked += 1
        for work in (self._listen, self._looking, self._embedding, self._membering):
            self._tasks.append(asyncio.create_task(self._kept(work)))

    async def stop(self) -> None:
        """Stop following; safe to call twice."""
        self._stopping = True
        await ended(self._tasks)
        self._tasks.clear()

    async def _kept(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Keep one of the loops running: one that died without a word would be a stale index."""
        while not self._stopping:
            try:
                await work()
            except Exception:
                self.failures += 1
                logger.exception("freshness broke off and begins again")
                await asyncio.sleep(RETRY_SECONDS)

    @property
    def running(self) -> bool:
        """Return whether changes are followed."""
        return bool(self._tasks)

    def progress(self) -> tuple[int, int]:
        """Return how many posts have a vector, and how many there are."""
        return len(self._index), len(self._index) + self._missing

    def waiting(self) -> int:
        """Return how many posts are new or changed and not yet in the index as they are."""
        return self._missing + len(self._heard)

    def lag(self) -> float:
        """Return for how many seconds the oldest change that this process knows of has waited."""
        since = [next(iter(self._heard.values()), None), self._missing_since]
        begun = min((one for one in since if one is not None), default=None)
        return 0.0 if begun is None else self._parts.clock.monotonic() - begun

    async def settled(self, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Wait until everything committed before this call is in vectors and slots.

        Raises:
            UnavailableError: the database or the encoder fails again and again.

        Passes on:
            TimeoutError: it took longer than `seconds_max`.
        """
        before = self._in_a_row  # what failed earlier may just have been mended

        def in_vain() -> bool:
            return self._in_a_row >= before + FAILURES_MAX

        async with asyncio.timeout(seconds_max):
            self._rebuild = True
            self._scans_asked += 1
            mine = self._scans_asked
            self._wake_embed.set()
            async with self._scanned:
                await self._scanned.wait_for(lambda: self._scans_done >= mine or in_vain())
                await self._scanned.wait_for(
                    lambda: not (self._members or self._member_busy) or in_vain()
                )
        if in_vain():
            raise UnavailableError(
                f"not every post has a vector: embedding failed {self._in_a_row} times in a row",
                next_step="see the warnings before this, and try again",
            )

    # ------------------------------------------------- what changed

    async def _listen(self) -> None:
        """Take notices for ever."""
        async with aclosing(notices(self._parts.conninfo)) as heard:
            async for notice in heard:
                self._take(notice)

    def _take(self, notice: Notice) -> None:
        if notice.table == "post":
            key = Key(notice.community_id, int(notice.key))
            self._looks.add(key)
            self._heard.setdefault(key, self._parts.clock.monotonic())
            self._wake_look.set()
        elif notice.table in ("member", "engagement"):
            key = Key(notice.community_id, int(notice.key))
            due = self._parts.clock.monotonic() + self._parts.config.coalesce_seconds
            self._members.setdefault(key, due)
        elif notice.table == "*":
            self._rebuild = True
            self._scans_asked += 1
            self._wake_embed.set()

    async def _looking(self) -> None:
        """Put the index right for changed posts, at once."""
        while True:
            await self._wake_look.wait()
            self._wake_look.clear()
            keys, self._looks = self._looks, set()
            if not await self._safely(self._look(keys)):
                self._looks |= keys
                self._wake_look.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def _look(self, keys: Collection[Key]) -> None:
        """Make the slots of these posts agree with the tables."""
        stale: set[Key] = set()
        async with self._turn:
            async with self._parts.router.read() as session:
                rows = await session.rows(
                    QUERIES["posts_for_index"],
                    IndexedRow,
                    model_version=self._model,
                    **columns(keys, "communities", "ids"),
                )
            standing = {row.key for row in rows}
            for key in keys:
                if key not in standing:
                    self._remove(key)
                    self._heard.pop(key, None)
                stale |= {row.key for row in rows if not self._put(row)}
        if stale:
            self._stale |= stale
            self._wake_embed.set()

    def _put(self, row: IndexedRow) -> bool:
        """Put a post into the index as far as there is a vector; return whether it is current."""
        if row.vector is None:
            self._remove(row.key)
            return False
        entry = IndexEntry(
            key=row.key,
            author=Key(row.community_id, row.author_id),
            created_at=row.created_at,
            language=primary(row.language),
            audience=row.audience,
        )
        self._index.put(entry, unpacked(row.vector))
        self._indexed.add(row.key)
        current = row.source_version is not None and row.source_version >= row.system_version
        if current:
            self._heard.pop(row.key, None)
        return current

    def _remove(self, key: Key) -> None:
        self._index.remove(key)
        self._indexed.discard(key)

    async def _make_index(self) -> None:
        """Make the index agree with the whole table, a stretch at a time."""
        after, alive = Key(0, 0), set[Key]()
        while True:
            async with self._turn:
                async with self._parts.router.read() as session:
                    rows = await session.rows(
                        QUERIES["embedded_posts"],
                        IndexedRow,
                        model_version=self._model,
                        community_id=after.community_id,
                        post_id=after.id,
                        limit=STRETCH,
                    )
                for row in rows:
                    self._put(row)
                    alive.add(row.key)
            if len(rows) < STRETCH:
                break
            after = rows[-1].key
        gone = self._indexed - alive
        if gone:  # or put in meanwhile: the table decides
            await self._look(gone)

    # ------------------------------------------------- what is to be embedded

    async def _embedding(self) -> None:
        """Embed what has no current vector: what a notice named at once, the rest by scans."""
        while True:
            if self._stale:
                await self._named()
            elif self._scans_done < self._scans_asked:
                await self._asked_scan()
            else:
                await self._rest()

    async def _rest(self) -> None:
        """Wait until there is work; after some time a scan looks for what no notice told."""
        try:
            async with asyncio.timeout(self._parts.config.catch_up_seconds):
                await self._wake_embed.wait()
        except TimeoutError:
            self._scans_asked += 1
        self._wake_embed.clear()

    async def _named(self) -> None:
        """Embed posts that a notice named."""
        keys = sorted(self._stale, reverse=True)[: self._parts.config.embed_batch]
        self._stale -= set(keys)
        if not await self._safely(self._embed(keys)):
            self._stale |= set(keys)
            await self._failed()
            return
        self._in_a_row = 0

    async def _asked_scan(self) -> None:
        asked = self._scans_asked
        if not await self._safely(self._scan()):
            await self._failed()
            return
        self._in_a_row = 0
        async with self._scanned:
            self._scans_done = asked
            self._scanned.notify_all()

    async def _failed(self) -> None:
        """Count a failure, let whoever waits hear of it, and rest."""
        self._in_a_row += 1
        async with self._scanned:
            self._scanned.notify_all()
        await asyncio.sleep(RETRY_SECONDS)

    async def _scan(self) -> None:
        everybody = self._rebuild
        if self._rebuild:
            self._rebuild = False
            try:
                await self._make_index()
            except BaseException:
                self._rebuild = True
                raise
        last: list[Key] = []
        while keys := await self._to_embed():
            if keys == last:  # rows that cannot be read as posts; said, and not tried for ever
                logger.warning("%d posts cannot be embedded, the first is %s", len(keys), keys[0])
                break
            await self._embed(keys)
            last = keys
            if self._stale:  # a new post does not wait for an import
                await self._named()
        await self._find_members(everybody=everybody)

    async def _to_embed(self) -> list[Key]:
        """Return some posts without a current vector, the newest first."""
        config = self._parts.config
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["posts_to_embed"],
                PendingRow,
                model_version=self._model,
                numbers_before=self._parts.clock.now() - timedelta(hours=config.refresh_hours),
                limit=config.embed_batch,
            )
        self._missing = rows[0].missing if rows else 0
        if not self._missing:
            self._missing_since = None
        elif self._missing_since is None:
            self._missing_since = self._parts.clock.monotonic()
        return [row.key for row in rows]

    async def _embed(self, keys: list[Key]) -> None:
        """Embed posts, then look at them again: what changed meanwhile is seen now."""
        await self._embeddings.embed_posts(keys)
        await self._look(keys)
        self._missing = max(self._missing - len(keys), 0)

    async def _find_members(self, *, everybody: bool) -> None:
        async with self._parts.router.read() as session:
            rows = await session.rows(
                QUERIES["members_to_embed"],
                MemberKeyRow,
                model_version=self._model,
                everybody=everybody,
                limit=MEMBERS_MAX,
            )
        for row in rows:
            self._members.setdefault(row.key, self._parts.clock.monotonic())

    # ------------------------------------------------- members

    async def _membering(self) -> None:
        """Embed members whose time has come; one who never opened a feed waits until they do."""
        pause = min(max(self._parts.config.coalesce_seconds / 4, 0.01), 0.25)
        while True:
            await asyncio.sleep(pause)
            now = self._parts.clock.monotonic()
            for key in [key for key, due in self._members.items() if due <= now]:
                await self._due(key)

    async def _due(self, key: Key) -> None:
        self._member_busy = True
        del self._members[key]  # before the work: a notice during it counts again
        if not await self._safely(self._member(key)):
            self._members.setdefault(key, self._parts.clock.monotonic())
            await asyncio.sleep(RETRY_SECONDS)
        self._member_busy = False
        async with self._scanned:
            self._scanned.notify_all()

    async def _member(self, key: Key) -> None:
        row = await self._embeddings.row(key)
        if row is None:
            async with self._parts.router.read() as session:
                posts = await session.rows(
                    QUERIES["posts_of_author"],
                    PostKeyRow,
                    community_id=key.community_id,
                    member_id=key.id,
                )
            await self._look([post.key for post in posts])
        elif row.vector is not None:
            await self._embeddings.embed_member(key)

    async def _safely(self, work: Coroutine[Any, Any, None]) -> bool:
        """Do a piece of work; a failure is counted, said, and the work is tried again later."""
        try:
            await work
        except (MillraceError, OSError, RuntimeError, ValueError) as exc:
            self.failures += 1
            logger.warning("freshness failed and tries again: %s", exc)
            return False
        return True


async def ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel tasks until they end: a driver that is connecting may swallow a cancellation."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=1.0)
