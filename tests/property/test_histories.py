"""Goal: a history in memory gives what the queries of the community's activity give."""

from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.community.testing import Rooms, as_member
from millrace.community.types import Action, Audience, Engagement, Impression, Key
from millrace.feed.catalogue import Catalogue
from millrace.feed.embeddings import Embeddings
from millrace.feed.history import DEEDS_MAX, LIKED_MAX, SHOWN_MAX, History
from millrace.feed.hydration import MemberCaches, topics_of
from millrace.feed.index import microseconds
from millrace.feed.indexing import Indexing
from millrace.feed.testing import parts_for
from millrace.store.changes.temporary import TemporaryStream
from millrace.store.testing import opened

DAYS = st.integers(0, 500)
POSTS = st.integers(0, 5)
KINDS = [action.value for action in Action]
QUIET = settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
SECONDS_MAX = 10.0


class Naive:
    """The definitions, word for word, over everything that happened."""

    def __init__(self):
        self.shown, self.deeds, self.likes, self.authors = [], set(), {}, {}

    def seen(self, since):
        posts = {post for post, at in self.shown if at >= since}
        return posts | {post for at, post, _ in self.deeds if at >= since}

    def positives(self):
        counted = [
            (at, post, kind)
            for at, post, kind in self.deeds
            if Action(kind) not in {Action.HIDE, Action.MUTE, Action.BLOCK, Action.REPORT}
            and (kind != "like" or (post in self.likes and self.likes[post] <= at))
        ]
        newest = sorted(counted, reverse=True)[:LIKED_MAX]
        return {post: at for at, post, _ in reversed(newest)}

    def against(self):
        return {post for _, post, kind in self.deeds if kind in {"hide", "report"}}

    def affinity(self, since):
        found = {}
        for at, post, kind in self.deeds:
            author = self.authors.get(post)
            if at >= since and author and kind not in {"hide", "mute", "block", "report"}:
                found[author] = found.get(author, 0) + 1
        return found


EVENTS = st.one_of(
    st.tuples(st.just("shown"), POSTS, DAYS),
    st.tuples(st.just("did"), POSTS, DAYS, st.sampled_from(KINDS)),
    st.tuples(st.just("liked"), POSTS, DAYS),
    st.tuples(st.just("unliked"), POSTS),
    st.tuples(st.just("ask"), DAYS),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=60))
def test_whatever_happens_in_whatever_order(events):
    history, naive = History(), Naive()
    authors = {Key(1, n): Key(1, 100 + n % 2) for n in range(5)}  # the sixth post has no author
    naive.authors = authors
    for name, *rest in [*events, ("ask", 0), ("ask", 250)]:
        post = Key(1, rest[0])
        match name:
            case "shown":
                history.shown(post, rest[1])
                naive.shown.append((post, rest[1]))
            case "did":
                # Some authors are known at once, others are asked for.
                history.did((rest[1], post, rest[2]), authors.get(post) if rest[1] % 2 else None)
                naive.deeds.add((rest[1], post, rest[2]))
            case "liked":
                history.liked(post, rest[1])
                naive.likes[post] = rest[1]
            case "unliked":
                history.unliked(post)
                naive.likes.pop(post, None)
            case _:
                history.tell(set(history.unknown), authors)
                assert set(history.seen(rest[0])) == naive.seen(rest[0])
                assert history.affinity(rest[0]) == naive.affinity(rest[0])
                moments = history.positive_moments().tolist()
                found = dict(zip(history.positives(), moments, strict=True))
                assert found == naive.positives()
                assert moments == sorted(moments, reverse=True)
                assert history.against == naive.against()
    assert not history.unknown


def test_a_long_history_forgets_its_oldest_part():
    history = History()
    for n in range(2 * SHOWN_MAX):
        history.shown(Key(1, n), n)
    for n in range(2 * DEEDS_MAX):
        history.did((n, Key(2, n), "click"), Key(2, 1))

    assert len(history) <= 1.25 * (SHOWN_MAX + DEEDS_MAX)
    seen = set(history.seen(0))
    assert {Key(1, n) for n in range(SHOWN_MAX, 2 * SHOWN_MAX)} <= seen
    assert {Key(2, n) for n in range(DEEDS_MAX, 2 * DEEDS_MAX)} <= seen
    assert Key(1, 0) not in seen


# ------------------------------------------------- beside the tables

STEPS = st.one_of(
    st.tuples(st.just("look"), POSTS, DAYS),
    st.tuples(st.just("do"), POSTS, DAYS, st.sampled_from(list(Action))),
    st.tuples(st.just("like"), POSTS, st.integers(0, 40)),
    st.tuples(st.just("unlike"), POSTS, st.none()),
    st.tuples(st.sampled_from(["remove", "block", "unblock", "blocked", "drop"]), POSTS, st.none()),
)


