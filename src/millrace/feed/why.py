"""Why a post is in a member's feed, or what keeps it out: from the same trace as the feed."""

import asyncio
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
from msgspec.structs import replace

from millrace.community.types import Key, PostView
from millrace.feed import reasons, record
from millrace.feed.nearness import nearness_of
from millrace.feed.parts import FeedParts
from millrace.feed.pipeline import Pipeline
from millrace.feed.records.types import RankedPost, Record, RemovedPost
from millrace.feed.repository import QUERIES, VisibilityRow, reader
from millrace.feed.run import Request
from millrace.feed.served import LATELY, Served, app_of
from millrace.feed.types import ActionNote, Explanation, Removal
from millrace.feed.value import Values
from millrace.kernel.errors import NotFoundError
from millrace.store.session import Session

LOOKED_AT = 5  # newest served feeds that are searched for a post
SURFACE = "why"


class Why:
    """Explains posts to members and to operators."""

    def __init__(self, parts: FeedParts, pipeline: Pipeline, values: Values) -> None:
        self._parts = parts
        self._pipeline = pipeline
        self._values = values

    async def explain(
        self, member: Key, post: Key, *, token: str = "", oversees: bool = False
    ) -> Explanation:
        """Return why a post stands where it does.

        Args:
            member: whose feed.
            post: which post.
            token: of the session that asks.
            oversees: an operator asks; then a post that the member may not see is explained too.

        Passes on:
            NotFoundError: there is no such member or post, or the member may not see the post.
        """
        views = await self._parts.posts.views(reader(member, token), [post])
        if not views:
            return await self._unseen(member, post, oversees=oversees)
        since = self._parts.clock.now() - LATELY
        served = await self._pipeline.served.lately(member, since, LOOKED_AT)
        found = _delivered(served, post)
        if found is None and not await self._turned_away(member, views[0], token):
            found = _known(served, post)
        if found is not None:
            return await self._of_record((member, token), post, found.record, found)
        run = await self._pipeline.run(
            Request(
                member=member,
                surface=SURFACE,
                token=token,
                now=self._parts.clock.now(),
                follow=post,
                app=app_of(served),
            )
        )
        asked = (member, token)
        return await self._of_record(asked, post, record.of(run), None, unknown=run.unknown)

    async def _turned_away(self, member: Key, view: PostView, token: str) -> bool:
        """Return whether later pages leave the post out, whatever was ranked: muted, or hidden."""
        relations, hidden = await asyncio.gather(
            self._parts.relations.of(member, token), self._parts.activity.hidden_posts(member)
        )
        return view.post.author in relations.hidden or view.post.key in hidden

    async def _of_record(
        self,
        asked: tuple[Key, str],
        post: Key,
        found: Record,
        served: Served | None,
        unknown: str = "",
    ) -> Explanation:
        """Explain to a member, with their token, from a served feed or a run that nobody recorded."""
        member, token = asked
        served_feed_id = None if served is None else served.served_feed_id
        for position, one in enumerate(found.ranked):
            if one.key == post:
                shown = served is not None and position < served.delivered
                made = self._ranked(member, found, position, served_feed_id, shown=shown)
                near = await nearness_of(self._parts, member, found, position, token)
                return replace(made, nearness=near)
        gone = next((one for one in found.removed if one.key == post), None)
        if gone is None:
            gone = _never_proposed(post, unknown)
        return self._removed(member, found, gone, served_feed_id)

    def _ranked(
        self, member: Key, found: Record, position: int, served: int | None, *, shown: bool
    ) -> Explanation:
        one: RankedPost = found.ranked[position]
        return Explanation(
            member=member,
            post=one.key,
            shown=shown,
            position=position,
            sentence=one.reason,
            sources=record.notes(one.sources),
            features=_features(found, position),
            actions=self._actions(found, position),
            adjustments=record.changes(one.adjustments),
            score=one.score,
            removed=None,
            served_feed_id=served,
            versions=found.versions,
            variants=found.variants,
            faults=found.faults,
        )

    def _removed(
        self, member: Key, found: Record, one: RemovedPost, served: int | None
    ) -> Explanation:
        scored = one.row >= 0
        return Explanation(
            member=member,
            post=one.key,
            shown=False,
            position=None,
            sentence=reasons.removal_sentence(one.stage),
            sources=record.notes(one.sources),
            features=_features(found, one.row) if scored else {},
            actions=self._actions(found, one.row) if scored else [],
            adjustments=[],
            score=one.score if scored else None,
            removed=Removal(one.stage, one.reason),
            served_feed_id=served,
            versions=found.versions,
            variants=found.variants,
            faults=found.faults,
        )

    def _actions(self, found: Record, row: int) -> list[ActionNote]:
        chances = np.asarray(found.probability_matrix()[row])
        return self._values.notes(chances, found.weights)

    async def _unseen(self, member: Key, post: Key, *, oversees: bool) -> Explanation:
        """Explain to an operator what keeps a post from its member.

        Passes on:
            NotFoundError: somebody else asks, or there is no such member or post.
        """
        async with self._parts.router.read() as session:
            reason = await _visibility(session, member, post)
            relations = await self._parts.relations.of(member)
        if reason is None or not oversees:
            _unknown_post(post)
        ended = (
            ("the post was removed", reason.removed_at),
            ("a moderator hid the post", reason.hidden_at),
            ("its author was removed", reason.author_removed_at),
            ("its author was banned", reason.author_banned_at),
        )
        said = next((f"{what} at {at:%Y-%m-%d %H:%M}" for what, at in ended if at), "")
        if reason.blocked or said:
            text = said or "a block stands between the member and the author"
        else:
            near = "" if post.community_id in relations.nearby else ", which is not nearby"
            text = f"its audience is {reason.audience.value} of community {post.community_id}{near}"
        return Explanation(
            member=member,
            post=post,
            shown=False,
            position=None,
            sentence="The member may not see this post.",
            sources=[],
            features={},
            actions=[],
            adjustments=[],
            score=None,
            removed=Removal("visibility", text),
            served_feed_id=None,
            versions={},
        )


async def _visibility(session: Session, member: Key, post: Key) -> VisibilityRow | None:
    return await session.row(
        QUERIES["post_visibility"],
        VisibilityRow,
        viewer_community=member.community_id,
        viewer_member=member.id,
        community_id=post.community_id,
        post_id=post.id,
    )


def _delivered(served: Sequence[Served], post: Key) -> Served | None:
    """Return the newest feed that delivered the post."""
    for one in served:
        if any(ranked.key == post for ranked in one.record.ranked[: one.delivered]):
            return one
    return None


def _known(served: Sequence[Served], post: Key) -> Served | None:
    """Return the newest feed that ranked or removed the post."""
    for one in served:
        if any(known.key == post for known in (*one.record.ranked, *one.record.removed)):
            return one
    return None


def _features(found: Record, row: int) -> dict[str, float]:
    values = found.feature_matrix()[row].tolist()
    return dict(zip(found.feature_names, values, strict=True))


def _never_proposed(post: Key, unknown: str) -> RemovedPost:
    return RemovedPost(
        community_id=post.community_id,
        post_id=post.id,
        stage="sources",
        reason=unknown or "no source proposed it",
        sources=[],
        score=0.0,
    )


def _unknown_post(post: Key) -> NoReturn:
    """Give the one answer for a post that is not there and for one that is not to be seen.

    Raises:
        NotFoundError: always.
    """
    raise NotFoundError(
        f"there is no post {post}",
        field="post_id",
        value=str(post),
        limit="one that exists and that the member may see",
        next_step="check the id; the post may have been removed",
    )
