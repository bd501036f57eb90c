"""A process of its own embeds: it answers, dies and comes back, and ends with its server."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from waiting import until

from millrace.community.testing import Rooms
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.process import EmbeddingProcess, FarEncoder
from millrace.feed.room import Feed
from millrace.feed.testing import parts_for, save_tiny_llama
from millrace.feed.types import Embedding, FeedConfig
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import SetupError, UnavailableError
from millrace.settings import Settings
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services
SECONDS_MAX = 60.0
COMMAND = [sys.executable, "-m", "millrace", "embed", "--beside"]

# A server: it has a process beside it, and says its number.
SERVER = """
import asyncio, sys
from millrace.feed.process import EmbeddingProcess
from millrace.kernel.clock import SystemClock

async def main(brief):
    process = EmbeddingProcess([sys.executable, "-m", "millrace", "embed", "--beside"],
                               brief.encode(), SystemClock())
    await process.start()
    print(process.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that starts and answers at once."""
    return save_tiny_llama(tmp_path_factory.mktemp("llama"))


def brief_of(conninfo: str, model: Path, folder: Path) -> bytes:
    """Return the settings that a server hands over."""
    return msgspec.json.encode(
        Settings(
            store=StoreConfig(primary=conninfo, data_dir=str(folder)),
            feed=FeedConfig(model_dir=str(model), coalesce_seconds=0.0, fit_minutes=0.0),
        )
    )


@asynccontextmanager
async def feeding_beside(rooms: Rooms, conninfo: str, brief: bytes) -> AsyncIterator[Feed]:
    """Lend a feed whose vectors another process makes."""
    process = EmbeddingProcess(COMMAND, brief, SystemClock())
    try:
        parts = parts_for(rooms, conninfo, FarEncoder(await process.start()))
        feed = Feed(replace(parts, process=process))
        await feed.start()
        try:
            yield feed
        finally:
            await feed.stop()
    finally:
        await process.stop()


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a child that nobody waits for has ended too."""
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


async def test_a_process_embeds_and_is_started_again_when_it_is_killed(
    router, conninfo, model, tmp_path
):
    """What is written while it is gone is embedded when it is back, and both know of it."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    rita, gus = await rooms.people(home, "rita", "gus")
    brief = brief_of(conninfo, model, tmp_path)
    async with feeding_beside(rooms, conninfo, brief) as feed:
        process = feed._parts.process
        before = await rooms.post(gus, "boats in the harbour")
        await feed.settled(SECONDS_MAX)
        first = await feed.page(rita.member)
        await until(lambda: not feed.freshness.waiting())  # it reports now and then
        calm = (feed.freshness.progress(), feed.freshness.failures)
        await until(lambda: feed.freshness.stream().connected)

        killed = process.pid
        os.kill(killed, signal.SIGKILL)
        await until(lambda: not feed.freshness.stream().connected)
        meanwhile = await rooms.post(gus, "a storm took the boats")
        late = feed.freshness.lag()
        degraded = await feed.page(gus.member)  # whose first feed needs a vector
        await feed.settled(SECONDS_MAX)
        await until(lambda: feed.freshness.stream().connected)
        second = await feed.page(gus.member)
        failures = feed.freshness.failures
        report = await feed.fit()
        with pytest.raises(UnavailableError, match="no encoder 'another'"):
            await process.fit("another")  # not of whichever leads there at the moment

        assert process.pid not in (None, killed)
        assert feed.index.find(before.key) is not None
        assert feed.index.find(meanwhile.key) is not None
    assert first.degraded == []
    assert [item.view.post.key for item in first.items] == [before.key]
    assert calm == ((1, 1), 0)
    assert late > 0
    assert any("encoder does not answer" in one for one in degraded.degraded)
    assert second.degraded == []
    assert failures >= 1
    assert not report.saved
    assert process.pid is None
    assert not is_alive(killed)


async def test_it_ends_with_a_server_that_is_killed(conninfo, model, tmp_path):
    """kill -9 leaves no time to say goodbye: the pipe closes by itself."""
    brief = brief_of(conninfo, model, tmp_path).decode()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, brief, stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            child = int(await server.stdout.readline())
        alive = is_alive(child)
        os.kill(server.pid, signal.SIGKILL)
        await until(lambda: not is_alive(child))
    finally:
        with contextlib.suppress(ProcessLookupError):
            server.kill()
        await server.wait()

    assert alive


async def test_what_it_cannot_work_with_is_told_by_its_server(conninfo, tmp_path):
    """The message is that of a server that loads the model itself; nothing is tried again."""
    process = EmbeddingProcess(
        COMMAND, brief_of(conninfo, tmp_path / "nowhere", tmp_path), SystemClock()
    )
    with pytest.raises(SetupError, match="cannot be used: it is not a directory") as refused:
        await process.start()
    await process.stop()

    assert refused.value.field == "model_dir"
    assert process.restarts == 0


async def test_somebody_else_may_embed(router, conninfo, model, tmp_path):
    """`millrace embed` by hand, and a server that only makes what a request waits for."""
    from millrace.feed.encoder import TextEncoder  # late: it brings torch

    rooms = Rooms(router)
    home = await rooms.community("village")
    rita, gus = await rooms.people(home, "rita", "gus")
    set_up = {
        "MILLRACE_STORE_PRIMARY": conninfo,
        "MILLRACE_STORE_DATA_DIR": str(tmp_path),
        "MILLRACE_FEED_MODEL_DIR": str(model),
    }
    config = FeedConfig(embedding=Embedding.ELSEWHERE, coalesce_seconds=0.0, fit_minutes=0.0)
    encoder = TextEncoder.load(model, history=PooledHistory())
    feed = Feed(parts_for(rooms, conninfo, encoder, config))
    await feed.start()
    hand = await asyncio.create_subprocess_exec(*COMMAND[:-1], env=os.environ | set_up)
    try:
        post = await rooms.post(gus, "boats in the harbour")
        await feed.settled(SECONDS_MAX)
        page = await feed.page(rita.member)
        found = feed.index.find(post.key)
        hand.send_signal(signal.SIGTERM)
        async with asyncio.timeout(SECONDS_MAX):
            status = await hand.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            hand.kill()
        await feed.stop()
        encoder.close()

    assert found is not None
    assert page.degraded == []
    assert not feed.freshness.stream().connected
    assert status == 0
