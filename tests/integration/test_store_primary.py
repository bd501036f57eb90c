"""Goal: any PostgreSQL from 15 on serves, with a plain role; what cannot serve is named, without secrets."""

import socket
import struct
import threading
from contextlib import contextmanager

import psycopg
import pytest
from msgspec import Struct
from other_servers import DEBIAN, PASSWORD, debian_15, free_port, owned_by

from millrace.kernel.errors import SetupError
from millrace.store.embedded import EmbeddedServer
from millrace.store.migrate import migrate
from millrace.store.pool import Pool
from millrace.store.primary import place_of
from millrace.store.programs import run_as, server_user
from millrace.store.queries import Query
from millrace.store.router import Router
from millrace.store.testing import SECRET, fresh_folder, opened
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services

BRIEF = StoreConfig(acquire_seconds_max=2.0)


@pytest.fixture(scope="module")
def fifteen():
    """The address of PostgreSQL 15, for its superuser."""
    if not (DEBIAN / "postgres").exists():
        pytest.skip("no PostgreSQL 15: apt install postgresql-15")
    with debian_15() as conninfo:
        yield conninfo


def q(text: str) -> Query:
    """A statement of a test."""
    return Query("test", "", text)


class Pair(Struct):
    """Two things."""

    version: int
    name: str


async def whole_store(conninfo: str) -> None:
    """Everything that the program asks of its database, by a role without any right but ownership."""
    insert = q(
        "insert into community (community_id, external_id, name, created_at)"
        " values (5, 'e', 'n', now()) returning system_version as version, name"
    )
    async with opened(conninfo) as router:
        assert await migrate(router) != []
        assert await migrate(router) == []
        async with router.write() as session:
            first = await session.row(insert, Pair)
            await session.run(q("delete from community"))
            again = await session.row(insert, Pair)
        token = await router.token()
        position = await router.position_of(token)
        async with router.read(token) as session:
            published = await session.value(
                q("select count(*) from pg_publication_tables where pubname = 'millrace'")
            )
            privileged = await session.value(
                q("select rolsuper from pg_roles where rolname = current_user")
            )

    assert (first, again) == (Pair(1, "n"), Pair(3, "n"))
    assert position is not None
    assert position.timeline == 1
    assert published > 10
    assert privileged is False


async def test_postgresql_15_with_a_plain_role(fifteen):
    """Debian's own server is enough."""
    await whole_store(owned_by(fifteen, "plain"))


async def test_the_bundled_server_with_a_plain_role(server):
    """So is a newer one."""
    await whole_store(owned_by(server.conninfo("postgres"), "plain"))


async def test_another_role_than_the_owner_is_told(fifteen):
    """Without the right to create tables the migration says what to do."""
    owned_by(fifteen, "guest")
    as_guest = psycopg.conninfo.make_conninfo(fifteen, user="guest", dbname="postgres")
    async with opened(as_guest) as router:
        with pytest.raises(SetupError, match="may not do this") as caught:
            await migrate(router)

    assert "owner to" in caught.value.next_step


async def refusal(conninfo: str) -> SetupError:
    """How opening a pool is refused; the password is in no part of the error."""
    pool = Pool(conninfo, BRIEF)
    with pytest.raises(SetupError) as caught:
        await pool.open()
    error = caught.value
    told = f"{error} {error.value} {error.limit} {error.next_step} {error.__cause__!r}"
    assert PASSWORD not in told
    assert error.next_step
    await pool.close()
    return error


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"password": "wrong-" + PASSWORD}, "password authentication failed"),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist'),
        ({"user": "nobody_here"}, "password authentication failed"),
    ],
)
async def test_refused_by_the_server(fifteen, change, part):
    """The server's own reason is told, with the place."""
    error = await refusal(psycopg.conninfo.make_conninfo(fifteen, **change))

    assert part in error.message
    assert "127.0.0.1:" in error.message


