"""A new encoder embeds beside the old one, serves at once when it is told to, and goes back."""

import asyncio
import weakref

import psycopg
import pytest
from encoder_town import (
    FOLDERS,
    OLD,
    SHORT,
    load,
    serving,
    short_version,
    state_of,
    village,
)
from msgspec.structs import replace
from waiting import until

from millrace.community.testing import Rooms
from millrace.community.types import PostChanges
from millrace.feed import following, record
from millrace.feed.embeddings import Embeddings
from millrace.feed.encoder_versions import (
    RETIRED_SECONDS,
    EncoderVersions,
    NewVersion,
    State,
)
from millrace.feed.encoders import Encoders
from millrace.feed.repository import QUERIES
from millrace.feed.testing import FakeEncoder, FakeSwitches, Said, parts_for
from millrace.feed.types import FeedConfig
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import ConflictError

pytestmark = pytest.mark.services


def vectors(conninfo: str, table: str) -> dict[str, set[int]]:
    """The lengths of stored vectors, by version."""
    with psycopg.connect(conninfo) as connection:
        query = f"select model_version, length(vector) / 2 from {table}"
        found: dict[str, set[int]] = {}
        for version, dims in connection.execute(query).fetchall():
            found.setdefault(version, set()).add(dims)
        return found


async def test_a_new_encoder_is_embedded_beside_and_serves_when_it_is_promoted(router, conninfo):
    """The old one serves until the moment of the change, and again after a rollback."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    rita, gus, posts = await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        before = await feed.page(rita.member)
        await versions.add(short_version(), "operator:olga")
        with pytest.raises(ConflictError, match="only a ready one can serve"):
            await versions.promote("short", "operator:olga")
        await until(lambda: _is(versions, "short", State.READY))
        await until(lambda: feed.holding.of("short"))
        beside = await feed.page(rita.member)
        held = len(feed.catalogue.indexes[SHORT.version])

        await versions.promote("short", "operator:olga")
        await until(lambda: feed.catalogue.version == SHORT.version)
        after = await feed.page(rita.member)
        fresh = await rooms.post(gus, "about kites", title="kites")
        await feed.settled()
        later = await feed.page(gus.member)
        await until(lambda: len(feed.catalogue.indexes[OLD.version]) == len(posts) + 1)

        rolled = await versions.rollback("operator:olga")
        await until(lambda: feed.catalogue.version == OLD.version)
        back = await feed.page(rita.member)
        found = feed.index.find(fresh.key)

    assert [page.degraded for page in (before, beside, after, later, back)] == [[]] * 5
    assert held == len(posts)
    assert rolled.name == "packaged"
    assert found is not None, "what was written meanwhile is in the vectors of the old one"
    assert vectors(conninfo, "post_embedding") == {OLD.version: {32}, SHORT.version: {16}}
    assert encoders(conninfo) == [
        OLD.version,
        OLD.version,
        SHORT.version,
        SHORT.version,
        OLD.version,
    ]


def encoders(conninfo: str) -> list[str]:
    """The encoder of each served feed, in their order."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "select record from served_feed order by served_feed_id"
        ).fetchall()
    return [record.decode(row[0]).versions["encoder"] for row in rows]


async def _is(versions: EncoderVersions, name: str, state: State) -> bool:
    return await state_of(versions, name) is state


