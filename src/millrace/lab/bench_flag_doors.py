"""The HTTP part of `millrace bench flags`: OFREP as a client meets it, and a kill in two processes.

Two servers run on one database, each in a process of its own. One is asked for single flags and for
all 200 of them, first as fast as it answers, then at random moments at half of that; the peer is the
same question by the gate, without the lane (docs/decisions/0131). Then a flag is killed again and
again at one of them, while both are asked for it without a pause.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from httpx import AsyncClient
from msgspec import Struct
from msgspec.structs import replace

from millrace.community.types import Role
from millrace.kernel.rng import Rng, rng
from millrace.lab import bench_flags, report
from millrace.lab.barrage import Barrage, Volley, request
from millrace.lab.bench_flags import RULES, definition, members
from millrace.lab.installation import own_folder
from millrace.lab.light import Connection
from millrace.lab.measures import percentile
from millrace.lab.place import RATES, small_encoder
from millrace.lab.serving import Server, serving
from millrace.release.flags.types import Actor
from millrace.settings import Settings
from millrace.store.embedded import EmbeddedServer
from millrace.wiring import opened

FLAGS = 200
CONNECTIONS = 32
REQUESTS = 2_000
SHARE_OF_CAPACITY = 0.5
WARM_SECONDS = 1.0
KILLED = "killed-at-once"
SEEN_SECONDS_MAX = 30.0
POLL_SECONDS = 0.002
ACTOR = Actor("operator:bench")
ONE = "/ofrep/v1/evaluate/flags/"
ALL = "/ofrep/v1/evaluate/flags"
Say = Callable[[str], None]


class Plan(Struct, frozen=True, kw_only=True):
    """Seconds of each phase, and how often a flag is killed."""

    seconds: float
    kills: int


FULL = Plan(seconds=20.0, kills=200)
QUICK = Plan(seconds=2.0, kills=15)


class Two(Struct, frozen=True, kw_only=True):
    """Two servers on one database. token: a release manager's."""

    first: Server
    second: Server
    token: str


async def run(quick: bool, seed: int, suite: Path, say: Say) -> dict[str, object]:
    """Measure flags: the evaluators beside each other, then the doors.

    Args:
        quick: fewer contexts and short phases.
        seed: of the members who are asked for.
        suite: the folder of flagd's public suite.
        say: told what is being waited for.

    Returns:
        The keys of BENCH.md for `flags`.
    """
    start = report.begin(seed)
    say("three evaluators in turn")
    evaluators = await asyncio.to_thread(bench_flags.figures, quick, seed, suite)
    doors = await figures(quick, seed, say)
    packages = (*bench_flags.PACKAGES, "granian", "litestar", "msgspec")
    return report.finish(start, {**evaluators, **doors}, packages)


async def figures(quick: bool, seed: int, say: Say) -> dict[str, object]:
    """Measure the doors of flags.

    Args:
        quick: short phases.
        seed: of the members who are asked for.
        say: told what is being waited for.

    Returns:
        The keys of BENCH.md for `flags` that concern OFREP, and more.
    """
    plan, chance = QUICK if quick else FULL, rng(seed)
    async with _servers(say) as two:
        single = _requests(two.token, seed, lambda n: f"{ONE}flag-{n % FLAGS}")
        slow = _requests(two.token, seed, lambda n: f"{ONE}flag-{n % FLAGS}?by=gate")
        every = _requests(two.token, seed, lambda _: ALL)
        say("single evaluations, as many as there can be, then at half of it")
        ofrep = await _measured(two.first, single, plan.seconds, chance)
        say("the same by the gate")
        gate = await _measured(two.first, slow, plan.seconds / 2, chance)
        say(f"{FLAGS} flags at once")
        bulk = await _measured(two.first, every, plan.seconds / 2, chance)
        say("a kill switch, seen in two processes")
        seen = await _kills(two, plan.kills)
    return {
        "ofrep_per_second": round(ofrep.capacity.per_second),
        "ofrep_ms_p50": _ms(ofrep.half, 50),
        "ofrep_ms_p99": _ms(ofrep.half, 99),
        "ofrep_server_us": ofrep.server_us,
        "ofrep_client_us": ofrep.client_us,
        "ofrep_by_gate_per_second": round(gate.capacity.per_second),
        "ofrep_by_gate_server_us": gate.server_us,
        "bulk_flags": FLAGS,
        "bulk_per_second": round(bulk.capacity.per_second),
        "bulk_ms_p50": _ms(bulk.half, 50),
        "bulk_ms_p99": _ms(bulk.half, 99),
        "bulk_server_us": bulk.server_us,
        "kills": len(seen),
        "change_visible_ms_p50": percentile(seen, 50),
        "change_visible_ms_p99": percentile(seen, 99),
        "requests_failed": sum(_failures(one) for one in (ofrep, gate, bulk)),
    }


class Measured(Struct, frozen=True, kw_only=True):
    """As much as there can be, half of that, and microseconds of processor time per request."""

    capacity: Volley
    half: Volley
    server_us: float
    client_us: float


