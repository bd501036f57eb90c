"""Which liked posts a post is near to: exactly, as it was when the feed was made, and never a post
that the member may not see any more."""

from datetime import timedelta

import numpy as np
import psycopg
import pytest

from millrace.community.moves import Move, Thing, ThingKind
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Action, Engagement, PostChanges
from millrace.feed.averages import read
from millrace.feed.embeddings import unpacked
from millrace.feed.index import microseconds
from millrace.feed.pooled_history import PooledHistory, counted_from, days_between, terms
from millrace.feed.testing import FakeEncoder, feeding

pytestmark = pytest.mark.services
HOW = PooledHistory(profile_weight=0.5)
WORDS = ("harbour", "tide", "rope", "sail", "net", "gull")


async def harbour(rooms: Rooms):
    """A reader who liked three of the posts, and authors who go on writing."""
    home = await rooms.community("harbour")
    reader, gus, sal = await rooms.people(home, "rita", "gus", "sal")
    liked = []
    for place, word in enumerate(WORDS[:3]):
        rooms.clock.move(60)
        liked.append(await rooms.post([gus, sal][place % 2], f"{word} {word} {word}"))
    for word in WORDS:
        await rooms.post(gus, f"{word} {word} again")
    await does(rooms, reader, liked)
    return reader, gus, sal, liked


async def does(rooms: Rooms, reader, posts) -> None:
    """Let a reader click on posts, one a day; the last one now."""
    now = rooms.clock.now()
    done = [
        Engagement(
            member=reader.member,
            post=post.key,
            kind=Action.CLICK,
            happened_at=now - timedelta(days=len(posts) - 1 - place),
        )
        for place, post in enumerate(posts)
    ]
    await rooms.activity.record(reader, [], done)


async def shares(rooms: Rooms, conninfo: str, reader, liked, post) -> dict:
    """What each liked post gives to the nearness of a post, by the formula; None is the profile."""
    encoder = FakeEncoder(history=HOW)
    averages, _ = await read(rooms.router, encoder.version, encoder.dims)
    newest = list(reversed(liked))
    now = microseconds(rooms.clock.now())
    at = now - np.arange(len(newest)) * 86_400_000_000
    found = terms(
        stored(conninfo, "member", reader.member, encoder),
        np.array([stored(conninfo, "post", one.key, encoder) for one in newest]),
        days_between(at, counted_from(now, HOW)),
        averages,
        HOW,
    )
    parts = found @ stored(conninfo, "post", post.key, encoder)
    return dict(zip([None, *(one.key for one in newest)], parts / parts.sum(), strict=True))


def stored(conninfo: str, kind: str, key, encoder) -> np.ndarray:
    """A stored vector."""
    with psycopg.connect(conninfo) as connection:
        row = connection.execute(
            f"select vector from {kind}_embedding"
            f" where community_id = %s and {kind}_id = %s and model_version = %s",
            (key.community_id, key.id, encoder.version),
        ).fetchone()
    return unpacked(row[0])


async def test_the_shares_are_those_of_the_vectors_and_stay_what_they_were(router, conninfo):
    """The post about ropes is near because of the one about ropes, and that is exact."""
    rooms = Rooms(router)
    reader, gus, sal, liked = await harbour(rooms)
    async with feeding(rooms, conninfo, encoder=FakeEncoder(history=HOW)) as feed:
        await feed.settled()
        page = await feed.page(reader.member, limit=20)
        rope = next(i.view.post for i in page.items if i.view.post.text.startswith("rope"))
        found = await feed.why(reader.member, rope.key)
        near = found.nearness

        assert found.versions["scorer"] == "prior-3"
        assert near.similarity == found.features["similarity"]
        assert near.posts == 3
        assert near.liked[0].post == liked[2].key
        assert near.liked[0].title == "rope rope rope"
        assert near.liked[0].engaged_at == rooms.clock.now()
        expected = await shares(rooms, conninfo, reader, liked, rope)
        for one in near.liked:
            assert one.share == pytest.approx(expected[one.post], abs=0.005)
        assert near.profile == pytest.approx(expected[None], abs=0.005)
        assert [one.share for one in near.liked] == sorted(
            (one.share for one in near.liked), reverse=True
        )
        told = sum(one.share for one in near.liked)
        assert told + near.profile + near.others == pytest.approx(1.0)

        for post in liked:
            author = gus if post.author == gus.member else sal
            await rooms.posts.edit(author, post.key, PostChanges(text="gull gull gull"))
        await feed.settled()
        again = (await feed.why(reader.member, rope.key)).nearness

    assert [(one.post, one.share) for one in again.liked] == [
        (one.post, one.share) for one in near.liked
    ]
    assert (again.profile, again.similarity) == (near.profile, near.similarity)


async def test_a_liked_post_that_may_not_be_seen_any_more_is_not_named(router, conninfo):
    """Its share is among the others: for the member, and for an operator who looks."""
    rooms = Rooms(router)
    home = await rooms.community("harbour")
    reader, writer, *authors = await rooms.people(home, "rita", "walt", "ann", "bob", "cat", "dan")
    words = WORDS[: len(authors)]
    liked = [
        await rooms.post(author, f"{word} {word} {word}")
        for author, word in zip(authors, words, strict=True)
    ]
    posts = [await rooms.post(writer, f"{word} {word} again") for word in words]
    await does(rooms, reader, liked)
    ways = (
        rooms.posts.remove(OPERATOR, liked[0].key, "for the test"),
        rooms.moderation.decide(OPERATOR, Thing(ThingKind.POST, liked[1].key), Move.HIDE, "."),
        rooms.moderation.decide(
            OPERATOR, Thing(ThingKind.MEMBER, authors[2].member), Move.BAN, "."
        ),
        rooms.relations.block(reader, authors[3].member),
    )
    async with feeding(rooms, conninfo, encoder=FakeEncoder(history=HOW)) as feed:
        await feed.settled()
        await feed.page(reader.member, limit=20)
        for way, gone, post in zip(ways, liked, posts, strict=True):
            before = (await feed.why(reader.member, post.key)).nearness
            share = next(one.share for one in before.liked if one.post == gone.key)
            await way
            for oversees in (False, True):
                after = (await feed.why(reader.member, post.key, oversees=oversees)).nearness

                assert gone.key not in [one.post for one in after.liked]
                assert after.others == pytest.approx(before.others + share)
                assert (after.profile, after.posts) == (before.profile, before.posts)


async def test_nothing_is_said_where_nothing_draws_near_or_a_prompt_showed_the_history(
    router, conninfo
):
    rooms = Rooms(router)
    reader, _, _, _ = await harbour(rooms)
    async with feeding(rooms, conninfo, encoder=FakeEncoder()) as feed:
        await feed.settled()
        page = await feed.page(reader.member, limit=20)
        found = [await feed.why(reader.member, item.view.post.key) for item in page.items]

    assert {one.versions["scorer"] for one in found} == {"prior-2"}
    assert [one.nearness for one in found] == [None] * len(found)
