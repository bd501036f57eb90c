"""Many small requests at once: connections that send what was made beforehand and read only lengths.

`light.py` has a coroutine per request, which costs more than the answer that is measured here. These
are callbacks: a request takes some 30 microseconds of this process, and what comes back is not parsed beyond
its status and its length.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from time import perf_counter

from msgspec import Struct, field

from millrace.kernel.errors import UnavailableError
from millrace.kernel.rng import Rng

CONNECT_SECONDS_MAX = 10.0
DRAIN_SECONDS_MAX = 30.0
TICK_SECONDS = 0.001
_END = b"\r\n\r\n"
_LENGTH = b"content-length:"


class Volley(Struct):
    """What was asked and how it went: seconds per answer, and answers by status."""

    seconds: list[float] = field(default_factory=list[float])
    statuses: dict[bytes, int] = field(default_factory=dict[bytes, int])
    took: float = 0.0
    unanswered: int = 0

    @property
    def per_second(self) -> float:
        """Return how many answers there were per second."""
        return len(self.seconds) / self.took if self.took else 0.0


class _Line(asyncio.Protocol):
    """One connection: it sends, waits for the whole answer, and tells its barrage."""

    def __init__(self, barrage: "Barrage") -> None:
        self._barrage = barrage
        self._held = b""
        self._due = 0.0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        assert isinstance(transport, asyncio.Transport), "TCP is written to"
        self._transport = transport
        self._barrage.idle.append(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Send no more on this one."""
        self._transport = None
        if self in self._barrage.idle:
            self._barrage.idle.remove(self)

    def send(self, request: bytes, due: float) -> None:
        """Send a request that was due at a moment."""
        self._due = due
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Take what came, and tell a whole answer."""
        held = self._held = self._held + data if self._held else data
        end = held.find(_END)
        if end < 0:
            return
        head = held[:end].lower()
        at = head.find(_LENGTH)
        length = 0 if at < 0 else int(head[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
        if len(held) >= end + len(_END) + length:
            self._held = b""
            self._barrage.answered(self, head[9:12], self._due)

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()


class Barrage:
    """Connections to one server, and what they send in turn."""

    def __init__(self, requests: Sequence[bytes]) -> None:
        self._requests = requests
        self._next = 0
        self._lines: list[_Line] = []
        self._volley = Volley()
        self._until = 0.0
        self._flying = 0
        self._arrivals: _Arrivals | None = None
        self._all_answered = asyncio.Event()
        self.idle: list[_Line] = []

    async def open(self, host: str, port: int, connections: int) -> None:
        """Open connections.

        Raises:
            UnavailableError: the server takes none.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                for _ in range(connections):
                    _, line = await loop.create_connection(lambda: _Line(self), host, port)
                    self._lines.append(line)
        except OSError as exc:
            raise UnavailableError(f"{host}:{port} takes no connection: {exc}") from exc

    def close(self) -> None:
        """Close all of them."""
        for line in self._lines:
            line.close()

    async def closed_loop(self, seconds: float) -> Volley:
        """Send on each connection as soon as it is answered: as much as the server can."""
        self._volley = Volley()
        began = perf_counter()
        self._until = began + seconds
        for line in [*self.idle]:
            self._send(line, perf_counter())
        await self._drained(seconds)
        self._volley.took = perf_counter() - began
        return self._volley

    async def open_loop(self, rate: float, seconds: float, chance: Rng) -> Volley:
        """Send at random moments, whether or not earlier ones were answered.

        A request that finds every connection busy waits, and its wait is counted: seconds are from
        the moment when it was due.
        """
        self._volley = Volley()
        began = perf_counter()
        self._arrivals = _Arrivals(rate, began, began + seconds, chance)
        loop = asyncio.get_running_loop()
        self._pump(loop)
        await self._drained(seconds)
        self._arrivals = None
        self._volley.took = seconds
        return self._volley

    def answered(self, line: _Line, status: bytes, due: float) -> None:
        """Take an answer, and send what is due."""
        now = perf_counter()
        volley = self._volley
        volley.seconds.append(now - due)
        volley.statuses[status] = volley.statuses.get(status, 0) + 1
        self._flying -= 1
        self.idle.append(line)
        if now < self._until:
            self._send(line, now)
        elif self._arrivals is not None:
            self._send_due(self._arrivals, now)
        if not self._flying:
            self._all_answered.set()

    def _send(self, line: _Line, due: float) -> None:
        self.idle.remove(line)
        self._flying += 1
        self._next = (self._next + 1) % len(self._requests)
        line.send(self._requests[self._next], due)

    def _pump(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what is due, and come again a moment later, until the last is sent."""
        if self._arrivals is not None and self._arrivals.due < self._arrivals.ends:
            self._send_due(self._arrivals, perf_counter())
            loop.call_later(TICK_SECONDS, self._pump, loop)

    def _send_due(self, arrivals: "_Arrivals", now: float) -> None:
        while arrivals.due <= now and arrivals.due < arrivals.ends and self.idle:
            self._send(self.idle[-1], arrivals.due)
            arrivals.due += arrivals.chance.expovariate(arrivals.rate)

    async def _drained(self, seconds: float) -> None:
        """Wait until the time is over and all is answered, or for as long as that may take."""
        await asyncio.sleep(seconds)
        self._all_answered.clear()
        if self._flying:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered.wait(), DRAIN_SECONDS_MAX)
        self._volley.unanswered, self._flying = self._flying, 0


class _Arrivals(Struct):
    """When the next request of an open loop is due, and when there are no more."""

    rate: float
    due: float
    ends: float
    chance: Rng


def request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    """Return a whole request as bytes."""
    lines = (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return lines.encode() + body
