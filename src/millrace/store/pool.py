"""Connections to one PostgreSQL, with limits in count and time."""

import asyncio
import select
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from millrace.kernel.errors import MillraceError, UnavailableError
from millrace.store.faults import spoken
from millrace.store.lane import Behind, Lane
from millrace.store.primary import inspect
from millrace.store.types import StoreConfig

WARM_MAX = 4  # connections that are lent again first
WARM_TIMES_MAX = 10_000  # before the pool may look whether one has become too old
# A program that hangs inside a transaction must not hold its locks for ever.
IDLE_IN_TRANSACTION_SECONDS_MAX = 300
# A server that vanished without a word (its machine lost power) is noticed after this long.
SILENCE_SECONDS_MAX = 30


class Pool:
    """A bounded pool. A request that cannot be served in time is refused, never queued forever."""

    def __init__(self, conninfo: str, config: StoreConfig) -> None:
        self._conninfo = conninfo
        self._config = config
        self._pool: AsyncConnectionPool[AsyncConnection[DictRow]] | None = None
        self._lent = 0
        self._asking = 0
        self._closed = False
        self._warm: list[Lane] = []
        self._lanes: dict[AsyncConnection[DictRow], Lane] = {}

    async def open(self) -> None:
        """Connect. Nothing at the address, or a server that will not do, is a SetupError."""
        await inspect(self._conninfo, self._config.acquire_seconds_max)
        self._pool = self._made()
        with spoken():
            await self._pool.open(wait=True, timeout=self._config.acquire_seconds_max)

    async def close(self) -> None:
        """Return all connections; safe to call twice."""
        if self._pool is not None:
            self._closed = True
            while self._warm:
                await self._pool.putconn(self._warm.pop().connection)
            await self._pool.close()

    @asynccontextmanager
    async def transaction(
        self, *, read_only: bool, behind: Behind | None = None
    ) -> AsyncGenerator[Lane]:
        """Lend a connection: for one READ COMMITTED transaction, or for reading.

        Reading needs no transaction: at READ COMMITTED each statement has its own snapshot
        anyway, and BEGIN and COMMIT would cost two round trips. A transaction begins with its first
        statement and not before; one without any statement never was.

        A transaction that lost against another one is a ConflictError.

        Args:
            read_only: whether it is for reading.
            behind: asked behind the commit, in the same round trip.

        Raises:
            UnavailableError: no connection was free in time, the server went away in the middle, or
                a table was changed since a statement was planned.
        """
        lane = await self._acquired()
        ended = False
        self._lent += 1
        try:
            with spoken(committing=lambda: ended):
                if read_only:
                    yield lane
                    return
                lane.begin(behind)
                yield lane
                _refuse_failed(lane)
                ended = True
                await lane.commit()
        except UnavailableError as exc:
            if isinstance(exc.__cause__, psycopg.errors.FeatureNotSupported):
                await lane.connection.close()  # its plans are of an older schema
            raise
        finally:
            self._lent -= 1
            await self._give_back(lane)

    async def _give_back(self, lane: Lane) -> None:
        """Take a connection back: to lend it again first, because server and processor know it yet."""
        assert self._pool is not None, "open() comes first"
        try:
            if not lane.at_rest:
                await lane.rollback()
        finally:
            lane.lent += 1
            warm = len(self._warm) < WARM_MAX and lane.lent % WARM_TIMES_MAX
            if warm and lane.at_rest and not self._asking and not self._closed:
                self._warm.append(lane)
            else:
                await self._pool.putconn(lane.connection)

    async def _acquired(self) -> Lane:
        """Return a connection that was alive a moment ago."""
        assert self._pool is not None, "open() comes first"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._config.acquire_seconds_max
        while True:
            lane = self._warm.pop() if self._warm else await self._asked_for(deadline)
            alive = False
            try:
                alive = await _is_alive(lane.connection)
            finally:  # whoever waits may be cancelled here
                if not alive:
                    await lane.connection.close()
                    await self._pool.putconn(lane.connection)  # which replaces it
            if alive:
                return lane

    async def _asked_for(self, deadline: float) -> Lane:
        """Return a connection of the pool behind, in time."""
        assert self._pool is not None, "open() comes first"
        self._asking += 1
        try:
            left = deadline - asyncio.get_running_loop().time()
            connection = await self._pool.getconn(timeout=left)
        except (PoolTimeout, TooManyRequests, PoolClosed) as exc:
            raise self._refused(exc) from exc
        finally:
            self._asking -= 1
        lane = self._lanes.get(connection)
        if lane is None:
            # A statement that comes often is planned once: planning a page's posts takes three times
            # as long as reading them. Behind a transaction pooler older than PgBouncer 1.24 that
            # breaks, and nobody says whether one stands there.
            lane = Lane(connection, prepares=not self._config.primary)
            self._lanes = {one: its for one, its in self._lanes.items() if not one.closed}
            self._lanes[connection] = lane
        return lane

    def _refused(self, exc: psycopg.Error) -> UnavailableError:
        waited = self._config.acquire_seconds_max
        if isinstance(exc, TooManyRequests):
            return UnavailableError(
                "too many requests already wait for a database connection",
                limit=self._config.waiting_max,
                next_step="try again later; if it persists, raise store.pool_size_max",
            )
        if isinstance(exc, PoolClosed):
            return UnavailableError("the program is ending", next_step="start it again")
        if self._lent < self._config.pool_size_max:  # nobody keeps them: none could be made
            return UnavailableError(
                f"the database has not answered for {waited:g} s", next_step="try again later"
            )
        return UnavailableError(
            f"no database connection became free in {waited:g} s",
            limit=self._config.pool_size_max,
            next_step="try again; if it persists, raise store.pool_size_max",
        )

    def _made(self) -> AsyncConnectionPool[AsyncConnection[DictRow]]:
        config = self._config
        given = conninfo_to_dict(self._conninfo).get("options") or ""
        ours = {
            "statement_timeout": f"{config.statement_seconds_max * 1000:.0f}",
            "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_SECONDS_MAX * 1000}",
            "timezone": "UTC",
            "default_transaction_read_only": "on",  # a write says so: BEGIN READ WRITE
        }
        return AsyncConnectionPool(
            self._conninfo,
            connection_class=AsyncConnection[DictRow],
            kwargs={
                "row_factory": dict_row,
                "autocommit": True,
                "options": " ".join([str(given), *(f"-c {k}={v}" for k, v in ours.items())]),
                "connect_timeout": max(2, round(config.acquire_seconds_max)),
                "tcp_user_timeout": SILENCE_SECONDS_MAX * 1000,
                "prepare_threshold": None,  # the lanes keep plans, and know what they keep
            },
            min_size=config.pool_size_min,
            max_size=config.pool_size_max,
            max_waiting=config.waiting_max,
            timeout=config.acquire_seconds_max,
            # The pool gives up soon and begins anew with the next request: its pauses double,
            # and a long one would outlast the outage.
            reconnect_timeout=config.acquire_seconds_max,
            open=False,
        )


async def _is_alive(connection: AsyncConnection[DictRow]) -> bool:
    """Say whether the server still holds the other end, mostly by a look at the socket.

    A server has nothing to say on an idle connection unless it leaves (or reloads its settings):
    only then is it asked, which costs a round trip.
    """
    heard = select.poll()
    heard.register(connection.fileno(), select.POLLIN)
    if not heard.poll(0):
        return True
    try:
        await connection.execute("")
    except psycopg.Error:
        return False
    return True


def _refuse_failed(lane: Lane) -> None:
    """Keep a caught error from looking like a commit: PostgreSQL would answer with a rollback.

    Raises:
        MillraceError: a statement failed, and the block went on.
    """
    if lane.failed:
        raise MillraceError(
            "an error inside the transaction was caught there, so nothing of it was kept",
            next_step="this is a mistake in the program: let the error leave `write()`",
        )
