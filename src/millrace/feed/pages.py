"""From an order of posts to a page: the posts are read once more, through the one rule.

What ranked them may be behind the tables, so only what `Posts.views` returns is shown. What it
leaves out is made up for from further down.
"""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from millrace.community.types import Key, Post, PostView
from millrace.feed import cursor as cursors
from millrace.feed.cursor import Cursor
from millrace.feed.parts import FeedParts
from millrace.feed.records.types import RankedPost
from millrace.feed.repository import reader
from millrace.feed.run import Run
from millrace.feed.types import FeedItem, FeedPage

LOOK_AHEAD = 10  # posts that are read beyond what is missing, where something was left out


class Place(Struct, frozen=True, kw_only=True):
    """Where a page stands in its served feed, and what is known of the whole.

    offset: of the next page's first post. fresh: how many posts stand before the first seen one.
    """

    cursor: Cursor
    ranked: int
    fresh: int
    exhausted: bool
    degraded: list[str]
    variants: dict[str, str] = {}


class Reading(Struct, frozen=True, kw_only=True):
    """Who reads a page, and what is left out beside what the rule leaves out.

    token: what the member has seen already.
    """

    member: Key
    token: str
    authors: frozenset[Key] = frozenset()
    posts: frozenset[Key] = frozenset()

    def leaves_out(self, post: Post) -> bool:
        """Return whether a post is left out."""
        return post.author in self.authors or post.key in self.posts


class Ranked:
    """The order of a run, post by post, each made when somebody looks at it."""

    def __init__(self, run: Run) -> None:
        self._posts = run.candidates
        self._reasons = run.reasons

    def __len__(self) -> int:
        return len(self._posts)

    def __getitem__(self, places: slice) -> list[RankedPost]:
        """Return a stretch; a score is as exact as the record has it."""
        posts = self._posts.take(np.arange(len(self._posts))[places])
        return [
            RankedPost(
                community_id=community,
                post_id=post,
                tier=int(posts.tier[row]),
                value=float(np.float32(posts.value[row])),
                score=float(np.float32(posts.score[row])),
                reason=reason,
                sources=[],
            )
            for row, ((post, community), reason) in enumerate(
                zip(posts.ids.tolist(), self._reasons[places], strict=True)
            )
        ]


class Pages:
    """Reads the posts of pages."""

    def __init__(self, parts: FeedParts) -> None:
        self._parts = parts

    async def filled(
        self,
        reading: Reading,
        ranked: Sequence[RankedPost] | Ranked,
        offset: int,
        limit: int,
    ) -> tuple[list[FeedItem], int]:
        """Return the next items that may be shown, and the offset behind them.

        Args:
            reading: who reads, and what is left out beside what the rule leaves out.
            ranked: the order.
            offset: where the page begins.
            limit: how many items.
        """
        found: list[FeedItem] = []
        wanted = limit
        while offset < len(ranked) and len(found) < limit:
            part = ranked[offset : offset + wanted]
            seen = await self._read(reading, part)
            for one in part:
                view = seen.get(one.key)
                offset += 1
                if view and not reading.leaves_out(view.post):
                    found.append(_item(offset - 1, one, view))
                    if len(found) == limit:
                        break
            wanted = limit - len(found) + LOOK_AHEAD
        return found, offset

    async def _read(self, reading: Reading, part: Sequence[RankedPost]) -> dict[Key, PostView]:
        views = await self._parts.posts.views(
            reader(reading.member, reading.token), [one.key for one in part]
        )
        return {view.post.key: view for view in views}

    def page(self, place: Place, items: list[FeedItem]) -> FeedPage:
        """Return the page with its cursor."""
        at = place.cursor
        ended = at.offset >= place.ranked
        return FeedPage(
            served_feed_id=at.served_feed_id,
            items=items,
            next_cursor="" if ended else cursors.sign(at, self._parts.secret),
            caught_up=place.exhausted and (at.offset > place.fresh or ended),
            degraded=place.degraded,
            variants=place.variants,
        )


def _item(position: int, one: RankedPost, view: PostView) -> FeedItem:
    return FeedItem(view=view, position=position, score=one.score, reason=one.reason, seen=one.seen)
