"""The built program: what it starts, what it leaves, and whose server it stands on."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from millrace import wiring
from millrace.community.percentiles import MIDDLE, Percentiles
from millrace.community.types import CommunityDraft, MemberDraft, program
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.testing import FakeEncoder
from millrace.feed.types import FeedConfig
from millrace.kernel.errors import ConflictError
from millrace.release.flags.testing import OLGA, switch
from millrace.release.flags.types import Approval, FlagConfig, Reason, RequestState
from millrace.settings import Settings
from millrace.store.embedded import EmbeddedServer
from millrace.store.testing import fresh_folder
from millrace.store.types import StoreConfig

pytestmark = pytest.mark.services
WAIT_SECONDS = 30


@pytest.fixture
def folder() -> Iterator[Path]:
    """A data folder that the server's own user can enter."""
    with fresh_folder() as made:
        yield made / "data"


def at(folder: Path) -> Settings:
    """Return settings of a program on the folder."""
    return Settings(store=StoreConfig(data_dir=str(folder)))


async def test_builds_on_nothing_and_leaves_no_server(folder: Path) -> None:
    said: list[str] = []

    async with wiring.build(
        at(folder), encoder=FakeEncoder(history=PooledHistory()), say=said.append
    ) as made:
        assert await made.communities.list(program()) == []
        assert (folder / "postgres" / "postmaster.pid").exists()

    assert not (folder / "postgres" / "postmaster.pid").exists()
    assert list(dict.fromkeys(line.partition(":")[0] for line in said)) == [
        "opening the database",
        "migrated the database",
    ]


async def test_the_secret_outlives_the_program(folder: Path) -> None:
    async with wiring.reached(at(folder)) as first:
        pass
    async with wiring.reached(at(folder)) as second:
        assert second.secret == first.secret


async def test_a_program_that_stays_waits_for_a_server_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short command owns the server and ends; what stays must not end with it."""
    monkeypatch.setattr(wiring, "OWN_POLL_SECONDS", 0.05)
    waits = asyncio.Event()
    short = EmbeddedServer(folder, durable=False)
    await short.start()

    async def stay() -> list[object]:
        async with wiring.opened(at(folder), keep=True, say=_heard("waiting", waits)) as made:
            return list(await made.communities.list(program()))

    staying = asyncio.create_task(stay())
    await asyncio.wait_for(waits.wait(), WAIT_SECONDS)
    assert not staying.done()
    await short.stop()

    assert await asyncio.wait_for(staying, WAIT_SECONDS) == []


async def test_it_does_not_wait_for_ever(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring, "OWN_POLL_SECONDS", 0.05)
    monkeypatch.setattr(wiring, "OWN_SECONDS_MAX", 0.1)

    async with EmbeddedServer(folder, durable=False):
        with pytest.raises(ConflictError, match="another process uses the database"):
            async with wiring.reached(at(folder), keep=True):
                pass


async def test_a_program_that_serves_keeps_the_percentiles(folder: Path) -> None:
    """Nobody imports: a community that was filled by the API has its scales all the same."""
    async with wiring.opened(at(folder)) as made:
        drafts = [CommunityDraft(external_id="quay", name="Quay")]
        home = (await made.communities.upsert(program(), drafts)).ids["quay"]
        await made.members.upsert(
            program(), home, [MemberDraft(external_id="ann", display_name="Ann")]
        )

    async with wiring.build(at(folder), encoder=FakeEncoder(history=PooledHistory())) as serving:
        async with asyncio.timeout(WAIT_SECONDS):
            while not await fresh_percentile(serving, home):
                await asyncio.sleep(0.02)


async def fresh_percentile(made: wiring.Program, community: int) -> bool:
    """Tell whether a community has scales now; what the program itself read is kept a minute."""
    scales = await Percentiles(router=made.router, clock=made.clock).scales(community)
    return scales.of("author_posts", 1) != MIDDLE


def _heard(word: str, event: asyncio.Event) -> wiring.Say:
    """Return a listener that sets the event when it hears the word."""

    def listen(text: str) -> None:
        if word in text:
            event.set()

    return listen


async def test_it_decides_by_its_flags_and_its_counts_outlive_it(folder: Path) -> None:
    """A program that serves follows what is changed; one that does not reads what stands."""
    said = {"actor": OLGA, "reason": "because"}
    async with wiring.build(at(folder), encoder=FakeEncoder(history=PooledHistory())) as made:
        await made.flags.put("greeting", switch("on"), version=0, **said)
        assert made.flags.evaluate("greeting", {}).variant == "on"
        await made.flags.kill("greeting", **said)
        assert made.flags.evaluate("greeting", {}).reason is Reason.DISABLED

    settings = Settings(
        store=StoreConfig(data_dir=str(folder)),
        feed=FeedConfig(serve=False),
        flags=FlagConfig(approval=Approval.REQUIRED),
    )
    async with wiring.build(settings, encoder=FakeEncoder(history=PooledHistory())) as made:
        assert made.flags.evaluate("greeting", {}).reason is Reason.DISABLED
        assert not made.flags.live.following
        assert sum(line.evaluations for line in await made.flags.usage("greeting")) == 2
        asked = await made.flags.revive("greeting", version=2, **said)
        assert asked.state is RequestState.PROPOSED
