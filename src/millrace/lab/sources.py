"""The old ways of finding posts, which one encoder is to replace, and what they give together.

network, trending, trending by place, collaborative filtering, and retrieval by an encoder that was
not trained. A source gives what it has, best first, and may have nothing: whoever has no history
means nothing to collaborative filtering. Alone, a source is filled up with the newest posts; in the
union the others go on instead. So everybody gives equally many candidates.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cached_property

import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from millrace.lab.collaborative import Collaborative, Factors
from millrace.lab.exam import World
from millrace.lab.quality import DEPTH
from millrace.lab.rivals import Moment, Places, Scores, best, newest_first, popularity

NAMES = ("network", "trending", "trending_place", "collaborative", "zero_shot")
SHARES = (0, 1, 2, 4)  # of a source in each round of the union, when they are tuned
PASSES = 2

Given = dict[str, list[int]]
Shares = tuple[int, ...]


class Dials(Struct, frozen=True):
    """What the old sources may choose on an earlier question.

    followed_first: whether the network gives all of followed authors before others of the home.
    """

    followed_first: bool = False
    trending_days: float = 1.0
    trending_place_days: float = 1.0
    collaborative: Factors = Factors()


class Sources:
    """The old sources at one moment. Each is made when it is first asked."""

    def __init__(self, world: World, at: datetime, dials: Dials, seed: int) -> None:
        self.moment = world.moment(at)
        self._world = world
        self._dials = dials
        self._seed = seed
        self._homes = np.array([home for home, _ in world.posts])
        self._follows = follows_at(world, at)
        self._places = _places(world)
        self._near: dict[str, Scores] = {}

    def given(self, member: int, candidates: Places, nearness: Scores) -> Given:
        """Return what each source has for a member.

        Args:
            member: for whom.
            candidates: what may be given.
            nearness: of the member's vector and those of the candidates, by the untrained encoder.
        """
        found = {name: self.of(name, member, candidates) for name in NAMES[:-1]}
        return {**found, NAMES[-1]: best(nearness, candidates, self.moment)}

    def of(self, name: str, member: int, candidates: Places) -> list[int]:
        """Return what one of the sources that read no text has for a member."""
        if name == "network":
            return self._network(member, candidates)
        if name == "collaborative":
            return self._known(self._collaborative.scores(member, candidates), candidates, -np.inf)
        trending = self._trending if name == "trending" else self._of_place(member)
        return self._known(trending[candidates], candidates, 0.0)

    def followed(self, member: int) -> frozenset[int]:
        """Return whom a member follows."""
        return self._follows.get(member, frozenset())

    def alone(self, given: Sequence[int], candidates: Places) -> list[int]:
        """Return what a source gives by itself: what it has, then the newest posts."""
        newest = newest_first(self.moment, candidates)
        return list(dict.fromkeys([*given, *newest]))[:DEPTH]

    def _network(self, member: int, candidates: Places) -> list[int]:
        home = self._homes[candidates] == self._world.members[member][0]
        followed = np.isin(self._world.authors[candidates], list(self.followed(member)))
        kept = home | followed
        first = np.where(followed[kept] & self._dials.followed_first, 1.0, 0.0)
        return best(first, candidates[kept], self.moment)

    @cached_property
    def _trending(self) -> Scores:
        return popularity(self.moment, self._dials.trending_days)

    @cached_property
    def _collaborative(self) -> Collaborative:
        return Collaborative(self.moment, self._dials.collaborative, self._seed)

    def _of_place(self, member: int) -> Scores:
        """Return how much people of a member's place have lately done with each post."""
        place = self._places[member]
        if place not in self._near:
            there = np.array([one == place for one in self._places], dtype=np.bool_)
            theirs = there[self.moment.past_members]
            part = replace(
                self.moment,
                past_posts=self.moment.past_posts[theirs],
                past_members=self.moment.past_members[theirs],
                past_days=self.moment.past_days[theirs],
            )
            self._near[place] = popularity(part, self._dials.trending_place_days)
        return self._near[place]

    def _known(self, scores: Scores, candidates: Places, least: float) -> list[int]:
        """Return the best of those candidates that a source knows anything of."""
        kept = scores > least
        return best(scores[kept], candidates[kept], self.moment)


def union(given: Mapping[str, Sequence[int]], shares: Shares = (1, 1, 1, 1, 1)) -> list[int]:
    """Return what all sources give together: in turns, none twice, as many as each gives alone.

    Args:
        given: what each source has.
        shares: how many each gives in its turn.
    """
    lines = [iter(given[name]) for name in NAMES]
    found: dict[int, None] = {}
    left = {place for place, share in enumerate(shares) if share}
    while left and len(found) < DEPTH:
        for place in sorted(left):
            for _ in range(shares[place]):
                new = next((one for one in lines[place] if one not in found), None)
                if new is None:
                    left.discard(place)
                    break
                found[new] = None
    return list(found)[:DEPTH]


def tuned_shares(judged: Callable[[Shares], float]) -> Shares:
    """Return the shares that do best on an earlier question, one source after the other.

    It begins with the better of equal shares and each source alone, so it ends with none worse.
    """
    size = len(NAMES)
    alone = [tuple(int(place == one) for place in range(size)) for one in range(size)]
    scores = {shares: judged(shares) for shares in ((1,) * size, *alone)}
    shares = max(scores, key=scores.__getitem__)
    score = scores[shares]
    for _ in range(PASSES):
        for place in range(size):
            for share in SHARES:
                tried = (*shares[:place], share, *shares[place + 1 :])
                if tried != shares and any(tried) and (found := judged(tried)) > score:
                    shares, score = tried, found
    return shares


def follows_at(world: World, at: datetime) -> dict[int, frozenset[int]]:
    """Return whom each member follows at a moment, by their numbers."""
    found: defaultdict[int, set[int]] = defaultdict(set)
    for home, one in world.data.follows:
        who = world.member_of.get((home, one.member))
        whom = world.member_of.get((home, one.target))
        early = one.created_at is None or one.created_at <= at
        if who is not None and whom is not None and early:
            found[who].add(whom)
    return {who: frozenset(whom) for who, whom in found.items()}


def _places(world: World) -> list[str]:
    """Return where each member lives; where that is not told, their community stands for it."""
    return [one.place.strip().casefold() or f"community {home}" for home, one in world.data.members]


def outside(world: World, followed: frozenset[int], posts: frozenset[int]) -> frozenset[int]:
    """Return those of some posts whose authors a member does not follow."""
    return frozenset(one for one in posts if int(world.authors[one]) not in followed)


def young(moment: Moment, posts: frozenset[int], days: float) -> frozenset[int]:
    """Return those of some posts that are at most so old."""
    return frozenset(one for one in posts if moment.created_days[one] <= days)
