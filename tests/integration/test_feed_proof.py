"""The proof tells exactly what differs, waits for what is on its way, and a rebuild mends it."""

import asyncio

import psycopg
import pytest

from millrace.community.recount import Recount
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Action, Engagement, Impression, PostDraft
from millrace.feed.proof import proved
from millrace.feed.rebuild import Rebuild
from millrace.feed.testing import feeding, parts_for
from millrace.feed.types import FeedConfig, HistoryForm
from millrace.kernel.rng import rng

pytestmark = pytest.mark.services


def quiet(_what: str, _done: int) -> None:
    """Watch nothing."""


async def lively(rooms: Rooms, seed: int):
    """A village in which people did a bit of everything, the same for the same seed."""
    home = await rooms.community("village")
    people = await rooms.people(home, *(f"m{n}" for n in range(6)))
    drafts = [
        PostDraft(external_id=f"p{n}", author=f"m{n % 3}", text=f"harbour {n}", views=n)
        for n in range(12)
    ]
    await rooms.posts.upsert(OPERATOR, home, drafts)
    draw = rng(seed)
    posts = [await rooms.post(draw.choice(people), f"boat {n}") for n in range(12)]
    for _ in range(25):
        rooms.clock.move(1)
        who, post, now = draw.choice(people), draw.choice(posts), rooms.clock.now()
        kind = draw.choice([one for one in Action if one not in (Action.MUTE, Action.BLOCK)])
        shown = Impression(member=who.member, post=post.key, shown_at=now, position=0)
        done = Engagement(member=who.member, post=post.key, kind=kind, happened_at=now)
        await rooms.activity.record(who, [shown], [done])
        await rooms.threads.comment(who, post.key, "well said")
        other = draw.choice(people)
        if other.member != who.member:
            verb = draw.choice([rooms.relations.follow, rooms.relations.unfollow])
            await verb(who, other.member)
    removed = posts.pop()
    author = next(one for one in people if one.member.id == removed.author_id)
    await rooms.posts.remove(author, removed.key, "done with it")
    await rooms.relations.block(people[4], people[5].member)
    await rooms.members.remove(OPERATOR, people[3].member, "left")
    await rooms.percentiles.refresh()
    return people, posts


async def run(conninfo: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
        for statement in statements:
            await db.execute(statement)


@pytest.mark.parametrize(("seed", "history"), [(1, HistoryForm.PROMPT), (2, HistoryForm.POOLED)])
async def test_live_equals_rebuilt(router, conninfo, seed, history):
    """After anything that people do, nothing differs, and a rebuild changes no number."""
    rooms = Rooms(router)
    config = FeedConfig(coalesce_seconds=0.0, fit_minutes=0.0, history=history)
    async with feeding(rooms, conninfo, config=config) as feed:
        people, _ = await lively(rooms, seed)
        for one in (people[0], people[1], people[4]):
            await feed.page(one.member)
        await feed.settled()
        parts = parts_for(rooms, conninfo, config=config)
        found = {one.part: one for one in await proved(parts, quiet)}
        wrong = await Recount(router=router, percentiles=rooms.percentiles).counters()
        standing = len(feed.index)

    assert [one for one in found.values() if one.differing] == []
    assert wrong == 0
    assert found["counters of posts"].compared == 24
    assert found["counters of members"].compared == 6
    assert found["percentile scales"].compared == 9
    assert found["vectors of posts"].compared == standing
    assert found["vectors of members"].compared == 3


async def test_names_what_differs_and_a_rebuild_mends_it(router, conninfo):
    rooms = Rooms(router)
    async with feeding(rooms, conninfo) as feed:
        people, posts = await lively(rooms, 3)
        await feed.page(people[0].member)
        await feed.settled()
    parts = parts_for(rooms, conninfo)
    [first, second, *_] = [post.key for post in posts if post.author_id != people[3].member.id]
    who = people[0].member
    await run(
        conninfo,
        f"update post_counter set likes = likes + 1 where post_id = {first.id}",
        f"update member_counter set followers = followers + 2 where member_id = {who.id}",
        f"update post_embedding set prompt_hash = 'another' where post_id = {first.id}",
        "update post_embedding set vector = (select vector from member_embedding limit 1)"
        f" where post_id = {second.id}",
        f"update member_embedding set prompt_hash = 'another' where member_id = {who.id}",
    )

    found = {one.part: one for one in await proved(parts, quiet)}

    def keys(part: str) -> list[tuple[str, str]]:
        return [(one.key, one.field) for one in found[part].first]

    assert keys("counters of posts") == [(str(first), "likes")]
    assert (str(who), "followers") in keys("counters of members")
    assert keys("vectors of posts") == [(str(first), "prompt"), (str(second), "vector")]
    assert keys("vectors of members") == [(str(who), "prompt")]

    recount = Recount(router=router, percentiles=rooms.percentiles)
    assert await recount.counters() >= 2
    await recount.scales()
    await Rebuild(parts).vectors(quiet)

    assert [one for one in await proved(parts, quiet) if one.differing] == []


async def test_what_the_tables_call_out_of_date_is_not_compared(router, conninfo):
    """A post without a vector, or with an older one, waits; it is no difference."""
    rooms = Rooms(router)
    async with feeding(rooms, conninfo) as feed:
        people, _ = await lively(rooms, 4)
        await feed.settled()
    await rooms.post(people[0], "nobody embeds this now")
    found = {one.part: one for one in await proved(parts_for(rooms, conninfo), quiet)}

    assert found["vectors of posts"].waiting == 1
    assert found["vectors of posts"].differing == 0


async def test_a_recount_beside_writers_is_exact(router, conninfo):
    """Counting holds the counters first, so what is written meanwhile is counted once."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    people = await rooms.people(home, *(f"m{n}" for n in range(8)))
    post = await rooms.post(people[0], "popular")
    recount = Recount(router=router, percentiles=rooms.percentiles)

    async def like_and_regret(one) -> None:
        for _ in range(6):
            await rooms.reactions.like(one, post.key)
            await rooms.reactions.unlike(one, post.key)
        await rooms.reactions.like(one, post.key)

    async def count() -> list[int]:
        return [await recount.counters() for _ in range(12)]

    *_, wrong = await asyncio.gather(*(like_and_regret(one) for one in people), count())
    view = (await rooms.posts.views(OPERATOR, [post.key]))[0]

    assert set(wrong) == {0}
    assert view.counts.likes == 8
