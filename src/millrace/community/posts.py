"""Posts: written, read by whom they are for, changed, removed, brought in in bulk."""

from collections.abc import Sequence
from datetime import datetime
from typing import NoReturn

import msgspec
from msgspec import Struct

from millrace.community import validator
from millrace.community.cases import recorded, removal
from millrace.community.counts import CounterMoves
from millrace.community.intake import QUERIES, bounded, in_bulk, operators_only
from millrace.community.lines import PostLine
from millrace.community.moves import Thing, ThingKind
from millrace.community.post_batch import PostBatch, content
from millrace.community.rights import author_of, moderates, reasoned
from millrace.community.types import (
    BIGINT_MAX,
    KEYS_MAX,
    BatchResult,
    Key,
    NewPost,
    Post,
    PostChanges,
    PostDraft,
    PostView,
    Role,
    Viewer,
)
from millrace.community.versions import expect
from millrace.community.visibility import asker, unseen
from millrace.kernel.clock import Clock
from millrace.kernel.errors import ConflictError, ForbiddenError
from millrace.kernel.ids import IdMaker, floor_at
from millrace.store.router import Router
from millrace.store.session import Session

ID_TRIES_MAX = 3


class Posts:
    """Every read asks the one rule of visibility; a post that is not seen is not there."""

    def __init__(self, *, router: Router, clock: Clock, ids: IdMaker) -> None:
        self._router = router
        self._clock = clock
        self._ids = ids

    async def write(self, viewer: Viewer, new: NewPost) -> Post:
        """Write a post in the viewer's own community.

        Passes on:
            ForbiddenError: the viewer is not a member.
            InvalidError: a value is wrong.
        """
        author = author_of(viewer, "write posts")
        cleaned = content(new)
        for _ in range(ID_TRIES_MAX):  # another process may, very rarely, have just used an id
            identity = self._ids.next()
            async with self._router.write() as session:
                posts = await session.last_rows(
                    QUERIES["write_post"],
                    Post,
                    **cleaned,
                    community_id=author.community_id,
                    post_id=identity,
                    author_id=author.id,
                    external_id=f"post-{identity}",
                    created_at=self._clock.now(),
                )
            if posts:
                return posts[0]
        async with self._router.write() as session:
            await no_id_left(session, author)

    async def get(self, viewer: Viewer, key: Key) -> PostView:
        """Return one post.

        Passes on:
            NotFoundError: there is none, or the viewer may not see it.
        """
        found = await self.views(viewer, [key])
        if not found:
            unseen("post", key)
        return found[0]

    async def views(self, viewer: Viewer, keys: Sequence[Key]) -> list[PostView]:
        """Return those of the posts that the viewer may see now, in the order asked for.

        Passes on:
            TooLargeError: there are too many keys.
        """
        bounded("keys", keys, KEYS_MAX)
        async with self._router.read(viewer.token) as session:
            return await _views(session, viewer, keys)

    async def newest(
        self,
        viewer: Viewer,
        community_id: int | None = None,
        author: Key | None = None,
        before: int = BIGINT_MAX,
        limit: int = 20,
    ) -> list[PostView]:
        """Return the newest standing posts whose id is smaller than `before`, newest first.

        Removed posts are in no list, not even an operator's. Posts of two communities that share
        an id are not split, so a list may be a little longer than `limit`.

        Passes on:
            InvalidError: the limit is outside its bounds.
        """
        async with self._router.read(viewer.token) as session:
            keys = await session.rows(
                QUERIES["newest_posts"],
                PostKey,
                **asker(viewer),
                community_id=author.community_id if author else community_id,
                author_id=author.id if author else None,
                before=before if before > 0 else BIGINT_MAX,
                limit=validator.limit(limit),
            )
            return await _views(session, viewer, [Key(k.community_id, k.post_id) for k in keys])

    async def newer(self, member: Key, since: datetime, limit: int) -> list[Key]:
        """Return the posts by others that a member may see and that are newer, newest first.

        Posts of authors whom the member muted, and posts that they hid or reported, are left out.

        Passes on:
            InvalidError: the limit is outside its bounds.
        """
        reader = Viewer(Role.MEMBER, member, f"member:{member}")
        async with self._router.read() as session:
            keys = await session.rows(
                QUERIES["newer_posts"],
                PostKey,
                **asker(reader),
                floor=floor_at(since),
                since=since,
                limit=validator.limit(limit),
            )
        return [Key(key.community_id, key.post_id) for key in keys]

    async def edit(
        self, viewer: Viewer, key: Key, changes: PostChanges, expected_version: int | None = None
    ) -> Post:
        """Change a post; its author and operators may.

        Passes on:
            NotFoundError: there is none, or the viewer may not see it.
            ForbiddenError: it is somebody else's.
            ConflictError: the post has another version than expected.
            InvalidError: a value is wrong.
        """
        async with self._router.write() as session:
            post = await _locked(session, viewer, key)
            if viewer.member != post.author and not viewer.oversees:
                _not_yours(viewer, key, "change", "the own posts")
            expect(expected_version, post.system_version, f"post {key}")
            changed = await session.row(
                QUERIES["edit_post"],
                Post,
                **_merged(post, changes),
                community_id=key.community_id,
                post_id=key.id,
                now=self._clock.now(),
            )
        return changed or post

    async def remove(
        self, viewer: Viewer, key: Key, reason: str, expected_version: int | None = None
    ) -> None:
        """Remove a post; its author, a moderator of its community and operators may.

        Removing twice changes nothing. What is not one's own goes into the audit trail.

        Passes on:
            NotFoundError: there is none, or the viewer may not see it.
            ForbiddenError: the viewer may not remove it.
            ConflictError: the post has another version than expected.
            InvalidError: the reason is too long, cannot be stored, or is missing where the post is
                somebody else's.
        """
        async with self._router.write() as session:
            post = await _locked(session, viewer, key)
            if not (viewer.member == post.author or moderates(viewer, key.community_id)):
                _not_yours(viewer, key, "remove", "the own posts, or a moderator's community")
            expect(expected_version, post.system_version, f"post {key}")
            why, now = reasoned(viewer, post.author, reason), self._clock.now()
            removed = await session.run(
                QUERIES["remove_post"],
                community_id=key.community_id,
                post_id=key.id,
                now=now,
                by=viewer.name,
                reason=why,
            )
            thing = Thing(ThingKind.POST, key)
            deed = removal(thing, key.community_id, post.author, why)
            if removed and viewer.member != post.author:
                await recorded(session, viewer, deed, self._ids.next(), now)
            moves = CounterMoves()
            moves.member(post.author, "posts", -removed if post.hidden_at is None else 0)
            moves.apply(session)

    async def upsert(
        self, viewer: Viewer, community_id: int, drafts: Sequence[PostDraft]
    ) -> BatchResult:
        """Create posts or bring them up to date, by external id.

        The author, the date and a removal stay as they are. `views` is where the counter starts;
        a later import only raises it.

        Passes on:
            ForbiddenError: the viewer is no operator.
            NotFoundError: there is no such community.
            TooLargeError: the batch is too long.
        """
        operators_only(viewer, "create or change posts in bulk")
        bounded("drafts", drafts)

        async def work(session: Session) -> BatchResult:
            batch = PostBatch(community_id, self._clock.now())
            await batch.write(session, batch.cleaned(drafts))
            return batch.intake.result()

        return await in_bulk(self._router, community_id, work)


