"""kill -9 in the middle of embedding and of serving: nothing half-written, and nothing forgotten."""

import asyncio
import os
import signal
import subprocess
import sys
from datetime import timedelta

import pytest

from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Key, PostDraft
from millrace.feed.served import ServedFeeds
from millrace.feed.testing import feeding
from millrace.feed.types import FeedConfig

pytestmark = pytest.mark.services
POSTS = 240
SECONDS_MAX = 20.0

# Another process: embeds one post at a time, and serves one page after the other meanwhile.
PROGRAM = """
import asyncio, sys
from millrace.community.testing import Rooms
from millrace.community.types import parse_key
from millrace.feed.testing import feeding
from millrace.feed.types import FeedConfig
from millrace.store.testing import opened

async def main(conninfo, member):
    async with opened(conninfo) as router:
        config = FeedConfig(coalesce_seconds=0, fit_minutes=0, embed_batch=1)
        async with feeding(Rooms(router), conninfo, config=config) as feed:
            while True:
                page = await feed.page(parse_key(member, "member"), limit=5)
                print(page.served_feed_id, feed.freshness.progress()[0], flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def served_until_killed(conninfo: str, member: str, pages: int) -> tuple[list[int], int]:
    """Run the other process, kill it after so many pages; return their ids and how far it was."""
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, conninfo, member], stdout=subprocess.PIPE, text=True
    )
    try:
        assert program.stdout is not None
        lines = [program.stdout.readline().split() for _ in range(pages)]
    finally:
        os.kill(program.pid, signal.SIGKILL)
        program.wait(SECONDS_MAX)
    rest = [line.split() for line in program.stdout.read().splitlines()]
    program.stdout.close()
    told = [line for line in (*lines, *rest) if len(line) == 2]
    return [int(line[0]) for line in told], int(told[-1][1])


@pytest.mark.parametrize("pages", [1, 4, 9])
async def test_killed_while_it_embeds_and_serves(router, conninfo, pages):
    """Every page that was answered is logged whole; the index ends as the table says."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    reader, _ = await rooms.people(home, "rita", "gus")
    drafts = [
        PostDraft(external_id=f"p{n}", author="gus", text=f"harbour boat {n} " + "wind " * (n % 7))
        for n in range(POSTS)
    ]
    made = await rooms.posts.upsert(OPERATOR, home, drafts)
    keys = [Key(home, number) for number in made.ids.values()]

    answered, embedded = await asyncio.to_thread(
        served_until_killed, conninfo, str(reader.member), pages
    )

    served = await ServedFeeds(router).lately(
        reader.member, rooms.clock.now() - timedelta(days=1), 1_000
    )
    rooms.clock.move(60)  # the other process made ids by the same clock
    config = FeedConfig(coalesce_seconds=0, fit_minutes=0)
    async with feeding(rooms, conninfo, config=config) as feed:
        at_once = len(feed.index)
        await feed.settled()
        whole = {key: feed.index.find(key) for key in keys}
        page = await feed.page(reader.member)
        reasons = [await feed.why(reader.member, item.view.post.key) for item in page.items]

    assert embedded < POSTS  # or the kill came too late to say anything
    assert set(answered) <= {one.served_feed_id for one in served}
    for one in served:
        assert len(one.record.feature_matrix()) >= len(one.record.ranked)
        assert one.delivered == 5
    assert embedded <= at_once <= POSTS
    assert len(feed.index) == len(whole) == POSTS
    assert None not in whole.values()
    assert [one.position for one in reasons] == [item.position for item in page.items]
