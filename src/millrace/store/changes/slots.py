"""What the server has to offer for a stream, and the slots that stand there."""

from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager

from msgspec import Struct
from psycopg import AsyncClientCursor, AsyncConnection, IsolationLevel
from psycopg.rows import DictRow, dict_row

from millrace.kernel.clock import Clock
from millrace.kernel.errors import (
    ConflictError,
    MillraceError,
    NotFoundError,
    SetupError,
    UnavailableError,
)
from millrace.store.changes.stream import Stream, address
from millrace.store.changes.types import MESSAGES
from millrace.store.faults import spoken
from millrace.store.lane import Lane
from millrace.store.queries import load
from millrace.store.router import Router
from millrace.store.session import Session

QUERIES = load("millrace.store")


class Ground(Struct, frozen=True):
    """What the server offers. `database` is its number in the cluster."""

    wal_level: str
    role: str
    slots_max: int
    slots: int
    senders_max: int
    published: bool
    database: int


class SlotState(Struct, frozen=True, kw_only=True):
    """A slot of ours on this database.

    active: whether a process reads from it now.
    temporary: whether it ends with that process.
    wal_status: `reserved` is well; `extended` holds more than the server would keep for itself;
        `unreserved` may be lost at any time, `lost` is.
    held_bytes: log that the server keeps because of it.
    """

    name: str
    active: bool
    temporary: bool
    wal_status: str
    held_bytes: int


SLOTS_PER_PROCESS = 2  # what it remembers, and its flags: each in a slot that ends with it
SLOTS_PER_DATABASE = 2  # the embedding's, which all processes share, and its copy while it is made
SENDERS_PER_PROCESS = 3  # who waits for the embedding's slot is connected too
SLOTS_SAID = f"{SLOTS_PER_PROCESS} per server process, {SLOTS_PER_DATABASE} for the database"
SENDERS_SAID = f"{SENDERS_PER_PROCESS} per server process"


class RiverRoom(Struct, frozen=True, kw_only=True):
    """How many slots and senders the server has, and how many are taken, by whomever."""

    slots_max: int
    slots: int
    senders_max: int
    senders: int


class _Key(Struct, frozen=True):
    relation: str
    columns: list[str]


@asynccontextmanager
async def asking(conninfo: str, name: str) -> AsyncGenerator[Session]:
    """Lend a session for questions beside the stream: each statement for itself."""
    with spoken():
        connection = await AsyncConnection[DictRow].connect(
            address(conninfo, name), autocommit=True, row_factory=dict_row, prepare_threshold=None
        )
    try:
        yield Session(Lane(connection, prepares=True))
    finally:
        await connection.close()


@asynccontextmanager
async def as_of(conninfo: str, name: str, snapshot: str) -> AsyncGenerator[Session]:
    """Lend a session that reads the database as of an exported snapshot."""
    with spoken():
        connection = await AsyncConnection[DictRow].connect(
            address(conninfo, name), autocommit=True, row_factory=dict_row, prepare_threshold=None
        )
        try:
            await connection.set_isolation_level(IsolationLevel.REPEATABLE_READ)
            await connection.set_read_only(True)
            async with connection.transaction():
                # The server takes no parameter here, so the driver writes the text.
                writing = AsyncClientCursor(connection)
                await writing.execute(QUERIES["import_snapshot"].text, {"snapshot": snapshot})
                yield Session(Lane(connection, prepares=False))
        finally:
            await connection.close()


async def ground(asked: Session, publication: str) -> Ground:
    """Return what the server offers.

    Raises:
        SetupError: it cannot feed a stream; names the setting, its value and the next step.
    """
    found = await asked.row(QUERIES["river_facts"], Ground, publication=publication)
    assert found is not None, "a select without a table has one row"
    if found.wal_level != "logical":
        raise SetupError(
            "the log of the database cannot be read as changes",
            field="wal_level",
            value=found.wal_level,
            limit="logical",
            next_step="write wal_level = logical into postgresql.conf, and restart the server",
        )
    if not found.published:
        raise SetupError(
            f"the database has no publication {publication!r}",
            field="publication",
            next_step="run: millrace migrate",
        )
    return found