async def test_a_flag_gives_one_member_another_encoder(router, conninfo):
    """Both indexes are held; the record says whose vectors; what is not ready is a fault."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, SystemClock())  # later than the town
    rita, gus, _ = await village(rooms)
    switches = FakeSwitches(
        encoder=lambda member, _: (
            Said(key="", value="short", variant="short") if member == rita.member else Said(key="")
        )
    )
    async with serving(rooms, conninfo, switches) as feed:
        await feed.settled()
        early = await feed.page(rita.member)
        faults = dict(feed.variants().faults)
        await versions.add(short_version(), "operator:olga")
        await until(lambda: feed.holding.of("short"))
        await feed.page(rita.member)
        await feed.page(gus.member)
        names = {name: feed.holding.of(name) for name in ("newest", "packaged", "other")}
        memory = feed.holding.bytes_held()

    assert early.degraded == []
    assert faults == {("feed.encoder", "unknown"): 1}
    assert encoders(conninfo) == [OLD.version, SHORT.version, OLD.version]
    assert names == {"newest": SHORT.version, "packaged": OLD.version, "other": None}
    assert memory[OLD.version] == 2 * memory[SHORT.version]
    assert variants(conninfo) == [None, {"feed.encoder": "short"}, None]


def variants(conninfo: str) -> list[dict | None]:
    """What flags decided of each served feed, in their order."""
    with psycopg.connect(conninfo) as connection:
        query = "select variants from served_feed order by served_feed_id"
        return [row[0] for row in connection.execute(query).fetchall()]


async def test_feeds_that_are_asked_for_meanwhile_have_one_encoder_each(router, conninfo):
    """Nobody meets the change: vectors of two lengths in one feed would fail it."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    rita, gus, _ = await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        await feed.page(rita.member)
        await feed.page(gus.member)
        await versions.add(short_version(), "operator:olga")
        await until(lambda: feed.holding.of("short"))
        over = asyncio.Event()

        async def read(member) -> list[list[str]]:
            return [(await feed.page(member)).degraded async for _ in _until_set(over)]

        readers = [asyncio.create_task(read(who.member)) for who in (rita, gus) for _ in range(2)]
        for wanted in (SHORT, OLD) * 4:
            if wanted is SHORT:
                await versions.promote("short", "operator:olga")
            else:
                await versions.rollback("operator:olga")
            await until(lambda wanted=wanted: feed.catalogue.version == wanted.version)
        over.set()
        pages = [degraded for found in await asyncio.gather(*readers) for degraded in found]

    assert set(encoders(conninfo)) == {OLD.version, SHORT.version}
    assert len(pages) > 8
    assert [one for one in pages if one] == []


async def _until_set(over: asyncio.Event):
    while not over.is_set():
        yield
        await asyncio.sleep(0)


async def test_what_members_do_reaches_the_vectors_beside(router, conninfo):
    """A visit moves both vectors of a member; an edit moves both of a post; a removal takes both."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    rita, gus, posts = await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        await feed.page(rita.member)
        await versions.add(short_version(), "operator:olga")
        await until(lambda: feed.holding.of("short"))
        before = hashes(conninfo, "member_embedding")
        await rooms.reactions.like(rita, posts[0])
        await until(lambda: all_moved(before, hashes(conninfo, "member_embedding")))
        before = hashes(conninfo, "post_embedding", posts[1].id)
        await rooms.posts.edit(gus, posts[1], PostChanges(text="about kites and wind"))
        await until(lambda: all_moved(before, hashes(conninfo, "post_embedding", posts[1].id)))
        await rooms.posts.remove(gus, posts[2], "no more")
        await until(lambda: not hashes(conninfo, "post_embedding", posts[2].id))
        await until(lambda: [len(one) for one in feed.catalogue.indexes.values()] == [5, 5])

    assert before.keys() == {OLD.version, SHORT.version}


def hashes(conninfo: str, table: str, post_id: int = 0) -> dict[str, str]:
    """The prompts that vectors were made of, by version."""
    where = f" where post_id = {post_id}" if post_id else ""
    with psycopg.connect(conninfo) as connection:
        query = f"select model_version, prompt_hash from {table}{where}"
        return dict(connection.execute(query).fetchall())


def all_moved(before: dict[str, str], after: dict[str, str]) -> bool:
    """Whether every version has another prompt than before."""
    return len(before) == 2 and all(after[version] != before[version] for version in before)


async def test_a_broken_encoder_is_blamed_and_the_others_go_on(router, conninfo):
    """Its files went after it was added: the reason stands in the table, and it may be added again."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    rita, _, _ = await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        await versions.add(short_version(directory="/models/gone"), "operator:olga")
        await until(lambda: _fault(versions, "short"))
        fault = await _fault(versions, "short")
        page = await feed.page(rita.member)
        await versions.add(short_version(), "operator:olga")
        await until(lambda: feed.holding.of("short"))

    assert "has no config.json" in fault
    assert page.degraded == []


