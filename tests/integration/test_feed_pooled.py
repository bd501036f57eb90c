"""What a member likes counts in their next feed, without an encoder: pooled from the posts' vectors."""

from datetime import timedelta

import numpy as np
import psycopg
import pytest
from msgspec.structs import replace
from waiting import until

from millrace.community.testing import Rooms, as_member
from millrace.community.types import Action, Audience, Engagement
from millrace.feed import record
from millrace.feed.averages import read
from millrace.feed.encoder_versions import EncoderVersions, NewVersion, State
from millrace.feed.index import microseconds
from millrace.feed.pooled_history import (
    PooledHistory,
    counted_from,
    days_between,
    member_vector,
)
from millrace.feed.room import Feed
from millrace.feed.run import RETRIEVAL
from millrace.feed.testing import BrokenEncoder, FakeEncoder, feeding, parts_for
from millrace.feed.types import Embedding, FeedConfig
from millrace.kernel.rng import rng

pytestmark = pytest.mark.services

HOW = PooledHistory(posts_max=4)
TOPICS = ("boats", "nets", "tides", "ropes", "gulls", "knots", "sails", "crabs")
CONFIG = FeedConfig(coalesce_seconds=0.0, fit_minutes=0.0, reload_minutes=60.0)
STEP = 1 / 16_384  # of the grid that nearness is kept on


class Harbour:
    """A reader, and posts of three authors: two at home, one nearby."""

    def __init__(self, rooms: Rooms, conninfo: str) -> None:
        self.rooms, self.conninfo = rooms, conninfo

    async def settle(self) -> "Harbour":
        """Make everybody and everything."""
        rooms = self.rooms
        home = await rooms.community("home")
        near = await rooms.community("near", nearby=["home"])
        self.reader, ann, bob = await rooms.people(home, "reader", "ann", "bob")
        (cat,) = await rooms.people(near, "cat")
        self.authors = [ann, bob, cat]
        self.posts = [
            await rooms.post(
                self.authors[n % 3],
                f"about {topic}",
                title=topic,
                audience=Audience.NEARBY if n % 3 == 2 else Audience.COMMUNITY,
            )
            for n, topic in enumerate(TOPICS)
        ]
        return self

    async def does(self, post, kind: Action = Action.CLICK, days: float = 0.0) -> None:
        """Let the reader do something with a post, some days ago."""
        at = self.rooms.clock.now() - timedelta(days=days)
        done = Engagement(member=self.reader.member, post=post.key, kind=kind, happened_at=at)
        await self.rooms.activity.record(self.reader, [], [done])

    async def expected(self, encoder) -> np.ndarray:
        """The reader's vector by the formula, from what the tables say now."""
        rooms, member, how = self.rooms, self.reader.member, encoder.history
        against = await rooms.activity.hidden_posts(member)
        newest = {}
        for one in await rooms.activity.positives(member):
            newest.setdefault(one.post, microseconds(one.happened_at))
        views = await rooms.posts.views(self.reader, list(newest))
        seen = {view.post.key for view in views} - against
        liked = [(key, at) for key, at in newest.items() if key in seen][: how.posts_max]
        averages, _ = await read(rooms.router, encoder.version, encoder.dims)
        profile = self.stored("member", member, encoder)
        posts = np.array([self.stored("post", key, encoder) for key, _ in liked])
        now = counted_from(microseconds(rooms.clock.now()), how)
        ages = days_between(np.array([at for _, at in liked], dtype=np.int64), now)
        return member_vector(profile, posts.reshape(-1, encoder.dims), ages, averages, how)

    def stored(self, kind: str, key, encoder) -> np.ndarray:
        """A stored vector, zeros where there is none."""
        with psycopg.connect(self.conninfo) as connection:
            row = connection.execute(
                f"select vector from {kind}_embedding"
                f" where community_id = %s and {kind}_id = %s and model_version = %s",
                (key.community_id, key.id, encoder.version),
            ).fetchone()
        if row is None:
            return np.zeros(encoder.dims, np.float32)
        vector = np.frombuffer(row[0], "<f2").astype(np.float32)
        return vector / np.linalg.norm(vector)

    def record(self):
        """The record of the newest served feed."""
        with psycopg.connect(self.conninfo) as connection:
            row = connection.execute(
                "select record from served_feed order by served_feed_id desc limit 1"
            ).fetchone()
        return record.decode(row[0])

    def near(self):
        """How near retrieval found each post, in the newest served feed."""
        return {
            post.key: score
            for post in self.record().ranked
            for source, _, score in post.sources
            if source == RETRIEVAL
        }


