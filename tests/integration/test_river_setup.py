"""Goal: a server that cannot feed the river is named with the next step; PostgreSQL 15 can."""

import asyncio
from contextlib import asynccontextmanager

import psycopg
import pytest
from other_servers import DEBIAN, PASSWORD, debian_15, owned_by
from river_ledger import WAIT_SECONDS, Ledger, position_now, q
from waiting import until

from millrace.kernel.errors import SetupError
from millrace.store.changes.named import NamedStream
from millrace.store.changes.slots import slots
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.embedded import EmbeddedServer
from millrace.store.migrate import migrate
from millrace.store.testing import fresh_folder, opened

pytestmark = pytest.mark.services

MEMBER = q(
    "insert into member (community_id, member_id, external_id, handle, display_name, joined_at)"
    " values (1, %(id)s, 'm' || %(id)s::text, 'm' || %(id)s::text, 'm', now())"
)


def members() -> Ledger:
    """A ledger of members."""
    return Ledger("member", name="members", keys=("community_id", "member_id"))


@asynccontextmanager
async def server_with(**settings: str):
    """A migrated server whose owner has settings of their own; its address."""
    with fresh_folder() as folder:
        async with EmbeddedServer(folder, durable=False) as server:
            async with opened(server.conninfo) as router:
                await migrate(router)
            with psycopg.connect(server.conninfo, autocommit=True) as db:
                for name, value in settings.items():
                    db.execute(f"alter system set {name} = {value}")
        async with EmbeddedServer(folder, durable=False) as server:
            yield server.conninfo


async def refused(conninfo: str) -> SetupError:
    """How a start is refused; nothing stays behind."""
    for stream in (TemporaryStream(conninfo, [members()]), NamedStream(conninfo, members())):
        with pytest.raises(SetupError) as caught:
            await stream.start()
        await stream.stop()
        assert caught.value.next_step
    return caught.value


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("wal_level", "replica", "cannot be read as changes"),
        ("max_replication_slots", "0", "no room for another stream"),
        ("max_wal_senders", "0", "no room for another stream"),
    ],
)
async def test_settings_of_the_server(setting, value, words):
    """The setting, its value and what to write are named."""
    async with server_with(**{setting: value}) as conninfo:
        error = await refused(conninfo)

    assert words in error.message
    assert error.field == setting
    assert str(error.value) == value
    assert setting in error.next_step


async def test_all_slots_are_taken():
    """A slot that others hold is not ours to take."""
    async with server_with(max_replication_slots="1") as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as db:
            db.execute("select pg_create_physical_replication_slot('somebody')")
        error = await refused(conninfo)

    assert (error.field, error.value) == ("max_replication_slots", 1)
    assert "2 per server process, 2 for the database" in str(error.limit)


async def test_a_slot_that_lost_its_log_is_made_anew(caplog):
    """It held more than the cap: the server gave it up, and the work begins anew."""
    async with server_with(max_slot_wal_keep_size="1") as conninfo, opened(conninfo) as router:
        ledger = members()
        async with NamedStream(conninfo, ledger):
            pass
        with psycopg.connect(conninfo, autocommit=True) as db:
            db.execute("create table aside (text text)")
            for _ in range(4):
                db.execute(
                    "insert into aside select repeat('x', 900) from generate_series(1, 9000)"
                )
                db.execute("select pg_switch_wal()")
            db.execute("checkpoint")
        assert [slot.wal_status for slot in await slots(router)] == ["lost"]
        async with router.write() as session:
            await session.run(MEMBER, id=1)
        async with NamedStream(conninfo, ledger) as stream:
            assert await stream.reached(await position_now(conninfo), WAIT_SECONDS)
            assert [slot.wal_status for slot in await slots(router)] == ["reserved"]

    assert ledger.begins == 2
    assert {key[1] for key in ledger.rows["member"]} == {1}
    assert "is given up and made anew" in caplog.text


@pytest.mark.parametrize("durable", [True, False])
async def test_a_server_stops_while_a_consumer_works(durable):
    """It would wait for us to confirm what it has sent; we leave, and the consumer hears of it."""
    ledger = members()
    working = asyncio.Event()

    async def work(_: object) -> None:
        if ledger.position is not None:
            working.set()
            await asyncio.Event().wait()

    ledger.before_apply = work
    with fresh_folder() as folder:
        server = EmbeddedServer(folder, durable=False)
        await server.start()
        async with opened(server.conninfo) as router:
            await migrate(router)
            kind = NamedStream if durable else lambda at, one: TemporaryStream(at, [one])
            stream = kind(server.conninfo, ledger)
            await stream.start()
            async with router.write() as session:
                await session.run(MEMBER, id=1)
            await asyncio.wait_for(working.wait(), WAIT_SECONDS)
        async with asyncio.timeout(15.0):  # it gives up after 30 s
            await server.stop()
        await until(lambda: ledger.losses)
        await stream.stop()

    assert not stream.state().connected


