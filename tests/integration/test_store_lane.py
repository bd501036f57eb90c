"""What is sent together runs in order, fails as one, and saves the waits."""

import asyncio

import psycopg
import pytest
from msgspec import Struct

from millrace.kernel.errors import ConflictError, MillraceError, SetupError
from millrace.store.lane import PREPARED_FROM, PREPARED_MAX
from millrace.store.queries import Query
from millrace.store.session import Ask
from millrace.store.testing import opened
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services

ONE = StoreConfig(pool_size_min=1, pool_size_max=1)
NAMES = "select name from community order by community_id"


class Name(Struct):
    """One name."""

    name: str


def q(text: str) -> Query:
    """A statement of a test."""
    return Query("test", "", text)


INSERT = q(
    "insert into community (community_id, external_id, name, created_at)"
    " values (%(number)s, %(number)s::text, %(name)s, now())"
)
RENAME = q("update community set name = name || %(more)s where community_id = %(number)s")


async def names(router) -> list[str]:
    """Return what is there."""
    async with router.read() as session:
        return [row.name for row in await session.rows(q(NAMES), Name)]


async def plans(router) -> int:
    """Return how many plans the server keeps for the connection that reads."""
    async with router.read() as session:
        return await session.value(q("select count(*) from pg_prepared_statements"))


async def test_what_is_for_later_runs_in_order_and_before_the_next(router):
    async with router.write() as session:
        session.later(INSERT, number=1, name="a")
        session.later(RENAME, number=1, more="b")
        assert await session.value(q("select name from community")) == "ab"
        session.later(RENAME, number=1, more="c")  # goes with the commit

    assert await names(router) == ["abc"]


async def test_what_was_for_later_and_fails_keeps_nothing(router):
    """With the commit or with another statement, which then is not run."""

    async def with_the_commit() -> None:
        async with router.write() as session:
            await session.run(INSERT, number=1, name="a")
            session.later(INSERT, number=1, name="again")
            session.later(INSERT, number=2, name="b")

    async def with_another() -> None:
        async with router.write() as session:
            session.later(INSERT, number=3, name="a")
            session.later(INSERT, number=3, name="a")
            await session.run(INSERT, number=4, name="b")

    with pytest.raises(ConflictError):
        await with_the_commit()
    with pytest.raises(ConflictError):
        await with_another()
    assert await names(router) == []


async def test_the_last_statement_commits(router):
    """What was for later goes before it, and the position behind it is noted."""
    before = router.claimed(await router.token())
    with router.noting() as noted:
        async with router.write() as session:
            session.later(INSERT, number=1, name="a")
            found = await session.last_rows(q(NAMES), Name)
            assert await names(router) == ["a"]  # seen by others while the block goes on

    assert found == [Name("a")]
    assert noted.position > before


async def test_a_last_statement_that_fails_keeps_nothing(router):
    async def fails() -> None:
        async with router.write() as session:
            session.later(INSERT, number=1, name="a")
            await session.last_rows(q("select 1 / 0 as name"), Name)

    with pytest.raises(MillraceError):
        await fails()

    assert await names(router) == []


async def test_a_block_that_raises_sends_nothing_of_what_was_for_later(router):
    async def fails() -> None:
        async with router.write() as session:
            session.later(INSERT, number=1, name="a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fails()
    assert await names(router) == []


async def test_two_are_asked_together(router):
    async with router.write() as session:
        await session.run(INSERT, number=1, name="a")
        counted, named = await session.two(
            Ask(q("select 'n' || %(n)s::int as name"), Name, {"n": 5}), Ask(q(NAMES), Name, {})
        )

    assert (counted, named) == ([Name("n5")], [Name("a")])


async def test_a_transaction_without_a_statement_never_was(conninfo):
    async with opened(conninfo, ONE) as router:
        async with router.read() as session:
            before = await session.value(q("select pg_current_wal_insert_lsn()::text"))
        with router.noting() as noted:
            async with router.write():
                pass
        async with router.read() as session:
            after = await session.value(q("select pg_current_wal_insert_lsn()::text"))

    assert (before, noted.position) == (after, None)


async def test_what_is_noted_covers_the_commit_and_nothing_before_it(router):
    """The token of a commit lies behind it, and before a later commit of somebody else."""
    before = router.claimed(await router.token())
    with router.noting() as noted:
        async with router.write() as session:
            await session.run(INSERT, number=1, name="a")
    async with router.write() as session:  # outside: not noted
        await session.run(INSERT, number=2, name="b")
    token = router.claimed(await router.token(noted))
    after = router.claimed(await router.token())

    assert before < token < after


async def test_a_statement_that_fails_as_it_is_planned_costs_no_plan(conninfo):
    """It is run more often than a plan waits for, and again once the table is there."""
    async with opened(conninfo, ONE) as router:
        had = await plans(router)
        for _ in range(PREPARED_FROM + 5):
            with pytest.raises(SetupError, match="latecomer"):
                async with router.read() as session:
                    await session.value(q("select count(*) from latecomer"))
        assert await plans(router) == had
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("create table latecomer (n int)")
        async with router.read() as session:
            assert await session.value(q("select count(*) from latecomer")) == 0


async def test_plans_are_bounded(conninfo):
    """More statements than a connection keeps plans for, all of them often."""
    async with opened(conninfo, ONE) as router, router.read() as session:
        for number in range(PREPARED_MAX + 30):
            for _ in range(PREPARED_FROM + 1):
                await session.value(q(f"select {number}"))
        kept = await session.value(q("select count(*) from pg_prepared_statements"))

    assert kept == PREPARED_MAX


async def test_whoever_is_cancelled_leaves_a_usable_connection(conninfo):
    """In the middle of a statement, of a transaction, and with something waiting to be sent."""
    async with opened(conninfo, ONE) as router:

        async def slow() -> None:
            async with router.write() as session:
                await session.run(INSERT, number=1, name="a")
                session.later(RENAME, number=1, more="b")
                await session.value(q("select pg_sleep(30)"))

        for _ in range(3):
            task = asyncio.create_task(slow())
            while not await _sleeps(conninfo):
                await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])

        assert await names(router) == []


async def _sleeps(conninfo: str) -> bool:
    """Whether somebody runs the slow statement."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as connection:
        found = await connection.execute(
            "select exists (select from pg_stat_activity where state = 'active'"
            " and query like 'select pg_sleep%'"
            " and datname = current_database() and pid <> pg_backend_pid())"
        )
        row = await found.fetchone()
    return row is not None and bool(row[0])


async def test_the_same_connection_is_lent_again_first(conninfo):
    """Its caches are warm; one that is new is lent where two are wanted at once."""
    pid = q("select pg_backend_pid()")
    async with opened(conninfo, StoreConfig(pool_size_min=3, pool_size_max=3)) as router:

        async def used() -> int:
            async with router.read() as session:
                return await session.value(pid)

        first = {await used() for _ in range(10)}
        async with router.read() as one, router.read() as other:
            both = {await one.value(pid), await other.value(pid)}

    assert len(first) == 1
    assert len(both) == 2
