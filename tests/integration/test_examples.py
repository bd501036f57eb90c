"""Examples: what was served and done, cut so that nothing knows its own future."""

from datetime import timedelta
from importlib import import_module

import psycopg
import pytest

from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import (
    Action,
    Engagement,
    EngagementDraft,
    Impression,
    ImpressionDraft,
    Key,
    PostChanges,
    ProfileChanges,
)
from millrace.feed.examples import leaks
from millrace.feed.examples.exporting import export
from millrace.feed.examples.reading import Examples
from millrace.feed.examples.types import ExportPlan
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.prompts import v2
from millrace.feed.prompts.types import prompt_hash
from millrace.feed.testing import FakeEncoder, feeding
from millrace.kernel.errors import InvalidError

pytestmark = pytest.mark.services
TOPICS = {"garden": "tomatoes compost seeds soil", "boats": "harbour sail rope tide"}


def rows(folder, name):
    """The rows of a table, as dictionaries."""
    arrow = import_module("pyarrow")
    with arrow.OSFile(str(folder / f"{name}.arrow")) as file:
        return arrow.ipc.open_file(file).read_all().to_pylist()


class Village:
    """Two authors, some readers, posts, and what happens between them."""

    def __init__(self, router, conninfo):
        self.router, self.conninfo = router, conninfo
        self.rooms = Rooms(router)
        self.clock = self.rooms.clock

    async def settle(self, readers=3, posts=8):
        self.home = await self.rooms.community("village")
        self.authors = await self.rooms.people(self.home, "gus", "sal")
        self.readers = await self.rooms.people(self.home, *[f"reader{n}" for n in range(readers)])
        self.posts = []
        for place in range(posts):
            self.clock.move(600)
            topic = list(TOPICS)[place % 2]
            self.posts.append(
                await self.rooms.post(
                    self.authors[place % 2], f"{TOPICS[topic]} {place}", topics=[topic]
                )
            )

    async def visit(self, feed, reader, *, limit=4, likes="garden"):
        """Open a feed, see its first page and engage with one topic."""
        page = await feed.page(reader.member, limit=limit)
        self.clock.move(5)
        shown = [
            Impression(
                member=reader.member,
                post=item.view.post.key,
                shown_at=self.clock.now(),
                position=item.position,
                served_feed_id=page.served_feed_id,
            )
            for item in page.items
        ]
        done = [
            Engagement(
                member=reader.member,
                post=item.view.post.key,
                kind=Action.CLICK,
                happened_at=self.clock.now(),
            )
            for item in page.items
            if likes in item.view.post.topics
        ]
        await self.rooms.activity.record(reader, shown, done)
        self.clock.move(60)
        return page

    async def exported(self, folder, **plan):
        self.clock.move(25 * 3600)
        asked = ExportPlan(until=self.clock.now(), **plan)
        return await export(self.router, self.clock, folder, asked)


@pytest.fixture
async def village(router, conninfo):
    made = Village(router, conninfo)
    await made.settle()
    return made


async def test_a_pooled_feed_becomes_a_moment_with_what_was_pooled(village, tmp_path):
    """Goal: the history that the vector was made of, by the record; the profile's line names none."""
    reader = village.readers[0]
    encoder = FakeEncoder(history=PooledHistory(posts_max=2))
    async with feeding(village.rooms, village.conninfo, encoder=encoder) as feed:
        await feed.settled()
        village.clock.move(60)
        first = await village.visit(feed, reader, limit=8)
        liked_at = village.clock.now() - timedelta(seconds=60)
        late = await village.rooms.post(village.authors[0], "tomatoes at last", topics=["garden"])
        await feed.settled()
        village.clock.move(60)
        await village.visit(feed, reader, limit=1)
    found = await village.exported(tmp_path / "x")
    moments, posts = rows(tmp_path / "x", "moments"), rows(tmp_path / "x", "posts")

    assert found.manifest.counts.unlogged == 0
    before, after = moments
    assert (before["positives"], before["positives_at"]) == ([], [])
    told = {posts[state]["post_id"] for state in after["positives"]}
    garden = {item.view.post.post_id for item in first.items if "garden" in item.view.post.topics}
    assert len(told) == 2, "more are not pooled"
    assert told < garden
    assert after["positives_at"] == [liked_at] * 2
    assert [posts[state]["post_id"] for state in after["shown"]] == [late.post_id]
    assert after["encoder"] == encoder.version