async def test_a_commit_is_told_when_it_is_seen():
    """It is in the log before others see it, here for long: it waits for a standby that never comes."""
    async with server_with() as conninfo, opened(conninfo) as router:
        ledger = members()
        async with TemporaryStream(conninfo, [ledger]) as stream:
            with psycopg.connect(conninfo, autocommit=True) as db:
                db.execute("set synchronous_commit = local")
                db.execute("alter system set synchronous_standby_names = 'nobody'")
                db.execute("select pg_reload_conf()")
                written: list[int] = []
                writing = asyncio.create_task(keep_adding(router, written))
                await until(lambda: stream.state().lag_seconds > 0.3)
                stuck = len(written) + 1
                assert db.execute("select count(*) from member").fetchone() == (len(written),)
                assert [c.key[1] for c in ledger.changes] == written
                db.execute("alter system reset synchronous_standby_names")
                db.execute("select pg_reload_conf()")
                await until(lambda: stuck in [c.key[1] for c in ledger.changes])
            writing.cancel()
            await asyncio.wait([writing])


async def keep_adding(router, written: list[int]) -> None:
    """Members, one after the other; note which were acknowledged."""
    while True:
        async with router.write() as session:
            await session.run(MEMBER, id=len(written) + 1)
        written.append(len(written) + 1)


async def test_not_migrated(server):
    """The river is made by the migrations."""
    error = await refused(server.empty())

    assert "no publication 'millrace'" in error.message
    assert "millrace migrate" in error.next_step


@pytest.fixture(scope="module")
def fifteen():
    """The address of PostgreSQL 15 with a log that can be read as changes."""
    if not (DEBIAN / "postgres").exists():
        pytest.skip("no PostgreSQL 15: apt install postgresql-15")
    with debian_15(settings="-c wal_level=logical") as conninfo:
        yield conninfo


async def whole_river(superuser: str, role: str) -> None:
    """What both kinds of streams do, by a plain role that may read the log."""
    conninfo = owned_by(superuser, role)
    async with opened(conninfo) as router:
        await migrate(router)
        error = await refused(conninfo)
        assert (error.value, error.field) == (role, "store.primary")
        assert f"alter role {role} replication" in error.next_step
        assert PASSWORD not in f"{error} {error.next_step}"
        with psycopg.connect(superuser, autocommit=True) as db:
            db.execute(f"alter role {role} replication")
        shared, durable = members(), members()
        async with (
            TemporaryStream(conninfo, [shared]) as memory,
            NamedStream(conninfo, durable) as named,
        ):
            async with router.write() as session:
                await session.run(MEMBER, id=1)
                await session.run(q("update member set skills = '{a,b}'"))
                await session.run(q("delete from member"))
                await session.run(MEMBER, id=1)
            at = await position_now(conninfo)
            for stream in (memory, named):
                assert await stream.reached(at, WAIT_SECONDS)
            assert len(await slots(router)) == 2
            with psycopg.connect(superuser, autocommit=True) as db:
                db.execute("select pg_terminate_backend(active_pid) from pg_replication_slots")
            await until(lambda: shared.begins == 2 and named.state().restarts == 1)
            async with router.write() as session:
                await session.run(MEMBER, id=2)
            at = await position_now(conninfo)
            for stream in (memory, named):
                assert await stream.reached(at, WAIT_SECONDS)

    for ledger in (shared, durable):
        assert [c.version for c in ledger.changes[:4]] == [1, 2, 3, 4]
        assert ledger.changes[1].after["skills"] == ["a", "b"]
        assert {key[1] for key in ledger.rows["member"]} == {1, 2}
    assert shared.surprises == []


async def test_postgresql_15_with_a_plain_role(fifteen):
    """Debian's own server is enough."""
    await whole_river(fifteen, "river")


async def test_the_bundled_server_with_a_plain_role(server):
    """So is a newer one."""
    await whole_river(server.conninfo("postgres"), "river")
