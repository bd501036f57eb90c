"""The keys that `bench feed` and `bench freshness` print are fixed, whatever was measured."""

import asyncio
import os

import numpy as np
import pytest

from millrace.community.types import Key
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import UnavailableError
from millrace.lab import bench_feed, bench_freshness
from millrace.lab.light import Connections
from millrace.lab.measures import percentile
from millrace.lab.place import Place
from millrace.lab.probes import Pair, Probes
from millrace.lab.serving import Server, Usage
from millrace.lab.town_load import Caller, Tally, Town
from millrace.settings import Settings

# The published keys; a report may have more.
FEED = {
    "live_posts", "members", "candidates_scored", "history_length", "feed_ms_p50", "feed_ms_p99",
    "loaded_ms_p50", "loaded_ms_p99", "capacity_per_second", "rss_mib_peak", "stages_ms_p50",
}  # fmt: skip
FRESHNESS = {
    "post_visible_ms_p50", "post_visible_ms_p99", "edit_visible_ms_p99",
    "engagement_to_member_ms_p99", "block_visible_ms_p99", "writes_per_second",
}  # fmt: skip


def place() -> Place:
    town = Town(Connections("127.0.0.1", 1), [], [], [Key(1, 1)], np.random.default_rng(1))
    server = Server(host="127.0.0.1", port=1, pid=os.getpid(), postmaster=os.getpid())
    return Place(settings=Settings(), clock=SystemClock(), server=server, town=town, aside=[])


def test_feed_has_its_keys():
    tally = Tally(milliseconds=[1.0, 3.0])
    spent = bench_feed._per_feed(Usage(1.0, 2.0, 3.0), Usage(1.5, 2.0, 3.25), 100)
    made = bench_feed.Measured(
        first=tally, alone=tally, records=[], peer=tally, closed=tally, capacity=10.0, peer_capacity=20.0,
        spent=spent, loaded=Tally(),
    )  # fmt: skip
    found = bench_feed._figures(place(), bench_feed.FULL, made)

    assert set(found) >= FEED
    assert (found["live_posts"], found["members"], found["history_length"]) == (
        100_000, 2_000, 1_000,
    )  # fmt: skip
    assert found["feed_ms_p50"] == 2.0
    assert found["loaded_ms_p99"] is None
    assert spent == {"server": 5.0, "database": 0.0, "client": 2.5}
    assert found["rss_mib_peak"] > 1


def test_freshness_has_its_keys_and_counts_what_it_gave_up():
    found = place()
    probes = Probes(found.town, None, None)
    probes.posts.milliseconds.append(20.0)
    probes.posts.late = 1
    watched = bench_freshness.Watched(
        probes=probes, loaded=Tally(), capacity=50.0, seconds=1.0, embedded=[]
    )
    figures = bench_freshness._figures(found, bench_freshness.FULL, watched)

    assert set(figures) >= FRESHNESS
    assert figures["writes_per_second"] == 120.0
    assert figures["post_visible_ms_p99"] > 9_000
    assert figures["edit_visible_ms_p99"] is None


async def test_a_probe_that_is_refused_is_counted_and_the_others_go_on(monkeypatch):
    """Nobody listens at this port: every probe fails, with its reason, and none ends the run."""
    monkeypatch.setattr("millrace.lab.probes.PAUSE_SECONDS", 0)
    found = place()
    probes = Probes(found.town, None, None)
    some = [Pair(Caller(Key(1, n), "token"), Caller(Key(1, n + 9), "token")) for n in range(1, 5)]
    found.town._readers = [some[0].reader]
    watching = asyncio.create_task(probes.for_ever(some, [one.reader for one in some]))
    async with asyncio.timeout(10):
        while probes.writes.failures < 12:
            await asyncio.sleep(0.001)
    still = not watching.done()
    watching.cancel()
    await asyncio.wait([watching])

    assert still
    assert probes.writes.failures == sum(probes.writes.reasons.values())
    assert any("was not answered" in reason for reason in probes.writes.reasons)


def test_percentiles():
    assert percentile([4.0, 1.0, 2.0], 50) == 2.0
    assert percentile([], 50) is None


async def test_the_light_client_reads_whole_answers_on_a_kept_connection():
    """Two answers in pieces on one connection; then a server that goes away."""
    asked = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for body in (b"first", b"the second"):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            asked.append((head.split(b"\r\n")[0], await reader.readexactly(length)))
            writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n" % len(body))
            await writer.drain()
            writer.write(b"Millrace-Token: abc\r\n\r\n" + body[:3])
            await writer.drain()
            writer.write(body[3:])
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    connections = Connections(*server.sockets[0].getsockname()[:2])
    async with server, connections.lent() as connection:
        one = await connection.ask("GET", "/a", "token")
        two = await connection.ask("POST", "/b", "token", b"{}", seen="xyz")
        with pytest.raises(UnavailableError, match="GET /c was not answered"):
            await connection.ask("GET", "/c", "token")
    await connections.close()

    assert (one.status, one.body, two.body) == (201, b"first", b"the second")
    assert one.header(b"millrace-token") == "abc"
    assert one.header(b"absent") == ""
    assert asked == [(b"GET /a HTTP/1.1", b""), (b"POST /b HTTP/1.1", b"{}")]
