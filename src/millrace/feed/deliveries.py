"""What was delivered to members lately, in memory.

Served feeds are outside the change stream, so this is kept by the process that serves: a member's
feeds are read from the table once, and those that this process delivers are added. Feeds that
another process delivers are known when the table is read again, which is every few minutes: until
then a post that was delivered there and not looked at may come as new.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from msgspec import Struct

from millrace.community.types import Key
from millrace.feed.history import PostList

TRUST = timedelta(minutes=5)
MEMBERS_MAX = 20_000
BUCKETS = 1_024


class DeliveredFeed(Struct, frozen=True):
    """When a feed began, and the posts of it that were delivered."""

    served_at: datetime
    post_communities: Sequence[int]
    post_ids: Sequence[int]


class _Feed(Struct, frozen=True):
    """The same as it is kept: what is remembered of a list is found again by the list."""

    served_at: datetime
    posts: PostList


class _Lately(Struct):
    """A member's feeds that began since a moment, and when the table was read for them."""

    since: datetime
    read_at: datetime
    feeds: list[_Feed]


class Deliveries:
    """A bounded map, least recently used first out."""

    def __init__(self, members_max: int = MEMBERS_MAX) -> None:
        self._members_max = members_max
        self._lately: OrderedDict[Key, _Lately] = OrderedDict()
        self._marks = array("Q", bytes(8 * BUCKETS))

    def mark(self, member: Key) -> int:
        """Return a number that changes with every delivery that a reading may have missed."""
        return self._marks[hash(member) % BUCKETS]

    def delivered(self, member: Key, since: datetime, until: datetime) -> list[PostList] | None:
        """Return the posts of feeds that began between two moments; None where it is not known.

        A flag may ask further back than what was read for another variant or another app.
        """
        lately = self._lately.get(member)
        if lately is None or since < lately.since:
            return None
        if not timedelta() <= until - lately.read_at <= TRUST:
            return None
        self._lately.move_to_end(member)
        return [one.posts for one in lately.feeds if since <= one.served_at <= until]

    def keep(
        self,
        member: Key,
        feeds: Iterable[DeliveredFeed],
        since: datetime,
        until: datetime,
        mark: int,
    ) -> None:
        """Keep the feeds since a moment as the table said them at a mark.

        Not where something was delivered meanwhile.
        """
        if mark != self.mark(member):
            return
        self._lately[member] = _Lately(since, until, [_packed(one) for one in feeds])
        self._lately.move_to_end(member)
        while len(self._lately) > self._members_max:
            self._lately.popitem(last=False)

    def add(self, member: Key, feed: DeliveredFeed) -> None:
        """Add a feed that was just written down."""
        self._marks[hash(member) % BUCKETS] += 1
        lately = self._lately.get(member)
        if lately is not None:
            lately.feeds.append(_packed(feed))

    def forget(self, member: Key) -> None:
        """Read the table again: more of a feed was delivered."""
        self._marks[hash(member) % BUCKETS] += 1
        self._lately.pop(member, None)


def delivered_in(feeds: Iterable[DeliveredFeed], until: datetime) -> list[PostList]:
    """Return the delivered posts of those feeds that began at or before a moment."""
    return [_packed(one).posts for one in feeds if one.served_at <= until]


def _packed(feed: DeliveredFeed) -> _Feed:
    """Return the same in eight bytes a number."""
    posts = PostList()
    posts.take(feed.post_communities, feed.post_ids)
    return _Feed(feed.served_at, posts)
