"""The HTTP server, in this process and on the running loop."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server
from litestar import Litestar

from millrace.api.flag_streams import STREAMS_MAX
from millrace.api.listeners import ALL_MAX
from millrace.kernel.errors import SetupError

HEADER_MILLISECONDS_MAX = 10_000
SHUTDOWN_SECONDS_MAX = 20
BACKLOG = 256
# Requests in the application at once; more wait in the socket. Streams have places of their own.
BACKPRESSURE = 256 + ALL_MAX + STREAMS_MAX
PORT_MAX = 65535


def free_address(host: str, port: int) -> tuple[str, int]:
    """Return the address that can be listened on; port 0 stands for any free one.

    A host or a port that cannot be used is a SetupError that names both and says why.
    """
    if not 0 <= port <= PORT_MAX:
        _refuse(host, port, f"a port is a number from 0 to {PORT_MAX}", None)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            bound: tuple[Any, ...] = probe.getsockname()
    except (OSError, UnicodeError) as exc:
        _refuse(host, port, getattr(exc, "strerror", None) or str(exc), exc)
    return str(bound[0]), int(bound[1])


def _refuse(host: str, port: int, reason: str, cause: Exception | None) -> NoReturn:
    """Tell why an address cannot be used.

    Raises:
        SetupError: names host, port and the next step.
    """
    raise SetupError(
        f"cannot listen on {host} port {port}: {reason}",
        field="door.port",
        value=port,
        limit="a free port of this machine that this user may open",
        next_step="choose another with --port, or stop what uses it",
    ) from cause


@asynccontextmanager
async def serving(app: Litestar, host: str, port: int) -> AsyncGenerator[str]:
    """Serve an application until the block ends; lend the address as a URL.

    At the end no new connection is taken, and requests that run are answered first.
    """
    address, number = free_address(host, port)
    server = Server(
        app,
        address=address,
        port=number,
        interface=Interfaces.ASGI,
        http=HTTPModes.auto,
        websockets=False,
        backlog=BACKLOG,
        backpressure=BACKPRESSURE,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_MILLISECONDS_MAX),
        log_enabled=False,
    )
    running = asyncio.create_task(server.serve())
    try:
        await _listening(address, number, running)
        yield f"http://{f'[{address}]' if ':' in address else address}:{number}"
    finally:
        app.state.listeners.close()  # what streams would keep the server waiting
        app.state.flag_streams.close()
        server.stop()
        with suppress(TimeoutError):  # what still runs then is cut off: nobody waits for ever
            await asyncio.wait_for(running, SHUTDOWN_SECONDS_MAX)


async def _listening(address: str, port: int, running: "asyncio.Task[None]") -> None:
    """Wait until a connection is taken, or the server has failed."""
    while not running.done():
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    await running
