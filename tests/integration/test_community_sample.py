"""Goal: a demonstration opens with members whose feed, posts and followers are not empty."""

from datetime import timedelta

import pytest

from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Action, Engagement

pytestmark = pytest.mark.services


async def settled(rooms: Rooms, name: str) -> list[str]:
    """Make a community of five, and return their names from the most interesting on."""
    home = await rooms.community(name)
    idle, reader, known, writer, whole = await rooms.people(
        home, *(f"{name}-{who}" for who in ("idle", "reader", "known", "writer", "whole"))
    )
    posts = [await rooms.post(writer) for _ in range(6)]
    await rooms.post(whole)
    await rooms.post(known)
    for fan in (idle, reader, writer):
        await rooms.relations.follow(fan, known.member)
    await rooms.relations.follow(idle, whole.member)
    await rooms.reactions.like(whole, posts[0].key)
    for post in posts[:2]:
        await rooms.reactions.like(reader, post.key)
    against = [  # what a member is against is no history to show
        Engagement(
            member=known.member,
            post=post.key,
            kind=Action.HIDE,
            happened_at=rooms.clock.now() + timedelta(seconds=place),
        )
        for place, post in enumerate(posts)
    ]
    await rooms.activity.record(known, [], against)
    return [f"{name}-{who}" for who in ("whole", "writer", "known", "reader", "idle")]


async def test_the_sample_begins_with_members_who_have_something_of_everything(router):
    """Posts, followers and a history outweigh many posts alone; communities take turns."""
    rooms = Rooms(router)
    here, there = await settled(rooms, "here"), await settled(rooms, "there")
    wished = [name for pair in zip(here, there, strict=True) for name in pair]

    assert [one.handle for one in await rooms.members.sample(20)] == wished
    assert [one.handle for one in await rooms.members.sample(3)] == wished[:3]

    best = await rooms.members.find("here-whole")
    await rooms.members.remove(OPERATOR, best.key, "left")
    assert [one.handle for one in await rooms.members.sample(2)] == ["here-writer", "there-whole"]
