"""An exam: a data set by numbers, and questions about what members liked after a moment."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from millrace.community.types import Audience
from millrace.lab.dataset import Dataset, Named
from millrace.lab.rivals import Moment

DAY = timedelta(days=1)

Relevant = dict[int, frozenset[int]]
Oracle = Callable[[int, NDArray[np.int64]], NDArray[np.float64]]


class Question(Struct, frozen=True):
    """A moment, and for each member the posts that they liked afterwards, by their numbers."""

    at: datetime
    relevant: Relevant


class Exam(Struct, kw_only=True):
    """A data set with the questions that are asked of it.

    tuning: an earlier question, on which a rival may choose its dials.
    rehearsal: makes an earlier question of the same kind as `questions`, where `tuning` is of
        another: what the past feed showed says little of what is found by chance.
    live_days: for so long a post can be shown; 0 is for ever. Holds for every system.
    oracle: the true appeal of posts to a member, where it is known: by numbers.
    settings: further keys for the report.
    """

    name: str
    data: Dataset
    questions: list[Question]
    tuning: Question
    rehearsal: Callable[[], Question] | None = None
    live_days: float = 0.0
    oracle: Oracle | None = None
    settings: dict[str, object] = field(default_factory=dict[str, object])


class World:
    """A data set by numbers: members and posts are their places in it."""

    def __init__(self, data: Dataset, live_days: float = 0.0) -> None:
        self.data = data
        self._live_days = live_days or np.inf
        self.members: list[Named] = [(home, one.external_id) for home, one in data.members]
        self.posts: list[Named] = [(home, one.external_id) for home, one in data.posts]
        self.member_of = {name: at for at, name in enumerate(self.members)}
        self.post_of = {name: at for at, name in enumerate(self.posts)}
        first = min((one.created_at for _, one in data.posts if one.created_at), default=None)
        assert first is not None, "a data set without times was let through"
        self.first = first
        self.created = self._days([one.created_at for _, one in data.posts])
        self.joined = self._days([one.joined_at for _, one in data.members])
        self.authors = np.array(
            [self.member_of.get((home, one.author), -1) for home, one in data.posts]
        )
        positives = [
            (self.day(at), self.member_of[member], self.post_of[post])
            for at, member, post in data.positives()
            if member in self.member_of and post in self.post_of
        ]
        self.done = np.array(positives, dtype=np.float64).reshape(-1, 3)
        self.shown = self._shown()
        self._visible: dict[str, NDArray[np.bool_]] = {}

    def day(self, at: datetime) -> float:
        """Return a moment in days since the first post."""
        return (at - self.first) / DAY

    def _days(self, times: Sequence[datetime | None]) -> NDArray[np.float64]:
        return np.array([0.0 if at is None else self.day(at) for at in times])

    def _shown(self) -> NDArray[np.float64]:
        rows = [
            (
                self.day(one.shown_at),
                self.member_of[home, one.member],
                self.post_of[home, one.post],
            )
            for home, one in self.data.impressions
            if (home, one.member) in self.member_of and (home, one.post) in self.post_of
        ]
        return np.array(rows, dtype=np.float64).reshape(-1, 3)

    def visible(self, home: str) -> NDArray[np.bool_]:
        """Return which posts members of a community may see."""
        if home not in self._visible:
            near = next(set(one.nearby) for one in self.data.communities if one.external_id == home)
            self._visible[home] = np.array(
                [
                    one.audience is Audience.PUBLIC
                    or place == home
                    or (one.audience is Audience.NEARBY and place in near)
                    for place, one in self.data.posts
                ]
            )
        return self._visible[home]

    def candidates(self, member: int, at: datetime) -> NDArray[np.int64]:
        """Return the posts that could be new to a member at a moment."""
        day = self.day(at)
        age = day - self.created
        open_to = self.visible(self.members[member][0]) & (age >= 0) & (age <= self._live_days)
        open_to[self.authors == member] = False
        for rows in (self.done, self.shown):
            mine = rows[(rows[:, 1] == member) & (rows[:, 0] <= day)]
            open_to[mine[:, 2].astype(np.int64)] = False
        return np.flatnonzero(open_to)

    def moment(self, at: datetime) -> Moment:
        """Return what is known at a moment."""
        day = self.day(at)
        past = self.done[self.done[:, 0] <= day]
        return Moment(
            created_days=day - self.created,
            past_posts=past[:, 2].astype(np.int64),
            past_members=past[:, 1].astype(np.int64),
            past_days=day - past[:, 0],
            profiles=[
                "\n".join([one.headline, one.about, ", ".join(one.skills)])
                for _, one in self.data.members
            ],
            texts=["\n".join([one.title, one.text, *one.topics]) for _, one in self.data.posts],
        )

    def afterwards(self, at: datetime, until: datetime) -> Relevant:
        """Return what each member liked of their candidates between two moments.

        Only members who had joined by then: nobody can be asked for before.
        """
        rows = self.done[(self.done[:, 0] > self.day(at)) & (self.done[:, 0] <= self.day(until))]
        rows = rows[self.joined[rows[:, 1].astype(np.int64)] <= self.day(at)]
        found: defaultdict[int, set[int]] = defaultdict(set)
        for member, post in rows[:, 1:].astype(np.int64).tolist():
            found[member].add(post)
        return {
            member: kept
            for member, posts in sorted(found.items())
            if (kept := self.findable(member, posts, at))
        }

    def there(self, member: int, at: datetime) -> bool:
        """Return whether a member had joined by a moment."""
        return bool(self.joined[member] <= self.day(at))

    def findable(self, member: int, posts: set[int], at: datetime) -> frozenset[int]:
        """Return those of the posts that could be new to a member at a moment."""
        return frozenset(posts.intersection(self.candidates(member, at).tolist()))


def drawn(world: World, question: Question, seed: int, most: int) -> list[int]:
    """Return the members that are asked: at most half of them with a history, if others are there."""
    moment = world.moment(question.at)
    active = set(moment.past_members.tolist())
    old = [one for one in question.relevant if one in active]
    new = [one for one in question.relevant if one not in active]
    rng = np.random.default_rng(seed)
    old, new = ([int(one) for one in rng.permutation(part)] for part in (old, new))
    kept_new = new[: max(most // 2, most - len(old))]
    return sorted([*kept_new, *old[: most - len(kept_new)]])
