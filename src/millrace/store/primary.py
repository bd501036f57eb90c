"""A first look at the PostgreSQL we are told to use: is it there, and may we work with it?"""

import psycopg
from msgspec import Struct
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import class_row

from millrace.kernel.errors import SetupError
from millrace.store.faults import spoken
from millrace.store.queries import load

QUERIES = load("millrace.store")

VERSION_MIN = 150000


class _Facts(Struct, frozen=True):
    standby: bool
    encoding: str


def place_of(conninfo: str) -> str:
    """Return host, port and database of a connection string: what may be shown, never a password.

    Raises:
        SetupError: it is not a connection string; the text is not repeated, it may hold a secret.
    """
    try:
        parts = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        # The driver's message quotes the string, so neither it nor its traceback is kept.
        raise SetupError(
            "MILLRACE_STORE_PRIMARY is not a connection string",
            field="store.primary",
            next_step="write it like postgresql://user@host:5432/database",
        ) from None
    host = parts.get("host") or parts.get("hostaddr") or "the local socket"
    return (
        f"{host}:{parts.get('port') or 5432}, database {parts.get('dbname') or parts.get('user')!r}"
    )


async def inspect(conninfo: str, seconds_max: float) -> None:
    """Connect once and check what we rely on.

    Raises:
        SetupError: nothing answers, the password or the database is wrong, or the server is
            older than PostgreSQL 15. So it is for a standby and a database not in UTF-8.
    """
    place = place_of(conninfo)
    try:
        connection = await AsyncConnection.connect(
            conninfo,
            autocommit=True,
            connect_timeout=max(2, round(seconds_max)),
        )
    except psycopg.Error as exc:
        raise SetupError(
            f"PostgreSQL at {place} cannot be used: {str(exc).strip()}",
            field="store.primary",
            next_step="check MILLRACE_STORE_PRIMARY and that the server accepts connections",
        ) from exc
    async with connection:
        version = connection.info.server_version
        if version < VERSION_MIN:
            raise SetupError(
                f"PostgreSQL {version // 10000} at {place} is too old",
                field="store.primary",
                value=version // 10000,
                limit="15 or newer",
                next_step="upgrade the server or leave MILLRACE_STORE_PRIMARY empty",
            )
        cursor = connection.cursor(row_factory=class_row(_Facts))
        with spoken():  # it may leave between the connection and the question
            await cursor.execute(QUERIES["server_facts"].text)
            facts = await cursor.fetchone()
    assert facts is not None, "a select without a table has one row"
    _check(facts, place)


def _check(facts: _Facts, place: str) -> None:
    """Refuse a server that cannot hold what we write.

    Raises:
        SetupError: it is a standby, or its text is not UTF-8.
    """
    if facts.standby:
        raise SetupError(
            f"PostgreSQL at {place} is a standby: it cannot be written to",
            field="store.primary",
            next_step="name the primary in MILLRACE_STORE_PRIMARY",
        )
    if facts.encoding != "UTF8":
        raise SetupError(
            f"the database at {place} is not in UTF-8",
            field="store.primary",
            value=facts.encoding,
            limit="UTF8",
            next_step="create it with: create database ... encoding 'UTF8' template template0",
        )
