"""Who does not get which post: one function per filter, one line in FILTERS.

A filter answers why a post is not for this member, or None. What can be a mask is applied inside
retrieval too; the filters judge every candidate again, from rows that were just read, because an
index may be behind.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from millrace.community.languages import primary
from millrace.community.types import Audience, PostView
from millrace.feed.run import FRESH, SEEN, SERVED, MemberState

Filter = Callable[[MemberState, PostView, datetime], str | None]
"""Takes the member, the post, and the oldest moment that may be shown."""


def own_post(member: MemberState, view: PostView, _: datetime) -> str | None:
    """Leave out what the member wrote."""
    return "the member wrote it" if view.post.author == member.key else None


def removed_post(_: MemberState, view: PostView, __: datetime) -> str | None:
    """Leave out what was removed, or whose author was."""
    if view.post.removed_at is not None:
        return "the post was removed"
    return "its author was removed" if view.author.removed_at is not None else None


def audience(member: MemberState, view: PostView, _: datetime) -> str | None:
    """Leave out what is for others."""
    post = view.post
    if post.audience is Audience.PUBLIC or post.community_id == member.key.community_id:
        return None
    if post.audience is Audience.NEARBY and post.community_id in member.relations.nearby:
        return None
    return f"its audience is {post.audience.value} of another community"


def blocked(member: MemberState, view: PostView, _: datetime) -> str | None:
    """Leave out authors with a block in either direction."""
    return "a block stands between" if view.post.author in member.relations.blocks else None


def muted(member: MemberState, view: PostView, _: datetime) -> str | None:
    """Leave out authors that the member muted."""
    return "the member muted its author" if view.post.author in member.relations.mutes else None


def hidden_post(member: MemberState, view: PostView, _: datetime) -> str | None:
    """Leave out what the member hid or reported."""
    return "the member hid or reported it" if view.post.key in member.hidden else None


def too_old(_: MemberState, view: PostView, oldest: datetime) -> str | None:
    """Leave out what is older than the limit."""
    created = view.post.created_at
    return f"it is older than {oldest:%Y-%m-%d %H:%M}" if created < oldest else None


def language(member: MemberState, view: PostView, _: datetime) -> str | None:
    """Leave out languages that the member does not read."""
    spoken = view.post.language
    if not member.languages or not spoken or primary(spoken) in member.languages:
        return None
    return f"it is in {spoken}, and the member reads {', '.join(sorted(member.languages))}"


FILTERS: tuple[tuple[str, Filter], ...] = (
    ("removed", removed_post),
    ("audience", audience),
    ("blocked", blocked),
    ("own_post", own_post),
    ("muted", muted),
    ("hidden_post", hidden_post),
    ("age", too_old),
    ("language", language),
)


def judged(member: MemberState, view: PostView, oldest: datetime) -> tuple[str, str] | None:
    """Return the first filter that takes a post out, with its reason; None where all let it pass."""
    for name, test in FILTERS:
        reason = test(member, view, oldest)
        if reason is not None:
            return name, reason
    return None


def tier_of(member: MemberState, view: PostView) -> int:
    """Return whether a post is new to the member, was delivered lately, or was seen."""
    key = view.post.key
    if key in member.seen or key in member.liked:
        return SEEN
    return SERVED if key in member.served else FRESH


def oldest_at(now: datetime, age_days_max: float, epoch: datetime) -> datetime:
    """Return the oldest moment that may be shown; 0 days mean no limit."""
    return max(now - timedelta(days=age_days_max), epoch) if age_days_max > 0 else epoch
