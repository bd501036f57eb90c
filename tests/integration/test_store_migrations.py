"""Goal: one way forward, by one process at a time, all or nothing."""

import asyncio
import re
from importlib import resources
from pathlib import Path

import psycopg
import pytest

from millrace.kernel.errors import SetupError
from millrace.store.migrate import Migration, known, migrate
from millrace.store.programs import binaries, run_as
from millrace.store.testing import opened

pytestmark = pytest.mark.services


@pytest.fixture
def empty(server):
    """The address of a database without any table."""
    made = server.empty()
    yield made
    server.drop(made)


def shape_of(conninfo: str, folder: Path) -> list[str]:
    """What pg_dump says the database is: one text per object, sorted, without comments and owners."""
    file = folder / "dump.sql"
    options = ["--schema-only", "--no-owner", "--exclude-table=migration", "-f", str(file)]
    dumped = run_as(None, [str(binaries() / "pg_dump"), *options, "-d", conninfo])
    assert dumped.status == 0, dumped.said
    blocks = re.split(r"^-- Name: .*$", file.read_text(), flags=re.MULTILINE)
    noise = re.compile(r"^(--.*|SET .*|SELECT .*|\\(un)?restrict .*)$", re.MULTILINE)
    return sorted(text for block in blocks if (text := noise.sub("", block).strip()))


def step(name: str, text: str) -> Migration:
    """A migration of a test."""
    return Migration(f"9{name}", f"fingerprint of {text}", text)


async def tables(conninfo: str) -> set[str]:
    """The names of the tables that are there."""
    async with await psycopg.AsyncConnection.connect(conninfo) as db:
        cursor = await db.execute("select tablename from pg_tables where schemaname = 'public'")
        return {line[0] for line in await cursor.fetchall()}


async def test_schema_equals_migrations(conninfo, empty, tmp_path):
    """schema.sql is what is, migrations/ is how we came here: they are the same."""
    schema = (resources.files("millrace.schema") / "schema.sql").read_text(encoding="utf-8")
    async with await psycopg.AsyncConnection.connect(empty) as db:
        await db.execute(schema)

    by_schema, by_migrations = shape_of(empty, tmp_path), shape_of(conninfo, tmp_path)
    assert len(by_schema) > 100
    assert by_schema == by_migrations, "put the change into schema.sql and into a migration"


async def test_every_step_is_named_and_in_order():
    """The name says the number and when it may run; names and numbers are unique."""
    names = [found.name for found in known()]

    assert names == sorted(names)
    assert all(re.fullmatch(r"\d{4}_[a-z_]+\.(pre|post)", name) for name in names)
    assert len({name[:4] for name in names}) == len(names)


async def test_a_second_run_changes_nothing(empty, tmp_path):
    """Starting again is no event."""
    async with opened(empty) as router:
        first = await migrate(router)
        before = shape_of(empty, tmp_path)
        again = await migrate(router)

    assert first == [found.name for found in known()]
    assert again == []
    assert shape_of(empty, tmp_path) == before


async def test_many_processes_at_once_migrate_once(empty):
    """They wait for one another; one does the work."""
    async with opened(empty) as one, opened(empty) as two, opened(empty) as three:
        done = await asyncio.gather(migrate(one), migrate(two), migrate(three))

    assert sorted(done) == [[], [], [found.name for found in known()]]


async def test_a_failing_step_leaves_nothing(router, conninfo):
    """Neither its own half nor the steps of the same run, and the error names it."""
    good = step("001_good.pre", "create table good (id int)")
    bad = step("002_bad.pre", "create table half (id int); create table half (id int)")
    with pytest.raises(
        SetupError, match=r"9002_bad.pre.*failed, and nothing of it was kept.*42P07"
    ):
        await migrate(router, [*known(), good, bad])
    assert not {"good", "half"} & await tables(conninfo)

    mended = step("002_bad.pre", "create table half (id int)")
    assert await migrate(router, [*known(), good, mended]) == [good.name, mended.name]
    assert {"good", "half"} <= await tables(conninfo)


async def test_a_newer_database_is_refused(router):
    """An old release never works on what it does not know."""
    newer = step("001_newer.pre", "create table newer (id int)")
    await migrate(router, [*known(), newer])
    with pytest.raises(SetupError, match=r"9001_newer\.pre.*does not know") as caught:
        await migrate(router)

    assert "newer release" in caught.value.next_step


async def test_a_changed_file_is_refused(router, conninfo):
    """What was applied stays as it was applied."""
    first = step("001_step.pre", "create table first (id int)")
    await migrate(router, [*known(), first])
    changed = step("001_step.pre", "create table changed (id int)")
    with pytest.raises(SetupError, match="was changed after it was applied") as caught:
        await migrate(router, [*known(), changed])

    assert "new migration" in caught.value.next_step
    assert "changed" not in await tables(conninfo)
