"""An index beside the one that serves is filled while the stream goes on, and what is newer stays."""

import asyncio
from contextlib import asynccontextmanager

import numpy as np
import psycopg
import pytest
from encoder_town import OLD, SECONDS_MAX, SHORT, load, short_version, village
from msgspec.structs import replace
from waiting import until

from millrace.community.testing import Rooms
from millrace.community.types import PostChanges
from millrace.feed import holding
from millrace.feed.catalogue import Catalogue
from millrace.feed.embeddings import Embeddings
from millrace.feed.encoder_versions import EncoderVersions, NewVersion
from millrace.feed.holding import Holding
from millrace.feed.indexing import Indexing
from millrace.feed.testing import parts_for
from millrace.kernel.errors import UnavailableError
from millrace.store.changes.temporary import TemporaryStream

pytestmark = pytest.mark.services


class GatedRouter:
    """A router whose readers are held back with what they have read, and may be failed first."""

    def __init__(self, router) -> None:
        self._router = router
        self.read_something = asyncio.Event()
        self.go = asyncio.Event()
        self.failures = 0

    @asynccontextmanager
    async def read(self, token: str = ""):
        """Lend a session; what was read is old by the time it comes back."""
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the database is away")
        async with self._router.read(token) as session:
            yield session
        self.read_something.set()
        await self.go.wait()


class Place:
    """A stream that keeps a catalogue, with a gate before the index beside it."""

    def __init__(self, rooms: Rooms, conninfo: str) -> None:
        self.parts = replace(parts_for(rooms, conninfo, OLD), load=load)
        self.short = Embeddings(replace(self.parts, encoder=SHORT))
        self.versions = EncoderVersions(rooms.router, rooms.clock)
        self.catalogue = Catalogue(OLD.dims)
        self.gate = GatedRouter(rooms.router)
        self.switches = 0
        indexing = Indexing(self.catalogue, OLD.version)
        gated = replace(self.parts, router=self.gate)
        self.holding = Holding(gated, self.catalogue, indexing, self.switched)
        self.stream = TemporaryStream(conninfo, [indexing, self.holding])
        self.rooms = rooms

    def switched(self) -> None:
        """Count."""
        self.switches += 1

    async def ready(self) -> None:
        """Add the short encoder, as whoever embeds leaves it."""
        await self.versions.add(short_version(), "olga")
        await self.versions.take_up(SHORT.version)
        await self.versions.finish(SHORT.version)

    async def followed(self) -> None:
        """Wait until the stream has brought everything."""
        position = self.rooms.router.claimed(await self.rooms.router.token())
        assert await self.stream.reached(position, SECONDS_MAX)

    def beside(self, key) -> np.ndarray:
        """The vector of a post in the index beside; zeros where it has none."""
        index = self.catalogue.indexes[SHORT.version]
        return index.vectors([index.slot(key)])[0]


async def test_what_the_stream_says_while_an_index_is_filled_stays(router, conninfo):
    """A vector that was made anew, and one that went, are not undone by what was read before."""
    place = Place(Rooms(router), conninfo)
    _, gus, posts = await village(place.rooms)
    await place.short.embed_posts(posts)
    async with place.stream:
        await place.ready()
        await asyncio.wait_for(place.gate.read_something.wait(), SECONDS_MAX)
        await place.rooms.posts.edit(gus, posts[0], PostChanges(text="about something else"))
        await place.rooms.posts.remove(gus, posts[1], "no more")
        await place.short.embed_posts(posts)
        await place.followed()
        newer = place.beside(posts[0])
        named = place.holding.of("short")
        place.gate.go.set()
        await until(lambda: place.holding.of("short"))
        after = place.beside(posts[0])
        there = len(place.catalogue.indexes[SHORT.version])

    assert newer.any()
    assert named is None, "nobody is given what is not all there"
    assert np.array_equal(after, newer)
    assert there == len(posts) - 1


async def test_one_that_serves_is_waited_for_until_its_index_is_full(router, conninfo, monkeypatch):
    """The old one serves until then, also where the database is away for a moment."""
    monkeypatch.setattr(holding, "RETRY_SECONDS", 0.01)
    place = Place(Rooms(router), conninfo)
    await place.versions.propose(
        NewVersion(version=OLD.version, name="packaged", directory="", dims=OLD.dims)
    )
    *_, posts = await village(place.rooms)
    await place.short.embed_posts(posts)
    place.gate.failures = 1
    async with place.stream:
        await place.ready()
        await place.versions.promote("short", "olga")
        await place.followed()
        before = place.catalogue.version
        place.gate.go.set()
        await until(lambda: place.catalogue.version == SHORT.version)
        found = len(place.catalogue.index)

    assert before == OLD.version
    assert (found, place.switches) == (len(posts), 1)


async def test_an_index_that_cannot_be_filled_is_told_of(router, conninfo, caplog):
    """A stored vector of another length is a fault of ours; it is not silent, and the old one serves."""
    place = Place(Rooms(router), conninfo)
    place.gate.go.set()
    _, _, posts = await village(place.rooms)
    await place.short.embed_posts(posts)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        query = "update post_embedding set vector = substr(vector, 1, 6) where model_version = %s"
        connection.execute(query, [SHORT.version])
    async with place.stream:
        await place.ready()
        await until(lambda: "is not filled" in caplog.text)
        named = place.holding.of("short")

    assert named is None
    assert place.catalogue.version == OLD.version
