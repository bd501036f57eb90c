"""What happened elsewhere, replayed: features as of each moment. Pure.

Where an import brought impressions, a moment is a visit: what the member was shown, passed over
and engaged with. Where it brought engagement alone, negatives are drawn from what was new then.

Whatever happened after a moment is not in its features: counts, affinity, topics and follows are
looked up by time. Views are not known by time, so views and rates stand at the middle.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from millrace.community.languages import primary
from millrace.community.types import (
    POSITIVE_ACTIONS,
    Action,
    Key,
    MemberCounts,
    PostCounts,
    PostKind,
)
from millrace.feed.features import COLUMN, POSITION_SERVED, Example, Matrix, Subject, matrix

NEGATIVES = 4  # posts per moment that the member did not engage with
POOL = 200  # the newest of that time, from which they are drawn
TOPICS_LOOKED_AT = 200
SAME_TIME = timedelta(days=1)  # what a member does with a post on one day belongs together
UNKNOWN = {"views_percentile": 0.5, "engagement_rate_percentile": 0.5}
COUNTED = {Action.LIKE: "likes", Action.COMMENT: "comments", Action.SHARE: "shares"}


Thing = TypeVar("Thing")


class Draw(Protocol):
    """What a replay asks of a source of randomness."""

    def sample(self, population: Sequence[Thing], k: int) -> list[Thing]:
        """Return `k` different members of a population."""
        ...


class PastPost(Struct, frozen=True, kw_only=True):
    """A post as the replay needs it."""

    community_id: int
    post_id: int
    author_id: int
    kind: PostKind
    topics: list[str]
    language: str
    created_at: datetime

    @property
    def key(self) -> Key:
        """Return the key."""
        return Key(self.community_id, self.post_id)

    @property
    def author(self) -> Key:
        """Return the author's key."""
        return Key(self.community_id, self.author_id)


class PastEngagement(Struct, frozen=True, kw_only=True):
    """One engagement. `shown`: there is an impression of it, so it is in the logged examples."""

    community_id: int
    member_id: int
    post_community_id: int
    post_id: int
    kind: Action
    happened_at: datetime
    shown: bool

    @property
    def member(self) -> Key:
        """Return who did it."""
        return Key(self.community_id, self.member_id)

    @property
    def post(self) -> Key:
        """Return the post."""
        return Key(self.post_community_id, self.post_id)


class PastFollow(Struct, frozen=True, kw_only=True):
    """One follow that still stands."""

    community_id: int
    member_id: int
    target_community_id: int
    target_id: int
    created_at: datetime


class PastImpression(Struct, frozen=True, kw_only=True):
    """A post that a member was shown in a visit elsewhere, and what they then did with it.

    began: when the visit began; the rows of one visit share it.
    share: of the visits like this one, with engagement or without, that were taken.
    """

    community_id: int
    member_id: int
    began: datetime
    post_community_id: int
    post_id: int
    position: int
    share: float
    kinds: list[Action]

    @property
    def post(self) -> Key:
        """Return the post."""
        return Key(self.post_community_id, self.post_id)


class Moment(Struct, frozen=True, kw_only=True):
    """A member met these posts at a time.

    kinds: what the member did with each; nothing where it is empty.
    positions: where each was shown; None where nobody knows.
    sampled: whether those without an action were drawn, so that their share means nothing.
    weight: how many such moments there are for this one.
    """

    member: Key
    time: datetime
    posts: list[Key]
    kinds: list[frozenset[Action]]
    positions: list[int] | None
    sampled: bool
    weight: float = 1.0


