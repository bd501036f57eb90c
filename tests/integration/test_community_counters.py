"""Goal: counters equal a recount, whatever was done, however often, and by how many at once."""

import asyncio
import contextlib
import itertools
from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import Action, Engagement, Impression, Key
from millrace.kernel.clock import ManualClock
from millrace.kernel.errors import ConflictError, InvalidError, NotFoundError
from millrace.store.testing import opened
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services

RECOUNT = """
select community_id, post_id,
       (select count(*) from impression i where (i.post_community_id, i.post_id) = (p.community_id, p.post_id)) as views,
       (select count(*) from engagement e where (e.post_community_id, e.post_id) = (p.community_id, p.post_id) and e.kind = 'click') as clicks,
       (select count(*) from engagement e where (e.post_community_id, e.post_id) = (p.community_id, p.post_id) and e.kind = 'long_dwell') as long_dwells,
       (select count(*) from reaction r where (r.post_community_id, r.post_id) = (p.community_id, p.post_id)) as likes,
       (select count(*) from comment c where (c.post_community_id, c.post_id) = (p.community_id, p.post_id) and c.removed_at is null) as comments,
       (select count(*) from engagement e where (e.post_community_id, e.post_id) = (p.community_id, p.post_id) and e.kind = 'share') as shares,
       (select count(*) from engagement e where (e.post_community_id, e.post_id) = (p.community_id, p.post_id) and e.kind = 'hide') as hides,
       (select count(*) from engagement e where (e.post_community_id, e.post_id) = (p.community_id, p.post_id) and e.kind = 'report') as reports
  from post p order by 1, 2
"""
COUNTED = """
select community_id, post_id, views, clicks, long_dwells, likes, comments, shares, hides, reports
  from post_counter order by 1, 2
"""
MEMBER_RECOUNT = """
select community_id, member_id,
       (select count(*) from follow f where (f.target_community_id, f.target_id) = (m.community_id, m.member_id)) as followers,
       (select count(*) from post p where (p.community_id, p.author_id) = (m.community_id, m.member_id) and p.removed_at is null) as posts,
       (select count(*) from impression i join post p on (i.post_community_id, i.post_id) = (p.community_id, p.post_id)
         where (p.community_id, p.author_id) = (m.community_id, m.member_id)) as views,
       (select count(*) from reaction r join post p on (r.post_community_id, r.post_id) = (p.community_id, p.post_id)
         where (p.community_id, p.author_id) = (m.community_id, m.member_id)) as likes
  from member m order by 1, 2
"""
MEMBER_COUNTED = "select community_id, member_id, followers, posts, views, likes from member_counter order by 1, 2"


def asked(conninfo, *queries):
    """Return the rows of each query, at one moment."""
    with psycopg.connect(conninfo, row_factory=dict_row) as db:
        return [db.execute(query).fetchall() for query in queries]


def assert_counters_hold(conninfo):
    counted, recount, members, member_recount = asked(
        conninfo, COUNTED, RECOUNT, MEMBER_COUNTED, MEMBER_RECOUNT
    )
    assert counted == recount
    assert members == member_recount


examples = itertools.count()
who = st.integers(0, 2)
steps = st.one_of(
    st.tuples(st.just("react"), who, who, st.sampled_from(["like", "unlike"])),
    st.tuples(
        st.just("relate"),
        who,
        who,
        st.sampled_from(["follow", "unfollow", "block", "unblock", "mute"]),
    ),
    st.tuples(st.just("comment"), who, who, st.booleans()),
    st.tuples(st.just("remove"), who, who, st.booleans()),
    st.tuples(st.just("record"), who, who, st.sets(st.sampled_from(Action), max_size=4)),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=st.lists(steps, min_size=4, max_size=14))
async def test_counters_equal_a_recount(router, conninfo, drawn):
    """Any sequence of likes, follows, blocks, comments, removals and repeated batches adds up."""
    number = next(examples)
    rooms = Rooms(router, ManualClock(NOON + timedelta(hours=number)))
    home = await rooms.community(f"home{number}")
    people = await rooms.people(home, "ann", "ben", "cem")
    posts = [await rooms.post(one) for one in people]
    for step in drawn:
        await play(rooms, people, posts, step)
        rooms.clock.move(1)

    assert_counters_hold(conninfo)