async def test_a_served_feed_becomes_a_moment(village, tmp_path):
    """Goal: what was shown, what came of it, and what the prompts said then."""
    reader = village.readers[0]
    async with feeding(village.rooms, village.conninfo) as feed:
        await feed.settled()
        village.clock.move(60)
        first = await village.visit(feed, reader)
        await feed.settled()
        village.clock.move(600)
        second = await village.visit(feed, reader)
        await feed.settled()
    made = await village.exported(tmp_path / "made")

    one, two = rows(tmp_path / "made", "moments")
    posts, wordings = rows(tmp_path / "made", "posts"), rows(tmp_path / "made", "wordings")
    assert (one["served_feed_id"], two["served_feed_id"]) == (
        first.served_feed_id,
        second.served_feed_id,
    )
    shown = [posts[state]["post_id"] for state in one["shown"]]
    assert shown == [item.view.post.post_id for item in first.items]
    said = [wordings[posts[state]["wording"]]["topics"] for state in one["shown"]]
    assert one["engaged"] == ["garden" in topics for topics in said]
    assert one["positives"] == one["past"] == []
    liked = {posts[state]["post_id"] for state in two["positives"]}
    assert liked == {i for i, e in zip(shown, one["engaged"], strict=True) if e}
    past = zip(two["past"], two["past_engaged"], strict=True)
    assert {(posts[state]["post_id"], e) for state, e in past} == {
        *zip(shown, one["engaged"], strict=True)
    }
    assert not one["replayed"]
    assert len(one["features"]) == len(shown) * len(made.manifest.feature_names)
    assert made.manifest.counts.moments == 2
    leaks.check(tmp_path / "made")


async def test_what_was_said_then_is_in_it_and_not_what_is_said_now(village, tmp_path):
    """Goal: an edit behind a served feed, of a post or of a profile, changes no example of it."""
    reader = village.readers[0]
    async with feeding(village.rooms, village.conninfo) as feed:
        await feed.settled()
        village.clock.move(60)
        page = await village.visit(feed, reader)
        await feed.settled()
        key = page.items[0].view.post.key
        author = next(a for a in village.authors if a.member == page.items[0].view.post.author)
        village.clock.move(60)
        await village.rooms.posts.edit(author, key, PostChanges(text="Something else altogether"))
        told = ProfileChanges(headline="a sailor by now")
        await village.rooms.members.update(reader, reader.member, told)
        await feed.settled()
        village.clock.move(60)
        await village.visit(feed, reader)
    await village.exported(tmp_path / "made")

    one, two = rows(tmp_path / "made", "moments")
    posts, wordings = rows(tmp_path / "made", "posts"), rows(tmp_path / "made", "wordings")
    members = rows(tmp_path / "made", "members")
    said = [wordings[posts[state]["wording"]]["text"] for state in one["shown"]]
    assert said[0] == page.items[0].view.post.text
    assert "Something else altogether" in {wording["text"] for wording in wordings}
    headlines = [members[moment["member_state"]]["headline"] for moment in (one, two)]
    assert headlines == ["", "a sailor by now"]


async def imported(village, visits=10):
    """Visits of an import to posts of before, with engagement, and an engagement by itself."""
    shown, done = [], []
    for number in range(visits):
        at = village.clock.now() - timedelta(minutes=10 * number + 5)
        reader = f"reader{number % 3}"
        some = [p for p in village.posts if p.created_at < at][: 4 + number % 2]
        for place, post in enumerate(some):
            draft = ImpressionDraft(
                member=reader, post=post.external_id, shown_at=at, position=place
            )
            shown.append(draft)
        done.extend(
            EngagementDraft(
                member=reader,
                post=post.external_id,
                kind=Action.LIKE,
                happened_at=at + timedelta(seconds=30),
            )
            for post in some[number % 4 : number % 4 + 1]
        )
    last = village.posts[-2]
    done.append(
        EngagementDraft(
            member="gus", post=village.posts[1].external_id, kind=Action.CLICK,
            happened_at=last.created_at,
        )
    )  # fmt: skip
    shown.append(  # later: what came without an impression still came without one
        ImpressionDraft(
            member="gus",
            post=village.posts[1].external_id,
            shown_at=last.created_at + timedelta(minutes=9),
            position=0,
        )
    )
    await village.rooms.activity.upsert_impressions(OPERATOR, village.home, shown)
    await village.rooms.activity.upsert_engagements(OPERATOR, village.home, done)


async def test_an_import_is_replayed_by_time(village, tmp_path):
    """Goal: visits and engagements of an import become moments, with the numbers of then."""
    await imported(village)
    made = await village.exported(tmp_path / "made")

    moments, posts = rows(tmp_path / "made", "moments"), rows(tmp_path / "made", "posts")
    assert all(one["replayed"] and not one["features"] for one in moments)
    assert [one["lone"] for one in moments].count(True) == made.manifest.counts.lone == 1
    likes = [posts[state]["numbers"][2] for one in moments for state in one["shown"]]
    assert likes[0] == 0
    assert max(likes) >= 1
    assert any(one["positives"] for one in moments)
    leaks.check(tmp_path / "made")


