"""Serves the HTTP application in our own event loop, and ends it cleanly."""

import asyncio
import signal
import socket
from collections.abc import AsyncGenerator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server

from millrace.cli.ports import Application
from millrace.kernel.errors import SetupError

READY_SECONDS_MAX = 20


def claim(host: str, port: int) -> int:
    """Return a port that can be listened on; 0 asks for any free one.

    Asked before any work is done: the server itself would share a port with another server of its
    kind without a word.

    Raises:
        SetupError: the port is taken or may not be used, or the host is not of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
            trial.listen(1)
        except (OSError, OverflowError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else "it is no port"
            raise SetupError(
                f"cannot listen on {host} port {port}: {reason}",
                field="door.port",
                value=port,
                next_step="choose another with --port (0 takes any free one) or --host",
            ) from exc
        return int(trial.getsockname()[1])


def address_of(host: str, port: int) -> str:
    """Return the address that a browser on this machine opens."""
    near = _near(host)
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


def _near(host: str) -> str:
    """Return where this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only


@asynccontextmanager
async def served(application: Application, host: str, port: int) -> AsyncGenerator[None]:
    """Serve until the block ends; requests in flight are answered first."""
    server = Server(
        application,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    )
    task = asyncio.create_task(server.serve())
    try:
        await _answers(task, host, port)
        yield
    finally:
        server.stop()
        with suppress(asyncio.CancelledError):
            await task


async def _answers(task: asyncio.Task[None], host: str, port: int) -> None:
    """Wait until the port accepts a connection.

    Raises:
        SetupError: the server ended instead, or takes too long.
    """
    for _ in range(READY_SECONDS_MAX * 50):
        if task.done():
            break
        try:
            _, writer = await asyncio.open_connection(_near(host), port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        return
    raise SetupError(
        f"the server did not come up on {host} port {port}",
        next_step="choose another with --port or --host",
    )


def run_until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run `work` until it ends or until Ctrl-C or SIGTERM, which lets it clean up.

    A second signal ends the process at once.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signal(work))


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    with suppress(asyncio.CancelledError):
        await task