async def _fault(versions: EncoderVersions, name: str) -> str:
    return next(one.fault for one in await versions.all() if one.name == name)


async def test_one_that_serves_and_cannot_be_loaded_any_more_goes_back(router, conninfo):
    """After a restart the process begins with another one; that serves where it is ready."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    rita, _, _ = await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        await versions.add(short_version(), "operator:olga")
        await until(lambda: feed.holding.of("short"))
        await versions.promote("short", "operator:olga")
        await until(lambda: feed.catalogue.version == SHORT.version)
    gone = FOLDERS.pop("/models/short")
    try:
        async with serving(rooms, conninfo) as feed:
            await until(lambda: _is(versions, "packaged", State.SERVING))
            await until(lambda: feed.catalogue.version == OLD.version)
            page = await feed.page(rita.member)
    finally:
        FOLDERS["/models/short"] = gone
    (broken,) = [one for one in await versions.all() if one.name == "short"]

    assert page.degraded == []
    assert broken.state is State.CANDIDATE
    assert "cannot be used" in broken.fault


async def test_another_model_of_the_settings_is_embedded_beside_first(router, conninfo):
    """A changed setting takes no nearness away: the old one serves until the new one is ready."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    rita, _, _ = await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
    config = FeedConfig(coalesce_seconds=0.0, fit_minutes=0.0, model_dir="/models/short")
    async with serving(rooms, conninfo, config=config) as feed:
        first = await feed.page(rita.member)
        await until(lambda: feed.catalogue.version == SHORT.version)
        second = await feed.page(rita.member)
    states = {one.name: one.state for one in await versions.all()}

    assert [first.degraded, second.degraded] == [[], []]
    assert states == {"packaged": State.READY, "short": State.SERVING}


async def test_a_retired_encoder_goes_with_its_vectors(router, conninfo, monkeypatch):
    """One that serves cannot be retired; what is retired is nowhere any more."""
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.02)
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        await versions.add(short_version(), "operator:olga")
        await until(lambda: feed.holding.of("short"))
        with pytest.raises(ConflictError, match="serves"):
            await versions.retire("packaged", "operator:olga")
        with pytest.raises(ConflictError, match="no encoder that served before"):
            await versions.rollback("operator:olga")
        gone = weakref.ref(feed.catalogue.indexes[SHORT.version])
        await versions.retire("short", "operator:olga")
        await until(lambda: SHORT.version not in feed.catalogue.indexes)
        named, held = feed.holding.of("short"), gone()
        dropped = await versions.drop_retired(100)
        rooms.clock.move(RETIRED_SECONDS)
        await until(lambda: vectors(conninfo, "post_embedding") == {OLD.version: {32}})

    assert named is None
    assert held is None, "the memory of its index was given back"
    assert dropped == 0, "a server that has not changed over yet still serves with them"
    assert SHORT.version not in vectors(conninfo, "member_embedding")


