"""The log of prompts: what a vector was made of can be known exactly, as long as it matters."""

from datetime import timedelta

import psycopg
import pytest
from msgspec.structs import replace

from millrace.community.members import Members
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Action, Engagement, PostChanges, ProfileChanges
from millrace.feed.embeddings import Embeddings
from millrace.feed.facts import Profile, member_facts
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.prompt_lines import member_of, post_of
from millrace.feed.prompt_log import PromptBelongings, PromptLog
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import PostFacts, prompt_hash
from millrace.feed.testing import FakeEncoder, parts_for
from millrace.feed.turns import Urgency

pytestmark = pytest.mark.services
DAYS = 30


class Village:
    """A reader, an author with some posts, and what makes their vectors."""

    def __init__(self, router, conninfo):
        self.router, self.conninfo = router, conninfo
        self.rooms = Rooms(router)
        self.rooms.members = Members(
            router=router,
            clock=self.rooms.clock,
            ids=parts_for(self.rooms, conninfo).ids,
            belongings=[PromptBelongings()],
        )
        self.parts = parts_for(self.rooms, conninfo, FakeEncoder())  # prompts show histories
        self.embeddings = Embeddings(self.parts)
        self.log = PromptLog(router, self.parts.ids)

    async def settle(self):
        self.home = await self.rooms.community("village")
        self.author, self.reader = await self.rooms.people(self.home, "ann", "rob")
        self.posts = [
            await self.rooms.post(
                self.author, f"Bread number {n}", title=f"Loaf {n}", topics=["bread"]
            )
            for n in range(3)
        ]
        await self.embed()

    async def embed(self, *posts):
        keys = [post.key for post in posts or self.posts]
        return await self.embeddings.embed_posts(keys, Urgency.POST)

    async def likes(self, *posts):
        deeds = [
            Engagement(
                member=self.reader.member,
                post=post.key,
                kind=Action.CLICK,
                happened_at=self.rooms.clock.now(),
            )
            for post in posts
        ]
        await self.rooms.activity.record(self.reader, [], deeds)
        await self.embeddings.embed_members([self.reader.member], Urgency.MEMBER, known=False)

    async def lines(self, kind, key):
        """Return the lines of a thing, oldest first: hash, when they were stored, facts."""
        async with await psycopg.AsyncConnection.connect(self.conninfo) as db:
            found = await db.execute(
                "select prompt_hash, stored_at, facts from prompt_line where thing_kind = %s"
                " and community_id = %s and thing_id = %s order by line_id",
                (kind, key.community_id, key.id),
            )
            return await found.fetchall()

    async def stored(self, table, column, key):
        """Return the hash of the prompt that the stored vector of a thing was made from."""
        async with await psycopg.AsyncConnection.connect(self.conninfo) as db:
            found = await db.execute(
                f"select prompt_hash from {table} where community_id = %s and {column} = %s",
                (key.community_id, key.id),
            )
            return (await found.fetchone())[0]


@pytest.fixture
async def village(router, conninfo):
    made = Village(router, conninfo)
    await made.settle()
    return made


def facts_of(said):
    """What a prompt says of a post, from its line alone."""
    names = ("age", "view", "like", "comment", "engagement", "author_reach")
    return PostFacts(
        kind=said.kind,
        author_name=said.author_name,
        headline=said.headline,
        community=said.community,
        topics=said.topics,
        title=said.title,
        text=said.text,
        created_at=None,
        **{f"{name}_percentile": at for name, at in zip(names, said.percentiles, strict=True)},
    )


async def test_a_line_is_the_prompt_of_its_vector(village):
    """Goal: from a line alone the prompt is made again, to the letter."""
    post = village.posts[0]
    ((name, _, facts),) = await village.lines("post", post.key)

    assert prompt_hash(v2.post_prompt(facts_of(post_of(facts)))) == name
    assert await village.stored("post_embedding", "post_id", post.key) == name


async def test_a_member_s_line_names_the_history_that_was_read(village):
    """Goal: profile and posts of a member's prompt are known exactly, in their order."""
    await village.likes(village.posts[1])
    village.rooms.clock.move(60)
    await village.likes(village.posts[0])
    *_, (name, _, facts) = await village.lines("member", village.reader.member)

    said = member_of(facts)
    views = await village.embeddings.views(said.keys(village.home))
    profile = Profile(**{field: getattr(said, field) for field in Profile.__struct_fields__})
    made = member_facts(profile, said.keys(village.home), views)
    prompt = village.embeddings.member_prompt(made)
    assert said.keys(village.home) == [village.posts[0].key, village.posts[1].key]
    assert said.shown == v2.posts_shown(prompt)
    assert prompt_hash(prompt) == name


