"""Vectors follow the log: at once for text, by visits for members, by and by for bulk and numbers."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from waiting import until

from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import (
    Action,
    Engagement,
    EngagementDraft,
    Key,
    PostChanges,
    PostDraft,
    ProfileChanges,
)
from millrace.feed.embedder import Embedder
from millrace.feed.embeddings import HISTORY_FEW, HISTORY_MAX, Embeddings, profile_of
from millrace.feed.facts import member_facts
from millrace.feed.parts import FeedParts
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import Marker
from millrace.feed.repository import QUERIES, reader
from millrace.feed.testing import FakeEncoder
from millrace.feed.types import FeedConfig
from millrace.kernel.ids import IdMaker
from millrace.store.changes.named import NamedStream

pytestmark = pytest.mark.services
SECONDS_MAX = 10.0
CONFIG = FeedConfig(coalesce_seconds=0, fit_minutes=0)


class Listening(FakeEncoder):
    """An encoder that notes what it was asked to read, and can be held."""

    def __init__(self, dims: int = 32) -> None:
        super().__init__(dims=dims)
        self.read: list[str] = []
        self.free = asyncio.Event()
        self.free.set()

    async def embed(self, prompts):
        self.read += [_words(prompt) for prompt in prompts]
        await self.free.wait()
        return await super().embed(prompts)

    def asked(self, words: str) -> int:
        return sum(words in text for text in self.read)


def _words(prompt) -> str:
    return " ".join(part for part in prompt if not isinstance(part, Marker))


class Town:
    """A village with an embedder; `settled` waits until nothing is left to do."""

    def __init__(
        self, rooms: Rooms, conninfo: str, config: FeedConfig = CONFIG, dims: int = 32
    ) -> None:
        self.rooms = rooms
        self.encoder = Listening(dims)
        self.parts = FeedParts(
            router=rooms.router,
            clock=rooms.clock,
            ids=IdMaker(rooms.clock, 3),
            secret=b"a secret for tests, 32 bytes long",
            conninfo=conninfo,
            encoder=self.encoder,
            posts=rooms.posts,
            relations=rooms.relations,
            activity=rooms.activity,
            percentiles=rooms.percentiles,
            config=config,
        )
        self.embeddings = Embeddings(self.parts)
        self.embedder = Embedder(self.parts, self.embeddings)
        self.stream = NamedStream(conninfo, self.embedder)

    async def settled(self) -> None:
        async with asyncio.timeout(SECONDS_MAX):
            await self.reached()
            await self.embedder.idle()

    async def reached(self) -> None:
        position = await self.rooms.router.position_of(await self.rooms.router.token())
        assert await self.stream.reached(position, SECONDS_MAX)

    async def vector(self, member: Key) -> bytes | None:
        row = await self.embeddings.row(member)
        return None if row is None else row.vector

    async def posts_left(self) -> int:
        async with self.rooms.router.read() as session:
            found = await session.value(
                QUERIES["posts_to_embed"], model_version=self.encoder.version, limit=1
            )
        return 0 if found is None else 1


@asynccontextmanager
async def town(router, conninfo, config: FeedConfig = CONFIG, rooms: Rooms | None = None):
    made = Town(rooms or Rooms(router), conninfo, config)
    async with made.stream:
        await made.embedder.start()
        try:
            yield made
        finally:
            await made.embedder.stop()


async def village(rooms: Rooms, *names: str):
    home = await rooms.community("village")
    return home, *await rooms.people(home, *(names or ("rita", "gus")))


def drafts(number: int, author: str = "gus", words: str = "post") -> list[PostDraft]:
    return [
        PostDraft(external_id=f"{words}{n}", author=author, text=f"{words} {n}")
        for n in range(number)
    ]


async def test_a_new_post_goes_before_a_backlog(router, conninfo):
    """An import of many posts, and members, wait; the post that somebody wrote meanwhile does not."""
    async with town(router, conninfo) as made:
        home, _, gus = await village(made.rooms)
        await made.settled()
        made.encoder.free.clear()
        await made.rooms.posts.upsert(OPERATOR, home, drafts(300, words="imported"))
        await made.reached()
        await until(lambda: made.encoder.asked("imported") > 0)
        at_work = len(made.encoder.read)
        await made.rooms.post(gus, "fresh from the harbour")
        await made.reached()
        made.encoder.free.set()
        await until(lambda: made.encoder.asked("fresh from the harbour") > 0)
        before = made.encoder.asked("imported") - at_work
        await made.settled()

    assert before <= 16  # one turn at the encoder
    assert made.encoder.asked("imported") == 300


async def test_a_scan_that_found_everything_does_not_look_again(router, conninfo, monkeypatch):
    """Each look reads the whole table of posts, so it is made once for what was asked."""
    async with town(router, conninfo) as made:
        home, *_ = await village(made.rooms)
        await made.settled()
        look, looks = made.embedder._found, []

        async def noted(query, *more):
            looks.append(query)
            return await look(query, *more)

        monkeypatch.setattr(made.embedder, "_found", noted)
        asked = made.embedder._backlog.asked
        await made.rooms.posts.upsert(OPERATOR, home, drafts(60))
        await made.settled()
        asked = made.embedder._backlog.asked - asked

    assert made.encoder.asked("post") == 60
    assert 0 < looks.count("posts_to_embed") <= asked


async def test_an_edit_of_a_profile_reaches_the_prompts_that_name_it(router, conninfo):
    """The newest posts at once, the others by and by; nobody else's are encoded."""
    async with town(router, conninfo) as made:
        home, rita, _ = await village(made.rooms)
        await made.rooms.posts.upsert(OPERATOR, home, drafts(60, author="rita"))
        await made.rooms.posts.upsert(OPERATOR, home, drafts(5, words="other"))
        await made.settled()
        made.encoder.read.clear()
        changes = ProfileChanges(headline="harbour pilot")
        await made.rooms.members.update(rita, rita.member, changes, expected_version=None)
        await made.settled()

    assert made.encoder.asked("harbour pilot") == 60
    assert made.encoder.asked("other") == 0
    assert await made.posts_left() == 0


