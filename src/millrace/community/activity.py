"""What members were shown and did: recorded once, read as one member's history."""

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct

from millrace.community import validator
from millrace.community.activity_batch import ActivityBatch
from millrace.community.intake import bounded, home_of, in_bulk, operators_only
from millrace.community.logs import QUERIES
from millrace.community.retries import retried
from millrace.community.rights import author_of
from millrace.community.types import (
    BATCH_MAX,
    POSITIVE_ACTIONS,
    Action,
    BatchResult,
    Engagement,
    EngagementDraft,
    Impression,
    ImpressionDraft,
    Key,
    Viewer,
)
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ForbiddenError
from millrace.store.router import Router
from millrace.store.session import Session

POSITIVE = sorted(POSITIVE_ACTIONS)


class Activity:
    """Histories are for the feed: they take a member's key, and the caller decides who may ask."""

    def __init__(self, *, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    async def record(
        self,
        viewer: Viewer,
        impressions: Sequence[Impression],
        engagements: Sequence[Engagement],
    ) -> BatchResult:
        """Take what a member was shown and did, with its effects.

        A like likes the post, a mute or a block is one of its author, and the counters move. A
        repeated batch changes nothing. In the result, impressions are counted first: the index of
        an engagement is its place plus the number of impressions.

        Passes on:
            ForbiddenError: the viewer is no member, or an entry is somebody else's.
            TooLargeError: the batch is too long.
        """
        bounded("impressions", impressions, BATCH_MAX)
        bounded("engagements", engagements, BATCH_MAX)
        if not viewer.oversees:
            _own(author_of(viewer, "record activity"), viewer, [*impressions, *engagements])

        async def work() -> BatchResult:
            batch = ActivityBatch(self._clock.now())
            batch.take_impressions(list(enumerate(impressions)))
            batch.take_engagements(list(enumerate(engagements, len(impressions))))
            async with self._router.write() as session:
                await batch.write(session, viewer, commits=True)
            return batch.intake.result()

        return await retried(work)

    async def upsert_impressions(
        self, viewer: Viewer, community_id: int, drafts: Sequence[ImpressionDraft]
    ) -> BatchResult:
        """Take impressions of a community's posts by its members, by external ids.

        Passes on:
            ForbiddenError: the viewer is no operator.
            NotFoundError: there is no such community.
            TooLargeError: the batch is too long.
        """
        operators_only(viewer, "record impressions in bulk")
        bounded("drafts", drafts)

        async def work(session: Session) -> BatchResult:
            batch = ActivityBatch(self._clock.now())
            await home_of(session, community_id)
            batch.take_impressions(await batch.named(session, community_id, drafts, _impression))
            await batch.write(session, viewer)
            return batch.intake.result()

        return await in_bulk(self._router, community_id, work)

    async def upsert_engagements(
        self, viewer: Viewer, community_id: int, drafts: Sequence[EngagementDraft]
    ) -> BatchResult:
        """Take engagements of a community's members with its posts, by external ids.

        Passes on:
            ForbiddenError: the viewer is no operator.
            NotFoundError: there is no such community.
            TooLargeError: the batch is too long.
        """
        operators_only(viewer, "record engagements in bulk")
        bounded("drafts", drafts)

        async def work(session: Session) -> BatchResult:
            batch = ActivityBatch(self._clock.now())
            await home_of(session, community_id)
            batch.take_engagements(await batch.named(session, community_id, drafts, _engagement))
            await batch.write(session, viewer)
            return batch.intake.result()

        return await in_bulk(self._router, community_id, work)

    async def positives(
        self, member: Key, limit: int = 200, before: datetime | None = None
    ) -> list[Engagement]:
        """Return what a member liked to do, newest first; a like that was taken back is left out.

        Passes on:
            InvalidError: the limit is outside its bounds.
        """
        async with self._router.read() as session:
            rows = await session.rows(
                QUERIES["positives"],
                EngagementRow,
                community_id=member.community_id,
                member_id=member.id,
                kinds=POSITIVE,
                before=before,
                limit=validator.limit(limit),
            )
        return [row.engagement(member) for row in rows]

    async def seen(self, member: Key, since: datetime) -> frozenset[Key]:
        """Return the posts that a member was shown or engaged with since a moment."""
        async with self._router.read() as session:
            rows = await session.rows(
                QUERIES["seen_posts"],
                PostRow,
                community_id=member.community_id,
                member_id=member.id,
                since=since,
            )
        return frozenset(Key(row.post_community_id, row.post_id) for row in rows)

    async def hidden_posts(self, member: Key) -> frozenset[Key]:
        """Return the posts that a member hid or reported, ever."""
        async with self._router.read() as session:
            rows = await session.rows(
                QUERIES["hidden_posts"],
                PostRow,
                community_id=member.community_id,
                member_id=member.id,
            )
        return frozenset(Key(row.post_community_id, row.post_id) for row in rows)

    async def affinity(self, member: Key, since: datetime) -> dict[Key, float]:
        """Return how often a member engaged positively with each author since a moment."""
        async with self._router.read() as session:
            rows = await session.rows(
                QUERIES["affinity"],
                AffinityRow,
                community_id=member.community_id,
                member_id=member.id,
                kinds=POSITIVE,
                since=since,
            )
        return {Key(row.community_id, row.author_id): row.engagements for row in rows}


class PostRow(Struct, frozen=True):
    """A post that a history names."""

    post_community_id: int
    post_id: int


class AffinityRow(Struct, frozen=True):
    """An author and how often a member engaged with their posts."""

    community_id: int
    author_id: int
    engagements: float


class EngagementRow(Struct, frozen=True):
    """One engagement of one member."""

    happened_at: datetime
    post_community_id: int
    post_id: int
    kind: Action
    surface: str
    position: int | None
    dwell_ms: int | None
    app_version: str

    def engagement(self, member: Key) -> Engagement:
        """Return the row as what it means."""
        return Engagement(
            member=member,
            post=Key(self.post_community_id, self.post_id),
            kind=self.kind,
            happened_at=self.happened_at,
            surface=self.surface,
            position=self.position,
            dwell_ms=self.dwell_ms,
            app_version=self.app_version,
        )


def _own(member: Key, viewer: Viewer, entries: Sequence[Impression | Engagement]) -> None:
    """Refuse a batch that speaks for somebody else.

    Raises:
        ForbiddenError: an entry names another member.
    """
    for entry in entries:
        if entry.member != member:
            raise ForbiddenError(
                f"{viewer.name} may not record what member {entry.member} did",
                field="member",
                value=str(entry.member),
                limit=str(member),
                next_step="send only your own activity",
            )


def _impression(draft: ImpressionDraft, member: Key, post: Key) -> Impression:
    return Impression(
        member=member,
        post=post,
        shown_at=draft.shown_at,
        position=draft.position,
        surface=draft.surface,
        app_version=draft.app_version,
    )


def _engagement(draft: EngagementDraft, member: Key, post: Key) -> Engagement:
    return Engagement(
        member=member,
        post=post,
        kind=draft.kind,
        happened_at=draft.happened_at,
        surface=draft.surface,
        position=draft.position,
        dwell_ms=draft.dwell_ms,
        app_version=draft.app_version,
    )