class History:
    """What happened, by time."""

    def __init__(
        self,
        posts: Sequence[PastPost],
        engagements: Sequence[PastEngagement],
        follows: Sequence[PastFollow],
    ) -> None:
        self.posts = {post.key: post for post in posts}
        self._engagements = sorted(engagements, key=lambda one: (one.happened_at, str(one.post)))
        self._by_post: dict[tuple[Key, Action], list[datetime]] = defaultdict(list)
        self._by_member: dict[Key, list[PastEngagement]] = defaultdict(list)
        for one in self._engagements:
            self._by_post[one.post, one.kind].append(one.happened_at)
            self._by_member[one.member].append(one)
        self._followers: dict[Key, list[datetime]] = defaultdict(list)
        self._follows: dict[Key, list[tuple[datetime, Key]]] = defaultdict(list)
        for follow in sorted(follows, key=lambda one: one.created_at):
            member = Key(follow.community_id, follow.member_id)
            target = Key(follow.target_community_id, follow.target_id)
            self._followers[target].append(follow.created_at)
            self._follows[member].append((follow.created_at, target))
        self._alive: dict[int, list[PastPost]] = defaultdict(list)
        for post in sorted(posts, key=lambda one: (one.created_at, one.post_id)):
            self._alive[post.community_id].append(post)

    def moments(self, count: int, draw: Draw) -> list[Moment]:
        """Return at most `count` moments, drawn from the positive engagements, in order of time."""
        usable = [one for one in self._engagements if self._is_usable(one)]
        chosen = draw.sample(usable, count) if len(usable) > count else usable
        chosen.sort(key=lambda one: (one.happened_at, str(one.post)))
        made = [self._moment(one, draw) for one in chosen]
        return [moment for moment in made if len(moment.posts) > 1]

    def _is_usable(self, one: PastEngagement) -> bool:
        post = self.posts.get(one.post)
        return (
            one.kind in POSITIVE_ACTIONS
            and not one.shown
            and post is not None
            and post.created_at < one.happened_at
            and post.author != one.member
        )

    def _moment(self, one: PastEngagement, draw: Draw) -> Moment:
        mine = self._by_member[one.member]
        met = {other.post for other in mine}
        alive = self._alive[one.post_community_id]
        end = bisect_left(alive, one.happened_at, key=lambda post: post.created_at)
        pool = [
            post.key
            for post in alive[max(end - POOL, 0) : end]
            if post.key not in met and post.author != one.member
        ]
        kinds = {
            other.kind
            for other in mine
            if other.post == one.post and abs(other.happened_at - one.happened_at) <= SAME_TIME
        }
        negatives = draw.sample(pool, min(NEGATIVES, len(pool)))
        return Moment(
            member=one.member,
            time=one.happened_at,
            posts=[one.post, *negatives],
            kinds=[frozenset(kinds), *(frozenset[Action]() for _ in negatives)],
            positions=None,
            sampled=True,
        )

    def visits(self, shown: Sequence[PastImpression]) -> list[Moment]:
        """Return visits as moments, in order of time; posts that are gone are left out of them.

        Visits are weighed beside those of which the largest share was taken, so that few examples
        are not taken for many.
        """
        largest = max((one.share for one in shown), default=1.0)
        found: dict[tuple[Key, datetime], list[PastImpression]] = defaultdict(list)
        for one in shown:
            post = self.posts.get(one.post)
            if post is not None and post.created_at <= one.began:
                found[Key(one.community_id, one.member_id), one.began].append(one)
        return [
            Moment(
                member=member,
                time=began,
                posts=[one.post for one in rows],
                kinds=[frozenset(one.kinds) for one in rows],
                positions=[one.position for one in rows],
                sampled=False,
                weight=largest / rows[0].share,
            )
            for (member, began), rows in found.items()
        ]

    def subject(self, moment: Moment, languages: frozenset[str], words: frozenset[str]) -> Subject:
        """Return what was known of the member then."""
        before = [
            one
            for one in self._by_member[moment.member]
            if one.happened_at < moment.time and one.kind in POSITIVE_ACTIONS
        ]
        affinity: dict[Key, float] = defaultdict(float)
        topics: dict[str, float] = defaultdict(float)
        for one in before[-TOPICS_LOOKED_AT:]:
            post = self.posts.get(one.post)
            if post is None:
                continue
            affinity[post.author] += 1
            for topic in post.topics:
                topics[topic] += 1
        most = max(topics.values(), default=1.0)
        return Subject(
            community_id=moment.member.community_id,
            languages=languages,
            topics={topic: count / most for topic, count in topics.items()},
            words=words,
            follows=frozenset(
                target for when, target in self._follows[moment.member] if when < moment.time
            ),
            affinity=affinity,
        )

    def features(
        self,
        moment: Moment,
        subject: Subject,
        similarities: Sequence[float],
        percentiles: Mapping[int, Callable[[str, float], int]],
    ) -> Matrix:
        """Return the features of the moment's posts as they were then."""
        places = moment.positions or [POSITION_SERVED] * len(moment.posts)
        examples = [
            replace(self._example(self.posts[key], moment.time, near), position=place)
            for key, near, place in zip(moment.posts, similarities, places, strict=True)
        ]
        rows = matrix(subject, examples, percentiles, moment.time)
        for name, value in UNKNOWN.items():
            rows[:, COLUMN[name]] = value
        return rows

    def _example(self, post: PastPost, time: datetime, near: float) -> Example:
        counts = {
            name: bisect_left(self._by_post[post.key, kind], time) for kind, name in COUNTED.items()
        }
        followers = bisect_left(self._followers[post.author], time)
        return Example(
            author=post.author,
            community_id=post.community_id,
            kind=post.kind,
            topics=post.topics,
            language=primary(post.language),
            created_at=post.created_at,
            counts=PostCounts(**counts),
            engagement_rate=0.0,
            author_counts=MemberCounts(followers=followers),
            similarity=near,
        )
