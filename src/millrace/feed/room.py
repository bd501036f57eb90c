"""The feed: pages, why, and the fit of its scorer. What other rooms and the doors call."""

import asyncio
import logging
from datetime import UTC, timedelta
from typing import TypeAlias

from msgspec.structs import replace

from millrace.community.types import Key, PostView
from millrace.feed import cursor as cursors
from millrace.feed import record as records
from millrace.feed.cursor import Cursor
from millrace.feed.embeddings import Embeddings
from millrace.feed.freshness import Freshness, ended
from millrace.feed.index import PostIndex
from millrace.feed.models import Models, values_of
from millrace.feed.parts import FeedParts
from millrace.feed.pipeline import Pipeline
from millrace.feed.record import RankedPost
from millrace.feed.repository import reader
from millrace.feed.run import Request, Run
from millrace.feed.scorer import prior
from millrace.feed.served import Served
from millrace.feed.types import LIMIT_MAX, Explanation, FeedItem, FeedPage, FitReport, StageTotal
from millrace.feed.why import Why
from millrace.kernel.errors import InvalidError, MillraceError

DAY_SECONDS = 24 * 3600.0
FIT_RETRY_SECONDS = 300.0
LOOK_AHEAD = 20  # posts that are read beyond a page, for those that are gone meanwhile

PREVIEW = "preview"  # the surface of a feed that nobody was served

Shown: TypeAlias = tuple[int, RankedPost, PostView]
"""A post of a page with its place in the feed."""

logger = logging.getLogger(__name__)


