"""What a feed knows of its member: from memory once it is known, and never behind the token."""

from contextlib import asynccontextmanager
from datetime import timedelta

import psycopg
import pytest

from millrace.community.testing import Rooms
from millrace.community.types import Action, Engagement, Key, ProfileChanges
from millrace.feed.catalogue import Catalogue
from millrace.feed.embeddings import Embeddings
from millrace.feed.hydration import Hydration, MemberCaches
from millrace.feed.indexing import Indexing
from millrace.feed.run import Request, Run
from millrace.feed.served import ServedFeeds
from millrace.feed.testing import feeding, parts_for
from millrace.kernel.errors import NotFoundError
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.pool import Pool
from millrace.store.router import Router
from millrace.store.testing import SECRET, StoreConfig

pytestmark = pytest.mark.services
SECONDS_MAX = 10.0


class CountingRouter(Router):
    """A router that counts how often it lends a session."""

    def __init__(self, pool):
        super().__init__(pool, SECRET)
        self.lent = 0

    def read(self, token=""):
        self.lent += 1
        return super().read(token)


class Village:
    """A reader, two authors with a post each, and what hydrates the reader."""

    def __init__(self, router, conninfo):
        self.router = router
        self.rooms = Rooms(router)
        self.parts = parts_for(self.rooms, conninfo)
        self.catalogue = Catalogue(self.parts.encoder.dims)
        self.indexing = Indexing(self.catalogue, self.parts.encoder.version)
        self.members = MemberCaches(self.parts, Embeddings(self.parts), self.catalogue)
        self.hydration = Hydration(
            self.parts,
            Embeddings(self.parts),
            ServedFeeds(router),
            self.members,
            self.catalogue,
        )
        self.stream = TemporaryStream(conninfo, [self.indexing, *self.members.consumers])

    async def settle(self):
        home = await self.rooms.community("home")
        self.reader, self.ann, self.bob = await self.rooms.people(home, "reader", "ann", "bob")
        self.posts = [await self.rooms.post(who, topics=["bread"]) for who in (self.ann, self.bob)]

    async def hydrated(self, token=""):
        run = Run(
            request=Request(
                member=self.reader.member, surface="feed", token=token, now=self.rooms.clock.now()
            )
        )
        return await self.hydration.member(run)

    async def followed(self):
        """Return a token, when the stream has brought everything up to it."""
        token = await self.router.token()
        assert await self.stream.reached(self.router.claimed(token), SECONDS_MAX)
        return token


@asynccontextmanager
async def living(conninfo):
    pool = Pool(conninfo, StoreConfig(pool_size_min=1, pool_size_max=4))
    await pool.open()
    try:
        village = Village(CountingRouter(pool), conninfo)
        await village.settle()
        async with village.stream:
            yield village
    finally:
        await pool.close()


async def test_a_member_who_is_known_costs_no_query(conninfo):
    async with living(conninfo) as village:
        await village.hydrated()
        token = await village.followed()
        first = await village.hydrated(token)  # its own vector may have come by the stream
        before = village.router.lent

        again = [await village.hydrated(token) for _ in range(5)]

        assert village.router.lent == before
        assert all(state.subject == first.subject for state in again)


async def changes(village):
    """Yield what a member may do, and how one sees it in the state of the feed."""
    rooms, reader, ann = village.rooms, village.reader, village.ann.member
    liked = village.posts[0].key
    yield rooms.relations.follow(reader, ann), lambda s: ann in s.relations.follows
    yield rooms.relations.mute(reader, ann), lambda s: ann in s.relations.mutes
    yield rooms.relations.unmute(reader, ann), lambda s: ann not in s.relations.mutes
    yield (
        rooms.members.update(reader, reader.member, ProfileChanges(headline="Quantum baker")),
        lambda s: "quantum" in s.subject.words,
    )
    yield (
        rooms.members.update(reader, reader.member, ProfileChanges(languages=["German"])),
        lambda s: s.languages == {"de", "en"},
    )
    yield rooms.reactions.like(reader, liked), lambda s: liked in s.liked and s.subject.topics
    yield (
        rooms.activity.record(reader, [], [hide(village)]),
        lambda s: village.posts[1].key in s.hidden,
    )
    yield (
        rooms.reactions.unlike(reader, liked),
        lambda s: liked not in s.liked and not s.subject.topics,
    )
    yield rooms.relations.block(village.ann, reader.member), lambda s: ann in s.relations.blocks
    yield rooms.relations.unblock(village.ann, reader.member), lambda s: not s.relations.blocks


