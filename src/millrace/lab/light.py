"""A light client of HTTP/1.1: one connection, one request at a time, nothing parsed but its length.

What measures must not cost more than what is measured. It says what it sends and counts how long
the answer took, and leaves the rest to whoever asks.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from time import perf_counter

from msgspec import Struct

from millrace.kernel.errors import UnavailableError

ANSWER_SECONDS_MAX = 30.0


class Answer(Struct, frozen=True):
    """An answer: its status, its headers as they came, in lower case, its body, and its time."""

    status: int
    head: bytes
    body: bytes
    seconds: float

    def header(self, name: bytes) -> str:
        """Return a header's value; empty where it is missing."""
        start = self.head.find(b"\r\n" + name + b":")
        if start < 0:
            return ""
        start += len(name) + 3
        return self.head[start : self.head.find(b"\r\n", start)].strip().decode()


class Connection:
    """One kept connection. A server closes one that nobody used for a while, and so it opens anew."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._host = f"{host}:{port}".encode()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, token: str, body: bytes = b"", seen: str = ""
    ) -> Answer:
        """Send a request and wait for its whole answer.

        Args:
            method: of HTTP.
            path: with its query.
            token: the bearer's.
            body: JSON, or nothing.
            seen: the consistency token that the caller carries.

        Raises:
            UnavailableError: the server closed the connection, or answered in another form.
        """
        lines = [
            f"{method} {path} HTTP/1.1".encode(), b"host: " + self._host,
            b"authorization: Bearer " + token.encode(), b"content-type: application/json",
            b"content-length: %d" % len(body),
        ]  # fmt: skip
        if seen:
            lines.append(b"millrace-token: " + seen.encode())
        began = perf_counter()
        try:
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                reader, writer = await self._opened()
                writer.write(b"\r\n".join([*lines, b"", body]))
                head = await reader.readuntil(b"\r\n\r\n")
                found = head.lower()
                length = int(_value(found, b"content-length") or 0)
                content = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as exc:
            await self.close()
            raise UnavailableError(f"{method} {path} was not answered: {exc!r}") from exc
        return Answer(int(found[9:12]), found, content, perf_counter() - began)

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            await self.close()  # the server closed it while nobody asked, as it may
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        return self._streams

    async def close(self) -> None:
        """Close the connection; the next request opens another."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class Connections:
    """Connections that are lent one by one; there are as many as were ever lent at once."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def lent(self) -> AsyncGenerator[Connection]:
        """Lend one."""
        connection = self._idle.pop() if self._idle else Connection(*self._address)
        try:
            yield connection
        finally:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close those that nobody uses."""
        for connection in self._idle:
            await connection.close()
        self._idle.clear()


def _value(head: bytes, name: bytes) -> bytes:
    start = head.find(b"\r\n" + name + b":")
    if start < 0:
        return b""
    return head[start + len(name) + 3 : head.find(b"\r\n", start + 2)].strip()