async def test_an_index_that_was_searched_gives_its_memory_back(router, conninfo):
    """Whoever was served with it holds it no longer than their feed is made."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    rita, _, _ = await village(rooms)
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        await versions.add(short_version(), "operator:olga")
        await until(lambda: feed.holding.of("short"))
        await versions.promote("short", "operator:olga")
        await until(lambda: feed.catalogue.version == SHORT.version)
        page = await feed.page(rita.member)
        gone = weakref.ref(feed.catalogue.indexes[SHORT.version])
        await versions.promote("packaged", "operator:olga")
        await until(lambda: feed.catalogue.version == OLD.version)
        await versions.retire("short", "operator:olga")
        await until(lambda: SHORT.version not in feed.catalogue.indexes)
        held = gone()

    assert page.items
    assert held is None


async def test_what_comes_late_moves_nothing(router):
    """An encoder is found broken, and a person promotes or retires meanwhile: the person was right."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    await versions.propose(
        NewVersion(version=OLD.version, name="packaged", directory="", dims=OLD.dims)
    )
    await versions.add(short_version(), "olga")
    await versions.take_up(SHORT.version)
    await versions.finish(SHORT.version)
    await versions.promote("short", "olga")
    await versions.blame(SHORT.version, "it could not be loaded a moment ago")
    await versions.blame(OLD.version, "nor could this one")
    gone = await versions.fall_back(OLD.version, SHORT.version, "too late")
    promoted = {one.name: (one.state, one.fault) for one in await versions.all()}
    await versions.retire("packaged", "olga")
    await versions.blame(OLD.version, "it cannot be loaded")
    kept = await versions.fall_back(SHORT.version, OLD.version, "its files are gone")
    retired = {one.name: (one.state, one.fault) for one in await versions.all()}

    assert (gone, kept) == (True, False)
    assert promoted == {
        "short": (State.SERVING, ""),
        "packaged": (State.CANDIDATE, "nor could this one"),
    }
    assert retired == {
        "short": (State.SERVING, "its files are gone"),
        "packaged": (State.RETIRED, ""),
    }


async def test_an_encoder_is_not_finished_while_somebody_decides_about_it(router, conninfo):
    """Else one that is retired in that moment would be ready all the same."""
    versions = EncoderVersions(router, Rooms(router).clock)
    await versions.add(short_version(), "olga")
    await versions.take_up(SHORT.version)
    async with router.write() as session:
        await session.value(QUERIES["lock_encoder_versions"])
        finishing = asyncio.create_task(versions.finish(SHORT.version))
        await until(lambda: _waits(conninfo))
        meanwhile = await state_of(versions, "short")

    assert await finishing
    assert meanwhile is State.EMBEDDING


def _waits(conninfo: str) -> bool:
    """Return whether somebody waits for an advisory lock."""
    with psycopg.connect(conninfo) as connection:
        query = "select from pg_locks where locktype = 'advisory' and not granted"
        return connection.execute(query).fetchone() is not None


async def test_a_follower_that_fails_of_a_fault_begins_anew(router, conninfo, monkeypatch, caplog):
    """Else its encoder would never be ready, and nothing would say so."""
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.02)
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    await village(rooms)
    faults = [KeyError("a fault of ours")]

    class Faulty(FakeEncoder):
        async def embed(self, prompts):
            if faults:
                raise faults.pop()
            return await super().embed(prompts)

    monkeypatch.setitem(FOLDERS, "/models/short", Faulty(dims=SHORT.dims))
    async with serving(rooms, conninfo) as feed:
        await feed.settled()
        await versions.add(short_version(), "operator:olga")
        await until(lambda: feed.holding.of("short"))

    assert "begins anew" in caplog.text


async def test_a_model_that_is_current_no_more_is_forgotten_with_the_next_one(router, conninfo):
    """A server whose vectors somebody else makes loads each encoder that ever serves."""
    rooms = Rooms(router)
    versions = EncoderVersions(router, rooms.clock)
    parts = replace(parts_for(rooms, conninfo, OLD), load=load)
    encoders = Encoders(parts, Embeddings(parts))
    await versions.add(short_version(), "olga")
    gone = weakref.ref(await encoders.called(SHORT.version))
    await versions.retire("short", "olga")
    half = NewVersion(version=f"{OLD.version}-8", name="half", directory="", dims=8)
    await versions.add(half, "olga")
    await encoders.called(half.version)

    assert gone() is None