async def test_a_log_that_ends_earlier_gives_the_beginning(village, tmp_path):
    """Goal: through the real tables too, what comes later changes no example of before."""
    await imported(village)
    async with feeding(village.rooms, village.conninfo) as feed:
        await feed.settled()
        for reader in (*village.readers, *village.readers):
            village.clock.move(600)
            await village.visit(feed, reader)
            await feed.settled()
    whole = await village.exported(tmp_path / "whole", label_hours=1.0)
    moments = rows(tmp_path / "whole", "moments")
    assert {one["replayed"] for one in moments} == {True, False}
    for place in (2, len(moments) - 3):
        until = moments[place]["labelled_until"]
        folder = tmp_path / f"until{place}"
        await export(
            village.router, village.clock, folder, ExportPlan(until=until, label_hours=1.0)
        )
        early = rows(folder, "moments")
        assert early == moments[: len(early)]
        assert len(early) == sum(one["labelled_until"] <= until for one in moments)
    assert whole.changed


async def test_the_same_history_makes_the_same_files(village, tmp_path):
    """Goal: an export is repeated without a change, mended where it was damaged, in both formats."""
    await imported(village)
    first = await village.exported(tmp_path / "made")
    plan = ExportPlan(until=first.manifest.cut_at)
    again = await export(village.router, village.clock, tmp_path / "made", plan)
    (tmp_path / "made" / "moments.arrow").write_bytes(b"broken")
    with pytest.raises(leaks.LeakError, match="not those that the manifest names"):
        leaks.check(tmp_path / "made")
    mended = await export(village.router, village.clock, tmp_path / "made", plan)
    flat = await export(village.router, village.clock, tmp_path / "flat", plan, encoding="parquet")

    assert (first.changed, again.changed, mended.changed) == (True, False, True)
    assert first.manifest.fingerprint == mended.manifest.fingerprint
    parquet = import_module("pyarrow.parquet")
    read = parquet.read_table(tmp_path / "flat" / "moments.parquet").to_pylist()
    assert read == rows(tmp_path / "made", "moments")
    assert flat.manifest.counts == first.manifest.counts
    leaks.check(tmp_path / "flat")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flat", "made"]


async def test_who_is_gone_is_in_no_example(village, tmp_path):
    """Goal: removed members and posts are not exported, whatever they did before."""
    await imported(village)
    gone = village.posts[0]
    await village.rooms.members.remove(OPERATOR, village.readers[0].member, "they asked")
    await village.rooms.posts.remove(village.authors[0], gone.key, "a mistake")
    await village.exported(tmp_path / "made")

    members = {row["member_id"] for row in rows(tmp_path / "made", "members")}
    posts = {row["post_id"] for row in rows(tmp_path / "made", "posts")}
    assert village.readers[0].member.id not in members
    assert gone.key.id not in posts
    assert len(posts) == len(village.posts) - 1


async def test_a_folder_of_something_else_is_left_alone(village, tmp_path):
    """Goal: an export never puts itself in the place of what it did not make."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("Dear Ann")
    with pytest.raises(InvalidError, match="no folder of examples"):
        await village.exported(tmp_path / "letters")

    assert (tmp_path / "letters" / "one.txt").read_text() == "Dear Ann"


async def test_the_prompts_of_a_served_moment_are_known_to_the_letter(village, tmp_path):
    """Goal: from the examples alone come the prompts that the vectors of that moment were made of."""
    reader = village.readers[0]
    async with feeding(village.rooms, village.conninfo) as feed:
        await feed.settled()
        for _ in range(3):
            village.clock.move(600)
            await village.visit(feed, reader, limit=2)
            await feed.settled()
    await village.exported(tmp_path / "made")
    lines = await logged(village.conninfo)
    examples, encoder = Examples(tmp_path / "made"), FakeEncoder()

    for moment in rows(tmp_path / "made", "moments"):
        history = [examples.said(state) for state in moment["positives"]]
        facts = examples.member_facts(moment["member_state"], history)
        prompt = v2.member_prompt(facts, encoder.tokens_max, encoder.count)
        assert prompt_hash(prompt) == in_force(lines, reader.member, moment["at"])
        for state in moment["shown"]:
            prompt = v2.post_prompt(examples.post_facts(state))
            row = rows(tmp_path / "made", "posts")[state]
            post = Key(row["community_id"], row["post_id"])
            assert prompt_hash(prompt) == in_force(lines, post, moment["at"])
    assert examples.moments == 3


async def logged(conninfo):
    """Everything in the log of prompts: key, when it was stored, the prompt's hash."""
    async with await psycopg.AsyncConnection.connect(conninfo) as db:
        found = await db.execute(
            "select community_id, thing_id, stored_at, prompt_hash from prompt_line order by line_id"
        )
        return [(Key(*row[:2]), *row[2:]) for row in await found.fetchall()]


def in_force(lines, key, at):
    """The hash of the prompt of a thing that was in force at a moment."""
    return [name for thing, stored_at, name in lines if thing == key and stored_at < at][-1]
