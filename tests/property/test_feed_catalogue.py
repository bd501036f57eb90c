"""Random small worlds through the real rooms: the columns say what the tables say.

Posts are written, edited, hidden, restored and removed, people come, go and are banned, numbers move
and vectors arrive; the catalogue follows by the real change stream. At the end every column is
compared with the tables, with a catalogue made from a snapshot, and the masks with the one rule of
visibility.
"""

import asyncio
from contextlib import suppress

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from millrace.community.languages import primary
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import (
    Action,
    Audience,
    Engagement,
    MemberCounts,
    PostChanges,
    PostCounts,
    PostKind,
)
from millrace.feed.catalogue import Catalogue
from millrace.feed.embeddings import packed
from millrace.feed.index import Scope
from millrace.feed.indexing import Indexing
from millrace.feed.repository import reader
from millrace.kernel.errors import NotFoundError
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.changes.types import Snapshot
from millrace.store.testing import opened

pytestmark = pytest.mark.services

DIMS = 4
MODEL = "a-model"
SECONDS_MAX = 20.0
people, posts = st.integers(0, 4), st.integers(0, 20)
steps = st.one_of(
    st.tuples(st.just("write"), people, st.sampled_from(list(Audience))),
    st.tuples(st.just("edit"), posts, st.sampled_from(["de", "pt-BR", "en"])),
    st.tuples(st.just("narrow"), posts, st.sampled_from(list(Audience))),
    st.tuples(st.just("hide"), posts, st.booleans()),
    st.tuples(st.just("remove"), posts, st.none()),
    st.tuples(st.just("leave"), people, st.none()),
    st.tuples(st.just("ban"), people, st.booleans()),
    st.tuples(st.just("click"), people, posts),
    st.tuples(st.just("follow"), people, people),
    st.tuples(st.just("vector"), posts, st.integers(0, 3)),
    st.tuples(st.just("restart"), st.none(), st.none()),
)
HIDE = """update post set hidden_at = %s, hidden_by = %s, hidden_reason = %s
    where community_id = %s and post_id = %s and removed_at is null"""
BAN = """update member set banned_at = %s, banned_by = %s, banned_reason = %s
    where community_id = %s and member_id = %s"""
VECTOR = """insert into post_embedding (community_id, post_id, model_version, prompt_version,
        prompt_hash, source_version, position, vector, made_at)
    values (%s, %s, %s, 'v1', '', 1, '0/0', %s, now())
    on conflict (community_id, post_id, model_version) do update set vector = excluded.vector"""
TRUTH = """select post.community_id, post.post_id, post.author_id, kind, topics, language,
        audience, post.created_at, post.hidden_at is null and author.banned_at is null
        and author.removed_at is null as shown,
        to_jsonb(counter) as counts, to_jsonb(numbers) as numbers, embedding.vector
    from post
    join member author on author.community_id = post.community_id
        and author.member_id = post.author_id
    join post_counter counter on counter.community_id = post.community_id
        and counter.post_id = post.post_id
    join member_counter numbers on numbers.community_id = post.community_id
        and numbers.member_id = post.author_id
    left join post_embedding embedding on embedding.community_id = post.community_id
        and embedding.post_id = post.post_id and model_version = 'a-model'
    where post.removed_at is null"""


