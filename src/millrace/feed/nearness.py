"""Where the nearness of a post comes from, as its member may be told."""

from collections.abc import Sequence
from datetime import UTC, datetime

from millrace.community.types import Key
from millrace.feed.parts import FeedParts
from millrace.feed.records.types import Pooled, Record
from millrace.feed.repository import reader
from millrace.feed.types import LikedNote, Nearness

SIMILARITY = "similarity"
NEAR_MIN = 0.1  # below that nothing draws a post near, and shares of it would say nothing
TITLE_CHARACTERS = 200


async def nearness_of(
    parts: FeedParts, member: Key, found: Record, row: int, token: str = ""
) -> Nearness | None:
    """Return where the nearness of a ranked post comes from; None where nothing draws it near.

    Liked posts that the member may not see any more count among the others and are not named.

    Args:
        parts: the surroundings.
        member: whose feed.
        found: its record.
        row: where the post stands in it.
        token: of the session that asks.
    """
    pooled = found.pooled
    similarity = float(found.feature_matrix()[row, found.feature_names.index(SIMILARITY)])
    if pooled is None or similarity < NEAR_MIN:
        return None
    nearest, profile = pooled.nearest(row), float(pooled.profile[row])
    if not nearest and not profile:
        return None  # it had no vector yet, and stood in the middle of those with one
    titles = await _titles(parts, member, [pooled.posts[place] for place, _ in nearest], token)
    liked = [
        LikedNote(
            post=pooled.posts[place],
            title=titles[pooled.posts[place]],
            engaged_at=_moment(pooled, place),
            share=amount / similarity,
        )
        for place, amount in nearest
        if pooled.posts[place] in titles
    ]
    own = profile / similarity
    return Nearness(
        similarity=similarity,
        profile=own,
        liked=liked,
        others=1.0 - own - sum(one.share for one in liked),
        posts=len(pooled.posts),
    )


async def _titles(parts: FeedParts, member: Key, keys: Sequence[Key], token: str) -> dict[Key, str]:
    """Return the titles of those posts that the member may see, through the one rule."""
    if not keys:
        return {}
    views = await parts.posts.views(reader(member, token), keys)
    return {
        view.post.key: " ".join((view.post.title or view.post.text).split())[:TITLE_CHARACTERS]
        for view in views
    }


def _moment(pooled: Pooled, place: int) -> datetime:
    return datetime.fromtimestamp(pooled.at[place] / 1_000_000, UTC)
