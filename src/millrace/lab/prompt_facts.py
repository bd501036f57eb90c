"""What prompts say of members and posts at a moment: made from a data set in memory.

A whole installation would say the same once everything before the moment is loaded and every number
is looked at anew (tests/integration/test_lab_vectors.py compares the two), but takes minutes where
this takes a second. Removed posts and bans are no part of a data set, so none are known here.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from millrace.community.percentiles import CUTS, RATE_PRIOR_VIEWS, Scales, engagement_rate
from millrace.community.types import Action
from millrace.feed.embeddings import HISTORY_MAX
from millrace.feed.facts import post_facts
from millrace.feed.history import AGAINST, LIKED_MAX
from millrace.feed.numbers import PromptRow, percentiles
from millrace.feed.prompts.types import MemberFacts, PostFacts
from millrace.feed.prompts.v2 import PERCENTILES
from millrace.lab.exam import World

COUNTED = {Action.CLICK: "clicks", Action.LONG_DWELL: "long_dwells", Action.SHARE: "shares"}
"""Engagements that are counted one by one; a like counts once for each member."""

Counts = NDArray[np.int64]
Event = tuple[datetime, int, int, str]
"""When, which member, which post, and what tells it from others of that moment."""


class Rows(Struct, frozen=True):
    """Things that happened, in any order: when, in days of the world, and to which number."""

    days: NDArray[np.float64]
    numbers: NDArray[np.int64]

    def counts(self, day: float, size: int) -> Counts:
        """Return how often each number was met by a day."""
        return np.bincount(self.numbers[self.days <= day], minlength=size)


class Numbers(Struct, frozen=True):
    """The numbers of a moment: counters, the scales of each community, and who meets whom no more."""

    posts: dict[str, Counts]
    followers: Counts
    scales: dict[str, Scales]
    shut: frozenset[tuple[int, int]]


class Block(Struct, frozen=True):
    """One member blocked another, as numbers."""

    at: datetime
    member: int
    other: int


class Liked(Struct, frozen=True):
    """What a member had liked at a moment: distinct posts, the newest first.

    ages_days: how long ago the newest engagement with each was. Shape: (len(posts),).
    """

    posts: list[int]
    ages_days: NDArray[np.float64]


class PromptFacts:
    """A data set as prompts tell of it, at any moment. Numbers are those of the world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._names = {one.external_id: one.name for one in world.data.communities}
        self._homes = np.array([home for home, _ in world.posts])
        self._member_homes = np.array([home for home, _ in world.members])
        self._before = np.array([one.views for _, one in world.data.posts], dtype=np.int64)
        self._events = _events(world)
        self._blocks = _blocks(world)
        self._follows = _follows(world)
        self._against = _against(world)
        order = np.lexsort((world.done[:, 0], world.done[:, 1]))
        self._done = world.done[order]
        self._shown = world.shown[np.lexsort((world.shown[:, 0], world.shown[:, 1]))]
        self._numbers: tuple[datetime, Numbers] | None = None

    def posts(self, numbers: Sequence[int], at: datetime) -> list[PostFacts]:
        """Return what prompts say of posts, with their numbers as percentiles of the moment."""
        known = self._numbers_at(at)
        found: list[PostFacts] = []
        for number in numbers:
            row = self._row(number, known)
            scales = known.scales[self._world.posts[number][0]]
            said = percentiles(row, engagement_rate(row.counts), scales.of, at)
            found.append(post_facts(row, said))
        return found

    def words(self, numbers: Sequence[int], at: datetime) -> list[PostFacts]:
        """Return what prompts say of posts, without their numbers."""
        known = self._numbers_at(at)
        return [post_facts(self._row(number, known), []) for number in numbers]

    def numbers(self, posts: Sequence[int], at: datetime) -> list[dict[str, int]]:
        """Return the numbers of posts as they are, by the markers of their percentiles."""
        known = self._numbers_at(at)
        rows = [self._row(post, known) for post in posts]
        return [dict(zip(PERCENTILES, _counts(row, at), strict=True)) for row in rows]

    def members(
        self, numbers: Sequence[int], at: datetime, *, shown: bool = False
    ) -> list[MemberFacts]:
        """Return what prompts say of members: the profile, and a history, newest last.

        Args:
            numbers: whom.
            at: nothing later is told.
            shown: the history is all that they were shown, not what they engaged with.
        """
        known = self._numbers_at(at)
        past = self._impressions if shown else self._history
        return [
            MemberFacts(
                display_name=one.display_name,
                headline=one.headline,
                about=one.about,
                skills=one.skills,
                place=one.place,
                languages=one.languages,
                history=[post_facts(self._row(post, known), []) for post in past(who, at)],
            )
            for who in numbers
            for _, one in (self._world.data.members[who],)
        ]

    def liked(self, member: int, at: datetime, most: int) -> Liked:
        """Return what a member engaged with, may still see and has not hidden; the newest first.

        Args:
            member: whose.
            at: nothing later is told, and ages are counted from here.
            most: how many posts.
        """
        newest: dict[int, float] = {}
        for when, post in self._engaged(member, at, LIKED_MAX):
            newest.setdefault(post, when)
        against = self._against.get(member, {})
        kept = [
            post
            for post in newest
            if self._meets(member, post, at) and against.get(post, math.inf) > self._world.day(at)
        ][:most]
        return Liked(kept, self._world.day(at) - np.array([newest[one] for one in kept]))

    def existing(self, at: datetime) -> tuple[Counts, Counts]:
        """Return the numbers of posts that were written, and of members who had joined."""
        day = self._world.day(at)
        return np.flatnonzero(self._world.created <= day), np.flatnonzero(self._world.joined <= day)

    def _history(self, member: int, at: datetime) -> list[int]:
        """Return the posts that a member engaged with and may still see, newest engagement last."""
        newest = dict.fromkeys(post for _, post in self._engaged(member, at, HISTORY_MAX))
        return [post for post in reversed(newest) if self._meets(member, post, at)]

    def _engaged(self, member: int, at: datetime, most: int) -> list[tuple[float, int]]:
        """Return when a member engaged with which post, in days, newest first."""
        low, high = np.searchsorted(self._done[:, 1], (member, member + 1))
        mine = self._done[low:high]
        mine = mine[mine[:, 0] <= self._world.day(at)][-most:]
        return [(when, int(post)) for when, _, post in mine[::-1].tolist()]

    def _meets(self, member: int, post: int, at: datetime) -> bool:
        """Return whether a member may still see a post."""
        shut = self._numbers_at(at).shut
        mine = self._world.visible(self._world.members[member][0])[post]
        return bool(mine) and (member, int(self._world.authors[post])) not in shut

    def _impressions(self, member: int, at: datetime) -> list[int]:
        """Return the posts that a member was shown, newest last, as examples have them."""
        low, high = np.searchsorted(self._shown[:, 1], (member, member + 1))
        mine = self._shown[low:high]
        found: list[int] = (
            mine[mine[:, 0] < self._world.day(at)][-HISTORY_MAX:, 2].astype(int).tolist()
        )
        return found

    def _row(self, number: int, known: Numbers) -> PromptRow:
        """Return a post as its prompt reads it; versions say nothing here."""
        world = self._world
        home, draft = world.data.posts[number]
        author = int(world.authors[number])
        who = world.data.members[author][1] if author >= 0 else None
        return PromptRow(
            community_id=0,
            post_id=number,
            kind=draft.kind.value,
            title=draft.title,
            text=draft.text,
            topics=draft.topics,
            author_name=who.display_name if who else "",
            headline=who.headline if who else "",
            community_name=self._names[home],
            created_at=draft.created_at or world.first,
            followers=int(known.followers[author]) if who else 0,
            system_version=0,
            author_version=0,
            community_version=0,
            prompt_hash=None,
            **{name: int(counts[number]) for name, counts in known.posts.items()},
        )

    def _numbers_at(self, at: datetime) -> Numbers:
        """Return the numbers of a moment; those of the last one asked for are remembered."""
        if self._numbers is None or self._numbers[0] != at:
            self._numbers = (at, self._counted(at))
        return self._numbers[1]

    def _counted(self, at: datetime) -> Numbers:
        world, day = self._world, self._world.day(at)
        posts = {name: rows.counts(day, len(world.posts)) for name, rows in self._events.items()}
        posts["views"] += self._before
        shut = _both_ways(one for one in self._blocks if one.at <= at)
        followers = self._followers(day, shut)
        engaged = sum(posts[name] for name in ("clicks", "long_dwells", "likes", "comments"))
        rate = (engaged + posts["shares"]) / (posts["views"] + RATE_PRIOR_VIEWS)
        made = [one.created_at or world.first for _, one in world.data.posts]
        hours = np.array([(at - one).total_seconds() / 3600 for one in made])
        metrics = {
            "views": posts["views"],
            "likes": posts["likes"],
            "comments": posts["comments"],
            "engagement_rate": rate,
            "age_hours": hours,
        }
        scales: dict[str, Scales] = {}
        for home in self._names:
            there = (self._homes == home) & (hours >= 0)
            living = (self._member_homes == home) & (world.joined <= day)
            cuts = {name: _cuts(values[there]) for name, values in metrics.items() if there.any()}
            if living.any():
                cuts["author_followers"] = _cuts(followers[living])
            scales[home] = Scales(cuts)
        return Numbers(posts, followers, scales, shut)

    def _followers(self, day: float, shut: frozenset[tuple[int, int]]) -> Counts:
        """Return how many follow each member: a block between two ends it."""
        rows = [
            pair[1] for pair, since in self._follows.items() if since <= day and pair not in shut
        ]
        return np.bincount(np.array(rows, dtype=np.int64), minlength=len(self._world.members))