def hide(village):
    return Engagement(
        member=village.reader.member,
        post=village.posts[1].key,
        kind=Action.HIDE,
        happened_at=village.rooms.clock.now(),
    )


async def test_whoever_brings_the_token_sees_it_at_once(conninfo):
    """Also where the stream has not brought it yet: then the tables are read."""
    async with living(conninfo) as village:
        async for change, shows in changes(village):
            await village.hydrated()
            await change
            token = await village.router.token()
            assert shows(await village.hydrated(token)), change


async def test_everybody_else_sees_it_when_the_stream_has_brought_it(conninfo):
    async with living(conninfo) as village:
        await village.hydrated()
        async for change, shows in changes(village):
            await change
            await village.followed()
            assert shows(await village.hydrated()), change
        assert village.members.statistics()["histories"].loads == 1


async def test_while_the_stream_is_interrupted_the_tables_answer(conninfo):
    async with living(conninfo) as village:
        await village.hydrated()
        await village.stream.stop()
        async for change, shows in changes(village):
            await change
            assert shows(await village.hydrated()), change
        await village.stream.start()

        await village.hydrated()
        before = village.router.lent
        await village.hydrated()
        assert village.router.lent == before


async def test_a_removed_member_is_gone_and_an_unknown_one_never_was(conninfo):
    async with living(conninfo) as village:
        await village.hydrated()
        await village.rooms.members.remove(village.reader, village.reader.member, "")
        await village.followed()
        with pytest.raises(NotFoundError):
            await village.hydrated()
        village.reader = village.ann
        await village.hydrated()
        unknown = Key(village.ann.member.community_id, 404)
        assert await village.members.profiles.of(unknown) is None


async def test_a_post_that_is_removed_leaves_the_taste(conninfo):
    async with living(conninfo) as village:
        await village.rooms.reactions.like(village.reader, village.posts[0].key)
        await village.followed()
        assert (await village.hydrated()).subject.topics == {"bread": 1.0}

        await village.rooms.posts.remove(village.ann, village.posts[0].key, "")
        await village.followed()

        state = await village.hydrated()
        assert state.subject.topics == {}
        assert state.subject.affinity == {village.ann.member: 1.0}, "engagement stays what it was"


async def test_windows_move_with_the_clock(conninfo):
    async with living(conninfo) as village:
        await village.rooms.reactions.like(village.reader, village.posts[0].key)
        await village.followed()
        assert set((await village.hydrated()).seen) == {village.posts[0].key}
        village.rooms.clock.move(timedelta(days=31).total_seconds())

        state = await village.hydrated()

        assert not len(state.seen)
        assert list(state.liked) == [village.posts[0].key]


async def test_deliveries_of_this_process_are_known_without_the_table(router, conninfo):
    rooms = Rooms(router)
    home = await rooms.community("home")
    reader, ann = await rooms.people(home, "reader", "ann")
    for n in range(9):
        await rooms.post(ann, f"Text {n}.")
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        first = await feed.page(reader.member, limit=3)
        rooms.clock.move(3 * 60)
        second = await feed.page(reader.member, limit=3)
        third = await feed.page(reader.member, limit=2, cursor=second.next_cursor)
        rooms.clock.move(3 * 60)
        last = await feed.page(reader.member, limit=1)
        rooms.clock.move(6 * 60)  # by now the table is read again
        later = await feed.page(reader.member, limit=1)

    before = [item.view.post.key for page in (first, second, third) for item in page.items]
    assert len(set(before)) == 8
    assert last.items[0].view.post.key not in before
    assert later.items[0].view.post.key in before, "all nine were delivered"


async def test_a_transaction_larger_than_a_batch_is_worked_in_whole(conninfo):
    """Its parts have no position of their own, and a load in between must not pass for all of it."""
    async with living(conninfo) as village:
        await village.hydrated()
        member = village.reader.member
        async with await psycopg.AsyncConnection.connect(conninfo) as connection:
            await connection.execute(
                "insert into impression (community_id, member_id, shown_at, post_community_id,"
                " post_id, position) select %s, %s, %s, 1, n, 0 from generate_series(1, 4500) as n",
                (member.community_id, member.id, village.rooms.clock.now()),
            )
        token = await village.router.token()
        during = await village.hydrated(token)
        await village.followed()
        after = await village.hydrated()

    assert len(set(during.seen)) == len(set(after.seen)) == 4500
