"""Goal: OpenFeature's own SDK decides in process as the server does, through changes and cuts."""

import asyncio
import json
import subprocess
import sys
import threading
from collections import deque
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from openfeature import api
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent
from openfeature.exception import ErrorCode, ProviderFatalError, ProviderNotReadyError
from openfeature.flag_evaluation import Reason
from waiting import until

from millrace.api.serve import serving
from millrace.api.testing import town
from millrace.release.flags.provider import MillraceProvider
from millrace.release.flags.testing import OLGA, split, switch
from millrace.release.flags.types import Choice, Ring, RingEntry

pytestmark = pytest.mark.services
EVENTS = {
    ProviderEvent.PROVIDER_READY: "ready",
    ProviderEvent.PROVIDER_STALE: "stale",
    ProviderEvent.PROVIDER_ERROR: "error",
    ProviderEvent.PROVIDER_CONFIGURATION_CHANGED: "changed",
}


class Wire:
    """A line to the server that can be cut and mended; its address stays."""

    def __init__(self, address: str) -> None:
        self._host, port = address.removeprefix("http://").split(":")
        self._port = int(port)
        self._open: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._cuts = 0
        self.port = 0

    async def mend(self) -> None:
        """Let connections through."""
        cuts = self._cuts  # of a connection that is accepted now, and joined some moments later
        self._server = await asyncio.start_server(
            lambda reader, writer: self._joined(reader, writer, cuts), "127.0.0.1", self.port
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End all connections at once, and take no more."""
        assert self._server is not None
        self._server.close()
        self._cuts += 1
        for writer in self._open:
            writer.transport.abort()

    async def _joined(self, reader, writer, cuts: int) -> None:
        if cuts < self._cuts:
            writer.transport.abort()
            return
        self._open.add(writer)
        there, back = await asyncio.open_connection(self._host, self._port)
        self._open.add(back)
        await asyncio.gather(self._carried(reader, back), self._carried(there, writer))
        self._open -= {writer, back}

    @staticmethod
    async def _carried(reader, writer) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        writer.close()


class Followed:
    """A provider in the SDK, with what it told."""

    def __init__(self, domain: str, wire: Wire, token: str, **more: Any) -> None:
        self.domain = domain
        self.client = api.get_client(domain)
        self.told: deque[tuple[str, Any]] = deque()
        for event, name in EVENTS.items():
            self.client.add_handler(event, lambda d, name=name: self.told.append((name, d)))
        self.provider = MillraceProvider(f"http://127.0.0.1:{wire.port}", token, **more)

    async def begin(self) -> None:
        await asyncio.to_thread(api.set_provider_and_wait, self.provider, self.domain)

    def heard(self, name: str) -> list[Any]:
        return [details for told, details in list(self.told) if told == name]


@asynccontextmanager
async def place(conninfo, tmp_path):
    """The town on a real server behind a wire, and the SDK without providers afterwards."""
    async with (
        town(conninfo, str(tmp_path)) as found,
        serving(found.app, "127.0.0.1", 0) as address,
    ):
        wire = Wire(address)
        await wire.mend()
        try:
            yield found, wire
        finally:
            await asyncio.to_thread(api.clear_providers)
            await wire.cut()
            assert not [t for t in threading.enumerate() if t.name == "millrace-flags"]


async def put(found, key: str, content: str, version: int = 0) -> None:
    await found.program.flags.put(key, content, version=version, actor=OLGA, reason="test")


def early(found) -> RingEntry:
    """That Ada is in the beta."""
    return RingEntry(
        track="server",
        ring=Ring.BETA,
        member=found.members["ada"],
        choice=Choice.LISTED,
        actor="operator:olga",
        at=datetime(2026, 11, 1, tzinfo=UTC),
    )


def asked(name: str, **attributes: Any) -> EvaluationContext:
    return EvaluationContext(name, attributes)


async def over_ofrep(found, member: str, attributes: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Variant and reason of every flag, as the server answers over the wire."""
    context = {"targetingKey": member, **attributes}
    async with found.client() as client:
        answer = await client.post(
            "/ofrep/v1/evaluate/flags", json={"context": context}, headers=found.bearer("manager")
        )
    return {flag["key"]: (flag["variant"], flag["reason"]) for flag in answer.json()["flags"]}


async def test_the_sdk_decides_as_the_server_does(conninfo, tmp_path):
    """Every type, percentages, rings by name, the member's own market; lies about rings fail."""
    async with place(conninfo, tmp_path) as (found, wire):
        flags, ada = found.program.flags, str(found.members["ada"])
        values = {"text": "a", "whole": 1, "part": 0.5, "object": {"a": [1]}}
        for key, value in values.items():
            definition = {"state": "ENABLED", "variants": {"v": value}, "defaultVariant": "v"}
            await put(found, key, json.dumps(definition))
        beta = {"if": [{"in": ["beta", {"var": "rings"}]}, "on", "off"]}
        home = {"if": [{"in": [{"var": "community"}, [ada.split("-")[0]]]}, "on", "off"]}
        await put(found, "early", switch(targeting=beta))
        await put(found, "home", switch(targeting=home))
        await put(found, "half", switch(targeting=split(50)))
        await put(found, "dead", switch(state="DISABLED"))
        await flags.ring_put(early(found), reason="test")
        followed = Followed("types", wire, found.tokens["reader"])
        await followed.begin()
        client = followed.client

        assert client.get_string_value("text", "", asked(ada)) == "a"
        assert client.get_integer_value("whole", 0, asked(ada)) == 1
        assert client.get_float_value("part", 0.0, asked(ada)) == 0.5
        mine = client.get_object_value("object", {}, asked(ada))
        mine["a"].append(2)
        assert client.get_object_value("object", {}, asked(ada)) == {"a": [1]}
        assert client.get_boolean_details("text", True, asked(ada)).error_code is (
            ErrorCode.TYPE_MISMATCH
        )
        unknown = client.get_boolean_details("unknown", True, asked(ada))
        assert (unknown.value, unknown.error_code) == (True, ErrorCode.FLAG_NOT_FOUND)
        dead = client.get_boolean_details("dead", True, asked(ada))
        assert (dead.value, dead.reason) == (True, Reason.DISABLED)
        for member in found.members.values():
            lie = {"rings": ["beta"], "ring": "beta", "community": "0", "appVersion": "2.0"}
            there = await over_ofrep(found, str(member), lie)
            for key in ("early", "home", "half", "dead"):
                here = client.get_boolean_details(key, False, asked(str(member), **lie))
                assert (here.variant or "", here.reason) == there[key], (member, key)
        assert client.get_boolean_value("early", False, asked(ada)) is True


async def test_a_snapshot_is_read_once_for_each_change(conninfo, tmp_path):
    """The same is 304; who wrote an entry stays here; what is unknown has no usage."""
    async with town(conninfo, str(tmp_path)) as found, found.client() as client:
        reader = found.bearer("reader")
        await put(found, "new", switch("on"))
        await found.program.flags.ring_put(early(found), reason="test")
        said = (("new", "on"), ("unknown", "on"), ("new", "invented"))
        lines = [{"key": key, "variant": name, "evaluations": 5} for key, name in said]

        first = await client.get("/v1/flag-snapshot", headers=reader)
        held = reader | {"if-none-match": first.headers["etag"]}
        same = await client.get("/v1/flag-snapshot", headers=held)
        await found.program.flags.kill("new", actor=OLGA, reason="test")
        changed = await client.get("/v1/flag-snapshot", headers=held)
        told = await client.post("/v1/flag-usage", json={"lines": lines}, headers=reader)

        assert first.headers["etag"] == f'"{first.json()["etag"]}"'
        assert "olga" not in first.text
        assert (same.status_code, same.content) == (304, b"")
        assert changed.status_code == 200
        assert changed.json()["flags"]["new"]["state"] == "DISABLED"
        assert told.status_code == 204
        assert [use.evaluations for use in await counts(found, "new")] == [5]
        assert not await counts(found, "unknown")
        assert {name for _, name in found.program.flags.usage_book.counts} <= {"on", "off", ""}


async def test_a_change_comes_by_itself(conninfo, tmp_path):
    """A flag and a ring: the value is another one, and the SDK hears which flag changed."""
    async with place(conninfo, tmp_path) as (found, wire):
        ada = asked(str(found.members["ada"]))
        await put(found, "new", switch("off"))
        await put(found, "other", switch("off"))
        followed = Followed("change", wire, found.tokens["reader"])
        await followed.begin()
        assert followed.client.get_boolean_value("new", True, ada) is False

        await put(found, "new", switch("on"), version=1)
        await until(
            lambda: followed.client.get_boolean_value("new", False, ada), "the change did not come"
        )
        await until(lambda: followed.heard("changed"), "the change was not told")
        for version in range(2, 21):
            default = "off" if version % 2 else "on"
            await put(found, "other", switch(default), version=version - 1)
        await until(
            lambda: followed.client.get_boolean_value("other", False, ada),
            "the last of many changes did not come",
        )
        await until(
            lambda: followed.provider.etag == found.program.flags.etag(), "it is not up to date"
        )
        await found.program.flags.kill("new", actor=OLGA, reason="test")
        await until(
            lambda: (
                followed.client.get_boolean_details("new", False, ada).reason is Reason.DISABLED
            ),
            "the kill did not come",
        )

    assert followed.heard("changed")[0].flags_changed == ["new"]
    assert not followed.heard("stale")


async def test_a_server_that_goes_away_and_comes_back(conninfo, tmp_path):
    """Meanwhile it is stale and decides all the same; then it learns what it missed."""
    async with place(conninfo, tmp_path) as (found, wire):
        ada = asked(str(found.members["ada"]))
        await put(found, "new", switch("off"))
        followed = Followed("away", wire, found.tokens["reader"])
        await followed.begin()

        await wire.cut()
        await until(lambda: followed.heard("stale"), "nobody was told that it is stale")
        assert followed.client.get_boolean_details("new", True, ada).value is False
        await put(found, "new", switch("on"), version=1)
        readies = len(followed.heard("ready"))
        await wire.mend()
        await until(lambda: len(followed.heard("ready")) > readies, "it is not ready again")
        await until(lambda: followed.heard("changed"), "what it missed was not told")

        assert followed.client.get_boolean_value("new", False, ada) is True
        assert len(followed.heard("stale")) == 1


async def test_a_server_that_is_not_there_yet(conninfo, tmp_path):
    """The SDK says that there is an error, and is ready as soon as the server answers.

    At its end it tells the server what was used.
    """
    async with place(conninfo, tmp_path) as (found, wire):
        await put(found, "new", switch("on"))
        await wire.cut()
        followed = Followed("later", wire, found.tokens["reader"], start_seconds=0.3)

        with pytest.raises(ProviderNotReadyError):
            await followed.begin()
        early = followed.client.get_boolean_details("new", False)
        followed.told.clear()  # before it had a provider, the SDK had one that is always ready
        await wire.mend()
        await until(lambda: followed.heard("ready"), "it was never ready")

        assert (early.value, early.error_code) == (False, ErrorCode.PROVIDER_NOT_READY)
        assert followed.client.get_boolean_value("new", False) is True

        # A flag that only lives in another process must not look as if nobody asked for it.
        followed.client.get_boolean_value("new", False)
        followed.client.get_boolean_value("unknown", False)
        await asyncio.to_thread(followed.provider.shutdown)
        counted = {use.variant: use.evaluations for use in await counts(found, "new")}

        assert counted == {"on": 2}
        with suppress(ProviderNotReadyError):  # 0.3 s may be too short for a first answer
            await asyncio.to_thread(followed.provider.initialize, EvaluationContext())
        await until(
            lambda: "millrace-flags" in [t.name for t in threading.enumerate()], "it did not return"
        )


async def test_a_token_that_is_not_good(conninfo, tmp_path):
    """A member's token opens nothing; one that is revoked is told, and what is known goes on."""
    async with place(conninfo, tmp_path) as (found, wire):
        await put(found, "new", switch("on"))
        with pytest.raises(ProviderFatalError, match="flag reader"):
            await Followed("member", wire, found.tokens["ada"]).begin()
        held = [found.tokens["reader"]]
        followed = Followed("revoked", wire, lambda: held[0])
        await followed.begin()
        await put(found, "later", switch("on"))
        await until(lambda: followed.heard("changed"), "it does not listen")

        held[0] = "no token"
        await wire.cut()
        await wire.mend()
        await until(lambda: followed.heard("error"), "nobody was told")

        assert followed.client.get_boolean_value("new", False) is True


async def counts(found, key: str):
    await found.program.flags.usage_book.flush()
    return await found.program.flags.usage(key)


def test_without_the_sdk_it_says_how_to_get_it():
    """An import that fails names what to install."""
    code = "import sys; sys.modules['openfeature'] = None\nimport millrace.release.flags.provider"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "openfeature-sdk, which is not installed" in done.stderr
