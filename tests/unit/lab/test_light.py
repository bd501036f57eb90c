"""The light client: a connection that the server closed meanwhile is no failure."""

import asyncio

from millrace.lab.light import Connection


async def test_a_connection_closed_while_idle_is_opened_anew():
    """Servers close connections that nobody used for a while; a request after that is answered."""
    closed: asyncio.Queue[None] = asyncio.Queue()

    async def answer_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        closed.put_nowait(None)

    server = await asyncio.start_server(answer_one, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        connection = Connection(host, port)
        for _ in range(3):
            answer = await connection.ask("GET", "/", "token")
            assert (answer.status, answer.body) == (200, b"ok")
            async with asyncio.timeout(5):
                await closed.get()
                streams = connection._streams
                assert streams is not None
                while not streams[0].at_eof():
                    await asyncio.sleep(0.001)
        await connection.close()
