"""Goal: each process's wheels turn with every commit, and begin anew after whatever stops them."""

import asyncio
import logging
import os
import signal
import threading

import psycopg
import pytest
from river_ledger import WAIT_SECONDS, Ledger, position_now, q
from waiting import until

from millrace.kernel.errors import MillraceError, UnavailableError
from millrace.store.changes.slots import slots
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.changes.types import MESSAGES, UNCHANGED, Batch, Operation, Snapshot
from millrace.store.embedded import EmbeddedServer
from millrace.store.migrate import migrate
from millrace.store.testing import fresh_folder, opened
from millrace.store.types import Position

pytestmark = pytest.mark.services

MEMBER = q(
    "insert into member (community_id, member_id, external_id, handle, display_name, joined_at)"
    " values (1, %(id)s, 'm' || %(id)s::text, 'm' || %(id)s::text, 'm', now())"
)


IMPRESSIONS = """
insert into impression (community_id, member_id, shown_at, post_community_id, post_id, position)
select 1, n, now(), 1, n, 0 from generate_series(1, %(count)s) as n
"""


def members(*, name: str = "members") -> Ledger:
    """A ledger of members."""
    return Ledger("member", name=name, keys=("community_id", "member_id"))


class Hearing:
    """A consumer that remembers what it heard, and nothing else."""

    name = "hearing"

    def __init__(self, *tables: str) -> None:
        self.tables = frozenset(tables)
        self.batches: list[Batch] = []

    async def begin(self, snapshot: Snapshot) -> None:
        self.batches.clear()

    async def apply(self, batch: Batch) -> None:
        self.batches.append(batch)

    def lost(self) -> None:
        """Nothing is held."""


async def add(router, *numbers: int) -> None:
    """Members in one transaction."""
    async with router.write() as session:
        await session.run_many(MEMBER, [{"id": number} for number in numbers])


async def reached(stream, router) -> Position:
    """Wait until a token of now is applied; return its position."""
    position = await router.position_of(await router.token())
    assert position is not None
    assert await stream.reached(position, WAIT_SECONDS)
    return position


async def test_consumers_share_a_beginning_and_a_position(router, conninfo):
    """Both see the same snapshot, then the same commits; each only its own tables."""
    await add(router, 1)
    first, second = members(), Ledger("community", name="communities", keys=("community_id",))
    async with TemporaryStream(conninfo, [first, second]) as stream:
        assert (first.begins, second.begins) == (1, 1)
        assert first.position == second.position == stream.applied
        await add(router, 2, 3)
        async with router.write() as session:
            await session.run(
                q(
                    "insert into community (community_id, external_id, name, created_at)"
                    " values (5, 'e', 'n', now())"
                )
            )
        at = await reached(stream, router)
        state = stream.state()

        assert stream.applied >= at
        assert {key[1] for key in first.rows["member"]} == {1, 2, 3}
        assert [c.table for c in second.changes] == ["community"]
        assert (first.surprises, first.losses) == ([], 0)
        assert (state.connected, state.changes, state.failures, state.restarts) == (True, 3, 0, 0)
        assert (state.lag_seconds, state.lag_bytes) == (0.0, 0)
    assert stream.applied is None
    assert (first.losses, second.losses) == (1, 1)


async def test_versions_and_places(router, conninfo):
    """A version of every write, a delete's from its tombstone; one place per transaction."""
    ledger = members()
    async with TemporaryStream(conninfo, [ledger]) as stream:
        await add(router, 1, 2)
        async with router.write() as session:
            await session.run(q("update member set about = 'x' where member_id = 1"))
            await session.run(q("delete from member where member_id = 1"))
        await add(router, 1)
        await reached(stream, router)

    told = [(c.op, c.key[1], c.version, c.number) for c in ledger.changes]
    assert told == [
        (Operation.CREATE, 1, 1, 0),
        (Operation.CREATE, 2, 1, 1),
        (Operation.UPDATE, 1, 2, 0),
        (Operation.DELETE, 1, 3, 1),
        (Operation.CREATE, 1, 4, 0),
    ]
    places = [c.position.lsn for c in ledger.changes]
    assert places == sorted(places)
    assert len(set(places)) == 3
    assert all(c.committed_at.tzinfo is not None for c in ledger.changes)


