"""Goal: work behind a named slot is missed by nobody: not by a kill, not by a second process."""

import asyncio
import logging
import os
import sys
from pathlib import Path

import psycopg
import pytest
from river_ledger import WAIT_SECONDS, Ledger, position_now, q
from waiting import until

from millrace.kernel.errors import ConflictError, InvalidError, NotFoundError
from millrace.store.changes.delivery import PULSE_SECONDS
from millrace.store.changes.named import FAILURES_MAX, NamedStream
from millrace.store.changes.slots import cap_bytes, drop, slots
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.types import Position

pytestmark = pytest.mark.services

MEMBER = q(
    "insert into member (community_id, member_id, external_id, handle, display_name, joined_at)"
    " values (1, %(id)s, 'm' || %(id)s::text, 'm' || %(id)s::text, 'm', now())"
)


class Durable(Ledger):
    """Keeps what it holds when its process ends; says itself what is safe."""

    def __init__(self) -> None:
        super().__init__("member", name="durable", keys=("community_id", "member_id"))
        self.safe_to: Position | None = None
        self.says_safe = True

    def safe(self) -> Position | None:
        if self.says_safe:
            self.safe_to = self.position
        return self.safe_to

    def ids(self) -> set[int]:
        """Whose rows it holds."""
        return {key[1] for key in self.rows["member"]}


async def add(router, *numbers: int) -> None:
    """Members in one transaction."""
    async with router.write() as session:
        await session.run_many(MEMBER, [{"id": number} for number in numbers])


async def caught_up(stream, conninfo) -> None:
    """Wait until a position of now is applied."""
    assert await stream.reached(await position_now(conninfo), WAIT_SECONDS)


async def test_it_goes_on_where_it_was_safe(router, conninfo):
    """Begun once; what was written meanwhile comes; what was not safe comes again, in order."""
    await add(router, 1)
    ledger = Durable()
    async with NamedStream(conninfo, ledger) as stream:
        assert (ledger.begins, ledger.ids()) == (1, {1})
        await add(router, 2)
        await caught_up(stream, conninfo)
    await add(router, 3)
    ledger.says_safe = False
    async with NamedStream(conninfo, ledger) as stream:
        await add(router, 4)
        await caught_up(stream, conninfo)
    again = Durable()
    again.rows = {"member": {}}
    async with NamedStream(conninfo, again) as stream:
        await caught_up(stream, conninfo)

    assert (ledger.begins, again.begins, ledger.ids()) == (1, 0, {1, 2, 3, 4})
    assert ledger.surprises == []
    assert [c.key[1] for c in again.changes] == [3, 4]


async def test_nothing_is_given_up_before_the_first_safe_place(router, conninfo):
    """A consumer that has not said what is safe gets everything again."""
    ledger = Durable()
    ledger.says_safe = False
    for number in (1, 2):
        async with NamedStream(conninfo, ledger) as stream:
            await add(router, number)
            await caught_up(stream, conninfo)
            await asyncio.sleep(2 * PULSE_SECONDS)  # it has told the server how far it is

    assert [c.key[1] for c in ledger.changes] == [1, 1, 2]


async def test_the_slot_says_whose_it_is(router, conninfo):
    """Database and consumer are in its name; only safe log is given up."""
    ledger = Durable()
    async with NamedStream(conninfo, ledger) as stream:
        (slot,) = await slots(router)
        assert slot.name.startswith("millrace_durable_")
        assert (slot.active, slot.temporary, slot.wal_status) == (True, False, "reserved")
        ledger.says_safe = False
        for number in range(1, 40):
            await add(router, *range(number * 100, number * 100 + 100))
        await caught_up(stream, conninfo)
        with pytest.raises(ConflictError, match="a process reads"):
            await drop(router, slot.name)
    await until_inactive(router)
    (left,) = await slots(router)

    assert left.held_bytes > slot.held_bytes + 100_000
    assert await cap_bytes(router) == 2 << 30
    with pytest.raises(NotFoundError, match="no slot"):
        await drop(router, "somebody_else_s")
    await drop(router, left.name)
    assert await slots(router) == []


async def until_inactive(router) -> None:
    """Wait until the server has seen that the reader left."""
    async with asyncio.timeout(WAIT_SECONDS):
        while any(slot.active for slot in await slots(router)):
            await asyncio.sleep(0.01)


async def test_one_process_leads(router, conninfo, caplog):
    """The second starts, waits and says so once; it goes on where the first stops."""
    caplog.set_level(logging.INFO, "millrace")
    ledger, later = Durable(), Durable()
    first, second = NamedStream(conninfo, ledger), NamedStream(conninfo, later)
    await first.start()
    await second.start()
    assert (first.state().connected, second.state().connected) == (True, False)
    await add(router, 1)
    await caught_up(first, conninfo)
    later.rows = ledger.rows
    await first.stop()
    await until(lambda: second.state().connected)
    await add(router, 2)
    await caught_up(second, conninfo)
    await second.stop()

    assert later.begins == 0
    assert [c.key[1] for c in later.changes] == [2]
    assert caplog.text.count("another process reads from the slot") == 1


