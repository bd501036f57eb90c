"""What members like, as numbers that are known: the truth that everything is judged by.

One function gives the probability of positive engagement with a post that is looked at. The town
is generated with it, a live town acts by it, and an evaluation compares a feed with it.
"""

from typing import Any

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import ArrayLike, NDArray

from millrace.world.simulator.draws import Floats, Whole
from millrace.world.simulator.types import DAY

THREADS = 4
"""How many interests a member has at most."""
FAVOURITES = 8
"""How many authors a member has a liking for at most."""
HANDOVER_DAYS = 1.5
"""How long an interest takes to pass from one topic to the next."""

NEAR_SHARE = 0.25
"""How much of an interest reaches the topics near it."""
FIT_FULL = 0.5
"""An interest of this share is as strong as any."""
BASE = -4.4
FIT = 5.4
AFFINITY = 1.1
QUALITY = 0.55
NOISE_RATE = 0.03
"""How often engagement happens that has nothing to do with taste."""


class Minds(Struct, frozen=True):
    """What moves the members: one row each.

    path: the topics of each interest in their order. Shape: (members, THREADS, steps).
    moves: the day of the town at which each begins, rising; the first is minus infinity.
    shares: how strong each interest is; a row sums to 1.
    favourites, likings: authors, -1 where there is none, and how much each is liked.
    kinds: taste for each kind of post. Shape: (members, len(KINDS)).
    recency: how much an old post loses.
    """

    path: Whole
    moves: Floats
    shares: Floats
    favourites: Whole
    likings: Floats
    kinds: Floats
    recency: Floats
    sociability: Floats
    activity: Floats


class Traits(Struct, frozen=True):
    """What posts are like: one row each.

    topics, weights: the main topic and the second one, with weights that sum to 1. (posts, 2)
    length: characters of the text.
    """

    topics: Whole
    weights: Floats
    author: Whole
    kind: Whole
    quality: Floats
    length: Whole
    created: Whole

    def and_also(self, other: "Traits") -> "Traits":
        """Return these posts followed by others."""
        columns = {
            name: np.concatenate([getattr(self, name), getattr(other, name)])
            for name in self.__struct_fields__
        }
        return replace(self, **columns)


class Truth:
    """The tastes of a town. Members and posts are places in `Town.people` and `Town.posts`.

    Moments are seconds of the town, from its start on, and may lie after its end: interests go on.
    """

    def __init__(self, minds: Minds, traits: Traits, near: Floats, noise: float) -> None:
        """Take what was drawn.

        Args:
            minds: of the members.
            traits: of the posts.
            near: how much an interest in a topic (row) is one in another; 1 with itself.
            noise: share of engagement that is blind.
        """
        self.minds = minds
        self.traits = traits
        self.near = near
        self.noise = noise

    @property
    def topics(self) -> int:
        """Return how many topics there are."""
        return len(self.near)

    def interests(self, member: int, at: float) -> Floats:
        """Return how much a member cares for each topic at a moment; sums to 1."""
        return mixed(self.minds, np.array([member]), np.array([at]), np.eye(self.topics))[0]

    def appeal(self, member: int, posts: ArrayLike, at: float) -> Floats:
        """Return the probability of positive engagement with each post, if the member looks at it.

        Where the member stands in the page, or what was seen before, is no part of it.
        """
        rows = np.asarray(posts, dtype=np.int64)[None, :]
        return self.appeals(np.array([member]), rows, np.array([at], dtype=np.float64))[0]

    def appeals(self, members: Whole, posts: Whole, at: NDArray[Any]) -> Floats:
        """Return `appeal` for many members at once.

        Args:
            members: one a row. Shape: (S,).
            posts: what each of them looks at. Shape: (S, K).
            at: the moment of each row. Shape: (S,).
        """
        taste = squashed(self.pull(members, posts, at))
        return (1.0 - self.noise) * taste + self.noise * NOISE_RATE

    def pull(self, members: Whole, posts: Whole, at: NDArray[Any]) -> Floats:
        """Return the log-odds of engagement by taste alone; arguments as in `appeals`."""
        minds, traits = self.minds, self.traits
        age_days = np.maximum(at[:, None] - traits.created[posts], 0) / DAY
        kind = minds.kinds[members[:, None], traits.kind[posts]]
        return (
            BASE
            + FIT * self.fit(members, posts, at)
            + AFFINITY * self.affinity(members, posts)
            + QUALITY * traits.quality[posts]
            + kind
            - minds.recency[members][:, None] * np.log1p(age_days)
        )

    def fit(self, members: Whole, posts: Whole, at: NDArray[Any]) -> Floats:
        """Return how well posts meet interests, from 0 to 1; arguments as in `appeals`."""
        wide = mixed(self.minds, members, at, self.near)
        topics, weights = self.traits.topics[posts], self.traits.weights[posts]
        rows = np.arange(len(members))[:, None]
        met = (
            weights[..., 0] * wide[rows, topics[..., 0]]
            + weights[..., 1] * wide[rows, topics[..., 1]]
        )
        return np.minimum(met / FIT_FULL, 1.0)

    def affinity(self, members: Whole, posts: Whole) -> Floats:
        """Return how much each member likes the author of each post; arguments as in `appeals`."""
        authors = self.traits.author[posts]
        liked = np.zeros(posts.shape)
        for place in range(self.minds.favourites.shape[1]):
            same = authors == self.minds.favourites[members, place][:, None]
            liked += same * self.minds.likings[members, place][:, None]
        return liked


def mixed(minds: Minds, members: Whole, at: NDArray[Any], spread: Floats) -> Floats:
    """Return the sum, over a member's interests, of its share times the row of its topic.

    Nothing is summed in an order that a machine may choose, so the bits are always the same.

    Args:
        minds: of all members.
        members: one a row. Shape: (S,).
        at: the moment of each row. Shape: (S,).
        spread: a row for each topic. Shape: (topics, N).
    """
    day = np.asarray(at, dtype=np.float64) / DAY
    rows = np.arange(len(members))
    found = np.zeros((len(members), spread.shape[1]))
    for thread in range(minds.path.shape[1]):
        path, moves = minds.path[members, thread], minds.moves[members, thread]
        now = (moves <= day[:, None]).sum(axis=1) - 1
        before = np.maximum(now - 1, 0)
        passed = np.minimum((day - moves[rows, now]) / HANDOVER_DAYS, 1.0)
        share = minds.shares[members, thread]
        found += (share * passed)[:, None] * spread[path[rows, now]]
        found += (share * (1.0 - passed))[:, None] * spread[path[rows, before]]
    return found


def squashed(log_odds: Floats) -> Floats:
    """Return probabilities."""
    return 1.0 / (1.0 + np.exp(-log_odds))


def nearness(near: list[tuple[int, ...]]) -> Floats:
    """Return how much an interest in each topic (row) is one in every other."""
    found = np.eye(len(near))
    for topic, others in enumerate(near):
        for other in others:
            found[topic, other] = max(found[topic, other], NEAR_SHARE)
    return found
