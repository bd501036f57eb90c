"""Goal: whoever sends slowly, or not at all, does not take the server from everybody else."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from millrace.api.testing import town
from millrace.api.waiting import PLACES_MAX, PLACES_PER_CALLER, Waiting
from millrace.kernel.errors import TooManyError, UnavailableError


def post(headers: dict[str, str]) -> dict:
    """Return a request whose body is still to come."""
    found = {
        "host": "127.0.0.1",
        "content-type": "application/json",
        "content-length": "9",
    } | headers
    return {
        "type": "http", "method": "POST", "path": "/v1/posts", "raw_path": b"/v1/posts",
        "query_string": b"", "headers": [(k.encode(), v.encode()) for k, v in found.items()],
        "client": ("127.0.0.1", 1), "state": {}, "http_version": "1.1", "scheme": "http",
    }  # fmt: skip


async def test_slow_senders_leave_room(conninfo, tmp_path, monkeypatch):
    """One caller holds few places; when those hang up, the places are free again."""
    monkeypatch.setattr("millrace.api.waiting.QUICK_SECONDS", 0.05)
    gone, answers = asyncio.Event(), []

    async def receive():
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        answers.append(message)

    async with town(conninfo, str(tmp_path)) as place, place.client() as client:
        ada, ben = place.bearer("ada"), place.bearer("ben")
        slow = [
            asyncio.create_task(place.app(post(ada), receive, send))
            for _ in range(PLACES_PER_CALLER + 3)
        ]
        done, _ = await asyncio.wait(slow, timeout=5, return_when=asyncio.FIRST_COMPLETED)
        while len(done) < 3:
            more, _ = await asyncio.wait(set(slow) - done, timeout=5, return_when="FIRST_COMPLETED")
            assert more, "three of them are refused"
            done |= more
        refused = [one["status"] for one in answers if one["type"] == "http.response.start"]
        other = await client.post("/v1/posts", json={"text": "quick"}, headers=ben)
        gone.set()
        await asyncio.gather(*slow)
        again = await client.post("/v1/posts", json={"text": "quick"}, headers=ada)

    assert refused == [429] * 3
    assert other.status_code == again.status_code == 201


async def test_a_burst_of_whole_requests_waits_for_nothing(conninfo, tmp_path):
    """Bodies that are here at once hold no place, however many come."""
    async with town(conninfo, str(tmp_path)) as place, place.client() as client:
        send = {"json": {"items": []}, "headers": place.bearer("ada")}
        burst = (client.post("/v1/engagements", **send) for _ in range(3 * PLACES_PER_CALLER))
        answers = await asyncio.gather(*burst)

    assert {one.status_code for one in answers} == {200}


async def test_a_request_gets_the_last_connection(conninfo, tmp_path):
    """Whatever the program holds, a request is answered while the pool may still grow."""
    async with (
        town(conninfo, str(tmp_path)) as place,
        place.client() as client,
        AsyncExitStack() as held,
    ):
        for _ in range(place.program.settings.store.pool_size_max - 1):
            await held.enter_async_context(place.program.router.read())
        answer = await client.get("/v1/communities", headers=place.bearer("ada"))

    assert answer.status_code == 200, answer.text


def test_all_together_leave_room():
    """Many callers that hold a few each do not get the last places, and nothing is remembered."""
    waiting = Waiting()
    held = [waiting.place(f"member:{n // PLACES_PER_CALLER}") for n in range(PLACES_MAX)]
    for one in held:
        one.__enter__()
    with pytest.raises(UnavailableError, match="wait for their bodies"), waiting.place("another"):
        pass
    with pytest.raises(TooManyError, match="unfinished"), waiting.place("member:0"):
        pass
    for one in held:
        one.__exit__(None, None, None)

    assert len(waiting) == 0
    with waiting.place("another"):
        assert len(waiting) == 1
