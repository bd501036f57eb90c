"""Goal: behind a real socket nothing is lost: not by a killed database, not by a client that hangs
up, not by the end of the server.
"""

import asyncio
import os
import signal
import socket

import httpx
import psycopg
import pytest
from waiting import until

from millrace.api.serve import free_address, serving
from millrace.api.testing import town
from millrace.kernel.errors import SetupError
from millrace.store.embedded import EmbeddedServer
from millrace.store.testing import fresh_folder

pytestmark = pytest.mark.services
WAIT_SECONDS = 20.0


async def test_the_database_dies_in_mid_request(tmp_path):
    """The request is told 503 and when to return; with the same key it then runs, once."""
    with fresh_folder() as folder:
        async with (
            EmbeddedServer(folder / "data", durable=False) as server,
            town(server.conninfo, str(tmp_path)) as place,
            serving(place.app, "127.0.0.1", 0) as address,
            httpx.AsyncClient(base_url=address, timeout=WAIT_SECONDS) as client,
        ):
            headers = place.bearer("ada") | {"idempotency-key": "one"}
            body = {"text": "in the middle"}
            with psycopg.connect(server.conninfo) as holder:
                holder.execute("lock table post in exclusive mode")
                asked = asyncio.create_task(client.post("/v1/posts", json=body, headers=headers))
                await until(lambda: waiting(holder), "the request never reached the lock")
                # Its backend too: one that gets the lock before it misses the postmaster commits.
                (waits,) = holder.execute("select pid from pg_locks where not granted").fetchone()
                os.kill(waits, signal.SIGKILL)
                os.kill(server._postmaster.pid(), signal.SIGKILL)
                holder.close()
            first = await asked
            await until(lambda: is_ready(client), "the service never came back")
            second = await client.post("/v1/posts", json=body, headers=headers)
            third = await client.post("/v1/posts", json=body, headers=headers)
            with psycopg.connect(server.conninfo) as db:
                counted = db.execute("select count(*) from post where text = %s", [body["text"]])
                count = counted.fetchone()[0]

    assert first.status_code == 503, first.text
    assert first.json()["code"] == "unavailable"
    assert int(first.headers["retry-after"]) >= 1
    assert second.status_code == 201, second.text
    assert third.content == second.content
    assert count == 1


async def waiting(holder) -> bool:
    """Whether somebody waits for the lock that the test holds."""
    found = holder.execute("select count(*) from pg_locks where not granted").fetchone()
    await asyncio.sleep(0)
    return found[0] > 0


async def is_ready(client) -> bool:
    """Whether the server says that it serves."""
    return (await client.get("/health/ready")).status_code == 200


async def test_not_ready_without_a_database(conninfo, tmp_path, monkeypatch):
    """The process lives and says what it waits for."""
    async with town(conninfo, str(tmp_path)) as place, place.client() as client:
        before = await client.get("/health/ready")
        monkeypatch.setattr("millrace.api.server.READY_SECONDS_MAX", 0.0)
        after = await client.get("/health/ready")
        live = await client.get("/health/live")

    assert before.json() == {"status": "ready", "waiting": []}
    assert after.status_code == 503
    assert after.json() == {"status": "waiting", "waiting": ["database"]}
    assert live.status_code == 200