async def test_what_the_prompt_does_not_show_is_not_encoded(router, conninfo):
    async with town(router, conninfo) as made:
        _, _, gus = await village(made.rooms)
        post = await made.rooms.post(gus, "a text")
        await made.settled()
        made.encoder.read.clear()
        await made.rooms.posts.edit(gus, post.key, PostChanges(link="https://example.org/"))
        await made.rooms.members.update(
            gus, gus.member, ProfileChanges(about="not in a post's prompt"), expected_version=None
        )
        await made.settled()

    assert made.encoder.read == []
    assert await made.posts_left() == 0


async def test_a_visit_makes_one_vector(router, conninfo):
    """Engagements within the time of a visit are one; without a vector there is nothing to make."""
    config = FeedConfig(coalesce_seconds=30, fit_minutes=0)
    async with town(router, conninfo, config) as made:
        _, rita, gus, nina = await village(made.rooms, "rita", "gus", "nina")
        posts = [await made.rooms.post(gus, f"sail {n}") for n in range(5)]
        await made.embeddings.embed_member(rita.member)
        await made.settled()
        made.encoder.read.clear()
        for post in posts:
            await made.rooms.reactions.like(rita, post.key)
            await made.rooms.reactions.like(nina, post.key)
        await made.reached()
        made.rooms.clock.move(29)
        await asyncio.sleep(0.02)
        waited = list(made.encoder.read)
        safe = made.embedder.safe()
        made.rooms.clock.move(2)
        await until(lambda: made.encoder.read)
        await made.settled()

    assert waited == []
    assert safe < made.embedder.safe()
    assert len(made.encoder.read) == 1
    assert "sail 4" in made.encoder.read[0]
    assert await made.vector(nina.member) is None


