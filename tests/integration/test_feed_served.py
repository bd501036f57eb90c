"""The log of served feeds: partitions ahead, retention, outside the publication."""

import asyncio
from datetime import timedelta

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from millrace.community.testing import Rooms
from millrace.community.types import Key
from millrace.feed.served import NewServed, ServedFeeds
from millrace.feed.testing import feeding
from millrace.kernel.errors import InvalidError
from millrace.store.testing import opened

pytestmark = pytest.mark.services

PARTITIONS = """select child.relname from pg_inherits join pg_class child on child.oid = inhrelid
    where inhparent = 'served_feed'::regclass order by 1"""
PUBLISHED = "select tablename from pg_publication_tables where pubname = 'millrace'"


def asked(conninfo: str, query: str) -> list:
    with psycopg.connect(conninfo) as connection:
        return [row[0] for row in connection.execute(query).fetchall()]


async def served_village(rooms: Rooms):
    home = await rooms.community("village")
    reader, gus = await rooms.people(home, "rita", "gus")
    for place in range(6):
        await rooms.post(gus, f"post {place}")
    return reader


async def test_partitions_are_made_ahead_and_dropped_when_old(router, conninfo):
    rooms = Rooms(router)
    served = ServedFeeds(router)
    now = rooms.clock.now()
    await served.prepare(now)
    await served.prepare(now)
    first = asked(conninfo, PARTITIONS)
    await served.prepare(now + timedelta(days=40))
    dropped = await served.retire(now + timedelta(days=40), days=39)
    left = asked(conninfo, PARTITIONS)

    assert first == ["served_feed_20260301", "served_feed_20260302", "served_feed_20260303"]
    assert dropped == 1
    assert left[0] == "served_feed_20260302"
    assert "served_feed_20260410" in left


async def test_a_feed_is_logged_before_it_is_answered_and_beside_the_stream(router, conninfo):
    rooms = Rooms(router)
    reader = await served_village(rooms)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        page = await feed.page(reader.member, limit=2)
        logged = asked(conninfo, "select served_feed_id from served_feed")
        delivered = asked(conninfo, "select delivered from served_feed")
        await feed.page(reader.member, limit=3, cursor=page.next_cursor)
        later = asked(conninfo, "select delivered from served_feed")
        await feed.page(reader.member, limit=1, cursor=page.next_cursor)
        never_less = asked(conninfo, "select delivered from served_feed")

    assert logged == [page.served_feed_id]
    assert (delivered, later, never_less) == ([2], [5], [5])
    assert not [name for name in asked(conninfo, PUBLISHED) if name.startswith("served_feed")]


async def test_feeds_that_share_a_commit_are_each_durable_or_refused(router, conninfo):
    """Many at once: each answer means a row; one that cannot be written fails alone."""
    rooms = Rooms(router)
    reader = await served_village(rooms)
    served, now = ServedFeeds(router), rooms.clock.now()

    async def write(number: int) -> int:
        made = feed_of(number, now)
        await served.write(reader.member, made if number != 7 else replace(made, record=None))
        assert number in asked(conninfo, "select served_feed_id from served_feed")
        return number

    found = await asyncio.gather(*(write(n) for n in range(1, 81)), return_exceptions=True)
    again = await write(81)
    logged = asked(conninfo, "select served_feed_id from served_feed order by 1")

    assert isinstance(found[6], Exception)
    assert [one for one in found if not isinstance(one, Exception)] == logged[:-1]
    assert logged == [*range(1, 7), *range(8, 81), again]


STEPS = st.one_of(
    st.tuples(st.just("serve"), st.integers(0, 150)),
    st.tuples(st.just("ask"), st.sampled_from([0, 5, 30, 120]), st.sampled_from([0, 0, 2, 10])),
    st.tuples(st.just("wait"), st.sampled_from([1, 4, 60])),
)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, min_size=6, max_size=25))
async def test_what_was_delivered_whatever_window_was_asked_before(server, steps):
    """Flags give a member other windows from one feed to the next; memory answers like the table."""
    conninfo = server.copy()
    try:
        async with opened(conninfo) as router:
            served, member, now = ServedFeeds(router), Key(7, 1), Rooms(router).clock.now()
            truth = {}
            for number, (name, minutes, *rest) in enumerate(steps):
                match name:
                    case "wait":
                        now += timedelta(minutes=minutes)
                    case "serve":
                        at = now - timedelta(minutes=minutes)
                        await served.write(member, feed_of(number, at))
                        truth[number] = at
                    case _:
                        since, until = (now - timedelta(minutes=m) for m in (minutes, rest[0]))
                        found = await served.delivered(member, since, until)
                        posts = {post.id for one in found for post in one}
                        assert posts == {n for n, at in truth.items() if since <= at <= until}
    finally:
        server.drop(conninfo)


def feed_of(number: int, at) -> NewServed:
    return NewServed(
        served_feed_id=number,
        served_at=at,
        delivered=1,
        surface="feed",
        ids=np.array([[number, 1]]),
        record=b"",
    )


async def test_a_clock_that_jumps_ahead_finds_its_partition(router, conninfo):
    """A day that nobody prepared is made when the first feed of it is served."""
    rooms = Rooms(router)
    reader = await served_village(rooms)
    async with feeding(rooms, conninfo) as feed:
        rooms.clock.move(100 * 24 * 3600)
        page = await feed.page(reader.member, limit=2)
        served = ServedFeeds(router)
        await served.retire(rooms.clock.now() + timedelta(days=50), days=30)
        with pytest.raises(InvalidError, match="has expired"):
            await feed.page(reader.member, cursor=page.next_cursor)


async def test_a_look_is_what_the_member_would_get_and_changes_nothing(router, conninfo):
    """An operator looks twice: no row, no delivery, no cursor, and the member's page is the same."""
    rooms = Rooms(router)
    reader = await served_village(rooms)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        looks = [await feed.preview(reader.member, limit=4) for _ in range(2)]
        logged = asked(conninfo, "select served_feed_id from served_feed")
        page = await feed.page(reader.member, limit=4)
        rooms.clock.move(180)
        after = await feed.preview(reader.member, limit=4)
        delivered = asked(conninfo, "select delivered from served_feed")
        with pytest.raises(InvalidError, match="limit 0"):
            await feed.preview(reader.member, limit=0)

    assert logged == []
    assert looks[0].items == looks[1].items == page.items
    assert (looks[0].served_feed_id, looks[0].next_cursor) == (0, "")
    assert page.next_cursor
    assert {item.view.post.key for item in after.items[:2]} == set_of(after) - set_of(page)
    assert delivered == [4]


def set_of(page) -> set:
    return {item.view.post.key for item in page.items}
