"""Goal: scales come from the tables, per community, and are read without scanning."""

import asyncio
from datetime import timedelta
from statistics import median

import psycopg
import pytest

from millrace.community.percentile_keeper import PercentileKeeper
from millrace.community.percentiles import METRICS, SCALE_SECONDS_MAX, engagement_rate
from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import Key, PostDraft
from millrace.kernel.rng import rng

pytestmark = pytest.mark.services


async def filled(rooms, name, views):
    """Make a community of one author whose posts have these views, one post an hour."""
    home = await rooms.community(name)
    await rooms.people(home, "ann")
    drafts = [
        PostDraft(
            external_id=f"p{n}",
            author="ann",
            text="x",
            views=count,
            created_at=NOON - timedelta(hours=n),
        )
        for n, count in enumerate(views)
    ]
    result = await rooms.posts.upsert(OPERATOR, home, drafts)
    return home, [Key(home, result.ids[draft.external_id]) for draft in drafts]


async def test_a_scale_is_that_of_its_community(router):
    """The same number stands elsewhere in another community; ages count too."""
    rooms = Rooms(router)
    small, _ = await filled(rooms, "small", range(100))
    large, _ = await filled(rooms, "large", range(0, 10_000, 100))
    await rooms.percentiles.refresh()
    here, there = await rooms.percentiles.scales(small), await rooms.percentiles.scales(large)

    assert [here.of("views", n) for n in (0, 50, 99, 1_000)] == [0, 50, 99, 99]
    assert there.of("views", 99) == 1
    assert [here.of("age_hours", n) for n in (0, 24, 98, 1_000)] == [0, 24, 98, 99]
    for metric in METRICS:
        values = [here.of(metric, n / 10) for n in range(1_000)]
        assert values == sorted(values)


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_small_communities(router, count):
    """A few samples still give a scale that rises."""
    rooms = Rooms(router)
    home, _ = await filled(rooms, "home", [5 * n for n in range(count)])
    await rooms.percentiles.refresh([home])
    scales = await rooms.percentiles.scales(home)
    percentiles = [scales.of("views", n) for n in range(20)]

    assert percentiles == sorted(percentiles)
    assert (percentiles[0], percentiles[-1]) == (0, 99)


async def test_the_rate_in_sql_is_the_rate_in_python(router):
    """A post stands where its own rate is cut."""
    rooms = Rooms(router)
    home, keys = await filled(rooms, "home", range(9))
    (ben,) = await rooms.people(home, "ben")
    for key in keys[:5]:
        await rooms.reactions.like(ben, key)
    await rooms.percentiles.refresh([home])
    scales = await rooms.percentiles.scales(home)
    rates = [engagement_rate((await rooms.posts.get(ben, key)).counts) for key in keys]

    assert {scales.of("engagement_rate", rate) for rate in rates if rate == max(rates)} == {88}
    assert scales.of("engagement_rate", median(rates)) == 44
    assert scales.of("engagement_rate", 1) == 99


async def test_scales_are_kept_for_a_bounded_time(router):
    """Another process's refresh is seen after SCALE_SECONDS_MAX, the own one at once."""
    rooms = Rooms(router)
    other = Rooms(router, rooms.clock)
    home, _ = await filled(rooms, "home", range(10))
    assert (await rooms.percentiles.scales(home)).of("views", 100) == 50
    await other.percentiles.refresh()
    assert (await rooms.percentiles.scales(home)).of("views", 100) == 50
    rooms.clock.move(SCALE_SECONDS_MAX)
    assert (await rooms.percentiles.scales(home)).of("views", 100) == 99
    await filled(rooms, "home", [2_000] * 10)
    await rooms.percentiles.refresh()
    assert (await rooms.percentiles.scales(home)).of("views", 100) == 0


async def test_an_age_stands_where_it_stood_while_a_community_is_quiet(router):
    """All posts grow older together, and nobody makes the scale anew: the newest stays the newest."""
    rooms = Rooms(router)
    home, _ = await filled(rooms, "home", [0] * 100)
    await rooms.percentiles.refresh([home])
    rooms.clock.move(10 * 24 * 3600)
    scales = await rooms.percentiles.scales(home)

    assert [scales.of("age_hours", 240 + n) for n in (0, 24, 98)] == [0, 24, 98]


async def test_only_what_moved_is_made_anew(router):
    """A like, a follow, a new post: its community is found once; old scales are found too."""
    rooms = Rooms(router)
    home, (post, *_) = await filled(rooms, "home", range(3))
    other, _ = await filled(rooms, "other", range(3))
    (ben,) = await rooms.people(home, "ben")
    assert sorted(await rooms.percentiles.refresh_moved()) == sorted([home, other])
    assert await rooms.percentiles.refresh_moved() == []

    author = (await rooms.posts.get(ben, post)).post.author
    for write in (
        lambda: rooms.reactions.like(ben, post),
        lambda: rooms.relations.follow(ben, author),
        lambda: rooms.post(ben),
        lambda: rooms.people(home, "cem"),
    ):
        await write()
        assert await rooms.percentiles.refresh_moved() == [home]
        assert await rooms.percentiles.refresh_moved() == []
    rooms.clock.move(13 * 3600)
    assert len(await rooms.percentiles.refresh_moved()) == 2


async def test_the_keeper_finds_what_the_api_wrote_and_outlives_a_failure(router, conninfo, caplog):
    """Nobody imports anything: the numbers of a community are on a scale all the same."""
    rooms = Rooms(router)
    keeper = PercentileKeeper(
        percentiles=rooms.percentiles, clock=rooms.clock, rng=rng(1), pause_seconds=0.01
    )
    home, _ = await filled(rooms, "home", [])
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute("alter table percentile_mark rename to away")
        running = asyncio.create_task(keeper.run())
        async with asyncio.timeout(20):
            while "were not refreshed" not in caplog.text:
                await asyncio.sleep(0.01)
            db.execute("alter table away rename to percentile_mark")
            await filled(rooms, "home", range(100))
            while (await rooms.percentiles.scales(home)).of("views", 1_000) == 50:
                await asyncio.sleep(0.01)
    running.cancel()

    assert (await rooms.percentiles.scales(home)).of("views", 50) == 50
