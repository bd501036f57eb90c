"""Who writes about what, and when: posts as numbers, before they have a text."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from millrace.community.types import Audience, PostKind
from millrace.world.simulator.draws import Draws, Floats, Whole, places, row_places
from millrace.world.simulator.people import People
from millrace.world.simulator.tastes import Traits, mixed
from millrace.world.simulator.types import DAY, KINDS, TownConfig

HOURS = np.array(
    [1, 0.5, 0.3, 0.2, 0.3, 0.8, 2, 4, 5, 4.5, 4, 4.5, 5.5, 5, 4, 4, 4.5, 5.5, 6.5, 7.5, 8, 7, 4.5, 2.5]
)  # fmt: skip
"""How busy each hour of the day is."""
AUDIENCES = tuple(Audience)
AUDIENCE_SHARES = np.array([0.7, 0.25, 0.05])
KIND_SHARES = {
    PostKind.NOTE: 0.46,
    PostKind.QUESTION: 0.24,
    PostKind.EVENT: 0.09,
    PostKind.LISTING: 0.08,
    PostKind.LINK: 0.09,
    PostKind.ALERT: 0.04,
}
ASIDE_SHARE = 0.08
"""Posts about something that is none of their author's interests."""
SECOND_SHARE = 0.35
SECOND_WEIGHT = 0.3
REDRAWS = 8


class Posting(Struct, frozen=True):
    """Posts in order of time: their traits (of length 0), communities and audiences."""

    traits: Traits
    community: Whole
    audience: Whole


def posted(config: TownConfig, people: People, near: Sequence[tuple[int, ...]]) -> Posting:
    """Return what is written in the town."""
    draws = Draws(config.seed, "posts")
    created = moments(draws, config.posts, 0, config.days * DAY)
    author = _authors(config, people, created, draws)
    topics, weights = _topics(people, author, created, near, draws)
    kind = draws.among(np.array([KIND_SHARES[kind] for kind in KINDS]), config.posts)
    skill = 0.5 * draws.normal(config.members)
    traits = Traits(
        topics=topics,
        weights=weights,
        author=author,
        kind=kind,
        quality=skill[author] + 0.85 * draws.normal(config.posts),
        length=np.zeros(config.posts, dtype=np.int64),
        created=created,
    )
    return Posting(traits, people.community[author], draws.among(AUDIENCE_SHARES, config.posts))


def moments(draws: Draws, count: int, begin: int, end: int) -> Whole:
    """Return so many seconds of the town between two, rising, as busy as each hour is."""
    hours = np.arange(begin // 3600, -(-end // 3600))
    hour = hours[draws.among(HOURS[hours % 24], count)]
    second = hour * 3600 + draws.below(3600, count)
    return np.sort(np.clip(second, begin, end - 1))


def _authors(config: TownConfig, people: People, created: Whole, draws: Draws) -> Whole:
    """Return who writes each post: loud members write much, and nobody before they joined."""
    author = draws.below(2 * config.communities, config.posts)  # founders, where nobody else fits
    community = people.community[draws.below(config.members, config.posts)]
    # Every community has posts from its first day, so that a feed of it is never empty.
    early = 2 * config.communities
    community[:early] = np.arange(early) % config.communities
    author = community + config.communities * (author // config.communities)
    unsettled = np.ones(config.posts, dtype=bool)
    for _ in range(REDRAWS):
        drawn = np.empty(config.posts, dtype=np.int64)
        draw = draws.uniform(config.posts)
        for home in range(config.communities):
            here = np.flatnonzero(people.community == home)
            mine = community == home
            drawn[mine] = here[places(people.voice[here], draw[mine])]
        fits = unsettled & (people.joined[drawn] < created)
        author[fits] = drawn[fits]
        unsettled &= ~fits
    return author


def _topics(
    people: People,
    author: Whole,
    created: Whole,
    near: Sequence[tuple[int, ...]],
    draws: Draws,
) -> tuple[Whole, Floats]:
    """Return topics and weights of `Traits`: what the author cared for at that moment."""
    count, kinds = len(author), len(near)
    interests = mixed(people.minds, author, created, np.eye(kinds))
    first = row_places(interests, draws.uniform(count))
    aside = draws.uniform(count) < ASIDE_SHARE
    first[aside] = draws.below(kinds, count)[aside]
    neighbours = np.array([np.resize(np.array(one or (at,)), 8) for at, one in enumerate(near)])
    second = neighbours[first, draws.below(8, count)]
    single = (draws.uniform(count) >= SECOND_SHARE) | (second == first)
    second[single] = first[single]
    share = np.where(single, 0.0, SECOND_WEIGHT)
    return np.stack([first, second], axis=1), np.stack([1.0 - share, share], axis=1)