@pytest.mark.parametrize("when", ["running", "stopped"])
async def test_a_dropped_slot_is_made_anew(router, conninfo, when):
    """Its log is gone, so the work begins anew from a snapshot."""
    ledger = Durable()
    stream = NamedStream(conninfo, ledger)
    await stream.start()
    await add(router, 1)
    await caught_up(stream, conninfo)
    if when == "stopped":
        await stream.stop()
        await until_inactive(router)
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
        mine = "from pg_replication_slots where slot_name like 'millrace_durable_%'"
        async with asyncio.timeout(WAIT_SECONDS):
            while True:
                await db.execute(f"select pg_terminate_backend(active_pid, 5000) {mine} and active")
                try:
                    await db.execute(f"select pg_drop_replication_slot(slot_name) {mine}")
                    break
                except psycopg.errors.ObjectInUse:  # the stream was quicker
                    continue
    await add(router, 2)
    await stream.start()
    await until(lambda: ledger.begins == 2 and stream.state().connected)
    await caught_up(stream, conninfo)
    await stream.stop()

    assert ledger.ids() == {1, 2}


async def test_a_beginning_that_fails_leaves_no_slot(router, conninfo):
    """The slot stands only where everything before it is derived."""
    ledger = Durable()

    async def fail() -> None:
        raise ZeroDivisionError

    ledger.before_begin = fail
    stream = NamedStream(conninfo, ledger)
    with pytest.raises(ZeroDivisionError):
        await stream.start()
    assert [slot for slot in await slots(router) if not slot.temporary] == []

    ledger.before_begin = None
    async with stream:
        assert ledger.begins == 1


async def test_a_change_that_never_passes_is_left_behind(router, conninfo):
    """Tried again a few times from where it is safe, then everything begins anew without it."""
    ledger, tries = Durable(), []

    async def fail(batch) -> None:
        if any(c.key[1] == 13 for c in batch.changes):
            tries.append(ledger.begins)
            raise ZeroDivisionError

    ledger.before_apply = fail
    async with NamedStream(conninfo, ledger) as stream:
        await add(router, 1)
        await caught_up(stream, conninfo)
        await add(router, 13)
        await until(lambda: ledger.begins == 2)
        await add(router, 14)
        await until(lambda: 14 in ledger.ids())

    assert tries == [1] * FAILURES_MAX
    assert ledger.ids() == {1, 13, 14}


async def test_a_database_of_tests_goes_with_its_slots(server):
    """Also while streams run: they end, and find no database any more."""
    conninfo = server.copy()
    ledger, shared = Durable(), Durable()
    stream = NamedStream(conninfo, ledger)
    async with TemporaryStream(conninfo, [shared]) as memory:
        await stream.start()
        await asyncio.to_thread(server.drop, conninfo)
        await until(lambda: ledger.losses and shared.losses)
        assert not memory.state().connected
    await stream.stop()

    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as db:
        name = conninfo.rpartition("dbname=")[2]
        left = "select count(*) from pg_replication_slots where database = %s"
        assert db.execute(left, (name,)).fetchone() == (0,)


@pytest.mark.parametrize("name", ["", "Upper", "with space", "x" * 40, "9"])
def test_names_that_no_slot_can_have(conninfo, name):
    """Refused before anything is asked of the server."""
    with pytest.raises(InvalidError, match="slot cannot have this name"):
        NamedStream(conninfo, Ledger("member", name=name))


KILLED = """
import asyncio, sys
from river_ledger import Ledger
from millrace.store.changes.delivery import PULSE_SECONDS
from millrace.store.changes.named import NamedStream

class Durable(Ledger):
    def safe(self):
        return None if self.position is None else self.position

async def main():
    ledger = Durable("member", name="durable", keys=("community_id", "member_id"))
    async with NamedStream(sys.argv[1], ledger):
        print("flows", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_process_is_killed(router, conninfo):
    """`kill -9` of whoever has the slot: the next one goes on, and misses nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, conninfo, stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ, PYTHONPATH=str(Path(__file__).parent)),
    )  # fmt: skip
    try:
        assert await asyncio.wait_for(process.stdout.readline(), WAIT_SECONDS) == b"flows\n"
        ledger = Durable()
        stream = NamedStream(conninfo, ledger)
        await stream.start()
        assert not stream.state().connected
        await add(router, 1)
        process.kill()
        await add(router, 2)
        await until(lambda: stream.state().connected)
        await caught_up(stream, conninfo)
        await stream.stop()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()

    assert ledger.begins == 0
    assert {2} <= {c.key[1] for c in ledger.changes} <= {1, 2}