async def test_large_values_truncates_and_messages(router, conninfo):
    """What an update leaves alone is not in the log; an unversioned table may lose all its rows."""
    hearing = Hearing("member", "impression", MESSAGES)
    async with TemporaryStream(conninfo, [hearing]) as stream:
        await add(router, 1)
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
            await db.execute("alter table member alter column about set storage external")
            await db.execute("update member set about = repeat('x', 9000)")
            await db.execute("update member set headline = 'new'")
            await db.execute("truncate impression")
            await db.execute("select pg_logical_emit_message(true, 'note', 'for you')")
        await reached(stream, router)

    made, large, small, truncated, said = [c for b in hearing.batches for c in b.changes]
    assert made.after["skills"] == []
    assert len(large.after["about"]) == 9000
    assert (small.after["about"], small.after["headline"]) == (UNCHANGED, "new")
    assert (truncated.op, truncated.table, truncated.key) == (
        Operation.TRUNCATE,
        "impression",
        (),
    )
    assert (said.op, said.after) == (
        Operation.MESSAGE,
        {"prefix": "note", "content": b"for you"},
    )


async def test_the_place_follows_where_nothing_is_for_us(router, conninfo):
    """On an idle server, and past much that is written outside of the publication; by itself."""
    ledger = members()
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
        await db.execute("create table aside (id int8, text text)")
        async with TemporaryStream(conninfo, [ledger]) as stream:
            first = stream.applied
            for _ in range(20):
                await db.execute(
                    "insert into aside select n, repeat('x', 500) from generate_series(1, 500) n"
                )
                at = await router.position_of(await router.token())
                await until(lambda at=at: stream.applied >= at)
                assert await stream.reached(at, 0.0)
                assert at > first
            assert ledger.changes == []


async def test_a_token_is_reached_while_somebody_has_not_committed(router, conninfo):
    """What others have written and not committed stands in the log before the token, perhaps not
    yet on disk. Whoever waits makes the server write it out."""
    async with await psycopg.AsyncConnection.connect(conninfo) as db:
        await db.execute("create table aside (id int8)")
        await db.commit()
        async with TemporaryStream(conninfo, [members()]) as stream:
            for _ in range(5):
                await db.execute("insert into aside select generate_series(1, 50)")
                cursor = await db.execute(
                    "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint"
                )
                (lsn,) = await cursor.fetchone()
                inserted = Position(stream.applied.cluster, stream.applied.timeline, lsn)
                # Without a nudge it takes the server up to 15 s to write by itself.
                assert await stream.reached(inserted, 5.0)


async def test_positions_of_other_logs_are_not_waited_for(router, conninfo):
    """Another cluster, another timeline: no. A place that is not there yet: not in time."""
    async with TemporaryStream(conninfo, [members()]) as stream:
        now = stream.applied
        for other in (Position("1", now.timeline, 1), Position(now.cluster, 9, 1)):
            assert not await stream.reached(other, WAIT_SECONDS)
        ahead = Position(now.cluster, now.timeline, now.lsn + 10**12)
        assert not await stream.reached(ahead, 0.02)
        waiting = [asyncio.create_task(stream.reached(ahead, 0.02)) for _ in range(50)]
        assert not any(await asyncio.gather(*waiting))


async def test_a_slow_consumer_holds_the_stream_back(router, conninfo):
    """Nothing is read while it works, the server hears that we live, and all of it comes."""
    ledger, gate = members(), asyncio.Event()
    ledger.before_apply = lambda _: gate.wait()
    async with TemporaryStream(conninfo, [ledger]) as stream:
        before = stream.applied
        await add(router, 1)
        await until(lambda: stream.state().lag_seconds > 0)
        await add(router, *range(2, 5_000))
        assert stream.applied.lsn - before.lsn < 1_000
        assert ledger.changes == []
        gate.set()
        await reached(stream, router)

    assert len(ledger.rows["member"]) == 4_999
    assert max(ledger.sizes) <= 2_000


@pytest.mark.parametrize("how", [ZeroDivisionError("by zero"), asyncio.CancelledError()])
async def test_a_consumer_that_fails_begins_anew(router, conninfo, how, caplog):
    """Raising or cancelled: all hear of the loss, and the snapshot has what failed."""
    ledger, other = members(), members(name="other")
    failures = [how]

    async def fail(_: object) -> None:
        if failures and ledger.changes:
            raise failures.pop()

    ledger.before_apply = fail
    async with TemporaryStream(conninfo, [other, ledger]) as stream:
        await add(router, 1)
        await until(lambda: ledger.changes)
        await add(router, 2)
        await until(lambda: ledger.begins == 2)
        await reached(stream, router)
        await add(router, 3)
        await reached(stream, router)
        state = stream.state()

    for one in (ledger, other):
        assert {key[1] for key in one.rows["member"]} == {1, 2, 3}
        assert (one.begins, one.losses, one.surprises) == (2, 2, [])
    assert (state.failures, state.restarts) == (1, 1)
    assert "the consumer members" in caplog.text


