"""What changed, told to every process.

Until the change stream takes this place, PostgreSQL's LISTEN/NOTIFY carries the word: a notice
names a row, never its content, and may be lost while a listener reconnects. So a listener treats
every (re)connection as "anything may have changed" (`RESCAN`), and readers check rows again.
"""

import asyncio
from collections.abc import AsyncIterator

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection

CHANNEL = "millrace_changes"
RECONNECT_SECONDS = 0.5


class Notice(Struct, frozen=True):
    """One changed row. `key` holds the rest of the primary key, joined by '/'.

    operation: i, u or d; `*` with table `*` means that anything may have changed.
    """

    table: str
    operation: str
    community_id: int
    key: str


RESCAN = Notice("*", "*", 0, "")


def parse(payload: str) -> Notice:
    """Read a notice as the announce() trigger writes it; anything else means rescan."""
    parts = payload.split("|", 3)
    if len(parts) != 4 or not parts[2].isdigit():
        return RESCAN
    return Notice(parts[0], parts[1], int(parts[2]), parts[3])


async def notices(conninfo: str) -> AsyncIterator[Notice]:
    """Yield notices for ever; begins, and goes on after every lost connection, with RESCAN."""
    while True:
        try:
            async with await AsyncConnection.connect(conninfo, autocommit=True) as connection:
                await connection.execute(f"listen {CHANNEL}")
                yield RESCAN
                async for heard in connection.notifies():
                    yield parse(heard.payload)
        except psycopg.OperationalError:
            await asyncio.sleep(RECONNECT_SECONDS)
