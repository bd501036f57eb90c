"""What is pooled into members' vectors at a moment, and the vectors that come of it.

A program pools when a feed is asked for (feed/hydration.py); here the same is made for a moment of
the past. Nothing later than the moment may come in: an engagement, its age, or a post or member in
an average that did not exist yet.
"""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.feed.averages import UNKNOWN
from millrace.feed.pooled_history import (
    Averages,
    PooledHistory,
    counted_from,
    days_between,
    member_vector,
)
from millrace.feed.slot_table import microseconds
from millrace.lab.prompt_facts import Liked, PromptFacts

AVERAGED_POSTS_MAX = 1_000  # the mean of so many is off by a thirtieth of how far they lie apart
AVERAGED_MEMBERS_MAX = 500

Matrix = NDArray[np.float32]


class Pools(Struct, frozen=True):
    """What is pooled for some members, by their numbers.

    how: the weights.
    liked: what each member had liked at the moment, the newest first.
    averaged_posts: whose mean is taken away from posts; of those that exist, drawn by chance.
    averaged_members: whose mean is taken away from profiles.
    """

    how: PooledHistory
    liked: dict[int, Liked]
    averaged_posts: list[int]
    averaged_members: list[int]

    def widened(self, members: Sequence[int], posts: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return all members and posts whose vectors are needed, beside those that are asked for."""
        liked = [post for one in self.liked.values() for post in one.posts]
        return (
            sorted({*members, *self.averaged_members}),
            sorted({*posts, *self.averaged_posts, *liked}),
        )


def pools_at(facts: PromptFacts, at: datetime, members: Sequence[int], how: PooledHistory) -> Pools:
    """Return what is pooled at a moment for some members, by their numbers."""
    posts, there = facts.existing(at)
    now = microseconds(at)
    early = float(days_between(np.array(counted_from(now, how)), now))
    return Pools(
        how=how,
        liked={one: _since(facts.liked(one, at, how.posts_max), early) for one in members},
        averaged_posts=_drawn(posts, AVERAGED_POSTS_MAX),
        averaged_members=_drawn(there, AVERAGED_MEMBERS_MAX),
    )


def pooled(pools: Pools, profiles: Matrix, posts: Matrix) -> Matrix:
    """Return the vectors of members, in the rows of their numbers; of nobody else.

    Args:
        pools: what is pooled.
        profiles: vectors of profiles, by the numbers of members.
        posts: vectors of posts, by their numbers.
    """
    averages = Averages(_mean(posts, pools.averaged_posts), _mean(profiles, pools.averaged_members))
    found = np.zeros_like(profiles)
    for member, liked in pools.liked.items():
        found[member] = member_vector(
            profiles[member], posts[liked.posts], liked.ages_days, averages, pools.how
        )
    return found


def _since(liked: Liked, days: float) -> Liked:
    """Return the same with ages counted from so many days before the moment, as a feed counts."""
    return Liked(liked.posts, liked.ages_days - days)


def _mean(vectors: Matrix, numbers: Sequence[int]) -> Matrix:
    """Return the mean of some vectors and of `UNKNOWN` of nothing, as an installation makes it."""
    return vectors[list(numbers)].sum(axis=0) / np.float32(len(numbers) + UNKNOWN)


def _drawn(numbers: NDArray[np.int64], most: int) -> list[int]:
    """Return some of the numbers, the same ones each time."""
    rng = np.random.default_rng(len(numbers))
    return sorted(rng.permutation(numbers)[:most].tolist())
