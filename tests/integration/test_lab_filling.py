"""A benchmark's database is one that the program takes for its own."""

from datetime import UTC, datetime

import pytest

from millrace.community.testing import Rooms
from millrace.feed.sweep import Sweep
from millrace.feed.testing import FakeEncoder, feeding
from millrace.kernel.clock import SystemClock
from millrace.lab.filling import Encoding, Size, fill

pytestmark = pytest.mark.services
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


async def test_a_filled_database_is_served_as_it_is(router, conninfo):
    """Every post has a vector that is current, members have histories, and feeds are full."""
    rooms, encoder = Rooms(router, SystemClock()), FakeEncoder()
    size = Size(posts=600, members=6, authors=40, events=40)

    made = await fill(rooms, size, Encoding(encoder.version, encoder.dims), seed=3)

    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        embedded = feed.freshness.progress()
        due = await Sweep(feed._parts, feed._embeddings, lambda: False).due()
        page = await feed.page(made.members[0])
        seen = await rooms.activity.seen(made.members[0], LONG_AGO)
        held = len(feed.index)

    assert held == size.posts
    assert embedded == (size.posts, size.posts)
    assert len(due) < size.posts / 20
    assert len(page.items) == 20
    assert page.degraded == []
    assert 0 < len(seen) <= size.events
