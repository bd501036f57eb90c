"""The feed: pages, why, and the fit of its scorer. What other rooms and the doors call."""

import asyncio
import logging
import sys
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
from msgspec.structs import replace
from threadpoolctl import threadpool_limits  # pyright: ignore[reportMissingTypeStubs]

from millrace.community.types import Key
from millrace.feed import cursor as cursors
from millrace.feed import record as records
from millrace.feed.arrivals import News
from millrace.feed.catalogue import Catalogue
from millrace.feed.cursor import Cursor
from millrace.feed.embedder import ended
from millrace.feed.embeddings import Embeddings
from millrace.feed.freshness import freshness_of
from millrace.feed.holding import Holding
from millrace.feed.index import PostIndex
from millrace.feed.index_kinds import first_look
from millrace.feed.indexing import Indexing
from millrace.feed.models import Models, values_of
from millrace.feed.outcomes import Outcomes
from millrace.feed.pages import Pages, Place, Ranked, Reading
from millrace.feed.parts import FeedParts
from millrace.feed.pipeline import Pipeline
from millrace.feed.prompt_log import PromptLog
from millrace.feed.run import SEEN, Request, Run
from millrace.feed.served import NewServed
from millrace.feed.types import (
    APP_TRACKS,
    LIMIT_MAX,
    UNKNOWN_APP,
    App,
    Explanation,
    FeedPage,
    FitReport,
    FlagOutcomes,
    StageTotal,
    VariantTotals,
)
from millrace.feed.why import Why
from millrace.kernel.errors import InvalidError, MillraceError, UnavailableError
from millrace.store.cache import CacheStatistics
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.changes.types import Snapshot

DAY_SECONDS = 24 * 3600.0
FIT_RETRY_SECONDS = 300.0
MEASURE_SECONDS = 300.0
MEASURED_FEEDS_MAX = 2_000  # per flag, each time
TOKEN_SECONDS_MAX = 0.5  # so long a feed waits for the member's own changes
SETTLE_SECONDS_MAX = 600.0
SWITCH_SECONDS = 0.0005

PREVIEW = "preview"  # the surface of a feed that nobody was served

logger = logging.getLogger(__name__)


