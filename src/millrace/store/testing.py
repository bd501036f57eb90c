"""A real server for tests: one per process, one migrated template, one copy per test."""

import itertools
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
from psycopg import sql

from millrace.store.embedded import EmbeddedServer
from millrace.store.migrate import migrate
from millrace.store.pool import Pool
from millrace.store.router import Router
from millrace.store.types import StoreConfig

SECRET = b"a secret for tests, 32 bytes long"
_numbers = itertools.count()


class TestServer:
    """An embedded server whose databases are copies of a migrated template."""

    __test__ = False

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="millrace-test-", ignore_cleanup_errors=True)
        Path(self._folder.name).chmod(0o755)  # the server's own user must be able to enter
        self._server = EmbeddedServer(Path(self._folder.name))

    async def start(self) -> None:
        """Start the server and migrate the template. Durability is off: nothing here is kept."""
        await self._server.start()
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            self._admin(sql.SQL("alter system set {} = off").format(sql.Identifier(setting)))
        self._admin(sql.SQL("select pg_reload_conf()"))
        self._admin(sql.SQL("create database template_millrace"))
        async with opened(self.conninfo("template_millrace")) as router:
            await migrate(router)

    async def stop(self) -> None:
        """Stop the server and remove its folder."""
        await self._server.stop()
        self._folder.cleanup()

    def conninfo(self, database: str) -> str:
        """Return the connection string of one database."""
        return f"{self._server.conninfo} dbname={database}"

    def copy(self) -> str:
        """Return the connection string of a fresh migrated database."""
        name = f"copy_{next(_numbers)}"
        self._admin(
            sql.SQL("create database {} template template_millrace strategy file_copy").format(sql.Identifier(name))
        )
        return self.conninfo(name)

    def _admin(self, statement: sql.Composable) -> None:
        with psycopg.connect(self._server.conninfo, autocommit=True) as connection:
            connection.execute(statement)


@asynccontextmanager
async def opened(conninfo: str, config: StoreConfig | None = None) -> AsyncIterator[Router]:
    """Open a small pool on `conninfo` and lend its router."""
    pool = Pool(conninfo, config or StoreConfig(pool_size_min=1, pool_size_max=4))
    await pool.open()
    try:
        yield Router(pool, SECRET)
    finally:
        await pool.close()
