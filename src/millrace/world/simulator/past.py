"""The past of a town: who opened a feed when, what an old, simple feed showed, and what was done.

The old feed was put together once an hour, from the home community's posts: newest first, mixed
with what drew engagement, whom one follows, and some chance. So what is popular early is shown
more, and gets more popular.
"""

from collections.abc import Callable

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.types import Action
from millrace.world.simulator.behaviour import (
    AFTER_SECONDS,
    POST_SECONDS,
    Pages,
    looks,
    react,
)
from millrace.world.simulator.draws import Draws, Singles, Whole
from millrace.world.simulator.people import LATE_SECONDS, People
from millrace.world.simulator.posting import Posting, moments
from millrace.world.simulator.tastes import FAVOURITES, Truth
from millrace.world.simulator.types import (
    ACTIONS,
    DAY,
    LIVE_SECONDS,
    Bond,
    Done,
    Shown,
    TownConfig,
)

HOUR = 3600
QUIET_SECONDS = 1800
"""Nobody opens a feed in the last half hour, so that whatever follows lies before the end."""
PAGE_MIN, PAGE_SPREAD, PAGE_MAX = 4, 13, 40
ACTIVITY_MAX = 6.0
"""The most active members come this many times as often as the average."""
REDRAWS = 8

# What the old feed goes by. A post loses NEW for each day of age.
NEW = 1.1
POPULAR = 2.4
FOLLOWED = 1.4
CHANCE = 1.2
EXPLORED = 1.0
"""About so many posts of a page are there by chance alone."""
EXPLORED_SCORE = 6.0
HEAT_DAYS = 1.0
"""Engagement counts half after this time."""
KEY_STEPS = 1 << 16
KEY_POSTS = 1 << 20

Progress = Callable[[int, int], None]
"""Told how many impressions there are so far, and how many there will be."""


class Visits(Struct, frozen=True):
    """Who opens a feed when, in order of time, and how many posts they see."""

    member: Whole
    at: Whole
    places: Whole


class Home:
    """One community while its past goes by. Members and posts have local numbers here."""

    def __init__(self, community: int, people: People, posting: Posting) -> None:
        self.members = np.flatnonzero(people.community == community)
        self.posts = np.flatnonzero(posting.community == community)
        local = np.full(len(people.community), -1, dtype=np.int64)
        local[self.members] = np.arange(len(self.members))
        self.local = local
        self.created = posting.traits.created[self.posts]
        self.author = local[posting.traits.author[self.posts]]
        self.heat = np.zeros(len(self.posts))
        self.seen = np.zeros((len(self.members), len(self.posts)), dtype=np.bool_)
        self.tie = np.zeros((len(self.members), len(self.members)), dtype=np.float32)
        np.fill_diagonal(self.tie, -np.inf)
        self.owed = 0

    def follow(self, member: int, target: int) -> None:
        """Let a member follow another, unless they turned away from them."""
        place = int(self.local[member]), int(self.local[target])
        if self.tie[place] >= 0:
            self.tie[place] = FOLLOWED

    def turn_away(self, members: Whole, posts: Whole, *, both: bool) -> None:
        """Keep the authors of posts out of members' pages, and the other way round if both."""
        authors = self.author[posts]
        self.tie[members, authors] = -np.inf
        if both:
            self.tie[authors, members] = -np.inf


