"""Which posts and profiles a training remembers the vectors of, and in which state. Pure.

A history of forty posts per pair would be most of what a step computes. Vectors change slowly while
a model is trained, so a pooled history is made of remembered ones, and so are negatives that cost
nothing: the memory of "Cross-Batch Memory for Embedding Learning" (arXiv 1912.06798), which is here
filled before the first step.
"""

import numpy as np
from msgspec import Struct

from millrace.feed.examples.batch import ABSENT, Rows
from millrace.feed.examples.pairs import Pairs
from millrace.feed.examples.reading import Part
from millrace.feed.examples.standing_posts import StandingPosts

PROFILES_MAX = 4_096
"""Profiles that are remembered: only their average is asked for."""

POSTS, PROFILES = 2, 3  # what the seed is used for, beside what batches draw


class Remembered(Struct, frozen=True, kw_only=True):
    """What is remembered.

    states: the state of each post that is. Shape: (posts,).
    row_of_post: its row, ABSENT where it is not. Shape: (all posts,).
    profiles: the state of each member whose profile is. Shape: (profiles,).
    row_of_member: likewise. Shape: (all members,).
    """

    states: Rows
    row_of_post: Rows
    profiles: Rows
    row_of_member: Rows


def remembered(
    part: Part, pairs: Pairs, standing: StandingPosts, posts_max: int, seed: int
) -> Remembered:
    """Return what is remembered of a part.

    A post is in the state that posts have when they are shown: as old as the median of them. As it
    was at the end it would tell, by its numbers, who was going to be liked.

    Args:
        part: what is learned from.
        pairs: of the part.
        standing: all posts.
        posts_max: more are drawn from, those that somebody engaged with first.
        seed: of the draw.
    """
    examples, end = part.examples, int(part.examples.at[part.rows[-1]])
    known = np.flatnonzero(standing.begin <= end)
    if len(known) > posts_max:
        rank = np.random.default_rng((seed, POSTS)).random(len(known))
        rank -= np.isin(known, pairs.liked_posts())
        known = np.sort(known[np.argsort(rank, kind="stable")[:posts_max]])
    ages = (standing.begin[known] + pairs.shown_age_usual).tolist()
    states = [
        standing.state(post, min(at, end)) for post, at in zip(known.tolist(), ages, strict=True)
    ]
    members, first = np.unique(pairs.member, return_index=True)
    if len(members) > PROFILES_MAX:
        draw = np.random.default_rng((seed, PROFILES))
        kept = np.sort(draw.choice(len(members), PROFILES_MAX, replace=False))
        members, first = members[kept], first[kept]
    return Remembered(
        states=np.array(states, np.int64),
        row_of_post=_rows(known, examples.posts),
        profiles=examples.member_state[pairs.moment[first]],
        row_of_member=_rows(members, int(examples.member_of.max()) + 1),
    )


def _rows(numbers: Rows, count: int) -> Rows:
    """Return the row that each of `count` numbers has, ABSENT where it has none."""
    rows = np.full(count, ABSENT, np.int64)
    rows[numbers] = np.arange(len(numbers))
    return rows