async def same_averages(harbour: Harbour, feed, encoder):
    """A page and the member's vector by the formula; None where averages moved in between."""
    token = await harbour.rooms.router.token()
    page = await feed.page(harbour.reader.member, token=token)
    vector = await harbour.expected(encoder)
    _, made_at = await read(harbour.rooms.router, encoder.version, encoder.dims)
    return (page, vector) if harbour.record().pooled.averages_at == made_at else None


async def agree(harbour: Harbour, feed, encoder) -> None:
    """Compare what a feed with a token compared posts with, and the formula over the tables.

    The averages are made anew beside all this, once a day of a clock that is moved by days.
    """
    page, vector = await until(
        lambda: same_averages(harbour, feed, encoder), "the averages of the tables"
    )
    near = harbour.near()
    assert page.degraded == []
    assert near, "retrieval found something"
    for key, score in near.items():
        wanted = float(harbour.stored("post", key, encoder) @ vector)
        assert abs(score - wanted) <= STEP, key


async def test_a_feed_compares_with_the_formula_over_the_tables(router, conninfo):
    """Whatever a member does, takes back, hides or may not see any more, with a token, at once."""
    harbour = await Harbour(Rooms(router), conninfo).settle()
    encoder, draw = FakeEncoder(history=HOW), rng(7)
    rooms, reader = harbour.rooms, harbour.reader
    async with feeding(rooms, conninfo, encoder=encoder, config=CONFIG) as feed:
        await feed.settled()
        await until(lambda: made(router, encoder), "averages")
        await agree(harbour, feed, encoder)
        for place in range(30):
            post = harbour.posts[draw.randrange(len(harbour.posts) - 1)]
            visible = await rooms.posts.views(reader, [post.key])
            match draw.choice(["do", "do", "like", "unlike", "hide", "block", "unblock", "edit"]):
                case "do":
                    await harbour.does(post, draw.choice([*Action][:4]), draw.uniform(0, 30))
                case "like" if visible:
                    await rooms.reactions.like(reader, post.key)
                case "unlike" if visible:
                    await rooms.reactions.unlike(reader, post.key)
                case "hide" if place % 3 == 0:
                    await harbour.does(post, Action.HIDE)
                case "block" if post.author != harbour.authors[1].member:
                    await rooms.relations.block(reader, post.author)
                case "unblock":
                    await rooms.relations.unblock(reader, post.author)
                case _:
                    rooms.clock.move(3_600.0 * draw.randrange(40))
            await agree(harbour, feed, encoder)
        await harbour.does(harbour.posts[1])
        await agree(harbour, feed, encoder)
        counted = harbour.record().pooled.posts
        await harbour.does(harbour.posts[1], Action.HIDE)
        await agree(harbour, feed, encoder)
        assert harbour.posts[1].key in counted
        assert harbour.posts[1].key not in harbour.record().pooled.posts
        await rooms.posts.remove(as_member(harbour.posts[0].author), harbour.posts[0].key, "")
        await agree(harbour, feed, encoder)


async def test_an_engagement_counts_at_once_and_asks_no_encoder(router, conninfo):
    """What was liked draws its like near in the next request; nothing is embedded or waits."""
    harbour = await Harbour(Rooms(router), conninfo).settle()
    rooms, encoder = harbour.rooms, BrokenEncoder(history=HOW)
    boats = harbour.posts[0]
    more = await rooms.post(harbour.authors[1], "more about boats", title="boats")
    async with feeding(rooms, conninfo, encoder=encoder, config=CONFIG) as feed:
        await feed.settled()
        await feed.page(harbour.reader.member)
        await feed.settled()
        before, embedded = harbour.near()[more.key], encoder.embedded
        encoder.broken = True

        await rooms.reactions.like(harbour.reader, boats.key)
        await feed.page(harbour.reader.member, token=await rooms.router.token())
        liked, pooled = harbour.near()[more.key], harbour.record().pooled
        await rooms.reactions.unlike(harbour.reader, boats.key)
        await feed.page(harbour.reader.member, token=await rooms.router.token())
        taken_back = harbour.near()[more.key]
        encoder.broken = False
        await feed.settled()
        after = encoder.embedded

    assert liked > before + 0.1
    assert pooled.posts == [boats.key]
    assert taken_back == before
    assert after == embedded
    with psycopg.connect(conninfo) as connection:
        stale = connection.execute("select count(stale_at) from member_embedding").fetchone()
    assert stale == (0,)


