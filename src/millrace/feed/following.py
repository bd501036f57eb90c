"""Makes the vectors of encoders that do not serve, beside the one that does.

What serves hears of everything first, through the log (embedder.py). The others follow it: they are
told whose vectors it made, and find the rest in the tables, where nothing is forgotten by a kill. At
the encoder they stand behind everybody. One that has everything is ready; from then on it is kept
true, so that it can serve at any moment. When the table says that another one serves, the two
change places here.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec.structs import replace

from millrace.community.types import Key
from millrace.feed.averages import AveragesMaker
from millrace.feed.embedder import FOUND_MAX, MEMBERS_PER_LOOK, RETRY_SECONDS, Embedder, ended
from millrace.feed.embeddings import Embeddings
from millrace.feed.encoder_versions import (
    CURRENT,
    PACKAGED,
    EncoderVersion,
    EncoderVersions,
    NewVersion,
    State,
)
from millrace.feed.encoders import Encoders
from millrace.feed.parts import FeedParts
from millrace.feed.ports import Encoder
from millrace.feed.repository import QUERIES, MemberKeyRow, PendingRow
from millrace.feed.scans import Tries
from millrace.feed.sweep import Sweep
from millrace.feed.turns import Urgency
from millrace.kernel.errors import MillraceError, SetupError, UnavailableError

LOOK_SECONDS = 30.0  # between two looks at the table that nobody asked for
TOLD_MAX = 10_000  # posts or members; more are found in the tables
DROPPED = 2_000  # vectors of retired encoders in one transaction
ROUNDS_MAX = 100_000
REST_SECONDS = 0.05  # between two such transactions

logger = logging.getLogger(__name__)


class Follower:
    """Makes the vectors of one encoder that does not serve."""

    def __init__(
        self, parts: FeedParts, embeddings: Embeddings, leading: Callable[[], str]
    ) -> None:
        """Take what makes the vectors, and which encoder's they follow."""
        self._parts = replace(parts, encoder=embeddings.encoder)
        self._embeddings = embeddings
        self._leading = leading
        self._table = EncoderVersions(parts.router, parts.clock)
        self._posts: dict[Key, None] = {}
        self._members: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._scanned_at = float("-inf")
        self._sweep = Sweep(self._parts, embeddings, lambda: True, Urgency.BESIDE)

    def heard(self, *, posts: Sequence[Key] = (), members: Sequence[Key] = ()) -> None:
        """Hear whose vectors of the one that serves were made."""
        self._posts.update(dict.fromkeys(posts))
        self._members.update(dict.fromkeys(members))
        if len(self._posts) > TOLD_MAX or len(self._members) > TOLD_MAX:
            self._posts.clear()
            self._members.clear()
            self._scanned_at = float("-inf")
        self._wake.set()

    async def run(self) -> None:
        """Follow until cancelled; what fails is tried again."""
        sweep = asyncio.create_task(self._sweep.run())
        try:
            while True:
                try:
                    await self._follow()
                except (MillraceError, OSError, RuntimeError, ValueError) as exc:
                    logger.warning("encoder %s waits: %s", self._embeddings.version, exc)
                    self._scanned_at = float("-inf")
                    await asyncio.sleep(RETRY_SECONDS)
        finally:
            sweep.cancel()

    async def _follow(self) -> None:
        """Do what was told, after a scan where one is due; then wait to be told."""
        now = self._parts.clock.monotonic()
        if now - self._scanned_at >= self._parts.config.catch_up_seconds:
            self._wake.clear()
            if await self._scan() and await self._table.finish(self._embeddings.version):
                logger.info("encoder %s is ready", self._embeddings.version)
            self._scanned_at = now
        posts, members = list(self._posts), list(self._members)
        self._posts.clear()
        self._members.clear()
        await self._pieces(posts, self._parts.config.embed_batch, self._embed_posts)
        await self._pieces(members, MEMBERS_PER_LOOK, self._embed_members)
        if not self._posts and not self._members:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._parts.config.catch_up_seconds):
                    await self._wake.wait()

    async def _scan(self) -> bool:
        """Embed what the tables say is lacking; return whether that was everything."""
        size, tries = self._parts.config.embed_batch, Tries("posts")
        while rows := await self._lacking_posts():
            keys = tries.left([row.key for row in rows])
            if not keys:
                return False
            await self._pieces(keys, size, self._embed_posts)
        tries = Tries("members")
        while found := await self._lacking_members():
            keys = tries.left([row.key for row in found])
            if not keys:
                return False
            await self._pieces(keys, MEMBERS_PER_LOOK, self._embed_members)
        return True

    async def _lacking_posts(self) -> list[PendingRow]:
        async with self._parts.router.read() as session:
            return await session.rows(
                QUERIES["posts_to_embed"],
                PendingRow,
                model_version=self._embeddings.version,
                limit=FOUND_MAX,
            )

    async def _lacking_members(self) -> list[MemberKeyRow]:
        async with self._parts.router.read() as session:
            return await session.rows(
                QUERIES["members_behind"],
                MemberKeyRow,
                model_version=self._embeddings.version,
                leading=self._leading(),
                limit=FOUND_MAX,
            )

    async def _pieces(
        self, keys: Sequence[Key], size: int, work: Callable[[Sequence[Key]], Awaitable[object]]
    ) -> None:
        """Work on keys a few at a time; those that fail by themselves are left for the next scan.

        Raises:
            UnavailableError: the database went away.
            OSError: so did something else.
        """
        for start in range(0, len(keys), size):
            some = keys[start : start + size]
            try:
                await work(some)
            except (UnavailableError, OSError):
                raise
            except (MillraceError, RuntimeError, ValueError) as exc:
                logger.warning("encoder %s fails: %s", self._embeddings.version, exc)
                if len(some) > 1:
                    await self._pieces(some, 1, work)

    async def _embed_posts(self, keys: Sequence[Key]) -> None:
        await self._embeddings.embed_posts(keys, Urgency.BESIDE)

    async def _embed_members(self, keys: Sequence[Key]) -> None:
        await self._embeddings.embed_members(keys, Urgency.BESIDE)


