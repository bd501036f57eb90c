"""From one stream to its consumers: begin, apply, and begin anew after whatever happens.

    connect ─▶ open a slot ─▶ begin (where nothing is held) ─▶ batches, one after the other ─┐
       ▲                                                                                    │
       └── pause, longer each time ◀── lost() ◀── connection, server or a consumer failed ◀─┘

While a batch is applied nothing is read: what is in flight waits in the server and the socket.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import count
from typing import Any, Protocol

from msgspec import Struct

from millrace.kernel.clock import Clock
from millrace.kernel.errors import MillraceError, UnavailableError
from millrace.store.changes.applied import NUDGE_SECONDS, Applied
from millrace.store.changes.slots import Ground, as_of, asking, ground, keys, streaming
from millrace.store.changes.stream import PUBLICATION, SILENCE_SECONDS_MAX, Stream
from millrace.store.changes.transactions import Parcel, Transactions
from millrace.store.changes.types import Batch, Change, Consumer, Snapshot, StreamState
from millrace.store.queries import load
from millrace.store.session import Session
from millrace.store.types import Position

QUERIES = load("millrace.store")
PULSE_SECONDS = 0.25
BEATS_PER_LOOK = 4
# Messages read before the event loop gets a turn: a few milliseconds of work.
SLICE = 250
RETRY_SECONDS = 0.1
RETRY_SECONDS_MAX = 2.0
UNSEEN_SECONDS = 0.001
UNSEEN_SECONDS_TOLD = 5.0
STOP_SECONDS_MAX = 10.0

logger = logging.getLogger(__name__)


class Opened(Struct, frozen=True):
    """A slot that is ready. snapshot: of its place, where the consumers have to begin."""

    slot: str
    lsn: int
    snapshot: str | None


class Plan(Protocol):
    """What kind of slot the stream stands on."""

    async def open(self, stream: Stream, asked: Session, offered: Ground) -> Opened:
        """Return a slot to stream from; may wait for it."""
        ...

    async def keep(self, stream: Stream, asked: Session, opened: Opened) -> str:
        """Return the slot's final name, once the consumers have begun."""
        ...

    def needless(self, applied: Position | None) -> Position | None:
        """Return up to where the log is needed no more."""
        ...

    def failed(self, in_a_row: int) -> None:
        """Hear how often in a row something has failed at the same place that waiting cannot mend."""
        ...


class _ConsumerError(Exception):
    """A consumer raised; the cause says what."""