class Feed:
    """One feed engine: `start` it, ask it, `stop` it."""

    def __init__(self, parts: FeedParts) -> None:
        self._parts = parts
        self._values = values_of(parts.config)
        self._embeddings = Embeddings(parts)
        self.catalogue = Catalogue(parts.encoder.dims, look=first_look(parts.config.index))
        self.indexing = Indexing(self.catalogue, parts.encoder.version)
        self.holding = Holding(parts, self.catalogue, self.indexing, self._switched)
        self.freshness = freshness_of(parts, self._embeddings, lambda: len(self.index))
        self._pipeline = Pipeline(
            parts, self.catalogue, self._embeddings, self.freshness, self._values
        )
        consumers = [self.indexing, self.holding, *self._pipeline.members.consumers]
        self.stream = TemporaryStream(parts.conninfo, consumers, clock=parts.clock)
        self._pages = Pages(parts)
        self._models: dict[str, Models] = {}
        self._outcomes = Outcomes(parts)
        self._prompts = PromptLog(parts.router, parts.ids)
        self._why = Why(parts, self._pipeline, self._values)
        self._tasks: list[asyncio.Task[None]] = []
        self._started = False
        self._refit = asyncio.Event()
        self.degraded_pages = 0

    @property
    def index(self) -> PostIndex:
        """Return the vectors that are searched."""
        return self.catalogue.index

    @property
    def embedder_pid(self) -> int | None:
        """Return the number of the process that embeds beside this one; None where there is none."""
        process = self._parts.process
        return None if process is None else process.pid

    async def start(self) -> None:
        """Make partitions, load the scorer and the index, and follow what changes.

        Linear algebra is held to one thread per operation: two at once are quick alone, and spin
        against each other, and against everybody else, under load. A thread that has computed
        something gets the interpreter back within half a millisecond, not five.
        """
        sys.setswitchinterval(SWITCH_SECONDS)
        threadpool_limits(limits=1, user_api="blas")
        await self._pipeline.served.prepare(self._parts.clock.now())
        await self._take_newest_scorer()
        await self.stream.start()
        self._started = True
        await self.freshness.start()
        self._tasks.append(asyncio.create_task(self._daily()))
        if self._parts.switches is not None:
            self._tasks.append(asyncio.create_task(self._measuring()))
        if self._parts.config.fit_minutes > 0:
            self._tasks.append(asyncio.create_task(self._fitting()))
        self._tasks.append(asyncio.create_task(self._rescoring()))

    async def stop(self) -> None:
        """End what `start` began; safe to call twice."""
        await ended(self._tasks)
        self._tasks.clear()
        await self.freshness.stop()
        await self.stream.stop()
        self._pipeline.sources.close()
        self._started = False

    async def settled(self, seconds_max: float = SETTLE_SECONDS_MAX) -> None:
        """Wait until everything committed before this call is in vectors, columns and slots.

        Raises:
            UnavailableError: the stream of changes did not come so far in time.

        Passes on:
            UnavailableError: the database or the encoder fails again and again.
            TimeoutError: it took longer than `seconds_max`.
        """
        await self.freshness.settled(seconds_max)
        now = self._parts.router.claimed(await self._parts.router.token())
        assert now is not None, "a token of ours names a position"
        if not await self.stream.reached(now, seconds_max):
            raise UnavailableError(
                "the stream of changes is behind the database", next_step="try again"
            )

    def arrivals(self) -> AsyncGenerator[News]:
        """Yield posts that may be shown from now on, members who are shut out, posts that are talked of.

        Bounded: who takes them too slowly misses the oldest. Close it to stop listening.
        """
        return self.indexing.arrivals()

    async def page(
        self,
        member: Key,
        *,
        surface: str = "feed",
        limit: int = 20,
        cursor: str = "",
        token: str = "",
        app: App = UNKNOWN_APP,
    ) -> FeedPage:
        """Return a page of a member's feed; without a cursor a new feed is ranked and logged.

        Whoever calls this serves the member: the posts count as delivered. To look only, see
        `preview`. Flags decide when a feed is ranked; its later pages are as the first one was.

        Passes on:
            NotFoundError: there is no such member.
            InvalidError: the limit is outside its bounds, or the cursor is not good (any more).
        """
        _expect_limit(limit)
        switches = self._parts.switches
        if switches is not None and app.version and app.platform in APP_TRACKS:
            await switches.note_app(member, app.track, app.version)
        found = await self._next(member, limit, cursor, token) if cursor else None
        if found is None:
            now = self._parts.clock.now()
            asked = Request(member=member, surface=surface, token=token, now=now, app=app)
            found = await self._first(asked, limit)
        self.degraded_pages += bool(found.degraded)
        return found

    async def preview(self, member: Key, *, limit: int = 20, token: str = "") -> FeedPage:
        """Return what a member's next first page would be, for somebody who only looks.

        Ranked as for the member, with the app that their newest feed of the last day was asked
        with, as `why` does, and not served: nothing is logged, nothing counts as delivered, there
        is no cursor, and the id of the served feed is 0.

        Passes on:
            NotFoundError: there is no such member.
            InvalidError: the limit is outside its bounds.
        """
        _expect_limit(limit)
        now = self._parts.clock.now()
        app = await self._pipeline.served.app(member, now)
        asked = Request(member=member, surface=PREVIEW, token=token, now=now, app=app)
        run = await self._ranked(asked)
        items, offset = await self._pages.filled(
            Reading(member=member, token=token), Ranked(run), 0, limit
        )
        day = run.request.now.astimezone(UTC).date()
        found = self._pages.page(_place(run, Cursor(member, 0, day, offset)), items)
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

    def caches(self) -> Mapping[str, CacheStatistics]:
        """Return how the caches of this process do, by what they hold."""
        known = self.index.recollections
        searches = CacheStatistics(
            hits=known.hits,
            misses=known.misses,
            evictions=known.evictions,
            entries=len(known),
            weight=known.weight,
        )
        return {**self._pipeline.members.statistics(), "searches": searches}

    async def fit(self) -> FitReport:
        """Fit the scorer to what members did; it serves from now on where it is better.

        Posts that were just imported are embedded first: without vectors there is little to learn.
        """
        if self.freshness.running:
            try:
                await self.settled()
            except TimeoutError:
                logger.warning("the scorer is fitted though not every post is embedded")
        process = self._parts.process
        version = self.catalogue.version
        report = await (self._fit_here() if process is None else process.fit(version))
        await self._take_newest_scorer()
        return report

    async def _fit_here(self) -> FitReport:
        """Fit the scorer for the encoder that serves, with its model."""
        version = self.catalogue.version
        if version not in self._models:
            embeddings = await self.freshness.embeddings(version)
            parts = replace(self._parts, encoder=embeddings.encoder)
            self._models = {version: Models(parts, embeddings, self._pipeline.scorers)}
        return await self._models[version].fit()

    async def _take_newest_scorer(self) -> None:
        scorers = self._pipeline.scorers
        scorers.serving = await scorers.newest(self.catalogue.version)

    def _switched(self) -> None:
        """Serve with the encoder whose index serves from now on; who began before ends as they began."""
        self.freshness.version = self.catalogue.version
        self._pipeline.members.serve(self.catalogue)
        self._refit.set()

    async def outcomes(
        self, flag: str, *, since: datetime | None = None, until: datetime | None = None
    ) -> FlagOutcomes:
        """Return what members did with their feeds in a period, by the variant of a flag.

        Passes on:
            NotFoundError: the flag decides nothing of the feed.
            InvalidError: the period is empty, or longer than served feeds are kept.
        """
        return await self._outcomes.of(flag, since, until)

    async def measure(self) -> None:
        """Count the outcomes of the last day for every flag of the feed, for who only watches."""
        now = self._parts.clock.now()
        self._outcomes.latest = {
            flag: await self._outcomes.of(flag, now - timedelta(days=1), now, MEASURED_FEEDS_MAX)
            for flag in self._pipeline.variants.existing()
        }

    def variants(self) -> VariantTotals:
        """Return what flags did to feeds since the start, and the last counted outcomes."""
        asked = self._pipeline.variants
        return VariantTotals(
            served=dict(asked.served),
            faults={(flag, fault.value): n for (flag, fault), n in asked.faults.items()},
            outcomes=self._outcomes.latest,
        )

    async def _ready(self) -> None:
        """Have what ranks: a process that does not serve loads it when it is asked."""
        if self._pipeline.scorers.serving is None:
            await self._take_newest_scorer()
        if not self._started:
            await self._load()

    async def _load(self) -> None:
        """Make the catalogue from the tables as they are now."""
        position = self._parts.router.claimed(await self._parts.router.token())
        assert position is not None, "a token of ours names a position"
        async with self._parts.router.read() as session:
            snapshot = Snapshot(session, position)
            await self.indexing.begin(snapshot)
            await self._pipeline.members.averages.begin(snapshot)

    async def _behind(self, token: str) -> list[str]:
        """Wait, for a bounded moment, until everything that a token names is in memory.

        Returns what to say where it is not.
        """
        asked = self._parts.router.claimed(token)
        applied = self.stream.applied
        if asked is None or not self._started or (applied is not None and applied >= asked):
            return []
        if await self._parts.router.position_of(token) is None:
            return []  # of another cluster, or a position that there is not
        if await self.stream.reached(asked, TOKEN_SECONDS_MAX):
            return []
        return ["the newest changes are not in it yet: the stream of changes is behind"]

    async def _first(self, asked: Request, limit: int) -> FeedPage:
        run, member = await self._ranked(asked), asked.member
        delivered = min(limit, len(run.candidates))
        made = NewServed(
            served_feed_id=self._parts.ids.next(),
            served_at=run.request.now,
            delivered=delivered,
            surface=asked.surface,
            ids=run.candidates.ids[:delivered],
            record=records.encode(run),
            variants=run.plan.variants,
        )
        _, (items, offset) = await asyncio.gather(
            self._pipeline.served.write(member, made),
            self._pages.filled(Reading(member=member, token=asked.token), Ranked(run), 0, limit),
        )
        self._pipeline.variants.count_served(run.plan)
        cursor = _cursor(member, made, offset)
        if offset > made.delivered:  # posts were gone, and those behind them moved up
            posts = run.candidates.take(slice(offset)).keys()
            await self._pipeline.served.raise_delivered(cursor, posts)
        return self._pages.page(_place(run, cursor), items)

    async def _ranked(self, asked: Request) -> Run:
        """Rank a feed; it has no id, because nobody wrote it down."""
        await self._ready()
        behind = await self._behind(asked.token)
        run = await self._pipeline.run(replace(asked, now=self._parts.clock.now()))
        run.degraded.extend(behind)
        return run

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
        _, relations, history = await self._pipeline.members.read(member, token)
        record = made.record
        items, offset = await self._pages.filled(
            Reading(member=member, token=token, authors=relations.hidden, posts=history.against),
            record.ranked,
            place.offset,
            limit,
        )
        posts = [one.key for one in record.ranked[:offset]]
        await self._pipeline.served.raise_delivered(place, posts)
        return self._pages.page(
            Place(
                cursor=replace(place, offset=offset),
                ranked=len(record.ranked),
                fresh=record.fresh,
                exhausted=record.exhausted,
                degraded=record.degraded,
                variants=record.variants,
            ),
            items,
        )

    async def _daily(self) -> None:
        """Make the next partitions of both logs and drop the oldest, several times a day."""
        while True:
            try:
                now = self._parts.clock.now()
                await self._pipeline.served.prepare(now)
                await self._pipeline.served.retire(now, self._parts.config.retention_days)
                await self._prompts.retire(now, self._parts.config.retention_days)
            except MillraceError as exc:
                logger.warning("the partitions of served feeds and prompts: %s", exc)
            await asyncio.sleep(DAY_SECONDS / 4)

    async def _measuring(self) -> None:
        """Count outcomes by variant now and then, where a flag splits members at all."""
        while True:
            await asyncio.sleep(MEASURE_SECONDS)
            try:
                await self.measure()
            except MillraceError as exc:
                logger.warning("the outcomes of variants: %s", exc)

    async def _rescoring(self) -> None:
        """Take the scorer of another encoder when that serves, and fit one where there is none."""
        while True:
            await self._refit.wait()
            self._refit.clear()
            try:
                await self._take_newest_scorer()
                scorer = self._pipeline.scorers.serving
                prior_serves = scorer is not None and scorer.is_prior
                if prior_serves and self._parts.config.fit_minutes > 0:
                    await self.fit()
            except (MillraceError, TimeoutError) as exc:
                logger.warning("the scorer of another encoder: %s", exc)

    async def _fitting(self) -> None:
        """Fit once everything is embedded, if nothing was fitted yet; then now and then."""
        while True:
            scorer = self._pipeline.scorers.serving
            try:
                if scorer is not None and scorer.is_prior:
                    await self.fit()
                await asyncio.sleep(self._parts.config.fit_minutes * 60)
                await self.fit()
            except (MillraceError, TimeoutError) as exc:
                logger.warning("the scorer was not fitted: %s", exc)
                await asyncio.sleep(FIT_RETRY_SECONDS)


def _cursor(member: Key, made: NewServed, offset: int) -> Cursor:
    return Cursor(member, made.served_feed_id, made.served_at.astimezone(UTC).date(), offset)


def _place(run: Run, cursor: Cursor) -> Place:
    seen = np.flatnonzero(run.candidates.tier == SEEN)
    return Place(
        cursor=cursor,
        ranked=len(run.candidates),
        fresh=int(seen[0]) if len(seen) else len(run.candidates),
        exhausted=run.exhausted,
        degraded=run.degraded,
        variants=run.plan.variants,
    )


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
