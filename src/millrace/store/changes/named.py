"""The stream of work that must not be missed, also not while nobody runs.

Its slot stands in the server under a name, and holds the log from the last safe place on. One
process at a time uses it; the others wait, and one of them goes on where it stops.

A named slot is copied from a temporary one after `begin` has ended, so it stands only where
everything before it is derived, whatever was killed in between.
"""

import asyncio
import logging
import re

from msgspec import Struct
from msgspec.structs import replace

from millrace.kernel.clock import Clock, SystemClock
from millrace.kernel.errors import InvalidError
from millrace.kernel.hashing import hash64
from millrace.store.changes.delivery import Delivery, Opened
from millrace.store.changes.slots import Ground, room
from millrace.store.changes.stream import Stream
from millrace.store.changes.types import DurableConsumer, StreamState
from millrace.store.queries import load
from millrace.store.session import Session
from millrace.store.types import Position

QUERIES = load("millrace.store")
NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")
WAIT_SECONDS_MIN = 0.02
WAIT_SECONDS_MAX = 0.5
# The server may need a moment to see that whoever had the slot has left.
LEAVING_SECONDS_MAX = 1.0
# A change at which a consumer fails so often is not met again: everything begins anew.
FAILURES_MAX = 5

logger = logging.getLogger(__name__)


class NamedStream:
    """Turns one wheel whose work is kept in tables. Use `start` and `stop`, or `async with`."""

    def __init__(
        self, conninfo: str, consumer: DurableConsumer, *, clock: Clock | None = None
    ) -> None:
        """Serve `consumer`, whose name becomes part of the slot's.

        Raises:
            InvalidError: the name cannot be a part of a slot's.
        """
        if NAME.fullmatch(consumer.name) is None:
            raise InvalidError(
                "a slot cannot have this name",
                field="name",
                value=consumer.name,
                limit=NAME.pattern,
                next_step="rename the consumer",
            )
        self._plan = _Named(consumer)
        self._delivery = Delivery(
            conninfo, consumer.name, [consumer], self._plan, clock or SystemClock()
        )

    async def __aenter__(self) -> "NamedStream":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Return when the changes flow, or when another process has the slot; safe to call twice.

        A server that cannot feed a stream is a SetupError, and what the consumer raises from its
        first `begin` is raised here. A server that does not answer is waited for.
        """
        await self._delivery.start(self._plan.waiting)

    async def stop(self) -> None:
        """End the stream; its slot stays. The consumer hears `lost`. Safe to call twice."""
        await self._delivery.stop()

    @property
    def applied(self) -> Position | None:
        """The position up to which the consumer has everything; None while interrupted."""
        return self._delivery.applied.position

    async def reached(self, position: Position, seconds_max: float) -> bool:
        """Wait until everything up to a position is applied; say whether it was in time."""
        return await self._delivery.applied.reached(position, seconds_max)

    def state(self) -> StreamState:
        """Return how the stream does, for metrics and pages. Who waits for a turn is not behind."""
        state = self._delivery.state()
        return replace(state, lag_seconds=0.0) if self._plan.waiting.is_set() else state


class _Slot(Struct, frozen=True):
    active: bool
    is_lost: bool
    confirmed: int


class _Named:
    """A slot that outlives its process."""

    def __init__(self, consumer: DurableConsumer) -> None:
        self._consumer = consumer
        self._renew = False
        self.waiting = asyncio.Event()
        """Set while another process has the slot."""

    async def open(self, stream: Stream, asked: Session, offered: Ground) -> Opened:
        """Wait for our turn, then take the slot that stands, or make ready for a new one."""
        slot = f"millrace_{self._consumer.name}_{offered.database}"
        found = await self._turn(asked, slot)
        if found is not None and not found.is_lost and not self._renew:
            return Opened(slot, found.confirmed, None)
        if found is not None:
            logger.warning("the slot %s is given up and made anew, with a new beginning", slot)
            await asked.value(QUERIES["river_drop_slot"], slot=slot)
        else:
            room(offered)
        self._renew = False
        made = await stream.make_slot(f"{slot}_{stream.backend}")
        return Opened(slot, made.lsn, made.snapshot)

    async def keep(self, stream: Stream, asked: Session, opened: Opened) -> str:
        """Make the named slot from the temporary one, where it was made anew."""
        if opened.snapshot is not None:
            temporary = f"{opened.slot}_{stream.backend}"
            await asked.value(QUERIES["river_keep_slot"], temporary=temporary, slot=opened.slot)
            await stream.drop_slot(temporary)
        return opened.slot

    def needless(self, applied: Position | None) -> Position | None:
        """Return what the consumer calls safe, but never what it has not been given."""
        safe = self._consumer.safe()
        if safe is None or applied is None:
            return None
        if (safe.cluster, safe.timeline) != (applied.cluster, applied.timeline):
            return None
        return min(safe, applied)

    def failed(self, in_a_row: int) -> None:
        """Give the slot up where the same change fails again and again."""
        self._renew = self._renew or in_a_row >= FAILURES_MAX

    async def _turn(self, asked: Session, slot: str) -> _Slot | None:
        """Wait until no other process has the slot; return it, or None where there is none."""
        key = hash64(slot) - (1 << 63)
        pause, waited = WAIT_SECONDS_MIN, 0.0
        while True:
            leads = await asked.value(QUERIES["river_lead"], key=key)
            found = await asked.row(QUERIES["river_slot"], _Slot, slot=slot) if leads else None
            if leads and (found is None or not found.active):
                self.waiting.clear()
                return found
            if waited > LEAVING_SECONDS_MAX and not self.waiting.is_set():
                logger.info("another process reads from the slot %s; waiting for it to end", slot)
                self.waiting.set()
            await asyncio.sleep(pause)
            waited += pause
            pause = min(2 * pause, WAIT_SECONDS_MAX)
