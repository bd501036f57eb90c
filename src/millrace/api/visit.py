"""One request on its way through the gate: what is known of it, and what it is answered."""

from typing import Any

from litestar.types import Message, Send
from msgspec import Struct

from millrace.api.auth import Caller
from millrace.api.incoming import Incoming
from millrace.api.inventory import RouteRule
from millrace.store.router import Noted

RawHeaders = list[tuple[bytes, bytes]]


class Visit(Struct, kw_only=True):
    """What is known of a request so far.

    extra: headers that its answer will carry, whatever the answer is.
    noted: how far the log was behind the last commit; None where nothing is to be written.
    status: 0 until the answer has begun; `answered` is when that was, by the monotonic clock.
    """

    incoming: Incoming
    send: Send
    rule: RouteRule | None = None
    caller: Caller | None = None
    extra: dict[str, str]
    noted: Noted | None = None
    status: int = 0
    answered: float | None = None

    async def answer(self, status: int, headers: dict[str, str], body: bytes, send: Send) -> None:
        """Send a whole answer."""
        lines = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        if status not in {204, 304}:
            lines.append((b"content-length", str(len(body)).encode()))
        start: Any = {"type": "http.response.start", "status": status, "headers": lines}
        rest: Any = {"type": "http.response.body", "body": body, "more_body": False}
        await send(start)
        await send(rest)


class Capture:
    """Holds an answer back until it is known what to do with it."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._messages: list[Message] = []

    @property
    def body(self) -> bytes:
        """Return the whole body."""
        held: list[Any] = self._messages[1:]
        return b"".join(message.get("body", b"") for message in held)

    async def __call__(self, message: Message) -> None:
        """Take one message of the answer."""
        held: Any = message
        if held["type"] == "http.response.start":
            self.status = held["status"]
            self.headers = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in held["headers"]
            }
        self._messages.append(message)

    async def release(self, send: Send) -> None:
        """Send what was held."""
        for message in self._messages:
            await send(message)