class Following:
    """Keeps one follower for each current encoder that does not serve. Use `start` and `stop`."""

    def __init__(
        self,
        parts: FeedParts,
        embeddings: Embeddings,
        encoders: Encoders,
        leader: Embedder,
        led: Callable[[str], None],
    ) -> None:
        """Take who makes vectors here.

        Args:
            parts: the feed's surroundings.
            embeddings: makes those of the encoder that this process began with.
            encoders: has the models.
            leader: makes the vectors of the encoder that serves.
            led: is told when that is another one.
        """
        self._parts = parts
        self._first = embeddings
        self._encoders = encoders
        self._leader = leader
        self._led = led
        self._table = EncoderVersions(parts.router, parts.clock)
        self._followers: dict[str, tuple[Follower, asyncio.Task[None]]] = {}
        self._dropped: set[str] = set()
        self._averages = AveragesMaker(parts)
        self.serving = embeddings.version
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to do what the table says."""
        if not self._tasks:
            self._tasks = [
                asyncio.create_task(work()) for work in (self._looking, self._averages.run)
            ]

    async def stop(self) -> None:
        """End every follower; what they did not do they find again. Safe to call twice."""
        await ended([*(task for _, task in self._followers.values()), *self._tasks])
        self._tasks.clear()
        self._followers.clear()
        self._leader.followed = []

    def heard(self, *, members: Sequence[Key]) -> None:
        """Hear for whom a request had a vector made."""
        for follower, _ in self._followers.values():
            follower.heard(members=members)

    async def _looking(self) -> None:
        noted = False
        while True:
            self._leader.versions_moved.clear()
            try:
                noted = noted or await self._note_settings()
                await self._look()
            except SetupError as exc:
                logger.warning("the encoder of the settings is not used: %s", exc)
                noted = True
                continue
            except (MillraceError, OSError) as exc:
                logger.warning("the encoders are looked at again: %s", exc)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._leader.versions_moved.wait()

    async def _note_settings(self) -> bool:
        """Note the encoder that the settings name, unless a person chose the one that serves.

        Passes on:
            SetupError: it cannot be loaded.
        """
        directory, load = self._parts.config.model_dir, self._parts.load
        serving = await self._table.serving()
        first = self._first.encoder
        if serving is not None and (serving.chosen or serving.version == first.version):
            config = self._parts.config
            same = (serving.directory, serving.history) == (config.model_dir, config.pooled)
            if serving.chosen or same or load is None:
                return True
            first = await load(directory)
        await self._table.propose(_new(first, directory))
        return True

    async def _look(self) -> None:
        """Do what the table says."""
        known = await self._table.all()
        in_words = any(row.history is None for row in known if row.state is not State.RETIRED)
        await self._leader.show_histories(in_words=in_words)
        current: dict[str, Embeddings] = {}
        for row in known:
            if row.state in CURRENT and not (row.state is State.CANDIDATE and row.fault):
                embeddings = await self._taken_up(row)
                if embeddings is not None:
                    current[row.version] = embeddings
        serving = next((one.version for one in known if one.state is State.SERVING), None)
        self.serving = serving or self.serving
        if serving in current and serving != self._leader.version:
            self._end({serving})
            self._leader.lead(current[serving])
            self._led(serving)
            logger.info("encoder %s leads", serving)
        beside = current.keys() - {serving}
        self._end((self._followers.keys() - beside) | self._failed())
        for version in beside - self._followers.keys():
            follower = Follower(self._parts, current[version], lambda: self.serving)
            self._followers[version] = follower, asyncio.create_task(follower.run())
        self._leader.followed = [follower for follower, _ in self._followers.values()]
        self._encoders.keep(current)
        self._averages.current = current
        since = self._table.served_nowhere_since()
        retired = {
            row.version for row in known if row.state is State.RETIRED and row.changed_at <= since
        }
        if retired - self._dropped:
            await self._drop_retired()
        self._dropped = retired

    async def _drop_retired(self) -> None:
        """Drop the vectors of retired encoders, some at a time, and let others in between."""
        for _ in range(ROUNDS_MAX):
            if not await self._table.drop_retired(DROPPED):
                return
            await asyncio.sleep(REST_SECONDS)

    async def _taken_up(self, row: EncoderVersion) -> Embeddings | None:
        """Return what makes a version's vectors; a broken one is blamed, and the others go on."""
        try:
            found = await self._encoders.of(row)
        except SetupError as exc:
            logger.warning("encoder %r is not used: %s", row.name, exc)
            if row.state is not State.SERVING:
                await self._table.blame(row.version, str(exc))
            elif not await self._table.fall_back(row.version, self._leader.version, str(exc)):
                first = self._first.encoder
                await self._table.propose(_new(first, self._parts.config.model_dir))
            return None
        if row.state is State.CANDIDATE:
            await self._table.take_up(row.version)
        return found

    def _failed(self) -> set[str]:
        """Return whose followers ended by themselves, which is a fault: they begin anew."""
        failed = {
            version
            for version, (_, task) in self._followers.items()
            if task.done() and not task.cancelled()
        }
        for version in failed:
            error = self._followers[version][1].exception()
            logger.error("the follower of encoder %s begins anew", version, exc_info=error)
        return failed

    def _end(self, versions: set[str]) -> None:
        for version in versions & self._followers.keys():
            _, task = self._followers.pop(version)
            task.cancel()


def _new(encoder: Encoder, directory: str) -> NewVersion:
    """Return the encoder of the settings as the table has it."""
    name = Path(directory).name if directory else PACKAGED
    return NewVersion(
        version=encoder.version,
        name=name,
        directory=directory,
        dims=encoder.dims,
        history=encoder.history,
    )