async def test_what_was_said_before_an_edit_stays_known(village):
    """Goal: an edit adds a line; what says the same again adds none."""
    post = village.posts[0]
    village.rooms.clock.move(60)
    await village.rooms.posts.edit(village.author, post.key, PostChanges(text="Rye, and not wheat"))
    await village.embed(post)
    await village.embed(post)

    before, after = await village.lines("post", post.key)
    assert (post_of(before[2]).text, post_of(after[2]).text) == (
        "Bread number 0",
        "Rye, and not wheat",
    )
    assert after[1] - before[1] == timedelta(seconds=60)


async def test_what_is_in_force_outlives_its_day(village):
    """Goal: a day is dropped, but not the line that a vector still in use was made of."""
    still, edited = village.posts[0], village.posts[1]
    village.rooms.clock.move(86_400)
    await village.rooms.posts.edit(village.author, edited.key, PostChanges(text="Rye"))
    await village.embed(edited)
    village.rooms.clock.move(DAYS * 86_400)

    dropped = await village.log.retire(village.rooms.clock.now(), DAYS)

    assert dropped == 1
    assert len(await village.lines("post", still.key)) == 1
    texts = [post_of(facts).text for *_, facts in await village.lines("post", edited.key)]
    assert texts == ["Bread number 1", "Rye"], (
        "the first was in force when the days that are kept began"
    )
    village.rooms.clock.move((DAYS + 1) * 86_400)
    await village.log.retire(village.rooms.clock.now(), DAYS)
    texts = [post_of(facts).text for *_, facts in await village.lines("post", edited.key)]
    assert texts == ["Rye"]


async def test_a_removed_post_takes_its_lines_along(village):
    """Goal: what a post said is nowhere once it is removed, in no line of the log."""
    post = village.posts[0]
    await village.rooms.posts.remove(village.author, post.key, "a mistake")
    await village.embed(post)

    assert await village.lines("post", post.key) == []
    assert len(await village.lines("post", village.posts[1].key)) == 1


async def test_a_member_who_leaves_takes_lines_along(village):
    """Goal: with the removal, in its transaction, go the lines of the member and of their posts."""
    await village.likes(village.posts[0])
    told = ProfileChanges(about="I bake")
    await village.rooms.members.update(village.reader, village.reader.member, told)
    await village.embeddings.embed_members([village.reader.member], Urgency.MEMBER)
    assert len(await village.lines("member", village.reader.member)) == 2
    await village.rooms.members.remove(OPERATOR, village.reader.member, "they asked")
    await village.rooms.members.remove(OPERATOR, village.author.member, "they asked")

    assert await village.lines("member", village.reader.member) == []
    assert [await village.lines("post", post.key) for post in village.posts] == [[], [], []]


async def test_what_was_written_while_its_thing_went_is_swept_away(village):
    """Goal: a line that was committed after the removal does not stay."""
    async with await psycopg.AsyncConnection.connect(village.conninfo) as db:
        await db.execute(
            "update member set removed_at = now(), removed_by = 'x' where member_id = %s",
            (village.author.member.id,),
        )
    await village.log.retire(village.rooms.clock.now(), DAYS)

    assert await village.lines("post", village.posts[0].key) == []


async def test_the_log_is_no_part_of_the_stream(village):
    """Goal: nobody who waits for a change waits for a line of this log."""
    async with await psycopg.AsyncConnection.connect(village.conninfo) as db:
        found = await db.execute(
            "select count(*) from pg_publication_tables where tablename like 'prompt_line%'"
        )
        assert await found.fetchone() == (0,)


async def test_a_profile_alone_has_one_line_without_a_history(village):
    """Goal: where what was liked is pooled, a line says the profile, and engagement makes no other."""
    pooled = FakeEncoder(history=PooledHistory())
    village.embeddings = Embeddings(replace(village.parts, encoder=pooled))
    await village.likes(village.posts[1])
    village.rooms.clock.move(60)
    await village.likes(village.posts[0])

    ((_, _, facts),) = await village.lines("member", village.reader.member)

    assert member_of(facts).keys(village.home) == []
    assert member_of(facts).display_name == "Rob"
