"""Reactions: a like is there or not; saying it twice changes nothing."""

from millrace.community.counts import CounterMoves
from millrace.community.intake import QUERIES
from millrace.community.logs import logged
from millrace.community.posts import seen_post, standing_post
from millrace.community.retries import retried
from millrace.community.rights import author_of
from millrace.community.types import Action, Engagement, Key, Viewer
from millrace.kernel.clock import Clock
from millrace.store.router import Router


class Reactions:
    """The counters of the post and of its author move with the reaction."""

    def __init__(self, *, router: Router, clock: Clock) -> None:
        self._router = router
        self._clock = clock

    async def like(self, viewer: Viewer, post: Key) -> bool:
        """Like a post; return whether that is new.

        Passes on:
            ForbiddenError: the viewer is not a member.
            NotFoundError: there is no such post, or the viewer may not see it.
            ConflictError: the post is removed.
        """
        member = author_of(viewer, "like posts")
        return await retried(lambda: self._like(viewer, member, post))

    async def unlike(self, viewer: Viewer, post: Key) -> bool:
        """Take a like back; return whether there was one.

        Passes on:
            ForbiddenError: the viewer is not a member.
            NotFoundError: there is no such post, or the viewer may not see it.
        """
        member = author_of(viewer, "unlike posts")
        return await retried(lambda: self._unlike(viewer, member, post))

    async def _like(self, viewer: Viewer, member: Key, post: Key) -> bool:
        now = self._clock.now()
        async with self._router.write() as session:
            found = await standing_post(session, viewer, post)
            new = await session.run(QUERIES["insert_like"], **_pair(member, post), now=now)
            if new:
                await logged(
                    session,
                    [Engagement(member=member, post=post, kind=Action.LIKE, happened_at=now)],
                )
                moves = CounterMoves()
                moves.liked(post, found.author, 1)
                moves.apply(session)
        return new > 0

    async def _unlike(self, viewer: Viewer, member: Key, post: Key) -> bool:
        async with self._router.write() as session:
            found = await seen_post(session, viewer, post)
            gone = await session.run(QUERIES["delete_like"], **_pair(member, post))
            moves = CounterMoves()
            moves.liked(post, found.author, -gone)
            moves.apply(session)
        return gone > 0


def _pair(member: Key, post: Key) -> dict[str, object]:
    return {
        "community_id": member.community_id,
        "member_id": member.id,
        "post_community_id": post.community_id,
        "post_id": post.id,
    }
