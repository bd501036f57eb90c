"""One connection that streams the log: replication commands, messages, and what we tell the server.

The driver has no words for replication, but it lends libpq's own functions, which do not block. So
the stream is read in the event loop, without a thread, and what is acknowledged is said here and
nowhere else.

Source: "Streaming Replication Protocol" of PostgreSQL's documentation.
"""

import asyncio
import logging
import struct
from datetime import UTC, datetime

from msgspec import Struct
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.pq import ExecStatus
from psycopg.rows import TupleRow

from millrace.kernel.clock import Clock
from millrace.kernel.errors import InvalidError, UnavailableError
from millrace.store.faults import spoken
from millrace.store.types import Position

PUBLICATION = "millrace"
"""The river; another publication is a part of it, for consumers that must not wait for the rest."""
CONNECT_SECONDS_MAX = 10
# We ask for an answer several times a second; a server that gives none for so long is gone.
SILENCE_SECONDS_MAX = 30.0
PATIENCE_SECONDS = 5.0
EPOCH = datetime(2000, 1, 1, tzinfo=UTC)

logger = logging.getLogger(__name__)

_DATA = struct.Struct("!cqqq")
_KEEPALIVE = struct.Struct("!cqqb")
_FEEDBACK = struct.Struct("!cqqqqb")
# The forms that values.py reads, and patience: a stream is idle, or waits in a snapshot, for long.
OPTIONS = {
    "datestyle": "ISO",
    "timezone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
}


class MadeSlot(Struct, frozen=True):
    """A slot that was just made, and the snapshot of the database at its place."""

    lsn: int
    snapshot: str


def address(conninfo: str, name: str) -> str:
    """Return a connection string for work on the stream; `name` is how the server lists it."""
    given = str(conninfo_to_dict(conninfo).get("options") or "")
    return make_conninfo(
        conninfo,
        options=" ".join([given, *(f"-c {k}={v}" for k, v in OPTIONS.items())]).strip(),
        application_name=f"millrace {name}",
        connect_timeout=CONNECT_SECONDS_MAX,
        keepalives_idle=10,
        keepalives_interval=10,
        keepalives_count=2,
        tcp_user_timeout=int(SILENCE_SECONDS_MAX * 1000),
    )