async def test_nobody_answers():
    """Host and port are named."""
    port = free_port()
    error = await refusal(f"postgresql://someone:{PASSWORD}@127.0.0.1:{port}/some")

    assert f"127.0.0.1:{port}, database 'some'" in error.message
    assert "refused" in error.message


async def test_a_host_that_does_not_exist():
    """A name that leads nowhere."""
    error = await refusal(f"postgresql://someone:{PASSWORD}@no-such-host.invalid/some")

    assert "no-such-host.invalid:5432" in error.message


@pytest.mark.parametrize(
    "text",
    [f"host=x password={PASSWORD} nonsense", f"postgresql://u:{PASSWORD}@[::1/d", PASSWORD],
)
async def test_what_is_no_connection_string_is_not_repeated(text):
    """It may hold the password, so it stays out of the message and of the traceback."""
    with pytest.raises(SetupError, match="is not a connection string") as caught:
        place_of(text)

    assert caught.value.__suppress_context__
    assert PASSWORD not in f"{caught.value}{caught.value.value}{caught.value.next_step}"


async def test_a_port_that_is_none():
    """The driver finds this only when it connects."""
    error = await refusal(f"postgresql://u:{PASSWORD}@localhost:port/d")

    assert "localhost:port" in error.message


async def test_a_server_that_is_too_old():
    """The version is looked at before anything else is asked."""
    with speaking_as("14.19") as port:
        error = await refusal(
            f"host=127.0.0.1 port={port} user=u dbname=d sslmode=disable gssencmode=disable"
        )

    assert "PostgreSQL 14" in error.message
    assert (error.value, error.limit) == (14, "15 or newer")


@contextmanager
def speaking_as(version: str):
    """A server that greets as PostgreSQL of some version does, and knows nothing else."""
    greeting = b"server_version\0" + version.encode() + b"\0"
    encoding = b"client_encoding\0UTF8\0"
    listening = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        caller, _ = listening.accept()
        with caller:
            caller.recv(4096)
            caller.sendall(b"R" + struct.pack("!ii", 8, 0))
            for status in (greeting, encoding):
                caller.sendall(b"S" + struct.pack("!i", 4 + len(status)) + status)
            caller.sendall(b"Z" + struct.pack("!i", 5) + b"I")
            caller.recv(4096)

    thread = threading.Thread(target=greet)
    thread.start()
    yield listening.getsockname()[1]
    thread.join(10)
    listening.close()


async def test_a_standby_is_refused():
    """Writes would fail one by one; better at once."""
    with fresh_folder() as folder:
        async with EmbeddedServer(folder, durable=False):
            pass
        signal_file = folder / "postgres" / "standby.signal"
        run_as(server_user(), ["touch", str(signal_file)])
        async with EmbeddedServer(folder, durable=False) as standby:
            error = await refusal(standby.conninfo)

    assert "is a standby" in error.message


async def test_another_encoding_is_refused(server):
    """Text in every language needs UTF-8."""
    with psycopg.connect(server.conninfo("postgres"), autocommit=True) as db:
        db.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
    error = await refusal(server.conninfo("latin"))

    assert "not in UTF-8" in error.message
    assert error.value == "LATIN1"


async def test_own_options_of_the_address_are_kept(conninfo):
    """What the address asks for is not thrown away for our own settings."""
    given = psycopg.conninfo.make_conninfo(conninfo, options="-c work_mem=7MB")
    pool = Pool(given, StoreConfig(pool_size_min=1, statement_seconds_max=12.5))
    await pool.open()
    async with Router(pool, SECRET).read() as session:
        settings = [
            await session.value(q(f"select current_setting('{name}')"))
            for name in (
                "work_mem",
                "statement_timeout",
                "timezone",
                "default_transaction_read_only",
            )
        ]
    await pool.close()
    await pool.close()

    assert settings == ["7MB", "12500ms", "UTC", "on"]
