"""Connections to one PostgreSQL, with limits in count and time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection, errors
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from millrace.kernel.errors import ConflictError, SetupError, UnavailableError
from millrace.store.types import StoreConfig

VERSION_MIN = 150000


class Pool:
    """A bounded pool. A request that cannot be served in time is refused, never queued forever."""

    def __init__(self, conninfo: str, config: StoreConfig) -> None:
        self._config = config
        statement_ms = int(config.statement_seconds_max * 1000)
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
            conninfo,
            connection_class=AsyncConnection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "options": f"-c statement_timeout={statement_ms} -c timezone=UTC",
                # Behind a transaction pooler older than PgBouncer 1.24 prepared statements break.
                "prepare_threshold": None,
            },
            min_size=config.pool_size_min,
            max_size=config.pool_size_max,
            timeout=config.acquire_seconds_max,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    async def open(self) -> None:
        """Connect.

        Raises:
            SetupError: nothing answers at the address, or the server is too old.
        """
        try:
            await self._pool.open(wait=True, timeout=self._config.acquire_seconds_max)
        except PoolTimeout as exc:
            await self._pool.close()
            raise SetupError(
                f"PostgreSQL did not answer within {self._config.acquire_seconds_max:g} s",
                next_step="check MILLRACE_STORE_PRIMARY and that the server accepts connections",
            ) from exc
        async with self._pool.connection() as connection:
            version = connection.info.server_version
        if version < VERSION_MIN:
            await self._pool.close()
            raise SetupError(
                f"PostgreSQL {version // 10000} is too old",
                value=version // 10000,
                limit="15 or newer",
                next_step="upgrade the server or leave MILLRACE_STORE_PRIMARY empty",
            )

    async def close(self) -> None:
        """Return all connections; safe to call twice."""
        await self._pool.close()

    @asynccontextmanager
    async def transaction(self, *, read_only: bool) -> AsyncIterator[AsyncConnection[DictRow]]:
        """Lend a connection for one READ COMMITTED transaction.

        Raises:
            UnavailableError: no connection in time, or the server went away in the middle.
            ConflictError: the transaction lost against another one.
        """
        try:
            async with self._pool.connection() as connection:
                await connection.set_read_only(read_only)
                async with connection.transaction():
                    yield connection
        except PoolTimeout as exc:
            raise UnavailableError(
                f"no database connection became free in {self._config.acquire_seconds_max:g} s",
                limit=self._config.pool_size_max,
                next_step="try again; if it persists, raise store.pool_size_max",
            ) from exc
        except (errors.SerializationFailure, errors.DeadlockDetected) as exc:
            raise ConflictError(
                "another write touched the same rows", next_step="send the request again"
            ) from exc
        except (psycopg.OperationalError, errors.AdminShutdown) as exc:
            raise UnavailableError(
                "the database went away during the request",
                next_step="try again; nothing of this request was kept",
            ) from exc
