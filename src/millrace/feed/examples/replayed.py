"""What is not logged, replayed by time: the numbers of posts as they were at a moment. Pure.

Deeds come in the order of time, and what is asked is answered from those that came before, so
nothing of later can be in an answer. A post gets a new state when a vector of it would have been
made again (numbers.py): at set ages, or when one of its percentiles moved far. Scales are made of the
posts and members that were known by then. What an import cannot tell stays unknown: views and rates,
where a community has no impressions.
"""

from bisect import bisect_left
from collections import defaultdict
from math import ceil

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.percentiles import CUTS, RATE_PRIOR_VIEWS
from millrace.feed.examples.types import NUMBERS, UNKNOWN, Instant
from millrace.feed.numbers import AGES, MOVED_MIN
from millrace.feed.prompts.types import PERCENTILE_MAX

HOUR = 3_600_000_000
DAY = 24 * HOUR
TURNS = [age.total_seconds() * 1_000_000 for age in AGES]
LOOK_AGAIN = HOUR  # so long a state is not doubted
GROWN = 1.02  # by so much a community grows until its scales are made again, within a month
COLUMN = {"shown": 0, "like": 1, "comment": 2, "click": 3, "long_dwell": 3, "share": 3}
VIEWS, LIKES, COMMENTS, OTHERS = range(4)


class Scale(Struct, frozen=True):
    """The scales of a community, and when they were made of how many posts."""

    cuts: list[list[float] | None]  # in the order of NUMBERS; the ages as they were then
    made_at: Instant
    posts: int


class Told(Struct):
    """What a state of a post says, and when it was last doubted."""

    state: int
    percentiles: list[int]
    made_at: Instant
    looked_at: Instant


class Tallies:
    """Counts what members do, and says what that made of a post's numbers."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int32] = np.zeros((1024, 4), dtype=np.int32)
        self._created: list[Instant] = []
        self._authors: list[int] = []
        self._community: list[int] = []
        self._posts: dict[int, list[int]] = defaultdict(list)  # of a community
        self._members: dict[int, set[int]] = defaultdict(set)  # of a community, as far as known
        self._followers: dict[int, int] = defaultdict(int)
        self._scales: dict[int, Scale] = {}
        self._told: dict[int, Told] = {}

    def born(self, at: Instant, community: int, author: int) -> int:
        """Hear of a new post; return its number: posts are counted in the order in which they come."""
        post = len(self._created)
        if post == len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
        self._created.append(at)
        self._authors.append(author)
        self._community.append(community)
        self._posts[community].append(post)
        self._members[community].add(author)
        return post

    def met(self, community: int, member: int) -> None:
        """Hear that there is a member."""
        self._members[community].add(member)

    def count(self, post: int, deed: str) -> None:
        """Hear that somebody was shown a post, or did something with it."""
        column = COLUMN.get(deed)
        if column is not None:
            self._counts[post, column] += 1

    def followed(self, member: int) -> None:
        """Hear that somebody is followed from now on."""
        self._followers[member] += 1

    def held(self, post: int, at: Instant) -> int | None:
        """Return the state of a post that is still true enough, or None where a new one is due."""
        told = self._told.get(post)
        if told is None:
            return None
        if not self._turned(post, told.made_at, at):
            if at - told.looked_at < LOOK_AGAIN:
                return told.state
            told.looked_at = at
            now = self.percentiles(post, at)
            moved = max(abs(a - b) for a, b in zip(now, told.percentiles, strict=True))
            if moved < MOVED_MIN:
                return told.state
        return None

    def keep(self, post: int, state: int, percentiles: list[int], at: Instant) -> None:
        """Hear which state a post has from now on."""
        self._told[post] = Told(state, percentiles, at, at)

    def percentiles(self, post: int, at: Instant) -> list[int]:
        """Return the percentiles of a post at a moment, in the order of NUMBERS."""
        community = self._community[post]
        scale = self._scale(community, at)
        hours, *numbers = self._values(post, at)
        ages = scale.cuts[0]
        grown = (at - scale.made_at) / HOUR
        found = [PERCENTILE_MAX - (50 if ages is None else bisect_left(ages, hours - grown))]
        for cuts, number in zip(scale.cuts[1:], numbers, strict=True):
            found.append(UNKNOWN if cuts is None else bisect_left(cuts, number))
        return found

    def numbers(self, post: int, at: Instant) -> list[int]:
        """Return the numbers of a post at a moment, in the order of NUMBERS."""
        views, likes, comments, others = self._counts[post].tolist()
        hours = max(at - self._created[post], 0) // HOUR
        views = views if self._is_shown(self._community[post]) else UNKNOWN
        engaged = likes + comments + others
        return [hours, views, likes, comments, engaged, self._followers[self._authors[post]]]

    def _values(self, post: int, at: Instant) -> list[float]:
        views, likes, comments, others = self._counts[post].tolist()
        hours = max(at - self._created[post], 0) / HOUR
        rate = (likes + comments + others) / (views + RATE_PRIOR_VIEWS)
        return [hours, views, likes, comments, rate, self._followers[self._authors[post]]]

    def _turned(self, post: int, made_at: Instant, at: Instant) -> bool:
        """Return whether a post has passed a set age since."""
        created = self._created[post]
        return any(made_at - created < age <= at - created for age in TURNS)

    def _is_shown(self, community: int) -> bool:
        """Return whether anything of a community was shown so far, by the scale that holds."""
        scale = self._scales.get(community)
        return scale is not None and scale.cuts[1] is not None

    def _scale(self, community: int, at: Instant) -> Scale:
        """Return the scales of a community; a day old at least before they are made again."""
        scale, posts = self._scales.get(community), self._posts[community]
        if scale is not None:
            age = at - scale.made_at
            if age < DAY or (age < 30 * DAY and len(posts) < GROWN * scale.posts):
                return scale
        made = Scale(self._cuts(community, at), at, len(posts))
        self._scales[community] = made
        return made

    def _cuts(self, community: int, at: Instant) -> list[list[float] | None]:
        posts = self._posts[community]
        counts = self._counts[posts].astype(np.float64)
        hours = (at - np.array([self._created[post] for post in posts])) / HOUR
        engaged = counts[:, LIKES] + counts[:, COMMENTS] + counts[:, OTHERS]
        rates = engaged / (counts[:, VIEWS] + RATE_PRIOR_VIEWS)
        followers = np.array([self._followers[member] for member in self._members[community]])
        shown = bool(counts[:, VIEWS].any())
        return [
            _cut(hours),
            _cut(counts[:, VIEWS]) if shown else None,
            _cut(counts[:, LIKES]),
            _cut(counts[:, COMMENTS]),
            _cut(rates) if shown else None,
            _cut(followers.astype(np.float64)),
        ]


def _cut(values: NDArray[np.float64]) -> list[float] | None:
    """Return the rising cuts of some values, as the community makes them; None without values."""
    if not len(values):
        return None
    ordered = np.sort(values)
    places = [ceil(cut / 100 * len(ordered)) - 1 for cut in range(1, CUTS + 1)]
    return ordered[places].tolist()


assert len(NUMBERS) == 6, "the order of percentiles, numbers and cuts is that of NUMBERS"
