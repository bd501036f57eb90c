"""When the numbers in a post's prompt are looked at again. Pure.

Text changes a vector at once. Numbers change all day, and mostly say nothing new: they are
written into a new vector at set ages of the post, or when one of the percentiles that the prompt
shows has moved far from what the vector was made with.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

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

Percentile = Callable[[str, float], int]


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


class NumbersRow(Numbers, frozen=True, kw_only=True):
    """The numbers of a post that has a vector, and those that the vector was made with."""

    community_id: int
    post_id: int
    percentiles: list[int]
    made_at: datetime

    @property
    def key(self) -> Key:
        """Return the key of the post."""
        return Key(self.community_id, self.post_id)


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


def moved(made_with: Sequence[int], now: Sequence[int]) -> int:
    """Return how far the marker that moved most is from where it was; unknown is as far as can be."""
    if len(made_with) != len(now):
        return PERCENTILE_MAX
    return max(abs(new - old) for old, new in zip(made_with, now, strict=True))


def passed_an_age(created_at: datetime, made_at: datetime, now: datetime) -> bool:
    """Return whether the post has passed a set age since its vector was made."""
    return any(made_at < created_at + age <= now for age in AGES)
