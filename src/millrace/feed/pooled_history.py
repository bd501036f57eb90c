"""A member's vector from their profile's and from those of the posts that they liked. Pure.

    member = unit( profile_weight (profile - mean profile)
                   + sum over liked posts of 2^(-age / half_life_days) (post - mean post) )

The profile is what is believed before anything is known, and weighs like so many engagements of
this moment; each engagement moves the belief, and old ones fade, because interests move on. The
averages are taken away because an encoder puts all texts of a community to one side (hubness:
Dinu, Lazaridou and Baroni, arXiv 1412.6568). It is Rocchio's query from feedback (1971), without
what was passed over: taking that away lost in every town (docs/LOG.md, 2026-11-22).

Beside a prompt that shows the same history in words it finds a sixth to a fifth more in two towns
that nothing was chosen on, and not more in two logs (docs/LOG.md); it costs no encoder when somebody
engages, and is exact about what each post contributes (docs/decisions/0154).
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.kernel.errors import InvalidError

NORM_MIN = 1e-6
NEAREST = 3  # liked posts that are told of a post
NO_PLACE = 255
"""In place of a place in the pool, where fewer liked posts draw a post near."""
SECONDS_PER_DAY = 86_400.0
LIMITS = {"profile_weight": (0.0, 1e3), "half_life_days": (0.01, 1e5), "posts_max": (1.0, 200.0)}
STEPS_PER_HALF_LIFE = 64
Vectors = NDArray[np.float32]


class PooledHistory(Struct, frozen=True, kw_only=True):
    """How a history is pooled. A property of an encoder: it was trained, or tried, with it.

    profile_weight: engagements of this moment that the profile weighs like.
    half_life_days: after which an engagement counts half.
    posts_max: the newest ones that count.
    """

    profile_weight: float = 2.0
    half_life_days: float = 16.0
    posts_max: int = 40

    @property
    def name(self) -> str:
        """Return it as the part of a version's name: vectors pooled otherwise do not compare."""
        return f"pooled-{self.profile_weight:g}-{self.half_life_days:g}-{self.posts_max}"

    def weights(self, ages_days: NDArray[np.floating]) -> Vectors:
        """Return what engagements of some ages count. Shape: that of the ages.

        An age below zero, of a clock that runs behind, is none.
        """
        ages = np.maximum(ages_days, 0.0)
        return np.exp2(-ages / self.half_life_days).astype(np.float32)


def counted_from(now: int, how: PooledHistory) -> int:
    """Return the moment from which ages are counted: the last of those that are a step apart.

    Within a step, which is six hours at sixteen days, and moves a weight by a hundredth, whoever did
    nothing has the same vector to the last bit, so that what a search saw near it is known.

    Args:
        now: microseconds since 1970, as the answer.
        how: whose half-life the steps are parts of.
    """
    step = int(how.half_life_days * SECONDS_PER_DAY * 1e6) // STEPS_PER_HALF_LIFE
    return now - now % step


def days_between(then: NDArray[np.int64], now: int) -> NDArray[np.float64]:
    """Return how many days before a moment others were; all in microseconds since 1970."""
    return (now - then) / (SECONDS_PER_DAY * 1e6)


class Averages(Struct, frozen=True):
    """The mean vector of posts and of profiles, of one encoder in one installation. (dims,) each."""

    posts: Vectors
    profiles: Vectors

    @staticmethod
    def nothing(dims: int) -> "Averages":
        """Return averages before anything is known: nothing is taken away."""
        return Averages(np.zeros(dims, np.float32), np.zeros(dims, np.float32))


class Pool(Struct, frozen=True, kw_only=True):
    """What a member's vector was made of, for one feed.

    ids: post and community of the liked posts, the newest engagement first. Shape: (n, 2).
    at: when each was engaged with, in microseconds since 1970. Shape: (n,).
    terms: see `terms`; the member's vector is their sum. Shape: (n + 1, dims).
    averages_at: when the averages were made, likewise; 0 where nothing was taken away.
    """

    ids: NDArray[np.int64]
    at: NDArray[np.int64]
    terms: Vectors
    averages_at: int = 0

    @property
    def vector(self) -> Vectors:
        """Return the member's vector."""
        return self.terms.sum(axis=0)


