"""Goal: what comes down the river, replayed, is what the tables hold. Sequences are generated."""

import asyncio
import json
import math
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Json
from river_ledger import WAIT_SECONDS, Ledger, position_now
from waiting import until

from millrace.store.changes.named import NamedStream
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.changes.types import Batch

pytestmark = pytest.mark.services
PROPERTY = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20
)
TYPES = {
    "a": "int2", "b": "int4", "f4": "float4", "f8": "float8", "ok": "bool", "t": "text",
    "y": "bytea", "m": "timestamptz", "l": "pg_lsn", "ts": "text[]", "ns": "int8[]",
    "fs": "float8[]", "js": "jsonb", "nu": "numeric", "d": "date",
}  # fmt: skip
AS_TEXT = {"l", "js", "nu", "d"}
ODD = f"""
create table odd (id int8 primary key, {", ".join(f"{n} {t}" for n, t in TYPES.items())});
alter table odd alter column t set storage external;
alter publication millrace add table odd;
"""
texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
values = st.fixed_dictionaries(
    {},
    optional={
        "a": st.integers(-(2**15), 2**15 - 1),
        "b": st.integers(-(2**31), 2**31 - 1),
        "f4": st.floats(width=32),
        "f8": st.floats(),
        "ok": st.booleans(),
        # Above 2 kB a value lies beside the row, and an update that leaves it alone omits it.
        "t": st.one_of(st.none(), texts, texts.map(lambda text: (text or "x") * 9_000)),
        "y": st.binary(max_size=20),
        "m": st.integers(-(10**9) * 62, 10**9 * 253).map(
            lambda seconds: datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)
        ),
        "l": st.integers(0, 2**63).map(lambda n: f"{n >> 32:X}/{n & 0xFFFFFFFF:X}"),
        "ts": st.lists(texts, max_size=3),
        "ns": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=3),
        "fs": st.lists(st.floats(), max_size=3),
        "js": st.dictionaries(texts, st.integers(), max_size=2).map(Json),
        "nu": st.decimals(allow_infinity=False, allow_nan=False, places=3, max_value=10**9),
        "d": st.dates(),
    },
)
numbers = st.integers(1, 4)
writes = st.one_of(
    st.tuples(st.just("insert"), numbers, values),
    st.tuples(st.just("update"), numbers, values),
    st.tuples(st.just("move"), numbers, numbers),
    st.tuples(st.just("delete"), numbers, st.none()),
    st.tuples(st.just("truncate"), st.none(), st.none()),
    st.tuples(st.just("alter"), st.sampled_from(["add", "drop", "widen"]), st.none()),
)
transactions = st.lists(
    st.tuples(st.lists(writes, min_size=1, max_size=5), st.sampled_from(["commit", "rollback"])),
    min_size=1,
    max_size=6,
)


def write(db: psycopg.Connection, kind: str, which: object, what: object) -> None:
    """One write, in a savepoint of its own: what fails is undone and says nothing."""
    alters = {
        "add": "alter table odd add column if not exists extra text",
        "drop": "alter table odd drop column if exists extra",
        "widen": "alter table odd alter column a type int8",
    }
    try:
        with db.transaction():
            if kind == "insert":
                names = ["id", *what]
                marks = ", ".join(f"%({n})s" for n in names)
                db.execute(
                    f"insert into odd ({', '.join(names)}) values ({marks})", {"id": which, **what}
                )
            elif kind == "update" and what:
                sets = ", ".join(f"{n} = %({n})s" for n in what)
                db.execute(f"update odd set {sets} where id = %(id)s", {"id": which, **what})
            elif kind == "move":
                db.execute("update odd set id = %s where id = %s", (what, which))
            elif kind == "delete":
                db.execute("delete from odd where id = %s", (which,))
            elif kind == "truncate":
                db.execute("truncate odd")
            elif kind == "alter":
                db.execute(alters[which])
    except psycopg.errors.UniqueViolation:
        pass


def plain(value: object) -> object:
    """Not-a-number equals itself here; a document is what it says."""
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value


def table(db: psycopg.Connection) -> dict:
    """What the table holds, in the terms of the stream."""
    shown = ", ".join(f"{n}::text" if n in AS_TEXT else n for n in TYPES)
    rows = db.execute(f"select id, {shown} from odd").fetchall()
    return {
        (line[0],): {n: plain(v) for n, v in zip(TYPES, line[1:], strict=True)} for line in rows
    }


def told(ledger: Ledger) -> dict:
    """What the ledger holds, as far as the table may be compared."""
    return {
        key: {name: plain(row.get(name)) for name in TYPES}
        for key, row in ledger.rows["odd"].items()
    }


def test_replayed_equals_the_table(conninfo):
    """Any writes, in any transactions, over tables that change their shape."""
    runner = asyncio.Runner()
    ledger = Ledger("odd")
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute("set timezone = 'UTC'")
        db.execute(ODD)
        stream = TemporaryStream(conninfo, [ledger])
        runner.run(stream.start())

        @PROPERTY
        @given(transactions)
        def replays(given_transactions):
            for steps, end in given_transactions:
                with db.transaction() as whole:
                    for step in steps:
                        write(db, *step)
                    if end == "rollback":
                        raise psycopg.Rollback(whole)
            position = runner.run(position_now(conninfo))
            assert runner.run(stream.reached(position, WAIT_SECONDS))
            assert told(ledger) == table(db)
            assert ledger.surprises == []

        try:
            replays()
        finally:
            runner.run(stream.stop())
            runner.close()

    assert ledger.begins == 1
    assert json.dumps(stream.state().name) == '"memory"'


