"""The stream of what a process holds in memory.

All of it shares a slot, which ends with the connection, so that a process that dies holds no log
back, and one `applied` speaks for all of it. Every connection begins from a snapshot.
"""

from collections.abc import Sequence

from millrace.kernel.clock import Clock, SystemClock
from millrace.store.changes.delivery import Delivery, Opened
from millrace.store.changes.slots import Ground, room
from millrace.store.changes.stream import PUBLICATION, Stream
from millrace.store.changes.types import Consumer, StreamState
from millrace.store.session import Session
from millrace.store.types import Position

NAME = "memory"


class TemporaryStream:
    """Turns the wheels that one process holds in memory. Use `start` and `stop`, or `async with`."""

    def __init__(
        self,
        conninfo: str,
        consumers: Sequence[Consumer],
        *,
        clock: Clock | None = None,
        name: str = NAME,
        publication: str = PUBLICATION,
    ) -> None:
        """Serve `consumers`; each batch goes to them one after the other, in this order.

        Args:
            conninfo: the address of the server.
            consumers: what is turned.
            clock: a fake in tests.
            name: becomes part of the slot's, and is how metrics and the server name it.
            publication: which tables it has. The server leaves out what another one has, so that
                what must come at once does not wait behind an import.
        """
        self._delivery = Delivery(
            conninfo, name, consumers, _Temporary(name), clock or SystemClock(), publication
        )

    async def __aenter__(self) -> "TemporaryStream":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Return when every consumer has begun and the changes flow; safe to call twice.

        A server that cannot feed a stream is a SetupError, and what a consumer raises from its
        first `begin` is raised here. A server that does not answer is waited for.
        """
        await self._delivery.start()

    async def stop(self) -> None:
        """End the stream; consumers hear `lost`. Safe to call twice."""
        await self._delivery.stop()

    @property
    def applied(self) -> Position | None:
        """The position up to which every consumer has everything; None while interrupted."""
        return self._delivery.applied.position

    async def reached(self, position: Position, seconds_max: float) -> bool:
        """Wait until everything up to a position is applied; say whether it was in time."""
        return await self._delivery.applied.reached(position, seconds_max)

    def state(self) -> StreamState:
        """Return how the stream does, for metrics and pages."""
        return self._delivery.state()


class _Temporary:
    """A slot for this connection alone."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def open(self, stream: Stream, asked: Session, offered: Ground) -> Opened:
        """Make a slot; its name has the server's process, which no other living one has."""
        room(offered)
        slot = f"millrace_{self._name}_{offered.database}_{stream.backend}"
        made = await stream.make_slot(slot)
        return Opened(slot, made.lsn, made.snapshot)

    async def keep(self, stream: Stream, asked: Session, opened: Opened) -> str:
        """Return the slot: it stays what it is."""
        return opened.slot

    def needless(self, applied: Position | None) -> Position | None:
        """Return what is applied: after a loss everything is made from a snapshot anyway."""
        return applied

    def failed(self, in_a_row: int) -> None:
        """Do nothing more: every beginning is from a snapshot, which has the failed change in it."""