def visited(config: TownConfig, people: People) -> Visits:
    """Return who opens a feed when: each member at most once an hour, nobody before they joined."""
    draws = Draws(config.seed, "visits")
    span = config.days * DAY
    mean = PAGE_MIN + (PAGE_SPREAD - 1) / 2
    count = int(np.ceil(1.05 * config.impressions / mean))
    if count == 0:
        none = np.zeros(0, dtype=np.int64)
        return Visits(none, none, none)
    at = moments(draws, count, min(DAY, span // 8), span - QUIET_SECONDS)
    activity = people.minds.activity
    activity = np.minimum(activity, ACTIVITY_MAX * activity.mean())
    activity = np.where(people.joined >= span - LATE_SECONDS, 0.0, activity)
    member = draws.below(2 * config.communities, count)  # founders, where nobody else fits
    unsettled = np.ones(count, dtype=np.bool_)
    for _ in range(REDRAWS):
        drawn = draws.among(activity, count)
        fits = unsettled & (people.joined[drawn] < at)
        member[fits] = drawn[fits]
        unsettled &= ~fits
    _, first = np.unique((at // HOUR) * config.members + member, return_index=True)
    kept = np.sort(first)
    member, at = member[kept], at[kept]
    places = PAGE_MIN + draws.below(PAGE_SPREAD, len(at))
    return Visits(member, at, _fitted(places, config.impressions, draws))


def _fitted(places: Whole, wanted: int, draws: Draws) -> Whole:
    """Return page lengths that sum to what is wanted, or as near as pages allow."""
    order = np.argsort(draws.uniform(len(places)), kind="stable")
    while (missing := wanted - int(places.sum())) != 0:
        step = 1 if missing > 0 else -1
        open_to = order[(places[order] + step >= 1) & (places[order] + step <= PAGE_MAX)]
        if not len(open_to):
            break
        places[open_to[: abs(missing)]] += step
    return places


def lived(
    config: TownConfig,
    people: People,
    posting: Posting,
    bonds: list[Bond],
    truth: Truth,
    progress: Progress,
) -> tuple[Shown, Done]:
    """Let the past go by; return what was shown and done."""
    visits = visited(config, people)
    homes = [Home(one, people, posting) for one in range(config.communities)]
    past = _Past(config, truth, homes, Draws(config.seed, "past"))
    waiting = sorted(bonds, key=lambda bond: bond.created)
    hours = visits.at // HOUR
    edges = np.searchsorted(hours, np.arange(config.days * 24 + 1))
    for hour in range(config.days * 24):
        while waiting and waiting[0].created <= hour * HOUR:
            bond = waiting.pop(0)
            homes[int(people.community[bond.member])].follow(bond.member, bond.target)
        now = slice(edges[hour], edges[hour + 1])
        for number, home in enumerate(homes):
            mine = people.community[visits.member[now]] == number
            past.hour(home, hour * HOUR, _picked(visits, now, mine))
        if hour % 24 == 0:
            progress(past.count, config.impressions)
    progress(past.count, config.impressions)
    return past.shown(), past.done()


def _picked(visits: Visits, now: slice, mine: NDArray[np.bool_]) -> Visits:
    return Visits(visits.member[now][mine], visits.at[now][mine], visits.places[now][mine])


class _Past:
    """Gathers what happens, hour by hour."""

    def __init__(self, config: TownConfig, truth: Truth, homes: list[Home], draws: Draws) -> None:
        self._popular = POPULAR * config.popularity
        self._truth = truth
        self._draws = draws
        self._cool = 0.5 ** (HOUR / (HEAT_DAYS * DAY))
        self._shown: list[tuple[Whole, ...]] = []
        self._done: list[tuple[Whole, ...]] = []
        self.count = 0

    def hour(self, home: Home, now: int, visits: Visits) -> None:
        """Serve the visits of one hour to one community, all from the state at its beginning."""
        home.heat *= self._cool
        low, high = np.searchsorted(home.created, [now - LIVE_SECONDS, now])
        if len(visits.member) == 0 or low == high:
            home.owed += int(visits.places.sum())
            return
        members = home.local[visits.member]
        score, explored = self._scores(home, members, low, high, now)
        wanted = visits.places.copy()
        extra = min(home.owed, len(wanted) * PAGE_MAX - int(wanted.sum()))
        for place in range(len(wanted)):
            more = min(extra, PAGE_MAX - int(wanted[place]))
            wanted[place] += more
            extra -= more
            home.owed -= more
        places, there = _best(score, wanted)
        home.owed += int(wanted.sum() - there.sum())
        rows = np.arange(len(members))[:, None]
        self._serve(home, visits, low + places, there, explored[rows, places])

    def _scores(
        self, home: Home, members: Whole, low: int, high: int, now: int
    ) -> tuple[Singles, NDArray[np.bool_]]:
        """Return how the old feed orders live posts for each visit, and which are there by chance."""
        age_days = (now - home.created[low:high]) / DAY
        same_for_all = self._popular * np.log1p(home.heat[low:high]) - NEW * age_days
        score = home.tie[members][:, home.author[low:high]]
        score += same_for_all.astype(np.float32)
        shape = score.shape
        score += np.float32(CHANCE) * self._draws.singles(shape)
        explored = self._draws.singles(shape) < np.float32(EXPLORED / shape[1])
        score[explored] += np.float32(EXPLORED_SCORE)
        score[home.seen[members, low:high]] = -np.inf
        return score, explored

    def _serve(
        self,
        home: Home,
        visits: Visits,
        places: Whole,
        there: NDArray[np.bool_],
        explored: NDArray[np.bool_],
    ) -> None:
        """Show pages and note what their readers do; `there` says which places have a post."""
        posts = home.posts[places]
        looked = there & (self._draws.uniform(posts.shape) < looks(posts.shape[1]))
        pages = Pages(visits.member, posts, visits.at)
        reaction = react(self._truth, pages, looked, self._draws)
        row, place = np.nonzero(there)
        later = np.arange(posts.shape[1], dtype=np.int64) * POST_SECONDS
        at = np.add.outer(visits.at, later)
        self._shown.append(
            (visits.member[row], posts[row, place], at[row, place], place, explored[row, place] * 1)
        )
        self.count += len(row)
        members = home.local[visits.member]
        home.seen[members[row], places[row, place]] = True
        engaged_row, engaged_place = np.nonzero(reaction.engaged)
        np.add.at(home.heat, places[engaged_row, engaged_place], 1.0)
        for kind, action in enumerate(ACTIONS):
            row, place = np.nonzero(reaction.done[kind])
            if not len(row):
                continue
            dwell = reaction.dwell_ms[row, place]
            after = AFTER_SECONDS[action] + dwell // 1000 * (action is not Action.CLICK)
            self._done.append(
                (
                    visits.member[row],
                    posts[row, place],
                    at[row, place] + after,
                    np.full(len(row), kind),
                    place,
                    dwell if action is Action.LONG_DWELL else np.full(len(row), -1),
                )
            )
            if action in {Action.MUTE, Action.BLOCK}:
                home.turn_away(members[row], places[row, place], both=action is Action.BLOCK)

    def shown(self) -> Shown:
        """Return everything that was shown, in order of time."""
        return Shown(*_sorted(self._shown, 5))

    def done(self) -> Done:
        """Return everything that was done, in order of time."""
        return Done(*_sorted(self._done, 6))


def _sorted(parts: list[tuple[Whole, ...]], columns: int) -> list[Whole]:
    """Return columns ordered by their third, the time, then by member and post."""
    if not parts:
        return [np.zeros(0, dtype=np.int64) for _ in range(columns)]
    found = [np.concatenate([part[at] for part in parts]) for at in range(columns)]
    order = np.lexsort((found[3], found[1], found[0], found[2]))
    return [column[order].astype(np.int64) for column in found]


def _best(score: Singles, wanted: Whole) -> tuple[Whole, NDArray[np.bool_]]:
    """Return the places of the best scores of each row, best first, and which of them count.

    Scores become whole numbers with the place in them, so that no two are equal: how equal ones
    are ordered would depend on the machine.
    """
    count = min(int(wanted.max()), score.shape[1])
    hidden = np.isneginf(score)
    score[hidden] = -KEY_STEPS / 4
    keys = (score * np.float32(-KEY_STEPS)).astype(np.int64) * KEY_POSTS
    keys += np.arange(score.shape[1], dtype=np.int64)
    best = np.argpartition(keys, count - 1, axis=1)[:, :count]
    order = np.argsort(np.take_along_axis(keys, best, axis=1), axis=1)
    best = np.take_along_axis(best, order, axis=1)
    there = (np.arange(count) < wanted[:, None]) & ~np.take_along_axis(hidden, best, axis=1)
    return best, there


def bound(config: TownConfig, people: People) -> list[Bond]:
    """Return who follows whom: mostly favourite authors, and a few others of the home."""
    draws = Draws(config.seed, "follows")
    minds = people.minds
    shape = (config.members, FAVOURITES)
    wanted = (minds.favourites >= 0) & (draws.uniform(shape) < 0.4 + 0.4 * minds.likings)
    other = draws.below(config.members, (config.members, 3))
    fits = (people.community[other] == people.community[:, None]) & (people.voice[other] > 0)
    targets = np.concatenate([minds.favourites, other], axis=1)
    wanted = np.concatenate([wanted, fits], axis=1)
    draw = draws.uniform(targets.shape)
    span = config.days * DAY
    found: dict[tuple[int, int], Bond] = {}
    for member, place in zip(*np.nonzero(wanted), strict=True):
        target = int(targets[member, place])
        if target == member:
            continue
        since = max(int(people.joined[member]), int(people.joined[target]), -60 * DAY) + 60
        if since < span - 60:
            created = since + int(draw[member, place] * (span - 60 - since))
            found.setdefault((int(member), target), Bond(int(member), target, created))
    return [found[key] for key in sorted(found)]