async def play(rooms, people, posts, step):
    """Do one step; what is refused changes nothing, and that is a part of the test."""
    verb, a, b, detail = step
    viewer, post = people[a], posts[b]
    try:
        if verb == "react":
            await getattr(rooms.reactions, detail)(viewer, post.key)
        elif verb == "relate":
            await getattr(rooms.relations, detail)(viewer, people[b].member)
        elif verb == "comment":
            comment = await rooms.threads.comment(viewer, post.key, "Yes.")
            if detail:
                key = Key(comment.community_id, comment.comment_id)
                await rooms.threads.remove(viewer, key, "")
                await rooms.threads.remove(viewer, key, "")
        elif verb == "remove":
            if detail:
                await rooms.posts.remove(OPERATOR, post.key, "spam")
        else:
            now = rooms.clock.now()
            batch = (
                [Impression(member=viewer.member, post=post.key, shown_at=now, position=0)],
                [
                    Engagement(member=viewer.member, post=post.key, kind=kind, happened_at=now)
                    for kind in sorted(detail)
                ],
            )
            await rooms.activity.record(viewer, *batch)
            again = await rooms.activity.record(viewer, *batch)
            assert again.created == 0
    except (NotFoundError, ConflictError, InvalidError):
        return


async def test_concurrent_batches_wait_and_never_deadlock(conninfo):
    """Eight writers touch the same posts in opposite orders: all succeed, every count is exact."""
    async with opened(conninfo, StoreConfig(pool_size_min=8, pool_size_max=8)) as router:
        rooms = Rooms(router)
        home = await rooms.community("home")
        people = await rooms.people(home, *(f"p{n}" for n in range(8)))
        posts = [(await rooms.post(people[n % 8])).key for n in range(24)]

        async def batch(n, viewer):
            order = posts if n % 2 else posts[::-1]
            for turn in range(3):
                at = NOON + timedelta(seconds=turn)
                await rooms.activity.record(
                    viewer,
                    [
                        Impression(member=viewer.member, post=post, shown_at=at, position=0)
                        for post in order
                    ],
                    [
                        Engagement(member=viewer.member, post=post, kind=kind, happened_at=at)
                        for post in order
                        for kind in (Action.LIKE, Action.CLICK)
                    ],
                )

        await asyncio.gather(*(batch(n, viewer) for n, viewer in enumerate(people)))

    (deadlocks,) = asked(
        conninfo, "select deadlocks from pg_stat_database where datname = current_database()"
    )
    assert deadlocks[0]["deadlocks"] == 0
    counted, recount, members, member_recount = asked(
        conninfo, COUNTED, RECOUNT, MEMBER_COUNTED, MEMBER_RECOUNT
    )
    assert counted == recount
    assert members == member_recount
    assert {row["views"] for row in counted} == {24}
    assert {row["likes"] for row in counted} == {8}


async def test_the_same_batch_at_the_same_time_counts_once(conninfo):
    """A client that sends its batch twice at once is counted once."""
    async with opened(conninfo, StoreConfig(pool_size_min=6, pool_size_max=6)) as router:
        rooms = Rooms(router)
        home = await rooms.community("home")
        ann, ben = await rooms.people(home, "ann", "ben")
        posts = [(await rooms.post(ann)).key for _ in range(10)]
        shown = [
            Impression(member=ben.member, post=post, shown_at=NOON, position=0) for post in posts
        ]
        liked = [
            Engagement(member=ben.member, post=post, kind=Action.LIKE, happened_at=NOON)
            for post in posts
        ]

        results = await asyncio.gather(
            *(
                rooms.activity.record(ben, shown[::way], liked[::way])
                for way in (1, -1, 1, -1, 1, -1)
            )
        )

    assert sum(result.created for result in results) == 20
    assert_counters_hold(conninfo)


async def test_like_and_unlike_at_once(conninfo):
    """A double click that races with itself ends in a state that the counters agree with."""
    async with opened(conninfo, StoreConfig(pool_size_min=6, pool_size_max=6)) as router:
        rooms = Rooms(router)
        home = await rooms.community("home")
        ann, ben = await rooms.people(home, "ann", "ben")
        post = (await rooms.post(ann)).key
        for _ in range(5):
            await asyncio.gather(
                *(verb(ben, post) for verb in (rooms.reactions.like, rooms.reactions.unlike) * 3)
            )

    assert_counters_hold(conninfo)


async def test_a_follow_and_a_block_at_once_never_both_stand(conninfo):
    """Whoever comes second sees the first: a blocked pair holds no follow, and counts none."""
    async with opened(conninfo, StoreConfig(pool_size_min=6, pool_size_max=6)) as router:
        rooms = Rooms(router)
        home = await rooms.community("home")
        people = await rooms.people(home, *(f"p{n}" for n in range(40)))

        async def follow(viewer, target):
            with contextlib.suppress(NotFoundError):
                await rooms.relations.follow(viewer, target.member)

        for ann, ben in zip(people[::2], people[1::2], strict=True):
            await asyncio.gather(follow(ann, ben), rooms.relations.block(ben, ann.member))

    both, blocks = asked(
        conninfo,
        """select from follow join block on (follow.member_id, follow.target_id)
                                        = (block.target_id, block.member_id)""",
        "select from block",
    )
    assert (len(both), len(blocks)) == (0, 20)
    assert_counters_hold(conninfo)