class Delivery:
    """One stream and its consumers, kept going until it is stopped."""

    def __init__(
        self,
        conninfo: str,
        name: str,
        consumers: Sequence[Consumer],
        plan: Plan,
        clock: Clock,
        publication: str = PUBLICATION,
    ) -> None:
        self._conninfo = conninfo
        self._publication = publication
        self._name = name
        self._consumers = list(consumers)
        self._tables = frozenset[str]().union(*(consumer.tables for consumer in consumers))
        self._plan = plan
        self._clock = clock
        self.applied = Applied()
        self._task: asyncio.Task[None] | None = None
        self._starting = False
        self._flowing = asyncio.Event()
        self._changes = self._batches = self._failures = self._flows = 0
        self._seen = 0  # how far the server says it has sent
        self._lost_at: float | None = None
        self._holding = False  # whether consumers may hold something that is thought current
        self._oldest: datetime | None = None  # commit of the oldest change being applied
        self._furthest = self._failed_at = 0
        self._in_a_row = self._same_in_a_row = 0
        self._told = False  # whether the present outage was logged

    async def start(self, until: asyncio.Event | None = None) -> None:
        """Return when the changes flow, or when `until` is set; safe to call twice.

        What fails before that is raised, except what may pass by itself: then it is tried again.
        """
        if self._task is None:
            self._lost_at = self._clock.monotonic()
            self._task = asyncio.create_task(self._run(), name=f"stream {self._name}")
        task, self._starting = self._task, True
        waits = [asyncio.create_task(e.wait()) for e in (self._flowing, until) if e is not None]
        waited = False
        try:
            await asyncio.wait([task, *waits], return_when=asyncio.FIRST_COMPLETED)
            waited = True
        finally:
            self._starting = False
            for wait in waits:
                wait.cancel()
            if not waited:
                await self.stop()
        if task.done():
            self._task = None
            await task

    async def stop(self) -> None:
        """End the stream and its connections; safe to call twice."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        _, left = await asyncio.wait([task], timeout=STOP_SECONDS_MAX)
        if left:
            logger.warning("%s: a consumer does not let itself be stopped", self._name)

    def state(self) -> StreamState:
        """Return how the stream does."""
        position = self.applied.position
        lag = 0.0
        if self._lost_at is not None:
            lag = self._clock.monotonic() - self._lost_at
        elif self._oldest is not None:
            lag = (self._clock.now() - self._oldest).total_seconds()
        return StreamState(
            name=self._name,
            connected=self._flowing.is_set(),
            applied=position,
            lag_bytes=0 if position is None else max(0, self._seen - position.lsn),
            lag_seconds=max(0.0, lag),
            changes=self._changes,
            batches=self._batches,
            failures=self._failures,
            restarts=max(0, self._flows - 1),
        )

    async def _run(self) -> None:
        """Keep the stream going. It ends by itself only while somebody waits for its start."""
        while True:
            try:
                await self._stream()
            except Exception as exc:  # noqa: BLE001 - consumers raise what they like
                said = _said(exc)
                if self._starting and not isinstance(said, UnavailableError):
                    raise said from None
                self._fail(exc)
            finally:
                self._lose()
            await asyncio.sleep(min(RETRY_SECONDS * 2**self._in_a_row, RETRY_SECONDS_MAX))

    def _fail(self, exc: Exception) -> None:
        """Count and tell what happened, and judge whether it is the same again."""
        passing = isinstance(_said(exc), UnavailableError)
        moved = self._furthest > self._failed_at
        self._failed_at = self._furthest
        self._failures += 1
        self._in_a_row = 0 if moved else min(self._in_a_row + 1, 10)
        if not passing:
            self._same_in_a_row = 1 if moved else self._same_in_a_row + 1
            self._plan.failed(self._same_in_a_row)
        if passing and self._told:
            return  # a server that is away is told of once, not at every try
        self._told = passing
        logger.warning("%s: %s; beginning anew", self._name, exc, exc_info=None if passing else exc)

    def _lose(self) -> None:
        """Tell everybody that nothing is known to be current, once per loss."""
        self._flowing.clear()
        self.applied.lose()
        self._oldest = None
        if self._lost_at is None:
            self._lost_at = self._clock.monotonic()
        if not self._holding:
            return
        self._holding = False
        for consumer in self._consumers:
            try:
                consumer.lost()
            except Exception:
                logger.exception("%s: %s failed to hear of the loss", self._name, consumer.name)

    async def _stream(self) -> None:
        """Connect, begin and deliver, until something fails."""
        async with AsyncExitStack() as stack:
            asked = await stack.enter_async_context(asking(self._conninfo, self._name))
            offered = await ground(asked, self._publication)
            known = await keys(asked, self._tables, self._publication)
            stream = await streaming(self._conninfo, self._name, self._clock, offered)
            stack.push_async_callback(stream.close)
            here = await stream.identify()
            opened = await self._plan.open(stream, asked, offered)
            at = Position(here.cluster, here.timeline, opened.lsn)
            if opened.snapshot is not None:
                await self._begin(opened.snapshot, at, asked)
            slot = await self._plan.keep(stream, asked, opened)
            await stream.start(slot, opened.lsn, self._publication)
            self._flow(at)
            transactions = Transactions(self._tables, known, at)
            await _together(self._deliver(stream, asked, transactions), self._pulse(stream, asked))

    async def _begin(self, snapshot: str, at: Position, asked: Session) -> None:
        """Let every consumer make itself anew, one after the other, from the same snapshot.

        A consumer may read tables by other sessions from then on, so those see as much first.
        """
        self._holding = True
        async with as_of(self._conninfo, self._name, snapshot) as session:
            sees = str(await session.value(QUERIES["snapshot_here"]))
            while True:
                if await asked.value(QUERIES["snapshot_seen"], snapshot=sees):
                    break
                await asyncio.sleep(UNSEEN_SECONDS)
            for consumer in self._consumers:
                await self._called(consumer, consumer.begin(Snapshot(session, at)))

    def _flow(self, at: Position) -> None:
        if self._told:
            logger.info("%s: the changes flow again", self._name)
        self._told = False
        self._holding = True
        self._flows += 1
        self._lost_at = None
        self._seen = at.lsn
        self._furthest = max(self._furthest, at.lsn)
        self.applied.advance(at)
        self._flowing.set()

    async def _deliver(self, stream: Stream, asked: Session, transactions: Transactions) -> None:
        """Read what has arrived, and apply it, for ever."""
        while True:
            drained = _collected(stream, transactions)
            if not drained and not transactions.full:
                await asyncio.sleep(0)
                continue
            if drained:
                transactions.seen(stream.seen)
            if stream.take_wish():
                self._acknowledge(stream)
            parcel = transactions.cut()
            if parcel is not None:
                self._seen = max(self._seen, stream.seen, parcel.lsn or 0)
                await self._apply(parcel, transactions.here, asked)
            elif drained:
                await stream.readable(SILENCE_SECONDS_MAX)

    async def _apply(self, parcel: Parcel, here: Position, asked: Session) -> None:
        if parcel.changes:
            self._oldest = parcel.changes[0].committed_at
            await self._until_visible(asked, parcel)
        position = None
        if parcel.lsn is not None:
            position = Position(here.cluster, here.timeline, parcel.lsn)
        for consumer in self._consumers:
            await self._called(consumer, consumer.apply(_part(consumer, parcel.changes, position)))
        self._oldest = None
        self._changes += len(parcel.changes)
        self._batches += 1
        if position is not None:
            self._furthest = max(self._furthest, position.lsn)
            self.applied.advance(position)

    async def _until_visible(self, asked: Session, parcel: Parcel) -> None:
        """Return when every statement from now on sees these transactions.

        A commit is in the log a moment before other sessions see it, and longer where it waits
        for a synchronous standby. A consumer that reads rows in between would read the old ones.
        """
        since, told = self._clock.monotonic(), False
        while not await asked.value(QUERIES["all_seen"], numbers=sorted(parcel.xids)):
            await asyncio.sleep(UNSEEN_SECONDS)
            if not told and self._clock.monotonic() - since > UNSEEN_SECONDS_TOLD:
                told = True
                logger.warning("%s: a commit does not become visible; waiting", self._name)

    async def _called(self, consumer: Consumer, call: Awaitable[None]) -> None:
        """Await what a consumer does.

        Raises:
            _ConsumerError: it failed, or was cancelled by somebody else than us.
            CancelledError: we are stopped.
        """
        try:
            await call
        except asyncio.CancelledError as exc:
            ours = asyncio.current_task()
            if ours is None or ours.cancelling():
                raise
            raise _ConsumerError(f"the consumer {consumer.name} was cancelled") from exc
        except Exception as exc:
            raise _ConsumerError(f"the consumer {consumer.name} failed: {exc}") from exc

    async def _pulse(self, stream: Stream, asked: Session) -> None:
        """Tell the server how far we are, and ask how far it is, several times a second."""
        nudge = self.applied.nudge
        try:
            for beat in count():
                self._acknowledge(stream)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PULSE_SECONDS):
                        await nudge.wait()
                if nudge.is_set():
                    if self._oldest is None:  # else what is waited for may be on its way
                        nudge.clear()
                        await asked.value(QUERIES["river_nudge"])
                    await asyncio.sleep(NUDGE_SECONDS)  # many who wait need no more than one
                elif beat % BEATS_PER_LOOK == 0:
                    # A server that is told to stop ends this connection first, and then waits for
                    # us to confirm all it has sent. While a consumer works we cannot: so we leave.
                    await asked.value(QUERIES["river_look"])
        finally:
            with contextlib.suppress(MillraceError):  # a last word saves whoever follows some work
                self._acknowledge(stream)

    def _acknowledge(self, stream: Stream) -> None:
        needless = self._plan.needless(self.applied.position)
        stream.acknowledge(0 if needless is None else needless.lsn, ask=True)


def _said(exc: Exception) -> Exception:
    """Return what a consumer raised, or the error itself where it is no consumer's."""
    inner = exc.__cause__ if isinstance(exc, _ConsumerError) else None
    return inner if isinstance(inner, Exception) else exc


def _collected(stream: Stream, transactions: Transactions) -> bool:
    """Take messages, a few milliseconds' worth; say whether all that arrived were taken."""
    for _ in range(SLICE):
        data = stream.message()
        if data is None:
            return True
        transactions.take(data)
        if transactions.full:
            return False
    return False


def _part(consumer: Consumer, changes: Sequence[Change], position: Position | None) -> Batch:
    wanted = consumer.tables
    return Batch([change for change in changes if change.table in wanted], position)


async def _together(*work: Coroutine[Any, Any, None]) -> None:
    """Run until the first one ends, end the others, and raise what it raised."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()
