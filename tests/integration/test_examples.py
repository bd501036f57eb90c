"""Examples: what was served and done, cut so that nothing knows its own future."""

import pytest

from millrace.community.testing import Rooms
from millrace.community.types import (
    Action,
    Engagement,
    Impression,
)
from millrace.feed.examples import leaks
from millrace.feed.examples.exporting import export
from millrace.feed.examples.types import ExportPlan
from millrace.feed.testing import feeding

pytestmark = pytest.mark.services
TOPICS = {"garden": "tomatoes compost seeds soil", "boats": "harbour sail rope tide"}


def rows(folder, name):
    """The rows of a table, as dictionaries."""
    arrow = pytest.importorskip("pyarrow")
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