class World:
    """The rooms, and the catalogue that follows them."""

    def __init__(self, rooms: Rooms, conninfo: str) -> None:
        self.rooms, self.conninfo = rooms, conninfo
        self.catalogue = Catalogue(DIMS)
        self.indexing = Indexing(self.catalogue, MODEL)
        self.stream = TemporaryStream(conninfo, [self.indexing])
        self.posts: list = []
        self.gone: set = set()

    async def settle(self) -> None:
        home = await self.rooms.community("home")
        away = await self.rooms.community("away", nearby=["home"])
        self.members = [
            *await self.rooms.people(home, "ann", "bob", "eve"),
            *await self.rooms.people(away, "cat", "dan"),
        ]

    async def execute(self, text: str, *params: object) -> None:
        async with await psycopg.AsyncConnection.connect(self.conninfo) as connection:
            await connection.execute(text, params)

    async def play(self, step) -> None:
        name, first, second = step
        self.rooms.clock.move(7)
        if name == "restart":
            await self.stream.stop()
            await self.stream.start()
        elif name in ("write", "leave", "ban", "follow"):
            await self.person(name, self.members[first], second)
        elif self.posts:
            number = second if name == "click" else first
            await self.post(name, self.posts[number % len(self.posts)], first, second)

    async def person(self, name, member, second) -> None:
        key, now = member.member, self.rooms.clock.now()
        if name == "ban":
            said = (now, "operator:test", "a test") if second else (None, None, None)
            await self.execute(BAN, *said, key.community_id, key.id)
        elif member in self.gone:
            return
        elif name == "leave":
            await self.rooms.members.remove(OPERATOR, key, "left")
            self.gone.add(member)
        elif name == "write":
            topics = ["boats", "soup", "seeds"][: len(self.posts) % 4]
            kind = list(PostKind)[len(self.posts) % len(PostKind)]
            text = f"number {len(self.posts)}"
            self.posts.append(
                await self.rooms.post(member, text, audience=second, topics=topics, kind=kind)
            )
        elif self.members[second] not in {member, *self.gone}:
            await self.rooms.relations.follow(member, self.members[second].member)

    async def post(self, name, post, first, second) -> None:
        key, now = post.key, self.rooms.clock.now()
        if name == "hide":
            said = (now, "operator:test", "a test") if second else (None, None, None)
            await self.execute(HIDE, *said, key.community_id, key.id)
        elif name == "vector":
            vector = np.eye(DIMS, dtype=np.float32)[second]
            await self.execute(VECTOR, key.community_id, key.id, MODEL, packed(vector))
        elif name == "click":
            member = self.members[first].member
            click = Engagement(member=member, post=key, kind=Action.CLICK, happened_at=now)
            await self.rooms.activity.record(OPERATOR, [], [click])
        elif key in self.gone:
            return
        elif name == "remove":
            await self.execute(HIDE, None, None, None, key.community_id, key.id)
            await self.rooms.posts.remove(OPERATOR, key, "a test")
            self.gone.add(key)
        elif name == "edit":
            await self.rooms.posts.edit(OPERATOR, key, PostChanges(language=second))
        else:
            await self.rooms.posts.edit(OPERATOR, key, PostChanges(audience=second))

    async def caught_up(self) -> None:
        now = self.rooms.router.claimed(await self.rooms.router.token())
        assert await self.stream.reached(now, SECONDS_MAX)

    async def check(self) -> None:
        await self.caught_up()
        rows = await self.truth()
        expected = {(row["community_id"], row["post_id"]): row for row in rows}
        held = {(key.community_id, key.id): key for key in self.catalogue.index.all_keys()}
        assert held.keys() == expected.keys()
        for name, key in held.items():
            self.same(key, expected[name])
        assert len(self.catalogue) == sum(row["shown"] for row in rows)
        assert len(self.catalogue.index) == sum(row["vector"] is not None for row in rows)
        await self.rule_holds()
        await self.same_from_a_snapshot()

    async def truth(self) -> list:
        async with await psycopg.AsyncConnection.connect(self.conninfo) as connection:
            cursor = await connection.cursor(row_factory=dict_row).execute(TRUTH)
            return await cursor.fetchall()

    def same(self, key, row) -> None:
        facts, slot = self.catalogue.facts(key), np.array([self.catalogue.slot(key)])
        index = self.catalogue.index
        assert facts.author.id == row["author_id"]
        assert (facts.kind, facts.audience) == (row["kind"], row["audience"])
        assert (facts.topics, facts.language) == (row["topics"], primary(row["language"]))
        assert facts.created_at == row["created_at"]
        assert bool(index.alive(slot)[0]) is row["shown"]
        for names, counts, numbers in (
            (PostCounts.__struct_fields__, row["counts"], self.catalogue.counts(slot)[0]),
            (MemberCounts.__struct_fields__, row["numbers"], self.catalogue.author_counts(slot)[0]),
        ):
            assert [counts[name] for name in names] == numbers.tolist()
        assert (index.find(key) is not None) is (row["vector"] is not None)
        if row["vector"] is not None:
            assert packed(index.vectors(slot)[0]) == row["vector"]

    async def rule_holds(self) -> None:
        """What a mask lets through is what the one rule lets a member read, in SQL."""
        for member in self.members:
            if member in self.gone:
                continue
            me = member.member
            relations = await self.rooms.relations.of(me)
            mask = self.catalogue.index.mask(
                Scope(
                    community_id=me.community_id,
                    nearby=relations.nearby,
                    hidden_authors=relations.blocks,
                )
            )
            passes = set(self.catalogue.keys(np.flatnonzero(mask)))
            views = await self.rooms.posts.views(reader(me), [post.key for post in self.posts])
            own = {view.post.key for view in views if view.post.author == me}
            seen = {view.post.key for view in views} - own  # an author reads what is hidden, too
            assert {k for k in passes if self.catalogue.facts(k).author != me} == seen

    async def same_from_a_snapshot(self) -> None:
        """A catalogue that begins now says the same as one that followed every change."""
        fresh = Catalogue(DIMS)
        position = self.rooms.router.claimed(await self.rooms.router.token())
        async with self.rooms.router.read() as session:
            await Indexing(fresh, MODEL).begin(Snapshot(session, position))
        assert set(fresh.index.all_keys()) == set(self.catalogue.index.all_keys())
        assert len(fresh) == len(self.catalogue)
        for key in fresh.index.all_keys():
            one, two = np.array([fresh.slot(key)]), np.array([self.catalogue.slot(key)])
            assert fresh.facts(key) == self.catalogue.facts(key)
            assert fresh.counts(one).tolist() == self.catalogue.counts(two).tolist()
            assert fresh.index.vectors(one).tolist() == self.catalogue.index.vectors(two).tolist()


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(steps, min_size=5, max_size=30))
async def test_columns_say_what_the_tables_say(server, played):
    """Whatever happens, in whatever order, and however often the stream begins anew."""
    conninfo = server.copy()
    try:
        async with opened(conninfo) as router:
            world = World(Rooms(router), conninfo)
            await world.settle()
            async with world.stream:
                for step in played:
                    with suppress(NotFoundError):  # whom nobody may meet, nobody follows
                        await world.play(step)
                await world.check()
    finally:
        server.drop(conninfo)