async def test_what_the_first_beginning_raises_is_raised(router, conninfo):
    """A program that cannot begin says so, and leaves nothing behind."""
    ledger = members()

    async def fail() -> None:
        raise ZeroDivisionError

    ledger.before_begin = fail
    stream = TemporaryStream(conninfo, [ledger])
    with pytest.raises(ZeroDivisionError):
        await stream.start()
    await stream.stop()

    await until_no_slot(conninfo)
    ledger.before_begin = None
    async with stream:
        assert ledger.begins == 1


async def test_start_and_stop_may_be_repeated(router, conninfo):
    """Twice started is started, twice stopped is stopped; nothing stays: no thread, no slot."""
    threads = threading.active_count()
    ledger = members()
    stream = TemporaryStream(conninfo, [ledger])
    await stream.stop()
    for _ in range(3):
        await asyncio.gather(stream.start(), stream.start())
        await stream.start()
        await reached(stream, router)
        assert len(await slots(router)) == 1
        await asyncio.gather(stream.stop(), stream.stop())
        assert stream.applied is None
        await until_no_slot(conninfo)

    assert ledger.begins == 3
    assert threading.active_count() == threads


async def test_a_start_that_is_cancelled_leaves_nothing(conninfo):
    """A slot waits for transactions that run; who gives up waiting is gone at once."""
    async with await psycopg.AsyncConnection.connect(conninfo) as db:
        await db.execute("create table aside (id int8)")
        starting = asyncio.create_task(TemporaryStream(conninfo, [members()]).start())
        await asyncio.wait({starting}, timeout=0.3)
        assert not starting.done()
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(starting, WAIT_SECONDS)

    await until_no_slot(conninfo)


async def until_no_slot(conninfo: str) -> None:
    """Wait until the server has seen that we left."""
    count = "select count(*) from pg_replication_slots where database = current_database()"
    async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
        async with asyncio.timeout(WAIT_SECONDS):
            while (await (await db.execute(count)).fetchone())[0]:
                await asyncio.sleep(0.01)


async def test_a_consumer_that_wants_what_is_not_published(conninfo):
    """A mistake in the program, told at the start."""
    with pytest.raises(MillraceError, match="has no table migration"):
        await TemporaryStream(conninfo, [Ledger("migration")]).start()


async def test_the_server_is_killed(caplog):
    """`kill -9` in mid-stream: lost, begun anew, and what was acknowledged is there."""
    caplog.set_level(logging.ERROR)
    ledger, written = members(), list[int]()
    with fresh_folder() as folder:
        async with (
            EmbeddedServer(folder, durable=False) as server,
            opened(server.conninfo) as router,
        ):
            await migrate(router)
            async with TemporaryStream(server.conninfo, [ledger]) as stream:
                writing = asyncio.create_task(keep_adding(router, written))
                for begins in (2, 3):
                    await until(lambda: len(ledger.changes) > 20)
                    ledger.changes.clear()
                    pid = int((folder / "postgres" / "postmaster.pid").read_text().split()[0])
                    os.kill(pid, signal.SIGKILL)
                    await until(lambda begins=begins: ledger.begins == begins)
                writing.cancel()
                await asyncio.wait([writing])
                assert await stream.reached(await position_now(server.conninfo), WAIT_SECONDS)
                async with router.read() as session:
                    there = await session.rows(q("select member_id as id from member"), dict)

    kept = {key[1] for key in ledger.rows["member"]}
    assert kept == {row["id"] for row in there}
    assert set(written) <= kept
    assert ledger.losses == ledger.begins == 3
    assert ledger.surprises == []


async def keep_adding(router, written: list[int]) -> None:
    """Write for ever; note what was acknowledged."""
    number = 0
    while True:
        number += 1
        try:
            await add(router, number)
        except UnavailableError:
            await asyncio.sleep(0.01)
        else:
            written.append(number)


async def test_a_large_transaction_needs_little_memory(router, conninfo):
    """100,000 rows come in parts, while nothing is kept; the place moves only at their end."""
    hearing = Hearing("impression")
    async with TemporaryStream(conninfo, [hearing]) as stream:
        async with await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as db:
            await db.execute(IMPRESSIONS, {"count": 100_000})
        await reached(stream, router)
        assert stream.state().changes == 100_000

    filled = [batch for batch in hearing.batches if batch.changes]
    assert sum(len(batch.changes) for batch in filled) == 100_000
    assert max(len(batch.changes) for batch in filled) <= 2_000
    assert [batch.position for batch in filled[:-1]] == [None] * (len(filled) - 1)