@pytest.mark.parametrize("words", [1, 30])
async def test_a_prompt_reads_no_more_of_a_history_than_it_needs(router, conninfo, words):
    """The prompt is the one that all of the history would give, whether or not all of it fits, and
    whatever of the newest part is out of sight."""
    async with town(router, conninfo) as made:
        _, rita, gus, nina = await village(made.rooms, "rita", "gus", "nina")
        for n in range(3 * HISTORY_FEW):
            author = nina if n % 3 == 0 else gus
            post = await made.rooms.post(author, " ".join([f"sail{n}"] * words))
            made.rooms.clock.move(1)
            await made.rooms.reactions.like(rita, post.key)
        await made.rooms.relations.block(rita, nina.member)
        made.encoder._tokens_max = 100  # six long posts
        row = await made.embeddings.row(rita.member)
        prompt = await made.embeddings.prompt_of_member(rita.member, row)
        liked = await made.rooms.activity.positives(rita.member, HISTORY_MAX)
        keys = [one.post for one in liked]
        views = {
            view.post.key: view for view in await made.rooms.posts.views(reader(rita.member), keys)
        }
        facts = member_facts(profile_of(row), keys, views)

    assert len(keys) == 3 * HISTORY_FEW
    assert prompt == made.embeddings.member_prompt(facts)
    assert ("sail1" in _words(prompt).split()) == (words == 1)
    assert (v2.posts_shown(prompt) < HISTORY_FEW) == (words > 1)


async def test_a_post_that_goes_leaves_the_histories(router, conninfo):
    """Removed, edited, blocked or banned: the vectors of those who liked it are made again."""
    async with town(router, conninfo) as made:
        _, rita, gus, nina = await village(made.rooms, "rita", "gus", "nina")
        by_gus = await made.rooms.post(gus, "rope and sail")
        by_nina = await made.rooms.post(nina, "soup and bread")
        for post in (by_gus, by_nina):
            await made.rooms.reactions.like(rita, post.key)
        await made.embeddings.embed_member(rita.member)
        await made.settled()

        async def histories() -> str:
            made.encoder.read.clear()
            await made.settled()
            return " / ".join(made.encoder.read)

        await made.rooms.posts.edit(gus, by_gus.key, PostChanges(text="rope and anchor"))
        edited = await histories()
        await made.rooms.relations.block(rita, nina.member)
        blocked = await histories()
        await made.rooms.relations.unblock(rita, nina.member)
        unblocked = await histories()
        await made.rooms.reactions.unlike(rita, by_nina.key)
        unliked = await histories()
        await made.rooms.posts.remove(gus, by_gus.key, "wrong")
        removed = await histories()

    assert "soup and bread" in edited
    assert "rope and anchor" in edited
    assert "rope and anchor" in blocked
    assert "soup" not in blocked
    assert "soup and bread" in unblocked
    assert "rope and anchor" in unliked
    assert "soup" not in unliked
    assert removed
    assert "rope" not in removed


async def test_an_import_brings_members_up_to_date(router, conninfo):
    """What is imported is older than the vector, and counts nevertheless."""
    names = [f"m{n}" for n in range(30)]
    async with town(router, conninfo) as made:
        home, gus, *people = await village(made.rooms, "gus", *names)
        post = await made.rooms.post(
            gus,
            "knots",
        )
        for one in people:
            await made.embeddings.embed_member(one.member)
        await made.settled()
        made.encoder.read.clear()
        long_ago = made.rooms.clock.now() - timedelta(days=300)
        batch = [
            EngagementDraft(
                member=name, post=post.external_id, kind=Action.CLICK, happened_at=long_ago
            )
            for name in names
        ]
        await made.rooms.activity.upsert_engagements(OPERATOR, home, batch)
        await made.settled()

    assert made.encoder.asked("knots") == 30


async def test_numbers_are_written_at_set_ages_and_when_they_moved_far(router, conninfo):
    async with town(router, conninfo) as made:
        home, rita, gus = await village(made.rooms)
        await made.rooms.posts.upsert(OPERATOR, home, drafts(40))
        await made.rooms.percentiles.refresh()
        posts = [await made.rooms.post(gus, f"new {n}") for n in range(2)]
        await made.settled()
        sweep = made.embedder.sweep
        first = await sweep.due()
        await sweep.write(first)
        calm = await sweep.due()
        acts = [
            Engagement(
                member=rita.member, post=posts[0].key, kind=Action.CLICK,
                happened_at=made.rooms.clock.now() - timedelta(seconds=n),
            )
            for n in range(9)
        ]  # fmt: skip
        await made.rooms.activity.record(rita, [], acts)
        moved = await sweep.due()
        await sweep.write(moved)
        again = await sweep.due()
        made.rooms.clock.move(3601)
        aged = set(await sweep.due())

    assert calm == []
    assert moved == [posts[0].key]
    assert again == []
    assert {post.key for post in posts} <= aged


