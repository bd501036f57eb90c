"""The one rule: who sees which member, post and comment.

Two forms of the same rule. The functions here decide about things in hand; the SQL functions
member_seen_by, post_seen_by and comment_seen_by (schema.sql) are what every read selects from.
tests/property/test_visibility.py proves on random small worlds that the two agree.

    operator                     sees everything, removed things too
    moderator                    sees every member, post and thread of the own community: removed
                                 ones, to judge and to answer for a removal, and those of members
                                 who blocked the moderator, so that a block is no way out
    everybody else               sees what is not removed and not hidden, whose author is neither
                                 removed nor banned and has no block with the viewer in either
                                 direction, and whose audience reaches the viewer
    the author of a hidden thing sees it, with a notice that says why
    nobody of a community        (a release manager) sees what is public

Muting hides nothing from a direct link: it is a filter of the feed.
"""

from collections.abc import Collection
from typing import NoReturn

from millrace.community.types import Audience, Comment, Key, Member, Post, Role, Viewer
from millrace.kernel.errors import NotFoundError

Blocks = Collection[tuple[Key, Key]]
"""Pairs (who blocked, whom)."""

Nearby = Collection[tuple[int, int]]
"""Pairs (community, neighbour whose nearby posts it sees)."""


def _moderates(viewer: Viewer, community_id: int) -> bool:
    home = viewer.member
    return viewer.role is Role.MODERATOR and home is not None and home.community_id == community_id


def sees_member(viewer: Viewer, member: Member, blocks: Blocks) -> bool:
    """Return whether `viewer` may meet `member`: the page, the name beside a comment."""
    if viewer.oversees or _moderates(viewer, member.community_id):
        return True
    if member.removed_at is not None or member.banned_at is not None:
        return False
    me = viewer.member
    return me is None or not ((me, member.key) in blocks or (member.key, me) in blocks)


def reaches(viewer: Viewer, community_id: int, audience: Audience, nearby: Nearby) -> bool:
    """Return whether a post of that community for that audience is meant for `viewer`."""
    if audience is Audience.PUBLIC:
        return True
    home = viewer.member
    if home is None:
        return False
    if home.community_id == community_id:
        return True
    return audience is Audience.NEARBY and (home.community_id, community_id) in nearby


def sees_post(viewer: Viewer, post: Post, author: Member, blocks: Blocks, nearby: Nearby) -> bool:
    """Return whether `viewer` may see `post`."""
    if viewer.oversees or _moderates(viewer, post.community_id):
        return True
    return (
        _stands_for(viewer, post, post.author)
        and reaches(viewer, post.community_id, post.audience, nearby)
        and sees_member(viewer, author, blocks)
    )


def sees_comment(
    viewer: Viewer, comment: Comment, author: Member, blocks: Blocks, *, sees_its_post: bool
) -> bool:
    """Return whether `viewer` may see `comment`, given whether its post is seen."""
    if viewer.oversees or _moderates(viewer, comment.post_community_id):
        return True
    return (
        _stands_for(viewer, comment, Key(comment.community_id, comment.author_id))
        and sees_its_post
        and sees_member(viewer, author, blocks)
    )


def _stands_for(viewer: Viewer, thing: Post | Comment, author: Key) -> bool:
    """Return whether a thing is there for this viewer: a hidden one is for its author only."""
    return thing.removed_at is None and (thing.hidden_at is None or viewer.member == author)


def asker(viewer: Viewer) -> dict[str, object]:
    """Return the parameters that every query through the SQL rule needs."""
    home = viewer.member
    return {
        "viewer_role": viewer.role.value,
        "viewer_community": None if home is None else home.community_id,
        "viewer_member": None if home is None else home.id,
    }


def unseen(noun: str, key: object) -> NoReturn:
    """Give the one answer for a thing that is not there and for one that is not to be seen.

    Raises:
        NotFoundError: always.
    """
    raise NotFoundError(
        f"there is no {noun} {key}",
        field=f"{noun}_id",
        value=str(key),
        limit="one that exists and that you may see",
        next_step=f"check the id; the {noun} may have been removed",
    )
