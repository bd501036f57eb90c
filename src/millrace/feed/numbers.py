"""When the numbers in a post's prompt are looked at again. Pure.

Text changes a vector at once. Numbers change all day, and mostly say nothing new: they are
written into a new vector at set ages of the post, or when one of the percentiles that the prompt
shows has moved far from what the vector was made with.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Key, PostCounts
from millrace.feed.prompts.types import PERCENTILE_MAX

MOVED_MIN = 10
"""Percentiles. A tenth of the community; less is the noise of small communities."""

AGES = (
    timedelta(hours=1),
    timedelta(hours=6),
    timedelta(days=1),
    timedelta(days=3),
    timedelta(days=7),
    timedelta(days=30),
)
"""Ages of a post at which its numbers are written anew, whatever they are: denser while it is new,
because then they mean most."""

METRICS = ("age_hours", "views", "likes", "comments", "engagement_rate", "author_followers")
"""What the markers of the prompt show, in their order; of the age the share that is older."""

Percentile = Callable[[str, float], int]
Percentiles = Callable[[str, NDArray[np.float64]], NDArray[np.int64]]


class Numbers(Struct, frozen=True, kw_only=True):
    """The numbers of a post that its prompt shows, as they are; followers are its author's."""

    created_at: datetime
    views: int
    clicks: int
    long_dwells: int
    likes: int
    comments: int
    shares: int
    followers: int

    @property
    def counts(self) -> PostCounts:
        """Return the counters."""
        return PostCounts(
            views=self.views,
            clicks=self.clicks,
            long_dwells=self.long_dwells,
            likes=self.likes,
            comments=self.comments,
            shares=self.shares,
        )


class NumbersRow(Struct, frozen=True, kw_only=True):
    """The numbers of a stretch of posts that have vectors, and those that these were made with.

    One row per stretch: to make an object of each post takes longer than to judge it. The lists run
    in parallel; moments are seconds since 1970.

    counts: per post views, clicks, long dwells, likes, comments, shares, and the author's followers.
    percentiles: per post those in its vector, in the order of the prompt's markers; below zero where
        one is not known.
    """

    communities: list[int]
    posts: list[int]
    created: list[float]
    made: list[float]
    counts: list[list[int]]
    percentiles: list[list[int]]


class PromptRow(Numbers, frozen=True, kw_only=True):
    """All that a post's prompt is made of, the versions of what it names, and the stored prompt."""

    community_id: int
    post_id: int
    kind: str
    title: str
    text: str
    topics: list[str]
    author_name: str
    headline: str
    community_name: str
    system_version: int
    author_version: int
    community_version: int
    prompt_hash: str | None

    @property
    def key(self) -> Key:
        """Return the key of the post."""
        return Key(self.community_id, self.post_id)


def percentiles(one: Numbers, rate: float, of: Percentile, now: datetime) -> list[int]:
    """Return the numbers as percentiles of the community, in the order of the prompt's markers.

    Args:
        one: the numbers.
        rate: positive engagements per view, as the community reckons it.
        of: the percentiles of the community.
        now: age is counted to here.
    """
    hours = max((now - one.created_at).total_seconds() / 3600, 0.0)
    return [
        PERCENTILE_MAX - of("age_hours", hours),
        of("views", one.views),
        of("likes", one.likes),
        of("comments", one.comments),
        of("engagement_rate", rate),
        of("author_followers", one.followers),
    ]


def due(
    row: NumbersRow, of: Mapping[int, Percentiles], now: float, prior_views: int
) -> NDArray[np.bool_]:
    """Return which posts of a stretch are to be embedded again because of their numbers.

    One is, where it has passed a set age since its vector was made, or where the percentile that
    moved most has moved far.

    Args:
        row: the stretch.
        of: the percentiles of each community in it, of a metric and many values.
        now: age is counted to here; seconds since 1970.
        prior_views: what the community's rate of engagement gives every post.
    """
    created, made = np.array(row.created), np.array(row.made)
    counts = np.array(row.counts, dtype=np.float64)
    hours = np.maximum((now - created) / 3600, 0.0)
    views, likes, comments, followers = counts[:, 0], counts[:, 3], counts[:, 4], counts[:, 6]
    rate = counts[:, 1:6].sum(axis=1) / (views + prior_views)
    fresh = np.empty((len(created), len(METRICS)), dtype=np.int64)
    communities = np.array(row.communities)
    for community in np.unique(communities).tolist():
        rows = communities == community
        columns = (hours, views, likes, comments, rate, followers)
        for place, (metric, column) in enumerate(zip(METRICS, columns, strict=True)):
            fresh[rows, place] = of[community](metric, column[rows])
    fresh[:, 0] = PERCENTILE_MAX - fresh[:, 0]
    found = np.abs(fresh - np.array(row.percentiles)).max(axis=1) >= MOVED_MIN
    for age in AGES:
        turned = created + age.total_seconds()
        found |= (made < turned) & (turned <= now)
    return found