async def test_a_new_model_embeds_everything_anew(router, conninfo):
    async with town(router, conninfo) as made:
        home, rita, _ = await village(made.rooms)
        await made.rooms.posts.upsert(OPERATOR, home, drafts(30))
        await made.embeddings.embed_member(rita.member)
        await made.settled()
    made.rooms.clock.move(1)  # a clock that stands still gives two processes the same ids
    other = Town(made.rooms, conninfo, dims=16)
    async with other.stream:
        await other.embedder.start()
        await other.settled()
        await other.embedder.stop()
    vector = await other.vector(rita.member)

    assert len(other.encoder.read) == 31
    assert vector is not None


async def test_what_was_heard_and_not_done_comes_again(router, conninfo):
    """Stopped before the visit was over: the next process hears of it again, and does it."""
    config = FeedConfig(coalesce_seconds=30, fit_minutes=0)
    async with town(router, conninfo, config) as made:
        _, rita, gus = await village(made.rooms)
        post = await made.rooms.post(gus, "tide tables")
        await made.embeddings.embed_member(rita.member)
        await made.settled()
        await made.rooms.reactions.like(rita, post.key)
        await made.reached()
    assert made.encoder.asked("A member of a community and the posts") == 1
    async with town(router, conninfo, config, made.rooms) as again:
        await again.settled()

    assert [text for text in again.encoder.read if "tide tables" in text]


async def test_equal_prompts_are_encoded_once(router, conninfo):
    """A text that was posted again and again costs one prompt per step, and every post its vector."""
    async with town(router, conninfo) as made:
        home, *_ = await village(made.rooms)
        same = [PostDraft(external_id=f"p{n}", author="gus", text="for sale") for n in range(32)]
        await made.rooms.posts.upsert(OPERATOR, home, same)
        await made.settled()

    assert 1 <= made.encoder.asked("for sale") <= 3
    assert await made.posts_left() == 0


class Slow(Listening):
    """An encoder that is quicker than nobody."""

    async def embed(self, prompts):
        await asyncio.sleep(0.005 * len(prompts))
        return await super().embed(prompts)


async def test_a_member_does_not_starve_behind_posts(router, conninfo):
    """More is written than can be embedded: whose moment has long come gets turns all the same."""
    async with town(router, conninfo) as made:
        home, rita, gus = await village(made.rooms)
        liked = await made.rooms.post(gus, "sail rope")
        await made.embeddings.embed_member(rita.member)
        await made.settled()
        before = await made.vector(rita.member)
        slow = Slow()
        made.embeddings.turns._encoder = slow
        written = 0

        async def flood() -> None:
            nonlocal written
            while True:
                if made.embedder.waiting() < 60:
                    names = [PostDraft(external_id=f"f{written + n}", author="gus",
                                       text=f"tide {written + n}") for n in range(20)]  # fmt: skip
                    await made.rooms.posts.upsert(OPERATOR, home, names)
                    written += 20
                else:
                    await asyncio.sleep(0.005)

        flooding = asyncio.create_task(flood())
        try:
            await until(lambda: made.embedder.waiting() >= 40)
            await made.rooms.reactions.like(rita, liked.key)
            await made.reached()
            made.rooms.clock.move(60)
            async with asyncio.timeout(SECONDS_MAX):
                while await made.vector(rita.member) == before:
                    assert not flooding.done()
                    await asyncio.sleep(0.01)
            left = made.embedder.waiting()
        finally:
            flooding.cancel()
            await asyncio.gather(flooding, return_exceptions=True)

    assert left > 0