class Feed:
    """One feed engine: `start` it, ask it, `stop` it."""

    def __init__(self, parts: FeedParts) -> None:
        self._parts = parts
        self._values = values_of(parts.config)
        self._embeddings = Embeddings(parts)
        self.index = PostIndex(parts.encoder.dims)
        self.freshness = Freshness(parts, self.index, self._embeddings)
        self._pipeline = Pipeline(
            parts, self.index, self._embeddings, self._values, self.freshness.progress
        )
        self._models = Models(parts, self._embeddings)
        self._why = Why(parts, self._pipeline, self._values)
        self._tasks: list[asyncio.Task[None]] = []
        self.degraded_pages = 0

    async def start(self) -> None:
        """Make partitions, load the scorer and the index, and follow what changes."""
        await self._pipeline.served.prepare(self._parts.clock.now())
        self._pipeline.scorer = await self._models.newest()
        await self.freshness.start()
        self._tasks.append(asyncio.create_task(self._daily()))
        if self._parts.config.fit_minutes > 0:
            self._tasks.append(asyncio.create_task(self._fitting()))

    async def stop(self) -> None:
        """End what `start` began; safe to call twice."""
        await ended(self._tasks)
        self._tasks.clear()
        await self.freshness.stop()

    async def page(
        self,
        member: Key,
        *,
        surface: str = "feed",
        limit: int = 20,
        cursor: str = "",
        token: str = "",
    ) -> FeedPage:
        """Return a page of a member's feed; without a cursor a new feed is ranked and logged.

        Whoever calls this serves the member: the posts count as delivered. To look only, see
        `preview`.

        Passes on:
            NotFoundError: there is no such member.
            InvalidError: the limit is outside its bounds, or the cursor is not good (any more).
        """
        _expect_limit(limit)
        found = await self._next(member, limit, cursor, token) if cursor else None
        if found is None:
            found = await self._first(member, surface, limit, token)
        self.degraded_pages += bool(found.degraded)
        return found

    async def preview(self, member: Key, *, limit: int = 20, token: str = "") -> FeedPage:
        """Return what a member's next first page would be, for somebody who only looks.

        Ranked as for the member, and not served: nothing is logged, nothing counts as delivered,
        there is no cursor, and the id of the served feed is 0.

        Passes on:
            NotFoundError: there is no such member.
            InvalidError: the limit is outside its bounds.
        """
        _expect_limit(limit)
        run, made = await self._ranked(member, PREVIEW, limit, token)
        found = self._page(member, made, _first_posts(run, made), made.delivered)
        return replace(found, next_cursor="")

    async def why(
        self, member: Key, post: Key, *, token: str = "", oversees: bool = False
    ) -> Explanation:
        """Return why a post is in a member's feed, or the stage and the reason that keep it out.

        Passes on:
            NotFoundError: there is no such member or post, or the member may not see the post;
                where `oversees`, the reason for that is explained instead.
        """
        await self._ready()
        return await self._why.explain(member, post, token=token, oversees=oversees)

    def stages(self) -> list[StageTotal]:
        """Return what each stage did since the start: runs, time, candidates in, out and removed."""
        return self._pipeline.totals()

    async def fit(self) -> FitReport:
        """Fit the scorer to what members did; it serves from now on where it is better.

        Posts that were just imported are embedded first: without vectors there is little to learn.
        """
        if self.freshness.running:
            try:
                await self.freshness.settled()
            except TimeoutError:
                logger.warning("the scorer is fitted though not every post is embedded")
        report = await self._models.fit()
        self._pipeline.scorer = await self._models.newest()
        return report

    async def _ready(self) -> None:
        if self._pipeline.scorer is None:  # a process that does not serve may still ask
            self._pipeline.scorer = await self._models.newest()

    async def _first(self, member: Key, surface: str, limit: int, token: str) -> FeedPage:
        run, ranked = await self._ranked(member, surface, limit, token)
        made = replace(ranked, served_feed_id=self._parts.ids.next())
        await self._pipeline.served.write(member, made)
        return self._page(member, made, _first_posts(run, made), made.delivered)

    async def _ranked(
        self, member: Key, surface: str, limit: int, token: str
    ) -> tuple[Run, Served]:
        """Rank a feed; it has no id, because nobody wrote it down."""
        await self._ready()
        now = self._parts.clock.now()
        run = await self._pipeline.run(
            Request(member=member, surface=surface, token=token, now=now)
        )
        return run, Served(
            served_feed_id=0,
            served_at=now,
            delivered=min(limit, len(run.candidates)),
            record=records.of(run),
        )

    async def _next(self, member: Key, limit: int, text: str, token: str) -> FeedPage:
        """Return the page behind a cursor; what is gone meanwhile is left out, and made up for.

        Passes on:
            InvalidError: the cursor is no good, or its feed is too old.
        """
        place = cursors.verify(text, member, self._parts.secret)
        now = self._parts.clock.now()
        made = await self._pipeline.served.get(place)
        if made is None or made.served_at < now - timedelta(hours=self._parts.config.cursor_hours):
            cursors.expired(text)
        relations, hidden = await asyncio.gather(
            self._parts.relations.of(member, token), self._parts.activity.hidden_posts(member)
        )
        ranked, offset = made.record.ranked, place.offset
        shown: list[Shown] = []
        while offset < len(ranked) and len(shown) < limit:
            part = ranked[offset : offset + limit + LOOK_AHEAD]
            views = await self._parts.posts.views(reader(member, token), [p.key for p in part])
            seen = {view.post.key: view for view in views}
            for one in part:
                view = seen.get(one.key)
                offset += 1
                if view and view.post.author not in relations.hidden and one.key not in hidden:
                    shown.append((offset - 1, one, view))
                    if len(shown) == limit:
                        break
        await self._pipeline.served.raise_delivered(place, offset)
        return self._page(member, made, shown, offset)

    def _page(
        self,
        member: Key,
        made: Served,
        shown: list[Shown],
        offset: int,
    ) -> FeedPage:
        found = made.record
        ended = offset >= len(found.ranked)
        day = made.served_at.astimezone(UTC).date()
        place = Cursor(member, made.served_feed_id, day, offset)
        return FeedPage(
            served_feed_id=made.served_feed_id,
            items=[
                FeedItem(view=view, position=at, score=one.score, reason=one.reason, seen=one.seen)
                for at, one, view in shown
            ],
            next_cursor="" if ended else cursors.sign(place, self._parts.secret),
            caught_up=found.exhausted and (offset > found.fresh or ended),
            degraded=found.degraded,
        )

    async def _daily(self) -> None:
        """Make the next partitions and drop the oldest, several times a day."""
        while True:
            try:
                now = self._parts.clock.now()
                await self._pipeline.served.prepare(now)
                await self._pipeline.served.retire(now, self._parts.config.retention_days)
            except MillraceError as exc:
                logger.warning("the partitions of served feeds: %s", exc)
            await asyncio.sleep(DAY_SECONDS / 4)

    async def _fitting(self) -> None:
        """Fit once everything is embedded, if nothing was fitted yet; then now and then."""
        while True:
            scorer = self._pipeline.scorer
            try:
                if scorer is not None and scorer.version == prior().version:
                    await self.fit()
                await asyncio.sleep(self._parts.config.fit_minutes * 60)
                await self.fit()
            except (MillraceError, TimeoutError) as exc:
                logger.warning("the scorer was not fitted: %s", exc)
                await asyncio.sleep(FIT_RETRY_SECONDS)


def _first_posts(run: Run, made: Served) -> list[Shown]:
    """Return the posts of a first page; they were read a moment ago."""
    return [
        (place, ranked, one.shown)
        for place, (ranked, one) in enumerate(
            zip(made.record.ranked[: made.delivered], run.candidates, strict=False)
        )
    ]


def _expect_limit(limit: int) -> None:
    """Check the length of a page.

    Raises:
        InvalidError: it is outside its bounds.
    """
    if not 1 <= limit <= LIMIT_MAX:
        raise InvalidError(
            f"limit {limit} is outside 1..{LIMIT_MAX}",
            field="limit",
            value=limit,
            limit=f"1..{LIMIT_MAX}",
            next_step="ask for fewer posts and follow the cursor",
        )