class Town:
    """Three authors of six posts with topics, and a reader."""

    async def settle(self, rooms):
        self.rooms = rooms
        home = await rooms.community("home")
        near = await rooms.community("near", nearby=["home"])
        self.reader, *authors = await rooms.people(home, "reader", "ann", "bob")
        self.authors = [*authors, *await rooms.people(near, "cat")]
        audiences = [Audience.COMMUNITY, Audience.NEARBY, Audience.PUBLIC]
        self.posts = [
            await rooms.post(
                self.authors[n % 3], f"Text {n}.", audience=audiences[n % 2 + 1],
                topics=["bread", "wind", "seeds"][n % 2 : n % 2 + 2],
            )
            for n in range(6)
        ]  # fmt: skip

    async def play(self, step, conninfo):
        name, place, *rest = step
        rooms, reader, post = self.rooms, self.reader, self.posts[place % len(self.posts)]
        rooms.clock.move(5)
        now, visible = rooms.clock.now(), await rooms.posts.views(self.reader, [post.key])
        match name:
            case "look":
                at = now - timedelta(days=rest[0])
                shown = Impression(member=reader.member, post=post.key, shown_at=at, position=0)
                await rooms.activity.record(reader, [shown], [])
            case "do":
                at = now - timedelta(days=rest[0])
                done = Engagement(member=reader.member, post=post.key, kind=rest[1], happened_at=at)
                await rooms.activity.record(reader, [], [done])
            case "like" | "unlike" if visible:
                await getattr(rooms.reactions, name)(reader, post.key)
            case "remove" if visible:
                await rooms.posts.remove(as_member(post.author), post.key, "")
            case "block" | "unblock":
                await getattr(rooms.relations, name)(reader, post.author)
            case "blocked":
                author = self.authors[place % 3]
                await rooms.relations.block(author, reader.member)
            case "drop":  # a log is only added to, but somebody may clean it
                async with await psycopg.AsyncConnection.connect(conninfo) as connection:
                    await connection.execute(
                        "delete from engagement where post_id = %s", (post.key.id,)
                    )
            case _:
                pass


@pytest.mark.services
@QUIET
@given(st.lists(STEPS, min_size=5, max_size=25))
async def test_the_same_as_the_tables(server, steps):
    conninfo = server.copy()
    try:
        async with opened(conninfo) as router:
            town = Town()
            await town.settle(Rooms(router))
            parts = parts_for(town.rooms, conninfo)
            catalogue = Catalogue(parts.encoder.dims)
            indexing = Indexing(catalogue, parts.encoder.version)
            members = MemberCaches(parts, Embeddings(parts), catalogue)
            async with TemporaryStream(conninfo, [indexing, *members.consumers]) as stream:
                for place, step in enumerate(steps):
                    await town.play(step, conninfo)
                    if place % 2:  # between two questions several changes come in a row
                        await agree(town, members, catalogue, stream, conninfo)
                await agree(town, members, catalogue, stream, conninfo)
                assert members.statistics()["histories"].loads < 12
    finally:
        server.drop(conninfo)


async def agree(town, members, catalogue, stream, conninfo):
    rooms, reader = town.rooms, town.reader.member
    token = await rooms.router.token()
    assert await stream.reached(rooms.router.claimed(token), SECONDS_MAX)
    _, relations, history = await members.read(reader, token)
    now = rooms.clock.now()
    activity = rooms.activity
    for days in (0, 3, 30):
        since = now - timedelta(days=days)
        assert set(history.seen(microseconds(since))) == await activity.seen(reader, since)
    for days in (3, 365):
        since = now - timedelta(days=days)
        assert history.affinity(microseconds(since)) == await activity.affinity(reader, since)
    assert history.against == await activity.hidden_posts(reader)
    newest = await activity.positives(reader, LIKED_MAX)
    liked = {one.post: microseconds(one.happened_at) for one in reversed(newest)}
    moments = history.positive_moments().tolist()
    assert dict(zip(history.positives(), moments, strict=True)) == liked
    assert relations == await rooms.relations.of(reader)
    assert topics_of(catalogue, reader, relations, catalogue.index.slots(liked)) == topics(
        reader, list(liked), conninfo
    )


def topics(reader, liked, conninfo):
    """Return the topics of the liked posts that the one rule of visibility lets the member see."""
    with psycopg.connect(conninfo) as connection:
        rows = connection.execute(
            "select topic, count(*) from unnest(%s::bigint[], %s::bigint[]) as a (community_id,"
            " post_id) join post_seen_by('member', %s, %s) as post using (community_id, post_id)"
            " cross join unnest(post.topics) as topic group by topic order by 2 desc, 1 limit 50",
            (
                [k.community_id for k in liked],
                [k.id for k in liked],
                reader.community_id,
                reader.id,
            ),
        ).fetchall()
    return {topic: count / rows[0][1] for topic, count in rows}