async def test_changes_that_come_twice_change_nothing(router, conninfo):
    """Each batch is applied again after the next two: numbers and slots stay as they were."""
    rooms = Rooms(router)
    world = World(rooms, conninfo)
    heard = []

    class Twice(Indexing):
        async def apply(self, batch) -> None:
            await super().apply(batch)
            heard.append(batch)
            for again in heard[-3:-1]:
                await super().apply(again)

    world.indexing = Twice(world.catalogue, MODEL)
    world.stream = TemporaryStream(conninfo, [world.indexing])
    await world.settle()
    async with world.stream:
        for step in (
            ("write", 0, Audience.PUBLIC), ("write", 3, Audience.NEARBY), ("click", 1, 0),
            ("click", 1, 1), ("hide", 0, True), ("hide", 0, False), ("vector", 1, 2),
            ("remove", 0, None), ("ban", 3, True), ("ban", 3, False),
        ):  # fmt: skip
            await world.play(step)
        await world.check()

    assert heard


async def test_arrivals_tell_of_posts_that_may_be_shown_from_now_on(router, conninfo):
    """A new post and one that comes back; not an edit, not a number, not what is hidden."""
    world = World(Rooms(router), conninfo)
    await world.settle()
    await world.play(("write", 0, Audience.PUBLIC))
    async with world.stream:
        arrivals = world.indexing.arrivals()
        listening = asyncio.ensure_future(anext(arrivals))
        await asyncio.sleep(0)  # it listens from here on
        for step in (
            ("edit", 0, "de"), ("click", 1, 0), ("hide", 0, True), ("write", 3, Audience.NEARBY),
            ("hide", 0, False),
        ):  # fmt: skip
            await world.play(step)
        new, back = await listening, await anext(arrivals)
        await arrivals.aclose()

    assert (new.post, new.audience) == (world.posts[1].key, Audience.NEARBY)
    assert new.author == world.posts[1].author
    assert new.community_id == world.posts[1].community_id
    assert new.created_at.tzinfo is not None
    assert back.post == world.posts[0].key