def room(offered: Ground) -> None:
    """See that one more slot can be made.

    Where all are taken, a SetupError names the setting, its value and the next step.
    """
    if offered.slots >= offered.slots_max:
        error = _too_few("max_replication_slots", offered.slots_max, SLOTS_SAID)
        raise error


def _too_few(field: str, limit: int, needed: str) -> SetupError:
    return SetupError(
        f"the database has no room for another stream: {field} is {limit}",
        field=field,
        value=limit,
        limit=f"{needed}, and what others use",
        next_step=f"write {field} = {max(20, 2 * limit)} into postgresql.conf, and restart the "
        "server; `millrace doctor` lists the slots that nobody uses",
    )


async def keys(
    asked: Session, tables: Collection[str], publication: str
) -> Mapping[str, tuple[str, ...]]:
    """Return the primary key of each table of a publication.

    Raises:
        MillraceError: somebody wants a table that is not published.
    """
    found = await asked.rows(QUERIES["river_keys"], _Key, publication=publication)
    known = {line.relation: tuple(line.columns) for line in found}
    strange = sorted(set(tables) - known.keys() - {MESSAGES})
    if strange:
        raise MillraceError(
            f"the publication {publication!r} has no table {', '.join(strange)}",
            field="tables",
            value=strange,
            next_step="add it to the publication in a migration",
        )
    return known


async def streaming(conninfo: str, name: str, clock: Clock, offered: Ground) -> Stream:
    """Connect for replication.

    A server that does not answer is an UnavailableError; one that refuses, because the role may
    not or no sender is left, is a SetupError.
    """
    try:
        return await Stream.connected(conninfo, name, clock)
    except UnavailableError as exc:
        said = str(exc.__cause__).strip()  # the server refuses before it numbers its errors
        error: MillraceError = exc
        if "max_wal_senders" in said:
            error = _too_few("max_wal_senders", offered.senders_max, SENDERS_SAID)
        elif "WAL sender" in said or "walsender" in said:
            error = SetupError(
                f"the role {offered.role!r} may not read the log: {said}",
                field="store.primary",
                value=offered.role,
                limit="a role with replication",
                next_step=f"as a superuser: alter role {offered.role} replication",
            )
        elif "startup parameter" in said:
            error = SetupError(
                f"what stands before the database does not pass the log on: {said}",
                field="store.primary",
                next_step="name the server itself in MILLRACE_STORE_PRIMARY, not its pooler",
            )
        raise error from exc


async def taken(router: Router) -> RiverRoom:
    """Return how many slots and senders there are, and how many are taken."""
    async with router.read() as session:
        found = await session.row(QUERIES["river_room"], RiverRoom)
    assert found is not None, "a select without a table has one row"
    return found


async def slots(router: Router) -> list[SlotState]:
    """Return every slot of ours on this database, by name."""
    async with router.read() as session:
        return await session.rows(QUERIES["river_slots"], SlotState)


async def cap_bytes(router: Router) -> int | None:
    """Return how much log a slot may hold before the server gives it up; None for no limit."""
    async with router.read() as session:
        mib: int = await session.value(QUERIES["river_cap"])
    return None if mib < 0 else mib << 20


async def drop(router: Router, name: str) -> None:
    """Give up a slot of ours; whoever used it begins anew at its next start.

    Raises:
        NotFoundError: there is no such slot of ours on this database.
        ConflictError: a process reads from it.
    """
    found = next((slot for slot in await slots(router) if slot.name == name), None)
    if found is None:
        raise NotFoundError(
            f"there is no slot {name!r} of millrace on this database",
            field="name",
            value=name,
            next_step="`millrace doctor` lists the slots",
        )
    if found.active:
        raise ConflictError(
            f"a process reads from the slot {name!r}",
            field="name",
            value=name,
            next_step="end that process first",
        )
    async with router.write() as session:
        await session.value(QUERIES["river_drop_slot"], slot=name)
