"""Who lives in the town: where, since when, and what moves them."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from millrace.world.simulator.draws import Draws, Floats, Whole, places, row_places
from millrace.world.simulator.tastes import FAVOURITES, THREADS, Minds
from millrace.world.simulator.types import DAY, KINDS, TownConfig

OLD_SHARE = 0.65
"""Members who were there before day 0; the others join by and by."""
LATE_SHARE = 0.02
"""Members who join in the last hours, so that nothing is known of what they do."""
LATE_SECONDS = 6 * 3600
MOVES_PER_DAY = 0.2
"""How often an interest moves on where drift is 1."""
BEYOND_DAYS = 60
"""Interests move on after the end of the past too, for a town that lives on."""
STEPS_MAX = 40
HABIT = (0.7, 0.2, 0.1)
"""How often an interest goes to the usual next topic, and to the others near it."""
SILENT_SHARE = 0.25


class People(Struct, frozen=True):
    """The members as numbers. `voice`: how much each writes; many write nothing."""

    community: Whole
    joined: Whole
    voice: Floats
    minds: Minds


def settled(config: TownConfig, near: Sequence[tuple[int, ...]]) -> People:
    """Return who lives in the town."""
    community = _homes(config)
    joined = _joined(config, community)
    draws = Draws(config.seed, "people")
    voice = draws.exponential(config.members) ** 2.2
    voice[draws.uniform(config.members) < SILENT_SHARE] = 0.0
    voice[_founders(community)] = np.maximum(voice[_founders(community)], 1.0)
    path, moves, shares = _interests(config, community, near)
    favourites, likings = _favourites(config, community, voice, path[:, :, 0], shares)
    taste = Draws(config.seed, "taste")
    minds = Minds(
        path=path,
        moves=moves,
        shares=shares,
        favourites=favourites,
        likings=likings,
        kinds=0.35 * taste.normal((config.members, len(KINDS))),
        recency=0.1 + 0.5 * taste.uniform(config.members),
        sociability=np.exp(0.6 * taste.normal(config.members)),
        activity=np.exp(1.1 * taste.normal(config.members)),
    )
    return People(community, joined, voice, minds)


def _homes(config: TownConfig) -> Whole:
    """Give every member a home; the first communities are the larger ones."""
    sizes: Floats = (1.0 + np.arange(config.communities, dtype=np.float64)) ** -0.5
    home = Draws(config.seed, "homes").among(sizes, config.members)
    home[: 4 * config.communities] = np.arange(4 * config.communities) % config.communities
    return home


def _founders(community: Whole) -> Whole:
    """Return the first two members of each community: they were always there."""
    count = int(community.max()) + 1
    return np.arange(2 * count)


def _joined(config: TownConfig, community: Whole) -> Whole:
    """Return when members joined, in seconds of the town; most of them before it began."""
    draws = Draws(config.seed, "joined")
    span = config.days * DAY
    joined = -(1 + 300 * DAY * draws.exponential(config.members)).astype(np.int64)
    joined = np.maximum(joined, -900 * DAY)
    draw = draws.uniform(config.members)
    new = draw >= OLD_SHARE
    joined[new] = (draws.uniform(config.members) * span).astype(np.int64)[new]
    late = draw >= 1.0 - LATE_SHARE
    last = span - 1 - draws.below(LATE_SECONDS, config.members)
    joined[late] = last[late]
    joined[_founders(community)] = -950 * DAY
    return joined


# ------------------------------------------------- interests


def _interests(
    config: TownConfig, community: Whole, near: Sequence[tuple[int, ...]]
) -> tuple[Whole, Floats, Floats]:
    """Return path, moves and shares of `Minds`."""
    members, topics = config.members, len(near)
    draws = Draws(config.seed, "interests")
    leaning = 0.25 + draws.exponential((config.communities, topics)) ** 1.5
    draw = draws.uniform((members, THREADS))
    start = np.stack([row_places(leaning[community], draw[:, j]) for j in range(THREADS)], axis=1)
    wide = draws.exponential((members, THREADS)) * np.array([3.0, 1.5, 0.8, 0.5])
    count = 1 + draws.below(THREADS, members)
    wide[np.arange(THREADS)[None, :] >= count[:, None]] = 0.0
    shares = wide / wide.sum(axis=1, keepdims=True)
    path, moves = _drift(config, start, near)
    return path, moves, shares


def _drift(
    config: TownConfig, start: Whole, near: Sequence[tuple[int, ...]]
) -> tuple[Whole, Floats]:
    """Let each interest go from topic to topic; the usual ways are those of the whole town."""
    draws = Draws(config.seed, "drift")
    horizon = config.days + BEYOND_DAYS
    rate = config.drift * MOVES_PER_DAY
    steps = min(STEPS_MAX, 1 + int(np.ceil(2.0 * rate * horizon)))
    path = np.repeat(start[..., None], steps, axis=2)
    moves = np.full(path.shape, np.inf)
    moves[..., 0] = -np.inf
    if rate == 0.0:
        return path, moves
    ways = _ways(draws, near)
    gaps = draws.exponential(path.shape) / rate
    draw = draws.uniform(path.shape)
    habit = np.cumsum(HABIT)
    choice = np.minimum((draw[..., None] >= habit).sum(axis=3), len(HABIT) - 1)
    day = np.zeros(start.shape)
    for step in range(1, steps):
        day = day + gaps[..., step]
        path[..., step] = ways[path[..., step - 1], choice[..., step]]
        moves[..., step] = day
    return path, moves


def _ways(draws: Draws, near: Sequence[tuple[int, ...]]) -> Whole:
    """Return, for each topic, where an interest in it goes: the usual way first."""
    ways = np.empty((len(near), len(HABIT)), dtype=np.int64)
    for topic, others in enumerate(near):
        mixed = np.array(others or (topic,), dtype=np.int64)
        mixed = mixed[np.argsort(draws.uniform(len(mixed)), kind="stable")]
        ways[topic] = np.resize(mixed, len(HABIT))
    return ways


# ------------------------------------------------- authors


def _favourites(
    config: TownConfig, community: Whole, voice: Floats, first: Whole, shares: Floats
) -> tuple[Whole, Floats]:
    """Return whom each member has a liking for: authors of the home, rather loud and like-minded."""
    draws = Draws(config.seed, "favourites")
    chosen = np.full((config.members, FAVOURITES), -1, dtype=np.int64)
    likings = np.zeros((config.members, FAVOURITES))
    main = first[np.arange(len(first)), shares.argmax(axis=1)]
    for home in range(config.communities):
        here = np.flatnonzero(community == home)
        writers = here[voice[here] > 0]
        for place in range(FAVOURITES):
            found = writers[places(voice[writers] ** 0.7, draws.uniform(len(here)))]
            like_minded = main[found] == main[here]
            taken = (draws.uniform(len(here)) < np.where(like_minded, 0.95, 0.45)) & (found != here)
            taken &= (chosen[here] != found[:, None]).all(axis=1)
            chosen[here, place] = np.where(taken, found, -1)
            likings[here, place] = np.where(taken, 0.3 + 0.9 * draws.uniform(len(here)), 0.0)
    return chosen, likings