class PostKey(Struct, frozen=True):
    """The key of a post as a row."""

    community_id: int
    post_id: int


async def no_id_left(session: Session, author: Key) -> NoReturn:
    """Say why nothing was inserted.

    Raises:
        ConflictError: the author stands, so every id was just used by another process.
    """
    stands = await session.value(
        QUERIES["member_stands"], community_id=author.community_id, member_id=author.id
    )
    if stands is None:
        unseen("member", author)
    raise ConflictError(
        f"{ID_TRIES_MAX} new ids in a row were in use",
        field="id",
        value=ID_TRIES_MAX,
        limit="one process per node number",
        next_step="try again; if it persists, two processes make the same ids",
    )


async def seen_post(session: Session, viewer: Viewer, key: Key) -> Post:
    """Return a post that the viewer may see.

    Passes on:
        NotFoundError: there is none, or the viewer may not see it.
    """
    found = await session.row(
        QUERIES["post_by_key"],
        Post,
        **asker(viewer),
        community_id=key.community_id,
        post_id=key.id,
    )
    if found is None:
        unseen("post", key)
    return found


async def standing_post(session: Session, viewer: Viewer, key: Key) -> Post:
    """Return a post that the viewer may see and act on.

    Raises:
        ConflictError: somebody sees it, but it is removed or hidden.

    Passes on:
        NotFoundError: there is none, or the viewer may not see it.
    """
    post = await seen_post(session, viewer, key)
    if post.removed_at is None and post.hidden_at is None:
        return post
    raise ConflictError(
        f"post {key} is {'hidden' if post.removed_at is None else 'removed'}",
        field="post_id",
        value=str(key),
        limit="a post that stands",
        next_step="act on another post",
    )


async def _locked(session: Session, viewer: Viewer, key: Key) -> Post:
    await session.run(QUERIES["lock_post"], community_id=key.community_id, post_id=key.id)
    return await seen_post(session, viewer, key)


async def _views(session: Session, viewer: Viewer, keys: Sequence[Key]) -> list[PostView]:
    if not keys:
        return []
    lines = await session.rows(
        QUERIES["post_views"],
        PostLine,
        **asker(viewer),
        communities=[key.community_id for key in keys],
        posts=[key.id for key in keys],
    )
    return [line.view() for line in lines]


def _not_yours(viewer: Viewer, key: Key, verb: str, limit: str) -> NoReturn:
    """Refuse to touch what belongs to somebody else.

    Raises:
        ForbiddenError: always.
    """
    raise ForbiddenError(
        f"{viewer.name} may not {verb} post {key}",
        field="post_id",
        value=str(key),
        limit=limit,
        next_step="ask its author or a moderator of its community",
    )


def _merged(post: Post, changes: PostChanges) -> dict[str, object]:
    """Return the content with the changes in it, cleaned."""
    asked = msgspec.structs.asdict(changes)
    fields = {
        name: getattr(post, name) if value is None else value for name, value in asked.items()
    }
    return content(NewPost(**fields))