def _counts(row: PromptRow, at: datetime) -> list[int]:
    """Return the numbers of a post, in the order of the prompt's markers."""
    engaged = row.clicks + row.long_dwells + row.likes + row.comments + row.shares
    hours = max(int((at - row.created_at).total_seconds() // 3600), 0)
    return [hours, row.views, row.likes, row.comments, engaged, row.followers]


def _both_ways(blocks: Iterable[Block]) -> frozenset[tuple[int, int]]:
    """Return who must not meet whom: a block holds both ways."""
    found: set[tuple[int, int]] = set()
    for one in blocks:
        found |= {(one.member, one.other), (one.other, one.member)}
    return frozenset(found)


def _cuts(values: NDArray[np.float64] | Counts) -> list[float]:
    """Return the 99 cuts of a scale, as the database makes them (percentile_disc)."""
    ordered = np.sort(values).astype(np.float64)
    places = [max(math.ceil(cut / 100.0 * len(ordered)), 1) - 1 for cut in range(1, CUTS + 1)]
    return ordered[places].tolist()


def _events(world: World) -> dict[str, Rows]:
    """Return what moves each counter of posts, each once, as the community logs it."""
    told: defaultdict[str, dict[Event, None]] = defaultdict(dict)
    liked: dict[tuple[int, int], datetime] = {}
    for home, one in world.data.impressions:
        if pair := _known(world, home, one.member, one.post):
            told["views"][one.shown_at, *pair, one.surface] = None
    for home, one in world.data.engagements:
        pair = _known(world, home, one.member, one.post)
        if pair and one.kind is Action.LIKE:
            liked[pair] = min(liked.get(pair, one.happened_at), one.happened_at)
        elif pair and one.kind in COUNTED:
            told[COUNTED[one.kind]][one.happened_at, *pair, ""] = None
    for pair, since in liked.items():
        told["likes"][since, *pair, ""] = None
    for home, one in world.data.comments:
        if pair := _known(world, home, one.author, one.post):
            told["comments"][one.created_at or world.first, *pair, one.external_id] = None
    names = ("views", "clicks", "long_dwells", "likes", "comments", "shares")
    return {name: _rows(world, told[name]) for name in names}


def _blocks(world: World) -> list[Block]:
    """Return who blocked whom: an engagement with a post, against its author."""
    found: list[Block] = []
    for home, one in world.data.engagements:
        pair = _known(world, home, one.member, one.post) if one.kind is Action.BLOCK else None
        if pair:
            found.append(Block(one.happened_at, pair[0], int(world.authors[pair[1]])))
    return found


def _against(world: World) -> dict[int, dict[int, float]]:
    """Return since when, in days of the world, members have hidden or reported posts."""
    found: defaultdict[int, dict[int, float]] = defaultdict(dict)
    for home, one in world.data.engagements:
        pair = _known(world, home, one.member, one.post) if one.kind in AGAINST else None
        if pair:
            day = world.day(one.happened_at)
            found[pair[0]][pair[1]] = min(day, found[pair[0]].get(pair[1], math.inf))
    return found


def _rows(world: World, events: Iterable[Event]) -> Rows:
    kept = list(events)
    days = np.array([world.day(at) for at, *_ in kept], dtype=np.float64)
    return Rows(days, np.array([post for _, _, post, _ in kept], dtype=np.int64))


def _known(world: World, home: str, member: str, post: str) -> tuple[int, int] | None:
    """Return the numbers of a member and a post, if both are there."""
    who, what = world.member_of.get((home, member)), world.post_of.get((home, post))
    return None if who is None or what is None else (who, what)


def _follows(world: World) -> dict[tuple[int, int], float]:
    """Return since when, in days of the world, each member has followed another."""
    found: dict[tuple[int, int], float] = {}
    for home, one in world.data.follows:
        who = world.member_of.get((home, one.member))
        whom = world.member_of.get((home, one.target))
        if who is None or whom is None or who == whom:
            continue
        since = -math.inf if one.created_at is None else world.day(one.created_at)
        found[who, whom] = min(found.get((who, whom), math.inf), since)
    return found
