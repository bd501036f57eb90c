"""Goal: a request either has its answer or a clear error; nothing is half-written."""

import asyncio
import contextlib
import os
import signal

import psycopg
import pytest
from msgspec import Struct, ValidationError

from millrace.kernel.errors import (
    ConflictError,
    InvalidError,
    MillraceError,
    SetupError,
    TooLargeError,
    UnavailableError,
)
from millrace.kernel.rng import rng
from millrace.store.embedded import EmbeddedServer
from millrace.store.migrate import migrate
from millrace.store.queries import Query
from millrace.store.session import document
from millrace.store.testing import fresh_folder, opened
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services

QUICK = StoreConfig(
    pool_size_min=1,
    pool_size_max=2,
    waiting_max=3,
    acquire_seconds_max=0.5,
    statement_seconds_max=0.3,
)
MEMBER = """
insert into member (community_id, member_id, external_id, handle, display_name, joined_at, role)
values (%(community)s, %(member)s, %(name)s, %(name)s, %(name)s, now(), %(role)s)
"""
POST = """
insert into post (community_id, post_id, external_id, author_id, text, created_at)
values (1, %(post)s, %(post)s::text, %(author)s, %(text)s, now())
"""


class Number(Struct):
    """One number."""

    number: int


def q(text: str) -> Query:
    """A statement of a test."""
    return Query("test", "", text)


async def member(session, number: int, **other: object) -> int:
    """Insert a member."""
    line = {"community": 1, "member": number, "name": f"m{number}", "role": "member"} | other
    return await session.run(q(MEMBER), **line)


async def members(router) -> int:
    """Count what is there."""
    async with router.read() as session:
        return await session.value(q("select count(*) from member"))


async def test_rows_become_structs(router):
    """All shapes of an answer."""
    async with router.read() as session:
        rows = await session.rows(
            q("select n as number from generate_series(1, 3) as t (n)"), Number
        )
        none = await session.row(q("select 1 as number where false"), Number)
        value = await session.value(q("select %(a)s::text || '!'"), a="x")
        nothing = await session.value(q("select 1 where false"))
        packed = await session.value(q("select %(d)s::jsonb -> 'a'"), d=document({"a": [1, "ü"]}))

    assert rows == [Number(1), Number(2), Number(3)]
    assert (none, value, nothing, packed) == (None, "x!", None, [1, "ü"])


async def test_bulk_ways_in(router):
    """One statement for many lines, and COPY."""
    async with router.write() as session:
        await member(session, 1)
        lines = [{"post": n, "author": 1, "text": "t"} for n in range(5)]
        many = await session.run_many(q(POST), lines)
        none = await session.run_many(q(POST), [])
        await session.copy_in(
            q(
                "copy follow (community_id, member_id, target_community_id, target_id, created_at) from stdin"
            ),
            [(1, 1, 1, n, "2026-01-01") for n in range(2, 9)],
        )
        follows = await session.value(q("select count(*) from follow where system_version = 1"))

    assert (many, none, follows) == (5, 0, 7)


async def test_a_block_that_fails_keeps_nothing(router):
    """All or nothing."""

    async def fail() -> None:
        async with router.write() as session:
            await member(session, 1)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await members(router) == 0


async def test_a_caught_error_never_looks_like_a_commit(router):
    """PostgreSQL answers COMMIT with a silent rollback after an error: we do not stay silent."""

    async def go_on() -> None:
        async with router.write() as session:
            await member(session, 1)
            with contextlib.suppress(ConflictError):
                await member(session, 1)

    with pytest.raises(MillraceError, match="nothing of it was kept"):
        await go_on()
    assert await members(router) == 0


async def test_reading_cannot_write(router):
    """A read session is refused by the database, not by good manners."""
    with pytest.raises(MillraceError, match="read-only"):
        async with router.read() as session:
            await member(session, 1)

    assert await members(router) == 0


@pytest.mark.parametrize(
    ("other", "kind", "part"),
    [
        ({"name": "m1"}, ConflictError, "already a member with this community_id, external_id"),
        ({"member": 1}, ConflictError, "already a member with this community_id, member_id"),
        ({"role": "king"}, InvalidError, "member_role_check"),
        ({"name": None}, InvalidError, "breaks the rule external_id"),
        ({"name": "a\0b"}, InvalidError, "NUL"),
        ({"name": "a\ud800"}, InvalidError, "UTF-8"),
        ({"member": 1 << 70}, InvalidError, "out of range"),
        ({"name": object()}, MillraceError, "could not be sent"),
        ({"community": "x"}, InvalidError, "invalid input syntax"),
    ],
)
async def test_refused_values_name_what_is_wrong(router, other, kind, part):
    """What the database refuses becomes an error of ours, with the column."""
    async with router.write() as session:
        await member(session, 1)
    with pytest.raises(kind, match=part) as caught:
        async with router.write() as session:
            await member(session, 2, **other)

    assert type(caught.value) is kind
    assert caught.value.next_step
    assert await members(router) == 1