class Parts(Struct, frozen=True):
    """Where the nearness of some posts comes from.

    profile: what the profile gives to it. Shape: (m,).
    places, amounts: the liked posts that give most, by their places in the pool, and what each
        gives; only what draws near. Shape: (m, NEAREST).
    """

    profile: NDArray[np.float32]
    places: NDArray[np.uint8]
    amounts: NDArray[np.float32]


def parts(found: Pool, posts: Vectors) -> Parts:
    """Return where the nearness of posts to a member comes from.

    Args:
        found: what the member's vector was made of.
        posts: their vectors. Shape: (m, dims).
    """
    products = posts @ found.terms.T
    given = products[:, 1:]
    few = min(NEAREST, given.shape[1])
    places = np.full((len(posts), NEAREST), NO_PLACE, np.uint8)
    amounts = np.zeros((len(posts), NEAREST), np.float32)
    if few:
        first = np.argpartition(-given, few - 1, axis=1)[:, :few]
        there = np.take_along_axis(given, first, axis=1)
        order = np.argsort(-there, axis=1, kind="stable")
        there = np.take_along_axis(there, order, axis=1)
        draws = there > 0
        amounts[:, :few] = np.where(draws, there, 0.0)
        places[:, :few] = np.where(draws, np.take_along_axis(first, order, axis=1), NO_PLACE)
    return Parts(products[:, 0], places, amounts)


def terms(
    profile: Vectors,
    posts: Vectors,
    ages_days: NDArray[np.floating],
    averages: Averages,
    how: PooledHistory,
) -> Vectors:
    """Return what a member's vector is the sum of: the profile's part, then each liked post's.

    So the nearness of a post to the member is the sum of its products with these, exactly. All are
    zeros where nothing at all is known. Shape: (n + 1, dims).

    Args:
        profile: the vector of the profile alone; zeros where there is none. Shape: (dims,).
        posts: vectors of liked posts, at most `posts_max`, zeros where there is none. (n, dims).
        ages_days: how long ago each engagement was. Shape: (n,).
        averages: what is taken away.
        how: the weights.
    """
    assert len(posts) <= how.posts_max, f"{len(posts)} posts; {how.posts_max} are pooled"
    found = np.zeros((len(posts) + 1, len(profile)), np.float32)
    if profile.any():
        found[0] = np.float32(how.profile_weight) * (profile - averages.profiles)
    if len(posts):
        weights = how.weights(ages_days) * posts.any(axis=1)
        np.subtract(posts, averages.posts, out=found[1:])  # in place: it is done for every feed
        found[1:] *= weights[:, None]
    total = found.sum(axis=0)
    length = float(np.sqrt(total @ total))
    if length <= NORM_MIN:
        return np.zeros_like(found)
    found /= np.float32(length)
    return found


def member_vector(
    profile: Vectors,
    posts: Vectors,
    ages_days: NDArray[np.floating],
    averages: Averages,
    how: PooledHistory,
) -> Vectors:
    """Return a member's vector of length 1, or zeros where nothing at all is known; see `terms`."""
    return terms(profile, posts, ages_days, averages, how).sum(axis=0)


def check_pooling(how: PooledHistory) -> None:
    """Refuse weights that cannot be.

    Raises:
        InvalidError: a value is outside its limits.
    """
    for field, (low, high) in LIMITS.items():
        value = getattr(how, field)
        if not low <= value <= high:
            raise InvalidError(
                f"{field} of a pooled history is {value}, and may be {low:g} to {high:g}",
                field=field,
                value=value,
                limit=f"{low:g} to {high:g}",
                next_step="give a value within the limits",
            )
