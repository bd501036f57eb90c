"""Random small worlds: no page ever shows what it must not, and pages are one list.

Two communities, four members, posts that come, go and change their audience, blocks, mutes, hides
and impressions in any order; a plain model of the rules stands beside the database.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.community.testing import Rooms, as_member
from millrace.community.types import Action, Audience, Engagement, Impression, PostChanges
from millrace.feed.testing import feeding
from millrace.store.testing import opened

pytestmark = pytest.mark.services

WORDS = ("harbour boat wind", "soup bread oven", "seeds garden soil")
people = st.integers(0, 3)
posts = st.integers(0, 30)
steps = st.one_of(
    st.tuples(st.just("write"), people, st.sampled_from(list(Audience))),
    st.tuples(st.just("write"), people, st.just(Audience.PUBLIC)),
    st.tuples(st.just("remove"), posts, st.none()),
    st.tuples(st.just("narrow"), posts, st.sampled_from(list(Audience))),
    st.tuples(st.just("block"), people, people),
    st.tuples(st.just("unblock"), people, people),
    st.tuples(st.just("mute"), people, people),
    st.tuples(st.just("hide"), people, posts),
    st.tuples(st.just("look"), people, st.integers(1, 6)),
    st.tuples(st.just("more"), people, st.integers(1, 6)),
)


class World:
    """The rules as a model, beside the rooms that play them."""

    def __init__(self, rooms: Rooms) -> None:
        self.rooms = rooms
        self.posts: list = []
        self.audience: dict = {}
        self.removed: set = set()
        self.blocks: set = set()
        self.mutes: set = set()
        self.hidden: set = set()
        self.seen: set = set()
        self.open: dict = {}

    async def settle(self) -> None:
        home = await self.rooms.community("home")
        away = await self.rooms.community("away", nearby=["home"])
        self.members = [
            *await self.rooms.people(home, "ann", "bob"),
            *await self.rooms.people(away, "cat", "dan"),
        ]
        self.near = {(away, home)}

    def allowed(self, reader, post) -> bool:
        me, author = reader.member, post.author
        audience = self.audience[post.key]
        reached = (
            audience is Audience.PUBLIC
            or post.community_id == me.community_id
            or (audience is Audience.NEARBY and (me.community_id, post.community_id) in self.near)
        )
        return (
            reached
            and me != author
            and post.key not in self.removed
            and not {(me, author), (author, me)} & self.blocks
            and (me, author) not in self.mutes
            and (me, post.key) not in self.hidden
        )

    async def play(self, feed, step) -> None:
        name, first, second = step
        rooms = self.rooms
        rooms.clock.move(7)
        if name == "write":
            text = f"{WORDS[len(self.posts) % 3]} {len(self.posts)}"
            post = await rooms.post(self.members[first], text, audience=second)
            self.posts.append(post)
            self.audience[post.key] = second
        elif name in ("block", "unblock", "mute") and first != second:
            one, two = self.members[first], self.members[second].member
            if name == "mute":
                if {(one.member, two), (two, one.member)} & self.blocks:
                    return  # nobody can mute whom they cannot meet
                await rooms.relations.mute(one, two)
                self.mutes.add((one.member, two))
            else:
                await getattr(rooms.relations, name)(one, two)
                (self.blocks.add if name == "block" else self.blocks.discard)((one.member, two))
        elif name in ("look", "more"):
            await self.look(feed, self.members[first], second, further=name == "more")
        elif name in ("remove", "narrow", "hide") and self.posts:
            await self.change(name, first, second)

    async def change(self, name, first, second) -> None:
        if name == "hide":
            reader, post = self.members[first], self.posts[second % len(self.posts)]
            if self.allowed(reader, post):
                await self.rooms.activity.record(
                    reader,
                    [],
                    [
                        Engagement(
                            member=reader.member,
                            post=post.key,
                            kind=Action.HIDE,
                            happened_at=self.rooms.clock.now(),
                        )
                    ],
                )
                self.hidden.add((reader.member, post.key))
            return
        post = self.posts[first % len(self.posts)]
        if post.key in self.removed:
            return
        author = as_member(post.author)
        if name == "remove":
            await self.rooms.posts.remove(author, post.key, "")
            self.removed.add(post.key)
        else:
            await self.rooms.posts.edit(author, post.key, PostChanges(audience=second))
            self.audience[post.key] = second

    async def look(self, feed, reader, size, *, further: bool) -> None:
        """Ask for a page, check it, and have it seen."""
        cursor, shown, known = self.open.get(reader.member, ("", [], set()))
        if not (further and cursor):
            cursor, shown, known = "", [], {k for m, k in self.seen if m == reader.member}
        # What was done a moment ago is in the token, as in every answer of the API.
        token = await self.rooms.router.token()
        page = await feed.page(reader.member, limit=size, cursor=cursor, token=token)
        by_key = {post.key: post for post in self.posts}
        for item in page.items:
            key = item.view.post.key
            assert self.allowed(reader, by_key[key]), f"{key} must not be shown"
            assert item.seen == (key in known)
            shown.append((key, item.seen, item.position))
        assert len({key for key, _, _ in shown}) == len(shown), "a post came twice"
        assert [seen for _, seen, _ in shown] == sorted(seen for _, seen, _ in shown)
        assert [at for _, _, at in shown] == sorted(at for _, _, at in shown)
        assert len(page.items) == size or not page.next_cursor
        self.open[reader.member] = (page.next_cursor, shown, known)
        await self.impress(reader, page)

    async def impress(self, reader, page) -> None:
        await self.rooms.activity.record(
            reader,
            [
                Impression(
                    member=reader.member,
                    post=item.view.post.key,
                    shown_at=self.rooms.clock.now(),
                    position=item.position,
                    served_feed_id=page.served_feed_id,
                )
                for item in page.items
            ],
            [],
        )
        self.seen |= {(reader.member, item.view.post.key) for item in page.items}

    async def explained(self, feed, reader, page) -> None:
        """Ask why for every post of a world: the page, the sums and the reasons agree."""
        shown = {item.view.post.key: item for item in page.items}
        for post in self.posts:
            why = await feed.why(reader.member, post.key, oversees=True)
            item = shown.get(post.key)
            if item is not None:
                assert why.shown
                assert (why.position, why.score, why.sentence, why.served_feed_id) == (
                    item.position, item.score, item.reason, page.served_feed_id,
                )  # fmt: skip
            assert (why.removed is None) == (why.position is not None)
            assert why.position is None or why.shown or self.allowed(reader, post)
            assert why.sentence.endswith(".")
            if why.position is None:
                continue
            score = sum(note.value for note in why.actions)
            for note in why.actions:
                assert note.value == pytest.approx(note.probability * note.weight, abs=1e-9)
            for change in why.adjustments:
                assert change.before == pytest.approx(score, abs=1e-5)
                score = change.after
            assert why.score == pytest.approx(score, abs=1e-5)
            assert why.sources

    async def everything(self, feed, reader, size) -> None:
        """Walk a whole feed: every post that may be shown is there, exactly once."""
        await self.explained(feed, reader, await feed.page(reader.member, limit=size))
        found, cursor = [], ""
        while True:
            page = await feed.page(reader.member, limit=size, cursor=cursor)
            found += [item.view.post.key for item in page.items]
            cursor = page.next_cursor
            if not cursor:
                break
        assert page.caught_up
        assert sorted(found) == sorted(p.key for p in self.posts if self.allowed(reader, p))


@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=10, max_size=40), st.integers(1, 9), people)
async def test_no_page_shows_what_it_must_not(server, drawn, size, reader):
    conninfo = server.copy()
    try:
        async with opened(conninfo) as router:
            world = World(Rooms(router))
            await world.settle()
            async with feeding(world.rooms, conninfo) as feed:
                for step in drawn:
                    await world.play(feed, step)
                await feed.settled()
                await world.everything(feed, world.members[reader], size)
    finally:
        server.drop(conninfo)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(steps, min_size=10, max_size=30))
async def test_the_same_world_makes_the_same_feed(server, drawn):
    """Nothing but the tables, the clock and the seed decides: two runs give one order."""
    orders = []
    for _ in range(2):
        conninfo = server.copy()
        try:
            async with opened(conninfo) as router:
                world = World(Rooms(router))
                await world.settle()
                async with feeding(world.rooms, conninfo) as feed:
                    for step in drawn:
                        await world.play(feed, step)
                    await feed.settled()
                    page = await feed.page(world.members[0].member, limit=50)
            orders.append([(i.view.post.text, round(i.score, 6), i.reason) for i in page.items])
        finally:
            server.drop(conninfo)

    assert orders[0] == orders[1]
