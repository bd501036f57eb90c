"""Goal: imports and people write at once; nobody is refused for it, and every count is exact."""

import asyncio
from datetime import timedelta

import pytest
from test_community_counters import COUNTED, MEMBER_COUNTED, MEMBER_RECOUNT, RECOUNT, asked

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import (
    Action,
    CommentDraft,
    Engagement,
    EngagementDraft,
    FollowDraft,
    Impression,
    MemberDraft,
    PostDraft,
    ProfileChanges,
)
from millrace.kernel.errors import NotFoundError
from millrace.kernel.rng import Rng, rng
from millrace.store.testing import opened
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services
PEOPLE, POSTS, ROUNDS = 12, 40, 6


async def imports(rooms: Rooms, home: int, draw: Rng) -> None:
    """Bring the same community in again and again, each time in another order and changed."""
    names = [f"p{n}" for n in range(POSTS)]
    for _ in range(ROUNDS):
        draw.shuffle(names)
        people = [
            MemberDraft(external_id=f"m{n}", display_name=f"M{n}", about=str(draw.random()))
            for n in draw.sample(range(PEOPLE), PEOPLE)
        ]
        posts = [PostDraft(external_id=p, author=author(p), text=str(draw.random())) for p in names]
        comments = [
            CommentDraft(external_id=f"c{draw.random()}", author="m1", post=p, text="x")
            for p in names
        ]
        liked = [
            EngagementDraft(
                member=f"m{draw.randrange(PEOPLE)}",
                post=p,
                kind=draw.choice([Action.LIKE, Action.CLICK, Action.MUTE]),
                happened_at=NOON - timedelta(seconds=draw.randrange(10**6)),
            )
            for p in names
        ]
        follows = [FollowDraft(member=f"m{n}", target=f"m{n - 1}") for n in range(1, PEOPLE)]
        await rooms.members.upsert(OPERATOR, home, people)
        await rooms.posts.upsert(OPERATOR, home, posts)
        await rooms.threads.upsert(OPERATOR, home, comments)
        await rooms.activity.upsert_engagements(OPERATOR, home, liked)
        await rooms.relations.upsert_follows(OPERATOR, home, follows)


def author(post: str) -> str:
    return f"m{int(post[1:]) % PEOPLE}"


async def person(rooms: Rooms, home: int, people: list, draw: Rng) -> None:
    """Do what a person does, to the posts that are imported meanwhile."""
    for turn in range(ROUNDS * 3):
        me, other = draw.sample(people, 2)
        shown = await rooms.posts.newest(me, home, limit=20)
        post = draw.choice(shown).post.key
        now = NOON - timedelta(hours=1, seconds=turn, microseconds=draw.randrange(10**6))
        for deed in (
            rooms.reactions.like(me, post),
            rooms.threads.comment(me, post, "Yes."),
            rooms.activity.record(
                me,
                [
                    Impression(member=me.member, post=v.post.key, shown_at=now, position=0)
                    for v in shown
                ],
                [Engagement(member=me.member, post=post, kind=Action.SHARE, happened_at=now)],
            ),
            rooms.relations.follow(me, other.member),
            rooms.relations.block(me, other.member),
            rooms.relations.unblock(me, other.member),
            rooms.reactions.unlike(me, post),
            rooms.members.update(me, me.member, ProfileChanges(headline=str(turn))),
        ):
            try:
                await deed
            except NotFoundError:  # another one has just blocked
                continue


async def test_imports_and_people_at_once(conninfo):
    """No conflict reaches anybody, no deadlock is met, and the counters equal a recount."""
    async with opened(conninfo, StoreConfig(pool_size_min=10, pool_size_max=10)) as router:
        rooms = Rooms(router)
        home = await rooms.community("home")
        people = await rooms.people(home, *(f"m{n}" for n in range(PEOPLE)))
        await rooms.post(people[0])
        await asyncio.gather(
            *(imports(rooms, home, rng(n)) for n in range(2)),
            *(person(rooms, home, people, rng(10 + n)) for n in range(6)),
            rooms.percentiles.refresh_moved(),
        )

    counted, recount, members, member_recount, (state,) = asked(
        conninfo,
        COUNTED,
        RECOUNT,
        MEMBER_COUNTED,
        MEMBER_RECOUNT,
        "select deadlocks from pg_stat_database where datname = current_database()",
    )
    assert state["deadlocks"] == 0
    assert counted == recount
    assert members == member_recount
    assert sum(row["comments"] for row in counted) > 2 * ROUNDS * POSTS
