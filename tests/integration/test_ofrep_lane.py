"""Goal: who is slow at the lane of evaluations is in nobody's way."""

import asyncio

import pytest
import pytest_asyncio
from flag_town import with_flags

from millrace.api.lane import READING_MAX, READING_MEMBER_MAX
from millrace.api.testing import town

pytestmark = pytest.mark.services

ALL = "/ofrep/v1/evaluate/flags"
ONE = f"{ALL}/"


@pytest_asyncio.fixture
async def town_with_flags(conninfo, tmp_path):
    """A town, and a client of it."""
    async with town(conninfo, str(tmp_path)) as place, place.client() as client:
        await with_flags(place)
        yield place, client


async def test_who_sends_slowly_sends_nobody_else_to_the_gate(town_with_flags):
    """A member waits in few places of the lane; the rest of them wait at the gate, and others in none."""
    place, client = town_with_flags
    path, arrived, answers = ONE + "shown", asyncio.Event(), []
    for who in ("ada", "ben"):
        await client.post(
            path, headers=place.bearer(who), json={}
        )  # the lane takes who was seen a moment ago
    body = b'{"context": {}}'
    proof = place.bearer("ada")["authorization"].encode()
    sent = [(b"host", b"127.0.0.1"), (b"authorization", proof)]
    sent += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http",
        "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"",
        "root_path": "", "headers": sent, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "state": {},
    }  # fmt: skip

    async def receive():
        await arrived.wait()
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message):
        answers.append(message.get("status"))

    slow = [asyncio.create_task(place.app(dict(scope), receive, send)) for _ in range(READING_MAX)]
    await asyncio.sleep(0)
    before = len(place.logged("request"))
    assert (await client.post(path, headers=place.bearer("ben"), json={})).status_code == 200
    assert len(place.logged("request")) == before, "ben was sent to the gate, which writes a line"
    arrived.set()
    await asyncio.gather(*slow)

    assert answers.count(200) == len(slow)
    by_gate = [one for one in place.logged("request")[before:] if one["route"] == f"{ALL}/{{key}}"]
    assert len(by_gate) == READING_MAX - READING_MEMBER_MAX
