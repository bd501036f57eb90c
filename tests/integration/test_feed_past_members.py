"""The vectors that members had at past moments: as they were served, and without any future."""

from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from msgspec.structs import replace
from waiting import until

from millrace.community.testing import Rooms
from millrace.community.types import Action, Engagement, Impression
from millrace.feed.averages import read
from millrace.feed.embeddings import Embeddings
from millrace.feed.past_members import PastMembers
from millrace.feed.pooled_history import PooledHistory
from millrace.feed.replay import Moment
from millrace.feed.served import ServedFeeds
from millrace.feed.testing import FakeEncoder, feeding, parts_for
from millrace.feed.training import Training
from millrace.kernel.rng import rng

pytestmark = pytest.mark.services
HOW = PooledHistory(posts_max=5, half_life_days=3.0)
WORDS = ("harbour", "tide", "rope", "sail", "net", "gull", "crab", "knot")
KINDS = (Action.CLICK, Action.LIKE, Action.COMMENT, Action.HIDE, Action.LONG_DWELL)
STEP = 1 / 16_384


class Counting(FakeEncoder):
    """An encoder that counts the prompts that it was asked for."""

    def __init__(self) -> None:
        super().__init__(history=HOW)
        self.asked = 0

    async def embed(self, prompts):
        self.asked += len(prompts)
        return await super().embed(prompts)


async def harbour(rooms: Rooms, count: int):
    """Some readers, and posts that stand since before anything was done with them."""
    home = await rooms.community("harbour")
    gus, *readers = await rooms.people(home, "gus", *[f"reader{n}" for n in range(count)])
    posts = [await rooms.post(gus, f"{word} {word} {n}") for n, word in enumerate(WORDS * 2)]
    rooms.clock.move(3600)
    return readers, posts


def deeds(readers, posts, since, count: int) -> list[Engagement]:
    """What readers do by chance, in the order of time; some of it at the same time."""
    draw = rng(7)
    days = sorted(draw.randrange(0, 40) / 2 for _ in range(count))
    return [
        Engagement(
            member=draw.choice(readers).member,
            post=draw.choice(posts).key,
            kind=draw.choice(KINDS),
            happened_at=since + timedelta(days=day),
        )
        for day in days
    ]


def at(member, time) -> Moment:
    """A moment of a member."""
    return Moment(member=member, time=time, posts=[], kinds=[], positions=None, sampled=False)


async def test_what_happens_in_a_moment_or_later_is_in_no_vector(router, conninfo):
    """With every further deed all earlier vectors stay what they are, to the last bit."""
    rooms = Rooms(router)
    readers, posts = await harbour(rooms, 3)
    done = deeds(readers, posts, rooms.clock.now(), 30)
    times = sorted({one.happened_at for one in done})
    rooms.clock.move(25 * 24 * 3600)
    async with feeding(rooms, conninfo, encoder=FakeEncoder(history=HOW)) as feed:
        await feed.settled()
    parts = parts_for(rooms, conninfo, FakeEncoder(history=HOW), None)
    embeddings = Embeddings(parts)
    past = PastMembers(parts, embeddings)
    known = {one.member: await embeddings.row(one.member) for one in readers}
    moments = [at(reader.member, time) for time in times for reader in readers]

    found = [await past.vectors(moments, known)]
    for time in times:
        for one in [one for one in done if one.happened_at == time]:
            reader = next(reader for reader in readers if reader.member == one.member)
            await rooms.activity.record(reader, [], [one])
        found.append(await past.vectors(moments, known))

    for number, (before, after) in enumerate(pairwise(found)):
        until = (number + 1) * len(readers)
        np.testing.assert_array_equal(before[:until], after[:until])
    assert not np.array_equal(found[0], found[-1])


async def served_with_averages(feed, router, encoder, reader) -> bool:
    """Serve a feed; whether it took away the averages that the table has: they are made by and by."""
    page = await feed.page(reader.member, limit=5)
    moment = page.items[0].view.post.created_at
    (served,) = await ServedFeeds(router).lately(reader.member, moment, 1)
    _, made_at = await read(router, encoder.version, encoder.dims)
    return made_at > 0 and served.record.pooled.averages_at == made_at


async def test_a_past_vector_is_what_served_then(router, conninfo):
    """The nearness in the record of a feed is that to the vector which is made again of its moment."""
    rooms = Rooms(router)
    readers, posts = await harbour(rooms, 2)
    encoder = Counting()
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        await feed.settled()
        for reader in readers:
            await feed.page(reader.member, limit=1)
        done = deeds(readers, posts, rooms.clock.now(), 12)
        rooms.clock.move(25 * 24 * 3600)
        for reader in readers:
            mine = [one for one in done if one.member == reader.member]
            await rooms.activity.record(reader, [], mine)
        await feed.settled()
        now = rooms.clock.now()
        for reader in readers:
            await until(lambda reader=reader: served_with_averages(feed, router, encoder, reader))
        parts = replace(parts_for(rooms, conninfo, encoder, None), clock=rooms.clock)
        embeddings = Embeddings(parts)
        past = PastMembers(parts, embeddings)
        known = {one.member: await embeddings.row(one.member) for one in readers}
        asked = encoder.asked
        vectors = await past.vectors([at(one.member, now) for one in readers], known)
        stored = await past.posts([post.key for post in posts])
        for reader, vector in zip(readers, vectors, strict=True):
            (served,) = await ServedFeeds(router).lately(reader.member, done[0].happened_at, 1)
            rows = served.record.feature_matrix()[
                :, served.record.feature_names.index("similarity")
            ]
            keys = [one.key for one in served.record.ranked]
            for key, near in zip(keys, rows, strict=False):
                assert near == pytest.approx(float(stored[key] @ vector), abs=2 * STEP)
            assert served.record.pooled.posts

    assert encoder.asked == asked, "profiles were stored, and nothing else is encoded"


async def test_feeds_that_were_made_with_the_other_form_teach_a_fit_nothing(router, conninfo):
    """Nearness to a pooled vector begins elsewhere than nearness to that of a prompt."""
    rooms = Rooms(router)
    (reader,), _ = await harbour(rooms, 1)
    forms = FakeEncoder(), FakeEncoder(history=HOW)
    async with feeding(rooms, conninfo, encoder=forms[1]) as feed:
        await feed.settled()
        rooms.clock.move(60)
        page = await feed.page(reader.member, limit=5)
        shown = [
            Impression(
                member=reader.member,
                post=item.view.post.key,
                shown_at=rooms.clock.now(),
                position=item.position,
                served_feed_id=page.served_feed_id,
            )
            for item in page.items
        ]
        await rooms.activity.record(reader, shown, [])
    found = []
    for encoder in forms:
        parts = parts_for(rooms, conninfo, encoder, None)
        found.append((await Training(parts, Embeddings(parts)).examples()).logged)

    assert found == [0, 5]