async def test_two_servers_give_a_member_the_same_vector(router, conninfo):
    """Averages are made once and followed, ages are counted in steps: nobody's clock or place tells."""
    harbour = await Harbour(Rooms(router), conninfo).settle()
    rooms, encoder = harbour.rooms, FakeEncoder(history=HOW)
    elsewhere = FeedConfig(
        embedding=Embedding.ELSEWHERE, coalesce_seconds=0.0, fit_minutes=0.0, reload_minutes=60.0
    )
    for post in harbour.posts[:3]:
        await harbour.does(post, days=1.5)
    async with (
        feeding(rooms, conninfo, encoder=encoder, config=CONFIG) as one,
        feeding(rooms, conninfo, encoder=encoder, config=elsewhere) as other,
    ):
        await one.settled()
        await until(lambda: made(router, encoder), "averages")
        token = await rooms.router.token()
        await one.page(harbour.reader.member, token=token)
        first, second = harbour.record(), None
        rooms.clock.move(60.0)
        await other.page(harbour.reader.member, token=await rooms.router.token())
        second = harbour.record()

    assert first.pooled.averages_at == second.pooled.averages_at > 0
    assert first.pooled.posts == second.pooled.posts
    near = [
        {p.key: s for p in one.ranked for name, _, s in p.sources if name == RETRIEVAL}
        for one in (first, second)
    ]
    assert near[0] == near[1]


async def made(router, encoder) -> bool:
    """Whether there are averages of an encoder."""
    return (await read(router, encoder.version, encoder.dims))[1] > 0


async def test_who_has_no_profile_vector_is_ranked_for_what_they_liked(router, conninfo):
    """An encoder that fails costs a pooled feed the profile alone, and the page says so."""
    harbour = await Harbour(Rooms(router), conninfo).settle()
    encoder = BrokenEncoder(history=HOW)
    async with feeding(harbour.rooms, conninfo, encoder=encoder, config=CONFIG) as feed:
        await feed.settled()
        encoder.broken = True
        nothing = await feed.page(harbour.reader.member)
        await harbour.does(harbour.posts[0])
        token = await harbour.rooms.router.token()
        something = await feed.page(harbour.reader.member, token=token)
        near = harbour.near()
        encoder.broken = False

    assert nothing.degraded == [
        "the newest posts, not the nearest ones: the encoder does not answer"
    ]
    assert something.degraded == [
        "ranked for what you liked, without your profile: the encoder does not answer"
    ]
    assert near[harbour.posts[0].key] == max(near.values())
    assert near[harbour.posts[0].key] > 0.9


async def test_an_installation_with_histories_in_prompts_goes_over_by_itself(router, conninfo):
    """The settings name another form of the same model: it is embedded beside, and then serves."""
    harbour = await Harbour(Rooms(router), conninfo).settle()
    rooms, member = harbour.rooms, harbour.reader.member
    words, pooled = FakeEncoder(), FakeEncoder(history=CONFIG.pooled)

    async def load(_directory: str) -> FakeEncoder:
        return pooled

    await harbour.does(harbour.posts[0])
    async with feeding(rooms, conninfo, encoder=words, config=CONFIG) as feed:
        await feed.settled()
        await feed.page(member)
        in_words = harbour.record()
    rooms.clock.move(60.0)
    feed = Feed(replace(parts_for(rooms, conninfo, words, CONFIG), load=load))
    await feed.start()
    try:
        await until(lambda: feed.catalogue.version == pooled.version, "the other form serves")
        await feed.settled()
        await until(lambda: made(router, pooled), "averages")
        await agree(harbour, feed, pooled)
        after = harbour.record()
    finally:
        await feed.stop()
    known = {one.version: one for one in await EncoderVersions(router, rooms.clock).all()}

    assert in_words.versions["encoder"] == words.version
    assert in_words.pooled is None
    assert after.pooled.posts == [harbour.posts[0].key]
    assert known[pooled.version].state is State.SERVING
    assert known[pooled.version].history == pooled.history
    assert known[words.version].state is State.READY


async def test_a_history_in_words_beside_a_pooled_one_is_still_followed(router, conninfo):
    """An encoder that shows histories in prompts is kept true behind one that pools them."""
    harbour = await Harbour(Rooms(router), conninfo).settle()
    rooms, member = harbour.rooms, harbour.reader.member
    words, pooled = FakeEncoder(dims=16), FakeEncoder(history=HOW)
    encoders = {"": pooled, "/words": words}

    async def load(directory: str) -> FakeEncoder:
        return encoders[directory]

    versions = EncoderVersions(router, rooms.clock)
    feed = Feed(replace(parts_for(rooms, conninfo, pooled, CONFIG), load=load))
    await feed.start()
    try:
        await feed.settled()
        await feed.page(member)
        await versions.add(
            NewVersion(version=words.version, name="words", directory="/words", dims=16), "olga"
        )
        await until(lambda: feed.holding.of("words"), "it is ready")
        before = harbour.stored("member", member, words)
        await harbour.does(harbour.posts[0])
        await until(lambda: (harbour.stored("member", member, words) != before).any(), "its vector")
        own = harbour.stored("member", member, pooled)
    finally:
        await feed.stop()

    assert (own == harbour.stored("member", member, pooled)).all()
