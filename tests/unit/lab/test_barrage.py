"""Goal: a barrage counts every answer once, and a wait for a busy server as time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from millrace.kernel.rng import rng
from millrace.lab.barrage import Barrage, request


@asynccontextmanager
async def answering(pause: float) -> AsyncIterator[tuple[str, int, list[bytes]]]:
    """Lend a server that answers each request after a pause, in two pieces.

    It is over when every connection is: one that is left to a closed loop warns in another test.
    """
    heard: list[bytes] = []
    open_: set[asyncio.Task[None]] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a handler is a task"
        open_.add(task)
        task.add_done_callback(open_.discard)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                heard.append(await reader.readexactly(2))
                await asyncio.sleep(pause)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n")
                await writer.drain()
                writer.write(b"\r\nfine")
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    async with server:
        yield host, port, heard
        await asyncio.gather(*open_)


async def test_a_closed_loop_sends_on_every_answer():
    """As many are counted as the server heard, each of the requests in turn."""
    bodies = [b"aa", b"bb", b"cc"]
    async with answering(0.0) as (host, port, heard):
        barrage = Barrage([request("POST", "/x", "token", body) for body in bodies])
        await barrage.open(host, port, 3)
        volley = await barrage.closed_loop(0.1)
        barrage.close()

    assert volley.unanswered == 0
    assert volley.statuses == {b"200": len(heard)}
    assert len(volley.seconds) == len(heard) > 3
    assert set(heard) == set(bodies)


async def test_an_open_loop_counts_the_wait_for_a_connection():
    """One slow connection and many requests: the last has waited for all before it."""
    async with answering(0.02) as (host, port, heard):
        barrage = Barrage([request("POST", "/x", "token", b"aa")])
        await barrage.open(host, port, 1)
        volley = await barrage.open_loop(500.0, 0.1, rng(1))
        barrage.close()

    assert len(volley.seconds) == len(heard)
    assert max(volley.seconds) > 3 * min(volley.seconds)
