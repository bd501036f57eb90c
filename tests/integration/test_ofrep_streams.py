"""Goal: whoever listens hears of each change, and nobody listens on whom the installation shut out."""

import asyncio
import json
from urllib.parse import urlsplit

import pytest
from flag_town import FLAGS, put, with_flags

from millrace.api.serve import serving
from millrace.api.testing import town
from millrace.community.moves import Move, Thing, ThingKind
from millrace.community.types import program

pytestmark = pytest.mark.services
ALL = "/ofrep/v1/evaluate/flags"
EVENTS = "/ofrep/v1/events"


async def ask(client, headers):
    """Evaluate every flag."""
    return await client.post(ALL, headers=headers, json={"context": {}})


async def listened(
    address: str, path: str, headers: dict[str, str], events: int, meanwhile=None
) -> list[dict]:
    """Return the first events of a stream; `meanwhile` runs once the first is there."""
    place = urlsplit(address)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\n".encode())
    found: list[dict] = []
    try:
        async with asyncio.timeout(20):
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n")[0]:
                return [{"status": int(head.split()[1])}]
            held: dict = {}
            while len(found) < events:
                line = (await reader.readline()).decode().strip()
                name, _, value = line.partition(": ")
                if name in {"id", "event", "data"}:
                    held[name] = value
                elif not line and "data" in held:
                    found.append(held | {"data": json.loads(held["data"])})
                    held = {}
                    if meanwhile is not None and len(found) == 1:
                        await meanwhile()
    finally:
        writer.close()
    return found


async def test_changes_are_told_as_they_happen(conninfo, tmp_path):
    """A stream says at once what is, then each change; who knows the present flags hears no echo."""
    async with (
        town(conninfo, str(tmp_path)) as place,
        serving(place.app, "127.0.0.1", 0) as address,
        place.client() as client,
    ):
        await with_flags(place, {"shown": FLAGS["shown"]})
        headers = place.bearer("ada")

        async def change():
            await put(place, "shown", FLAGS["killed"], 1)

        first, second = await listened(address, EVENTS, headers, 2, change)
        assert first["event"] == "message"
        assert first["data"] == {"type": "refetchEvaluation", "etag": first["id"]}
        assert second["data"]["type"] == "refetchEvaluation"
        assert second["id"] != first["id"]

        bulk = (await ask(client, headers)).json()
        path = bulk["eventStreams"][0]["endpoint"]["requestUri"]
        assert (
            path == (await ask(client, headers)).json()["eventStreams"][0]["endpoint"]["requestUri"]
        )
        (known,) = await listened(address, path, {}, 1)
        assert known["id"] == second["id"]

        async def later():
            await asyncio.sleep(0)
            await put(place, "shown", FLAGS["shown"], 2)

        waiting = asyncio.create_task(listened(address, path, {"last-event-id": second["id"]}, 1))
        while not len(place.app.state.flag_streams):
            await asyncio.sleep(0.01)
        await later()
        (third,) = await waiting
        assert third["id"] == place.program.flags.etag() != second["id"]

        assert await listened(address, path[:-4] + "AAAA", {}, 1) == [{"status": 401}]
        assert await listened(address, EVENTS, {}, 1) == [{"status": 401}]
        assert (
            await client.get("/v1/me", params={"admission": path.partition("=")[2]})
        ).status_code == 401


async def heard_of(address: str, path: str) -> str:
    """Return all that a stream says until the server ends it."""
    place = urlsplit(address)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    said = b""
    try:
        async with asyncio.timeout(20):
            while not said.endswith(b"0\r\n\r\n"):  # the last chunk
                piece = await reader.read(65536)
                if not piece:
                    break
                said += piece
    finally:
        writer.close()
    return said.decode()


async def test_an_admission_ends_with_a_ban(conninfo, tmp_path):
    """Streams of a banned member and of a disabled operator end, others go on, none opens again."""
    async with (
        town(conninfo, str(tmp_path)) as place,
        place.client() as client,
    ):
        streams, made = place.app.state.flag_streams, place.program
        streams.heartbeat_seconds = 0.2
        async with serving(place.app, "127.0.0.1", 0) as address:
            paths = {}
            for name in ("ada", "ben", "reader"):
                bulk = (await ask(client, place.bearer(name))).json()
                paths[name] = bulk["eventStreams"][0]["endpoint"]["requestUri"]
            reading = {
                name: asyncio.create_task(heard_of(address, path)) for name, path in paths.items()
            }
            async with asyncio.timeout(20):
                while len(streams) < 3:
                    await asyncio.sleep(0.01)
            thing = Thing(ThingKind.MEMBER, place.members["ada"])
            await made.moderation.decide(program(), thing, Move.BAN, "for the test")
            await made.identity.disable_operator("shop", "program:test", "for the test")
            ended = await asyncio.gather(reading["ada"], reading["reader"])
            still = len(streams)
            again = [await listened(address, paths[name], {}, 1) for name in ("ada", "reader")]
            assert not reading["ben"].done()
        await reading["ben"]

    assert all("refetchEvaluation" in said for said in ended)
    assert still == 1
    assert again == [[{"status": 401}]] * 2
