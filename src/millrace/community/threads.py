"""Threads: the comments under a post, in the order of writing."""

from collections.abc import Sequence

from millrace.community import validator
from millrace.community.cases import recorded, removal
from millrace.community.comment_batch import CommentBatch
from millrace.community.counts import CounterMoves
from millrace.community.intake import QUERIES, bounded, in_bulk, operators_only
from millrace.community.lines import CommentLine
from millrace.community.logs import logged
from millrace.community.moves import Thing, ThingKind
from millrace.community.posts import ID_TRIES_MAX, no_id_left, seen_post, standing_post
from millrace.community.rights import author_of, moderates, reasoned
from millrace.community.types import (
    COMMENT_MAX,
    Action,
    BatchResult,
    Comment,
    CommentDraft,
    CommentView,
    Engagement,
    Key,
    Viewer,
)
from millrace.community.visibility import asker, unseen
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ForbiddenError
from millrace.kernel.ids import IdMaker
from millrace.store.router import Router
from millrace.store.session import Session


class Threads:
    """A thread is read as its post is: whoever does not see the post sees no comment."""

    def __init__(self, *, router: Router, clock: Clock, ids: IdMaker) -> None:
        self._router = router
        self._clock = clock
        self._ids = ids

    async def comment(
        self, viewer: Viewer, post: Key, text: str, parent: Key | None = None
    ) -> Comment:
        """Comment on a post, or answer another comment of it.

        Passes on:
            ForbiddenError: the viewer is not a member.
            NotFoundError: the post or the parent is not there, or the viewer may not see it.
            ConflictError: the post is removed.
            InvalidError: the text is empty, too long or cannot be stored.
        """
        author = author_of(viewer, "comment")
        cleaned = validator.body("text", text, COMMENT_MAX)
        now = self._clock.now()
        async with self._router.write() as session:
            found = await standing_post(session, viewer, post)
            if parent is not None:
                answered = await _seen(session, viewer, parent)
                if (answered.post_community_id, answered.post_id) != (post.community_id, post.id):
                    unseen("comment", parent)
            comment = await self._written(session, author, post, parent, cleaned)
            await logged(
                session,
                [Engagement(member=author, post=found.key, kind=Action.COMMENT, happened_at=now)],
            )
            moves = CounterMoves()
            moves.post(post, "comments", 1)
            moves.apply(session)
        return comment

    async def _written(
        self, session: Session, author: Key, post: Key, parent: Key | None, text: str
    ) -> Comment:
        """Insert a comment under a new id; another process may, very rarely, have just used it."""
        for _ in range(ID_TRIES_MAX):
            identity = self._ids.next()
            comment = await session.row(
                QUERIES["write_comment"],
                Comment,
                community_id=author.community_id,
                comment_id=identity,
                external_id=f"comment-{identity}",
                author_id=author.id,
                post_community_id=post.community_id,
                post_id=post.id,
                parent_community_id=parent and parent.community_id,
                parent_id=parent and parent.id,
                text=text,
                created_at=self._clock.now(),
            )
            if comment is not None:
                return comment
        await no_id_left(session, author)

    async def thread(
        self, viewer: Viewer, post: Key, after: int = 0, limit: int = 100
    ) -> list[CommentView]:
        """Return comments of a post whose id is larger than `after`, oldest first.

        Comments that share an id are not split, so a list may be a little longer than `limit`.

        Passes on:
            NotFoundError: the post is not there, or the viewer may not see it.
            InvalidError: the limit is outside its bounds.
        """
        async with self._router.read(viewer.token) as session:
            await seen_post(session, viewer, post)
            lines = await session.rows(
                QUERIES["thread"],
                CommentLine,
                **asker(viewer),
                post_community_id=post.community_id,
                post_id=post.id,
                after=after,
                limit=validator.limit(limit),
            )
        return [line.view() for line in lines]

    async def remove(self, viewer: Viewer, key: Key, reason: str) -> None:
        """Remove a comment.

        Its author, a moderator of the post's community or of the author's, and operators may.
        Removing twice changes nothing. What is not one's own goes into the audit trail.

        Raises:
            ForbiddenError: the viewer may not remove it.

        Passes on:
            NotFoundError: there is none, or the viewer may not see it.
            InvalidError: the reason is too long, cannot be stored, or is missing where the comment
                is somebody else's.
        """
        async with self._router.write() as session:
            await session.run(
                QUERIES["lock_comment"], community_id=key.community_id, comment_id=key.id
            )
            comment = await _seen(session, viewer, key)
            author = Key(comment.community_id, comment.author_id)
            places = (comment.post_community_id, comment.community_id)
            if viewer.member != author and not any(moderates(viewer, one) for one in places):
                raise ForbiddenError(
                    f"{viewer.name} may not remove comment {key}",
                    field="comment_id",
                    value=str(key),
                    limit="the own comments, or a moderator's community",
                    next_step="ask its author or a moderator",
                )
            why, now = reasoned(viewer, author, reason), self._clock.now()
            removed = await session.run(
                QUERIES["remove_comment"],
                community_id=key.community_id,
                comment_id=key.id,
                now=now,
                by=viewer.name,
                reason=why,
            )
            thing = Thing(ThingKind.COMMENT, key)
            if removed and viewer.member != author:
                deed = removal(thing, comment.post_community_id, author, why)
                await recorded(session, viewer, deed, self._ids.next(), now)
            post = Key(comment.post_community_id, comment.post_id)
            moves = CounterMoves()
            moves.post(post, "comments", -removed if comment.hidden_at is None else 0)
            moves.apply(session)

    async def upsert(
        self, viewer: Viewer, community_id: int, drafts: Sequence[CommentDraft]
    ) -> BatchResult:
        """Create comments or bring their text up to date, by external id.

        A parent may come in the same batch. Author, post, parent, date and a removal stay.

        Passes on:
            ForbiddenError: the viewer is no operator.
            NotFoundError: there is no such community.
            TooLargeError: the batch is too long.
        """
        operators_only(viewer, "create or change comments in bulk")
        bounded("drafts", drafts)

        async def work(session: Session) -> BatchResult:
            batch = CommentBatch(community_id, self._clock.now())
            await batch.write(session, batch.cleaned(drafts))
            return batch.intake.result()

        return await in_bulk(self._router, community_id, work)


async def _seen(session: Session, viewer: Viewer, key: Key) -> Comment:
    """Return a comment that the viewer may see.

    Passes on:
        NotFoundError: there is none, or the viewer may not see it.
    """
    found = await session.row(
        QUERIES["comment_by_key"],
        Comment,
        **asker(viewer),
        community_id=key.community_id,
        comment_id=key.id,
    )
    if found is None:
        unseen("comment", key)
    return found
