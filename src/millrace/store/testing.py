"""A real server for tests: one per process, one migrated template, one copy per test."""

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import MillraceError
from millrace.store.embedded import EmbeddedServer
from millrace.store.migrate import migrate
from millrace.store.pool import Pool
from millrace.store.router import Router
from millrace.store.types import StoreConfig

SECRET = b"a secret for tests, 32 bytes long"
PREFIX = "millrace-test-"
# Memory where there is enough: a copy takes 10 ms there, and up to 350 ms on a busy disk.
MEMORY = Path("/dev/shm")  # noqa: S108 - a fresh folder with a random name is made inside
MEMORY_BYTES_MIN = 2 << 30
# A folder younger than this may be that of a run that is just starting.
ABANDONED_SECONDS = 120
END_SECONDS_MAX = 10
END_STREAMS = sql.SQL(
    "select pg_terminate_backend(active_pid, {1}) from pg_replication_slots"
    " where database = {0} and active"
)
_numbers = itertools.count()


class TestServer:
    """An embedded server whose databases are copies of a migrated template."""

    __test__ = False

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._server = EmbeddedServer(self._stack.enter_context(fresh_folder()), durable=False)

    async def start(self) -> None:
        """Start the server and migrate the template. Nothing here survives a crash."""
        await sweep()
        await self._server.start()
        self._admin(sql.SQL("create database template_millrace"))
        async with opened(self.conninfo("template_millrace")) as router:
            await migrate(router)

    async def stop(self) -> None:
        """Stop the server and remove its folder."""
        await self._server.stop()
        self._stack.close()

    def conninfo(self, database: str) -> str:
        """Return the connection string of one database."""
        return f"{self._server.conninfo} dbname={database}"

    def copy(self) -> str:
        """Return the connection string of a fresh migrated database."""
        name = f"copy_{next(_numbers)}"
        self._admin(
            sql.SQL("create database {} template template_millrace strategy file_copy").format(
                sql.Identifier(name)
            )
        )
        return self.conninfo(name)

    def empty(self) -> str:
        """Return the connection string of a fresh database without any table."""
        name = f"empty_{next(_numbers)}"
        self._admin(sql.SQL("create database {}").format(sql.Identifier(name)))
        return self.conninfo(name)

    def drop(self, conninfo: str) -> None:
        """Remove a database that `copy` or `empty` made, with whoever is still connected.

        PostgreSQL ends connections by itself, but no stream: a database with one cannot be dropped.
        Whoever runs such a stream would connect again at once, so nobody may any more.
        """
        name = conninfo.rpartition("dbname=")[2]
        self._admin(
            sql.SQL("alter database {} with allow_connections false").format(sql.Identifier(name)),
            END_STREAMS.format(sql.Literal(name), sql.Literal(END_SECONDS_MAX * 1000)),
            sql.SQL("drop database {} with (force)").format(sql.Identifier(name)),
        )

    def _admin(self, *statements: sql.SQL | sql.Composed) -> None:
        with psycopg.connect(self._server.conninfo, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)


@contextlib.contextmanager
def fresh_folder() -> Generator[Path]:
    """Lend a fresh folder that the server's own user may enter, and remove it."""
    with tempfile.TemporaryDirectory(
        prefix=PREFIX, dir=_place(), ignore_cleanup_errors=True
    ) as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def _place() -> Path:
    """Return where test data goes."""
    usable = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    if usable and shutil.disk_usage(MEMORY).free >= MEMORY_BYTES_MIN:
        return MEMORY
    return Path(tempfile.gettempdir())


async def sweep() -> None:
    """Stop the servers that killed test runs left behind, and remove their folders."""
    for folder in _abandoned():
        with contextlib.suppress(MillraceError):  # a folder that was never finished has no server
            async with EmbeddedServer(folder, durable=False):
                pass  # adopted, and stopped at the end
        shutil.rmtree(folder, ignore_errors=True)


def _abandoned() -> list[Path]:
    places = {MEMORY, Path(tempfile.gettempdir())}
    folders = [folder for place in places for folder in place.glob(f"{PREFIX}*")]
    return [folder for folder in folders if _is_abandoned(folder / "owner.lock")]


def _is_abandoned(lock: Path) -> bool:
    """Say whether nobody holds a lock that is old enough to have been taken."""
    try:
        age = SystemClock().now().timestamp() - lock.stat().st_mtime
        handle = os.open(lock, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(handle)
    return age > ABANDONED_SECONDS


@asynccontextmanager
async def opened(conninfo: str, config: StoreConfig | None = None) -> AsyncGenerator[Router]:
    """Open a small pool on `conninfo` and lend its router."""
    pool = Pool(conninfo, config or StoreConfig(pool_size_min=1, pool_size_max=4))
    await pool.open()
    try:
        yield Router(pool, SECRET)
    finally:
        await pool.close()