async def _measured(server: Server, requests: list[bytes], seconds: float, chance: Rng) -> Measured:
    barrage = Barrage(requests)
    await barrage.open(server.host, server.port, CONNECTIONS)
    try:
        await barrage.closed_loop(WARM_SECONDS)
        before = server.usage()
        capacity = await barrage.closed_loop(seconds)
        after = server.usage()
        half = await barrage.open_loop(SHARE_OF_CAPACITY * capacity.per_second, seconds, chance)
    finally:
        barrage.close()
    answers = max(len(capacity.seconds), 1)
    return Measured(
        capacity=capacity,
        half=half,
        server_us=round((after.server - before.server) / answers * 1e6, 1),
        client_us=round((after.client - before.client) / answers * 1e6, 1),
    )


def _ms(volley: Volley, rank: float) -> float | None:
    return percentile([seconds * 1000 for seconds in volley.seconds], rank)


def _failures(measured: Measured) -> int:
    both = (measured.capacity, measured.half)
    return sum(len(one.seconds) - one.statuses.get(b"200", 0) + one.unanswered for one in both)


def _requests(token: str, seed: int, path: Callable[[int], str]) -> list[bytes]:
    """Return requests for as many members, no two alike."""
    return [
        request("POST", path(number), token, msgspec.json.encode({"context": context}))
        for number, context in enumerate(members(rng(seed), REQUESTS))
    ]


# ----------------------------------------------------------------------------------- two servers


@asynccontextmanager
async def _servers(say: Say) -> AsyncGenerator[Two]:
    """Lend two servers on a fresh database with 200 flags."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(own_folder()))
        model = small_encoder(folder / "model")
        database = folder / "database"
        held = await stack.enter_async_context(EmbeddedServer(database))
        settings = Settings()
        store = replace(settings.store, primary=held.conninfo, data_dir=str(folder / "first"))
        say(f"writing {FLAGS} flags")
        async with opened(replace(settings, store=store)) as domain:
            rules = list(RULES.values())
            for number in range(FLAGS):
                await _write(domain.flags, f"flag-{number}", rules[number % len(rules)])
            await _write(domain.flags, KILLED, None)
            issued = await domain.identity.create_operator("bench", Role.RELEASE_MANAGER)
            secret = domain.secret.hex()
        variables = {
            "MILLRACE_STORE_PRIMARY": held.conninfo,
            "MILLRACE_SECRET": secret,
            "MILLRACE_FEED_MODEL_DIR": str(model),
            "MILLRACE_FEED_FIT_MINUTES": "0",
            "MILLRACE_DOOR_RATES": json.dumps(RATES),
        }
        say("starting two servers")
        servers: list[Server] = []
        for name in ("first", "second"):
            (folder / name).mkdir(exist_ok=True)
            running = serving(folder / name, variables, database=database)
            servers.append(await stack.enter_async_context(running))
        yield Two(first=servers[0], second=servers[1], token=issued.token)


async def _write(flags: Any, key: str, rule: Any) -> None:
    text = json.dumps(definition(rule, "v2"))
    await flags.put(key, text, version=0, actor=ACTOR, reason="for the measurement")


async def _kills(two: Two, count: int) -> list[float]:
    """Return milliseconds from sending a kill to one server until both obey."""
    lines = [Connection(one.host, one.port) for one in (two.first, two.second, two.first)]
    body = msgspec.json.encode({"reason": "for the measurement"})
    found: list[float] = []
    try:
        for _ in range(count):
            began = perf_counter()
            killing = asyncio.create_task(
                lines[2].ask("POST", f"/v1/flags/{KILLED}/kill", two.token, body)
            )
            seen = [_until(line, two.token, "DISABLED") for line in lines[:2]]
            found.append((max(await asyncio.gather(*seen)) - began) * 1000)
            await killing
            await _revived(two)
            await asyncio.gather(*(_until(line, two.token, "STATIC") for line in lines[:2]))
    finally:
        for line in lines:
            await line.close()
    return found


async def _revived(two: Two) -> None:
    """Switch the flag on again, from the version that stands."""
    headers = {"authorization": f"Bearer {two.token}"}
    base = f"http://{two.first.host}:{two.first.port}/v1/flags/{KILLED}"
    async with AsyncClient(headers=headers) as client:
        held = await client.get(base)
        match = {"if-match": held.headers["etag"]}
        reason = {"reason": "for the measurement"}
        answer = await client.post(f"{base}/revive", json=reason, headers=match)
        answer.raise_for_status()


async def _until(line: Connection, token: str, reason: str) -> float:
    """Return when a server answers with a reason."""
    wanted = f'"reason":"{reason}"'.encode()
    async with asyncio.timeout(SEEN_SECONDS_MAX):
        while True:
            answer = await line.ask("POST", ONE + KILLED, token, b'{"context":{}}')
            if wanted in answer.body:
                return perf_counter()
            await asyncio.sleep(POLL_SECONDS)
