"""What changed, told to every process.

Until the change stream takes this place, PostgreSQL's LISTEN/NOTIFY carries the word: a notice
names a row, never its content, and may be lost while a listener reconnects. So a listener treats
every (re)connection as "anything may have changed" (`RESCAN`), and readers check rows again.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection

CHANNEL = "millrace_changes"
RECONNECT_SECONDS = 0.2
RECONNECT_SECONDS_MAX = 5.0
CONNECT_SECONDS_MAX = 10
# A server that vanished without a word is asked after ten silent seconds, and given up after 30.
SILENCE_SECONDS = 10
ID_DIGITS_MAX = 19

logger = logging.getLogger(__name__)


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
    if len(parts) != 4 or parts[1] not in ("i", "u", "d") or not parts[0]:
        return RESCAN
    number = parts[2]
    if not (number.isascii() and number.isdecimal()) or len(number) > ID_DIGITS_MAX:
        return RESCAN
    return Notice(parts[0], parts[1], int(number), parts[3])


async def notices(conninfo: str) -> AsyncGenerator[Notice]:
    """Yield notices for ever; begins, and goes on after every lost connection, with RESCAN."""
    pause = RECONNECT_SECONDS
    while True:
        try:
            async with await _connected(conninfo) as connection:
                await connection.execute(f"listen {CHANNEL}")
                pause = RECONNECT_SECONDS
                yield RESCAN
                async for heard in connection.notifies():
                    yield parse(heard.payload)
        except psycopg.Error as exc:
            logger.warning("listening for changes was interrupted: %s", exc)
        await asyncio.sleep(pause)
        pause = min(2 * pause, RECONNECT_SECONDS_MAX)


async def _connected(conninfo: str) -> AsyncConnection:
    return await AsyncConnection.connect(
        conninfo,
        autocommit=True,
        connect_timeout=CONNECT_SECONDS_MAX,
        keepalives_idle=SILENCE_SECONDS,
        keepalives_interval=SILENCE_SECONDS,
        keepalives_count=2,
    )