class Stream:
    """One replication connection. Only one coroutine reads; any may acknowledge.

    No method raises what the driver raises: a lost connection is an UnavailableError.
    """

    def __init__(self, connection: AsyncConnection[TupleRow], clock: Clock) -> None:
        self._connection = connection
        self._wire = connection.pgconn
        self._clock = clock
        self._received = 0
        self._answer = False
        self.seen = 0
        """The server has sent everything that was committed up to here."""

    @classmethod
    async def connected(cls, conninfo: str, name: str, clock: Clock) -> "Stream":
        """Connect for replication of the one database."""
        with spoken():
            connection = await AsyncConnection.connect(
                make_conninfo(address(conninfo, name), replication="database"), autocommit=True
            )
        return cls(connection, clock)

    @property
    def backend(self) -> int:
        """Return the number of the server's process, which no other living one has."""
        return self._wire.backend_pid

    async def identify(self) -> Position:
        """Return the cluster, its timeline, and how far its log is written."""
        cluster, timeline, place, _ = await self._told("IDENTIFY_SYSTEM")
        return Position(cluster, int(timeline), number_of(place))

    async def make_slot(self, slot: str) -> MadeSlot:
        """Make a slot that ends with this connection; wait for the transactions that now run.

        Its snapshot can be imported until the next command.
        """
        waiting = asyncio.get_running_loop().call_later(
            PATIENCE_SECONDS,
            logger.warning,
            "a change stream waits for transactions that were running before it, such as an import",
        )
        try:
            _, place, snapshot, _ = await self._told(
                f"CREATE_REPLICATION_SLOT {slot} TEMPORARY LOGICAL pgoutput (SNAPSHOT 'export')"
            )
        finally:
            waiting.cancel()
        return MadeSlot(number_of(place), snapshot)

    async def drop_slot(self, slot: str) -> None:
        """Remove a slot that this connection made."""
        with spoken():
            await self._connection.execute(f"DROP_REPLICATION_SLOT {slot}".encode())

    async def start(self, slot: str, lsn: int, publication: str) -> None:
        """Let the changes of a publication flow: those committed from `lsn` on, or from where the slot stands.

        A server that does not start it is an UnavailableError, which says why.
        """
        self.seen = lsn
        with spoken():
            self._wire.send_query(
                f"START_REPLICATION SLOT {slot} LOGICAL {text_of(lsn)} (proto_version '1', "
                f"publication_names '{publication}', messages 'true')".encode()
            )
            self._wire.flush()
            while True:
                self._wire.consume_input()
                if not self._wire.is_busy():
                    break
                await self.readable(SILENCE_SECONDS_MAX)
            result = self._wire.get_result()
        if result is None or result.status != ExecStatus.COPY_BOTH:
            raise self._ended(result.error_message if result else b"no answer")

    def message(self) -> bytes | None:
        """Return the next message of the log, or None where nothing more has arrived.

        A stream that the server has ended, or a lost connection, is an UnavailableError; what is
        neither log nor sign of life is an InvalidError.
        """
        with spoken():
            while (data := self._arrived()) is not None:
                if data.startswith(b"w") and len(data) > _DATA.size:
                    _, place, _, _ = _DATA.unpack_from(data)
                    self._received = max(self._received, place)
                    return data[_DATA.size :]
                self._keepalive(data)
        return None

    def _arrived(self) -> bytes | None:
        """Return what the driver has, after a look at the socket where it has nothing."""
        size, data = self._wire.get_copy_data(1)
        if size == 0:
            self._wire.consume_input()
            size, data = self._wire.get_copy_data(1)
        if size < 0:
            result = self._wire.get_result()
            raise self._ended(result.error_message if result else b"it closed the stream")
        return bytes(data) if size else None

    def _keepalive(self, data: bytes) -> None:
        """Take a sign of life.

        Raises:
            InvalidError: it is none.
        """
        if not data.startswith(b"k") or len(data) < _KEEPALIVE.size:
            raise InvalidError(
                "the change stream has something that is no message",
                value=data[:40].hex(),
                next_step="report this with the version of PostgreSQL",
            )
        _, place, _, wants = _KEEPALIVE.unpack_from(data)
        self.seen = max(self.seen, place)
        self._answer = self._answer or bool(wants)

    def take_wish(self) -> bool:
        """Say whether the server has asked for a word since the last time."""
        wished, self._answer = self._answer, False
        return wished

    async def readable(self, seconds_max: float) -> None:
        """Wait until something has arrived.

        Raises:
            UnavailableError: nothing did in time.
        """
        loop = asyncio.get_running_loop()
        heard = asyncio.Event()
        socket = self._wire.socket
        loop.add_reader(socket, heard.set)
        try:
            async with asyncio.timeout(seconds_max):
                await heard.wait()
        except TimeoutError:
            raise UnavailableError(
                f"the database has been silent for {seconds_max:g} s",
                next_step="look whether it runs, and at the network between",
            ) from None
        finally:
            loop.remove_reader(socket)

    def acknowledge(self, lsn: int, *, ask: bool) -> None:
        """Tell the server that the log before `lsn` is needed no more.

        Args:
            lsn: 0 says nothing, and keeps everything.
            ask: whether the server shall answer at once.
        """
        since = self._clock.now() - EPOCH
        moment = since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
        # What was received counts as written at most up to the last message: then the server
        # sends a sign of life as soon as it has read on, even where nothing is for us.
        word = _FEEDBACK.pack(b"r", max(lsn, self._received), lsn, lsn, moment, int(ask))
        with spoken():
            self._wire.put_copy_data(word)
            self._wire.flush()

    async def close(self) -> None:
        """End the connection; a temporary slot ends with it. Safe to call twice."""
        await self._connection.close()

    async def _told(self, command: str) -> TupleRow:
        """Run a replication command that answers with one row."""
        with spoken():
            row = await (await self._connection.execute(command.encode())).fetchone()
        assert row is not None, "the command always answers"
        return row

    def _ended(self, said: bytes) -> UnavailableError:
        words = said.decode(errors="replace").strip() or "the connection is closed"
        return UnavailableError(
            f"the change stream was ended by the server: {words}",
            next_step="it is begun anew by itself; if that persists, see the server's log",
        )


def number_of(place: str) -> int:
    """Return bytes of log before a place that is written like 1A/2B3C4D5E."""
    high, low = place.split("/")
    return (int(high, 16) << 32) | int(low, 16)


def text_of(lsn: int) -> str:
    """Return a place in the log as the server writes it."""
    return f"{lsn >> 32:X}/{lsn & 0xFFFFFFFF:X}"