async def scribble(conninfo: str, steps: list, going: asyncio.Event) -> None:
    """Write from a thread of its own, a transaction per step; tell when it is half done."""

    def work() -> None:
        with psycopg.connect(conninfo, autocommit=True) as db:
            for place, step in enumerate(steps):
                if place == len(steps) // 2:
                    loop.call_soon_threadsafe(going.set)
                write(db, *step)

    loop = asyncio.get_running_loop()
    await asyncio.to_thread(work)
    going.set()


def drop_slots(db: psycopg.Connection) -> None:
    """The next example begins without any."""
    mine = "from pg_replication_slots where database = current_database()"
    db.execute(f"select pg_terminate_backend(active_pid, 9000) {mine} and active")
    db.execute(f"select pg_drop_replication_slot(slot_name) {mine} and not temporary")


busy = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.integers(1, 60), st.just({"a": 1})),
        st.tuples(st.just("update"), st.integers(1, 60), st.just({"b": 2})),
        st.tuples(st.just("delete"), st.integers(1, 60), st.none()),
    ),
    min_size=150,
    max_size=150,
)


@settings(PROPERTY, max_examples=8)
@given(st.lists(busy, min_size=2, max_size=3), st.booleans())
def test_a_snapshot_in_the_middle_of_writes(conninfo, writers, durable):
    """It fits the stream behind it exactly: nothing is lost, nothing comes twice."""

    async def whole() -> None:
        with psycopg.connect(conninfo, autocommit=True) as db:
            db.execute("drop table if exists odd")
            db.execute(ODD)
            ledger = Ledger("odd", name=f"ledger_{durable:d}")
            going = asyncio.Event()
            writing = [asyncio.create_task(scribble(conninfo, steps, going)) for steps in writers]
            await going.wait()
            made = NamedStream(conninfo, ledger) if durable else TemporaryStream(conninfo, [ledger])
            async with made as stream:
                await asyncio.gather(*writing)
                assert await stream.reached(await position_now(conninfo), WAIT_SECONDS)
                assert told(ledger) == table(db)
                assert ledger.surprises == []
            drop_slots(db)

    asyncio.run(whole())


class Durable(Ledger):
    """Keeps what it did with the place that it is from, as a durable consumer does.

    The last word of a stream that ends may be lost on its way; then what was done comes again.
    """

    async def apply(self, batch: Batch) -> None:
        done = 0 if self.position is None else self.position.lsn
        again = [change for change in batch.changes if change.position.lsn <= done]
        if again:
            places = [change.position.lsn for change in self.changes]
            first = places.index(again[0].position.lsn)
            if self.changes[first : first + len(again)] != again:
                self.surprises.append(f"came again, and otherwise: {again}")
        if batch.position is None or batch.position.lsn > done:
            await super().apply(Batch(batch.changes[len(again) :], batch.position))


@settings(PROPERTY, max_examples=8)
@given(st.lists(busy, min_size=1, max_size=2), st.lists(st.integers(1, 40), max_size=4))
def test_a_named_stream_goes_on_where_it_was_safe(conninfo, writers, stops):
    """Stopped again and again, with work that was not safe: changes come again, never out of order."""

    async def whole() -> None:
        with psycopg.connect(conninfo, autocommit=True) as db:
            db.execute("drop table if exists odd")
            db.execute(ODD)
            ledger = Durable("odd", name="goes_on")
            async with NamedStream(conninfo, ledger):
                pass
            rows, surprises = ledger.rows["odd"], ledger.surprises
            writing = [asyncio.create_task(scribble(conninfo, s, asyncio.Event())) for s in writers]
            for count in stops:
                async with NamedStream(conninfo, ledger):
                    await wait_for_changes(ledger, count, writing)
            await asyncio.gather(*writing)
            async with NamedStream(conninfo, ledger) as stream:
                assert await stream.reached(await position_now(conninfo), WAIT_SECONDS)
            assert told(ledger) == table(db)
            assert (rows is ledger.rows["odd"], surprises) == (True, [])
            assert ledger.begins == 1
            drop_slots(db)

    asyncio.run(whole())


async def wait_for_changes(ledger: Ledger, count: int, writing: list[asyncio.Task]) -> None:
    """Wait for some changes, as long as there may be some."""
    before = len(ledger.changes)
    while len(ledger.changes) < before + count and not all(task.done() for task in writing):
        await asyncio.sleep(0.001)


@settings(PROPERTY, max_examples=6)
@given(busy, st.lists(st.sampled_from(["sender", "asking"]), min_size=1, max_size=5), st.booleans())
def test_connections_that_are_lost_again_and_again(conninfo, steps, ended, durable):
    """The one that streams, or the one beside it, at any moment: in the end nothing is missing."""

    async def whole() -> None:
        with psycopg.connect(conninfo, autocommit=True) as db:
            db.execute("drop table if exists odd")
            db.execute(ODD)
            ledger = Ledger("odd", name=f"cut_{durable:d}")
            made = NamedStream(conninfo, ledger) if durable else TemporaryStream(conninfo, [ledger])
            async with made as stream:
                writing = asyncio.create_task(scribble(conninfo, steps, asyncio.Event()))
                for which in ended:
                    await until(lambda: stream.state().connected)
                    db.execute(
                        "select pg_terminate_backend(pid) from pg_stat_activity where datname ="
                        " current_database() and application_name like 'millrace %%'"
                        " and (backend_type = 'walsender') = %s",
                        (which == "sender",),
                    )
                    await until(lambda: stream.state().failures > 0)
                await writing
                assert await stream.reached(await position_now(conninfo), WAIT_SECONDS)
                assert told(ledger) == table(db)
                assert durable or ledger.surprises == []
                assert ledger.begins == (1 if durable else 1 + stream.state().restarts)
            drop_slots(db)

    asyncio.run(whole())