async def test_an_index_has_a_limit(router):
    """A key too long for an index is too large."""
    noise = "".join(rng(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
    with pytest.raises(TooLargeError, match="too large"):
        async with router.write() as session:
            await member(session, 1, name=noise)


async def test_references_both_ways(router):
    """A post needs its author, and an author with posts stays."""
    with pytest.raises(InvalidError, match="refers to something that does not exist") as caught:
        async with router.write() as session:
            await session.run(q(POST), post=1, author=9, text="t")
    assert caught.value.field == "community_id, author_id"
    assert caught.value.value == "1, 9"

    async with router.write() as session:
        await member(session, 1)
        await session.run(q(POST), post=1, author=1, text="t")
    with pytest.raises(ConflictError, match="still referred to"):
        async with router.write() as session:
            await session.run(q("delete from member"))


@pytest.mark.parametrize(
    ("text", "kind", "part"),
    [
        ("select wrong", MillraceError, "42703"),
        ("selec", MillraceError, "42601"),
        ("select * from nowhere", SetupError, "does not have"),
        ("select 1 / 0", InvalidError, "division by zero"),
        ("do $$ begin raise exception 'own words'; end $$", MillraceError, "own words"),
        ("select %(missing)s", MillraceError, "could not be sent"),
    ],
)
async def test_wrong_statements_are_ours_too(router, text, kind, part):
    """No driver exception leaves the store, whatever was asked."""
    with pytest.raises(kind, match=part) as caught:
        async with router.read() as session:
            await session.value(q(text), given=1)

    assert isinstance(caught.value.__cause__, psycopg.Error)
    assert not isinstance(caught.value, psycopg.Error)


async def test_a_slow_statement_is_stopped(conninfo):
    """Time is bounded, and the connection serves on."""
    async with opened(conninfo, QUICK) as router:
        with pytest.raises(UnavailableError, match="statement_seconds_max"):
            async with router.read() as session:
                await session.value(q("select pg_sleep(30)"))
        async with router.read() as session:
            assert await session.value(q("select 1")) == 1


async def test_the_pool_is_bounded_in_time_and_number(conninfo):
    """Too many at once: some wait, some are refused at once, and all are told why."""
    async with opened(conninfo, QUICK) as router:
        held = asyncio.Event()
        all_hold = asyncio.Barrier(3)

        async def hold() -> None:
            async with router.read():
                await all_hold.wait()
                await held.wait()

        async def ask() -> str:
            try:
                async with router.read() as session:
                    return str(await session.value(q("select 1")))
            except UnavailableError as exc:
                return f"{exc.message} (limit {exc.limit})"

        holders = [asyncio.create_task(hold()) for _ in range(2)]
        await all_hold.wait()
        answers = await asyncio.gather(*(ask() for _ in range(6)))
        held.set()
        await asyncio.gather(*holders)
        after = await ask()

    assert after == "1"
    full = "too many requests already wait for a database connection (limit 3)"
    late = "no database connection became free in 0.5 s (limit 2)"
    assert sorted(answers) == [late] * 3 + [full] * 3


async def test_a_column_of_another_type_is_found_at_once(conninfo):
    """A number that comes as text is a mistake in a query, and not turned into one."""

    class Line(Struct):
        number: int

    async with opened(conninfo) as router, router.read() as session:
        assert await session.row(q("select 1 as number"), Line) == Line(1)
        with pytest.raises(ValidationError, match=r"Expected `int`, got `str` - at `\$.number`"):
            await session.row(q("select '1' as number"), Line)


async def test_a_database_that_left_is_not_called_a_pool_that_is_too_small():
    """Many ask at once, and nobody holds a connection: the cause is named, not a setting."""
    config = StoreConfig(pool_size_min=1, pool_size_max=4, acquire_seconds_max=0.5)
    with fresh_folder() as folder:
        server = EmbeddedServer(folder, durable=False)
        await server.start()
        async with opened(server.conninfo, config) as router:
            await asyncio.gather(*(_one(router) for _ in range(4)))
            await server.stop()
            found = await asyncio.gather(*(_one(router) for _ in range(6)), return_exceptions=True)

    assert {type(one) for one in found} == {UnavailableError}
    assert {str(one) for one in found} <= {
        "the database has not answered for 0.5 s",
        "the database went away during the request",
    }


async def _one(router) -> int:
    async with router.read() as session:
        return await session.value(q("select 1"))


async def test_two_writers_of_the_same_rows(conninfo):
    """A deadlock has one winner, and one who is asked to try again."""
    async with opened(conninfo) as router:
        async with router.write() as session:
            await member(session, 1)
            await member(session, 2)
        touch = q("update member set headline = headline || 'x' where member_id = %(m)s")
        both = asyncio.Barrier(2)

        async def write(first: int, second: int) -> str:
            try:
                async with router.write() as session:
                    await session.run(touch, m=first)
                    await both.wait()
                    await session.run(touch, m=second)
            except ConflictError:
                return "lost"
            return "won"

        ends = await asyncio.gather(write(1, 2), write(2, 1))
        async with router.read() as session:
            written = await session.value(q("select string_agg(headline, ',') from member"))

    assert sorted(ends) == ["lost", "won"]
    assert written == "x,x"


async def until_asleep(conninfo: str, number: int) -> None:
    """Wait until so many statements sleep in the database."""
    asleep = "select count(*) from pg_stat_activity where wait_event = 'PgSleep'"
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
        for _ in range(3000):
            if (await (await db.execute(asleep)).fetchone())[0] >= number:
                return
            await asyncio.sleep(0.01)
    raise AssertionError("the statements never ran")


async def killed(conninfo: str) -> None:
    """End every connection to the database from outside, as a crash does."""
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
        await db.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where datname = current_database() and pid <> pg_backend_pid()"
        )


async def test_the_database_goes_away_in_the_middle(router, conninfo):
    """A clear error, nothing half-written, and the next request is served."""

    async def request() -> None:
        async with router.write() as session:
            await member(session, 1)
            await killed(conninfo)
            await member(session, 2)

    with pytest.raises(UnavailableError, match="went away during the request") as caught:
        await request()
    assert "nothing of this request was kept" in caught.value.next_step

    assert await members(router) == 0
    async with router.write() as session:
        await member(session, 3)
    assert await members(router) == 1


async def test_the_database_goes_away_at_the_commit(router, conninfo):
    """Nobody can know then, and the error says so instead of promising."""

    async def request() -> None:
        async with router.write() as session:
            await member(session, 1)
            await killed(conninfo)

    with pytest.raises(UnavailableError, match="being committed"):
        await request()
    assert await members(router) == 0


async def test_idle_connections_that_died_are_not_lent(conninfo):
    """After a restart no request meets a dead connection."""
    async with opened(conninfo, StoreConfig(pool_size_min=4, pool_size_max=4)) as router:

        async def ask() -> int:
            async with router.read() as session:
                return await session.value(q("select 1"))

        await asyncio.gather(*(ask() for _ in range(8)))
        await killed(conninfo)

        assert await asyncio.gather(*(ask() for _ in range(8))) == [1] * 8


async def test_a_cancelled_request_gives_its_connection_back(conninfo):
    """A caller who hangs up costs nothing: the statement stops, the connection serves on."""
    async with opened(conninfo, StoreConfig(pool_size_min=1, pool_size_max=1)) as router:

        async def sleep() -> None:
            async with router.write() as session:
                await member(session, 1)
                await session.value(q("select pg_sleep(30)"))

        task = asyncio.create_task(sleep())
        await until_asleep(conninfo, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

        assert await members(router) == 0


async def test_the_program_outlives_the_death_of_the_server():
    """kill -9 of PostgreSQL in the middle of requests: errors, then service, without a restart."""
    with fresh_folder() as folder:
        async with EmbeddedServer(folder, durable=False) as server:
            config = StoreConfig(pool_size_max=4, acquire_seconds_max=1.0)
            async with opened(server.conninfo, config) as router:
                await migrate(router)
                async with router.write() as session:
                    await member(session, 1)

                async def write(number: int) -> str:
                    try:
                        async with router.write() as session:
                            await member(session, number)
                            await session.value(q("select pg_sleep(30)"))
                    except UnavailableError as exc:
                        return exc.message
                    return "written"

                requests = [asyncio.create_task(write(n)) for n in (2, 3)]
                await until_asleep(server.conninfo, 2)
                os.kill(server._postmaster.pid(), signal.SIGKILL)
                messages = await asyncio.gather(*requests)
                tries = 0
                while True:
                    tries += 1
                    try:
                        left = await members(router)
                        break
                    except UnavailableError:
                        assert tries < 20, "the program does not recover"

    assert left == 1
    assert set(messages) == {"the database went away during the request"}
