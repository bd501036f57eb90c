"""Goal: whoever listens hears of every change, or is told to look at everything again."""

import asyncio
from contextlib import aclosing

import psycopg
import pytest

from millrace.store.changes.notices import RESCAN, Notice, notices
from millrace.store.queries import Query, load

pytestmark = pytest.mark.services

QUERIES = load("millrace.store")
MEMBER = Query(
    "test", "",
    "insert into member (community_id, member_id, external_id, handle, display_name, joined_at)"
    " values (1, %(id)s, 'm' || %(id)s::text, 'm' || %(id)s::text, 'm', now())",
)  # fmt: skip
WAIT_SECONDS = 20


def q(text: str) -> Query:
    """A statement of a test."""
    return Query("test", "", text)


async def hear(heard, number: int) -> list[Notice]:
    """The next notices, within bounds."""
    return [await asyncio.wait_for(anext(heard), WAIT_SECONDS) for _ in range(number)]


async def test_rows_are_named_when_they_are_committed(router, conninfo):
    """Table, operation, community and key; in the order of the writes; nothing of a rollback."""
    async with aclosing(notices(conninfo)) as heard:
        assert await hear(heard, 1) == [RESCAN]
        with pytest.raises(ZeroDivisionError):
            await roll_back(router)
        async with router.write() as session:
            await session.run(MEMBER, id=1)
            await session.run(q("update member set about = 'x'"))
            await session.run(q("insert into engagement values (1, 1, now(), 1, 9, 'like')"))
            await session.run(q("delete from member"))
        found = await hear(heard, 4)

    assert found == [
        Notice("member", "i", 1, "1"),
        Notice("member", "u", 1, "1"),
        Notice("engagement", "i", 1, "1"),
        Notice("member", "d", 1, "1"),
    ]


async def roll_back(router) -> None:
    """Write and change one's mind."""
    async with router.write() as session:
        await session.run(MEMBER, id=5)
        raise ZeroDivisionError


async def test_bulk_work_says_one_word(router, conninfo):
    """Quiet inside, and a rescan at the end; the next transaction speaks again."""
    async with aclosing(notices(conninfo)) as heard:
        await hear(heard, 1)
        async with router.write() as session:
            await session.value(QUERIES["quiet"])
            for number in range(1, 50):
                await session.run(MEMBER, id=number)
            await session.value(QUERIES["notify"], payload="*|*|0|")
        async with router.write() as session:
            await session.run(MEMBER, id=50)
        found = await hear(heard, 2)

    assert found == [RESCAN, Notice("member", "i", 1, "50")]


async def test_a_lost_connection_means_rescan(router, conninfo):
    """What was written while nobody listened is not named, so everything is looked at."""
    kill = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where query like 'listen%'"
    async with aclosing(notices(conninfo)) as heard:
        await hear(heard, 1)
        for number in (1, 2):
            async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
                await db.execute(kill)
            async with router.write() as session:
                await session.run(MEMBER, id=number)
            assert await hear(heard, 1) == [RESCAN]
        async with router.write() as session:
            await session.run(MEMBER, id=3)
        assert await hear(heard, 1) == [Notice("member", "i", 1, "3")]


async def test_a_listener_that_stops_leaves_no_connection(conninfo):
    """Closing the stream, or cancelling who waits in it, ends the connection."""
    heard = notices(conninfo)
    await hear(heard, 1)
    waiting = asyncio.create_task(anext(heard))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await heard.aclose()

    listening = "select count(*) from pg_stat_activity where query like 'listen%'"
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
        for _ in range(1000):
            if (await (await db.execute(listening)).fetchone())[0] == 0:
                return
            await asyncio.sleep(0.01)
    raise AssertionError("the connection stays")