class Slow:
    """Stands where communities are listed, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.go = asyncio.Event()
        self.answered = 0

    async def list(self, _viewer):
        """Wait."""
        self.asked.set()
        await self.go.wait()
        self.answered += 1
        return []


@pytest.fixture
async def place(conninfo, tmp_path):
    """A town behind its doors."""
    async with town(conninfo, str(tmp_path)) as made:
        yield made


async def test_a_client_that_hangs_up(place, monkeypatch):
    """Its request ends by itself, others do not notice, and nothing is left running."""
    slow = Slow()
    monkeypatch.setattr(place.program.communities, "list", slow.list)
    async with (
        serving(place.app, "127.0.0.1", 0) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        async with httpx.AsyncClient(base_url=address) as hasty:
            task = asyncio.create_task(hasty.get("/v1/communities", headers=place.bearer("ada")))
            await slow.asked.wait()
            task.cancel()
        other = await client.get("/v1/me", headers=place.bearer("ada"))
        slow.go.set()
        await until(lambda: only_this_runs(client), "a request is left running")

    assert other.status_code == 200
    assert not place.logged("unforeseen")


async def only_this_runs(client) -> bool:
    """Whether the request for the numbers is the only one that runs."""
    text = (await client.get("/metrics")).text
    return "millrace_requests_running 1.0" in text


async def test_half_a_body_and_gone(place):
    """A client that dies while it sends leaves nothing behind but a log line."""
    async with (
        serving(place.app, "127.0.0.1", 0) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        host, port = address.removeprefix("http://").split(":")
        _, writer = await asyncio.open_connection(host, int(port))
        token = place.bearer("ada")["authorization"]
        writer.write(
            f"POST /v1/posts HTTP/1.1\r\nhost: {host}\r\nauthorization: {token}\r\n"
            'content-type: application/json\r\ncontent-length: 100\r\n\r\n{"text": '.encode()
        )
        await writer.drain()
        await until(lambda: running(client, 2), "the request never began")
        writer.close()
        await until(lambda: running(client, 1), "the request never ended")
    statuses = {line["status"] for line in place.logged("request") if line["method"] == "POST"}

    assert statuses == {499}


async def running(client, count: int) -> bool:
    """Whether so many requests run, this one included."""
    return f"millrace_requests_running {count}.0" in (await client.get("/metrics")).text


async def test_a_large_body_in_chunks(place):
    """A body without an announced length is counted as it comes."""

    async def chunks():
        for _ in range(100):
            yield b"x" * 10_000

    async with (
        serving(place.app, "127.0.0.1", 0) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        headers = place.bearer("ada") | {"content-type": "application/json"}
        answer = await client.post("/v1/posts", content=chunks(), headers=headers)
        after = await client.get("/v1/me", headers=place.bearer("ada"))

    assert answer.status_code == 413
    assert answer.json()["code"] == "body_too_large"
    assert after.status_code == 200


async def test_local_programs_may_read_the_numbers(place):
    """Directly from this machine, and not through a proxy on it or by another name."""
    async with (
        serving(place.app, "127.0.0.1", 0) as address,
        httpx.AsyncClient(base_url=address) as client,
    ):
        direct = await client.get("/metrics")
        proxied = await client.get("/metrics", headers={"x-forwarded-for": "127.0.0.1"})
        renamed = await client.get("/metrics", headers={"host": "evil.example"})

    assert direct.status_code == 200
    assert proxied.status_code == renamed.status_code == 401


async def test_the_end_of_the_server_loses_nothing(place, monkeypatch):
    """What runs is answered before the server ends; the port is free afterwards."""
    slow = Slow()
    monkeypatch.setattr(place.program.communities, "list", slow.list)
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        async with serving(place.app, "127.0.0.1", 0) as address:
            url = f"{address}/v1/communities"
            asked = asyncio.create_task(client.get(url, headers=place.bearer("ada")))
            await slow.asked.wait()
            loop.call_later(0.2, slow.go.set)
        answer = await asked
        with pytest.raises(httpx.ConnectError):
            await client.get(url)

    assert answer.status_code == 200
    assert slow.answered == 1
    assert free_address("127.0.0.1", int(address.rpartition(":")[2]))


async def test_a_request_that_never_ends_does_not_hold_the_server(place, monkeypatch):
    """After the time that a server gives its last requests, it ends without them."""
    slow = Slow()
    monkeypatch.setattr(place.program.communities, "list", slow.list)
    monkeypatch.setattr("millrace.api.serve.SHUTDOWN_SECONDS_MAX", 0.2)
    async with httpx.AsyncClient(timeout=WAIT_SECONDS) as client:
        async with serving(place.app, "127.0.0.1", 0) as address:
            url = f"{address}/v1/communities"
            asked = asyncio.create_task(client.get(url, headers=place.bearer("ada")))
            await slow.asked.wait()
        slow.go.set()
        await asyncio.gather(asked, return_exceptions=True)

    assert asked.done()


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("127.0.0.1", None, "Address already in use"),
        ("no-such-host.invalid", 8321, "not known|resolution"),
        ("127.0.0.1", 70_000, "from 0 to 65535"),
        ("192.0.2.1", 8321, "Cannot assign requested address"),
    ],
)
async def test_an_address_that_cannot_be_used(host, port, reason):
    """The error names host, port, the reason and the next step."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        number = port or taken.getsockname()[1]
        with pytest.raises(SetupError, match=reason) as caught:
            free_address(host, number)

    assert host in caught.value.message
    assert str(number) in caught.value.message
    assert "--port" in caught.value.next_step
