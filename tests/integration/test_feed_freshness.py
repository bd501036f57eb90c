"""Vectors and slots follow the tables: by the log, by scans, and after a kill."""

from statistics import median

import pytest
from waiting import until

from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Audience, Key, PostChanges, PostDraft, ProfileChanges
from millrace.feed.testing import BrokenEncoder, feeding
from millrace.feed.types import FeedConfig
from millrace.kernel.errors import UnavailableError

pytestmark = pytest.mark.services
SECONDS_MAX = 10.0


async def village(rooms: Rooms):
    home = await rooms.community("village")
    return home, *await rooms.people(home, "rita", "gus")


async def test_a_new_post_gets_a_slot_without_being_asked(router, conninfo):
    """The log is enough; nobody calls `settled`."""
    rooms = Rooms(router)
    _, reader, gus = await village(rooms)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        post = await rooms.post(gus, "fresh from the harbour")
        await until(lambda: feed.index.find(post.key) is not None)
        page = await feed.page(reader.member)

    assert [item.view.post.key for item in page.items] == [post.key]


async def test_removal_and_audience_take_effect_at_once(router, conninfo):
    rooms = Rooms(router)
    _, _, gus = await village(rooms)
    encoder = BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        removed, narrowed = await rooms.post(gus, "one"), await rooms.post(gus, "two")
        await feed.settled()
        encoder.broken = True  # neither needs the encoder
        await rooms.posts.remove(gus, removed.key, "wrong")
        await rooms.posts.edit(gus, narrowed.key, PostChanges(audience=Audience.PUBLIC))
        await until(lambda: feed.index.find(removed.key) is None)
        slot = feed.index.find(narrowed.key)
        await until(lambda: feed.index.entry(slot_of(feed, narrowed.key)).audience == "public")

    assert slot is not None


def slot_of(feed, key: Key) -> int:
    slot = feed.index.find(key)
    assert slot is not None
    return slot


async def test_removed_author_leaves_no_slot(router, conninfo):
    rooms = Rooms(router)
    _, _, gus = await village(rooms)
    async with feeding(rooms, conninfo) as feed:
        post = await rooms.post(gus, "one")
        await feed.settled()
        await rooms.members.remove(OPERATOR, gus.member, "spam")
        await until(lambda: feed.index.find(post.key) is None)


async def test_an_edit_moves_the_vector(router, conninfo):
    rooms = Rooms(router)
    _, _, gus = await village(rooms)
    async with feeding(rooms, conninfo) as feed:
        post = await rooms.post(gus, "sail rope tide harbour")
        await feed.settled()
        before = feed.index.vectors([slot_of(feed, post.key)])[0].copy()
        await rooms.posts.edit(gus, post.key, PostChanges(text="soup bread oven"))
        await until(lambda: float(feed.index.vectors([slot_of(feed, post.key)])[0] @ before) < 0.95)


async def test_restart_reads_the_table_and_embeds_nothing_twice(router, conninfo):
    rooms = Rooms(router)
    home, _, _ = await village(rooms)
    drafts = [PostDraft(external_id=f"p{n}", author="gus", text=f"post {n}") for n in range(150)]
    await rooms.posts.upsert(OPERATOR, home, drafts)
    first, second = BrokenEncoder(), BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=first) as feed:
        await feed.settled()
        done, total = feed.freshness.progress()
        size = len(feed.index)
    async with feeding(rooms, conninfo, encoder=second) as feed:
        at_once = len(feed.index)
        await feed.settled()

    assert (done, total, size, at_once) == (150, 150, 150, 150)
    assert first.embedded == 150
    assert second.embedded == 0


async def test_killed_in_the_middle_goes_on_where_it_was(router, conninfo):
    """A stop between batches loses nothing and does nothing twice but the batch it was in."""
    rooms = Rooms(router)
    home, _, _ = await village(rooms)
    drafts = [PostDraft(external_id=f"p{n}", author="gus", text=f"post {n}") for n in range(60)]
    await rooms.posts.upsert(OPERATOR, home, drafts)
    config = FeedConfig(coalesce_seconds=0, fit_minutes=0, embed_batch=8)
    first, second = BrokenEncoder(), BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=first, config=config) as feed:
        await until(lambda: first.embedded >= 16)
        kept = len(feed.index)
    async with feeding(rooms, conninfo, encoder=second, config=config) as feed:
        await feed.settled()
        whole = len(feed.index)

    assert kept < 60
    assert whole == 60
    assert second.embedded <= 60 - kept


async def test_an_encoder_that_fails_is_tried_again(router, conninfo, monkeypatch):
    monkeypatch.setattr("millrace.feed.embedder.RETRY_SECONDS", 0.01)
    rooms = Rooms(router)
    _, _, gus = await village(rooms)
    encoder = BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        await feed.settled()
        encoder.broken = True
        post = await rooms.post(gus, "one")
        await until(lambda: feed.freshness.failures >= 2)
        encoder.broken = False
        await until(lambda: feed.index.find(post.key) is not None)


async def test_lag_is_the_age_of_the_oldest_change_that_waits(router, conninfo, monkeypatch):
    """Nothing waits, nothing lags; with a broken encoder the lag grows until it is mended."""
    monkeypatch.setattr("millrace.feed.embedder.RETRY_SECONDS", 0.01)
    rooms = Rooms(router)
    _, _, gus = await village(rooms)
    encoder = BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        old = await rooms.post(gus, "one")
        await feed.settled()
        calm = (feed.freshness.lag(), feed.freshness.waiting())
        encoder.broken = True
        await rooms.posts.edit(gus, old.key, PostChanges(text="two"))
        await until(lambda: feed.freshness.failures > 0)
        rooms.clock.move(40)
        await rooms.post(gus, "three")
        await until(lambda: feed.freshness.waiting() == 2)
        late = feed.freshness.lag()
        encoder.broken = False
        await until(lambda: feed.freshness.waiting() == 0)
        again = feed.freshness.lag()

    assert calm == (0.0, 0)
    assert 40 <= late < 41
    assert again == 0.0


async def test_what_is_not_embedded_yet_stands_in_the_middle(router, conninfo):
    """A post of a moment ago is neither near nor far: nobody knows, and so nothing is held back."""
    rooms = Rooms(router)
    _, reader, gus = await village(rooms)
    await rooms.members.update(
        reader, reader.member, ProfileChanges(headline="sail harbour tide"), expected_version=None
    )
    encoder = BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        texts = ("sail harbour tide", "sail harbour rope", "bread oven flour")
        known = [await rooms.post(gus, text) for text in texts]
        await feed.settled()
        await feed.page(reader.member)
        encoder.broken = True
        new = await rooms.post(gus, "nobody has read this yet")
        await until(lambda: feed.index.slot(new.key) is not None)
        await feed.page(reader.member)
        posts = [*known, new]
        told = [await feed.why(reader.member, post.key) for post in posts]

    *others, unknown = (one.features["similarity"] for one in told)
    assert len(set(others)) == 3
    assert unknown == pytest.approx(median(others))


async def test_a_feed_says_that_most_posts_are_still_to_be_embedded(router, conninfo):
    """While a community comes in, a page is served and says what is missing; later it does not."""
    rooms = Rooms(router)
    home, reader, _ = await village(rooms)
    encoder = BrokenEncoder()
    config = FeedConfig(coalesce_seconds=0, fit_minutes=0, embed_batch=4)
    async with feeding(rooms, conninfo, encoder=encoder, config=config) as feed:
        await feed.page(reader.member)  # the member has a vector; only posts are missing
        encoder.broken = True
        drafts = [PostDraft(external_id=f"p{n}", author="gus", text=f"post {n}") for n in range(30)]
        await rooms.posts.upsert(OPERATOR, home, drafts)
        # The scan counts them in the tables; the index hears of them by the log.
        await until(lambda: feed.freshness.progress() == (0, 30) and feed.index.posts == 30)
        page = await feed.page(reader.member)
        encoder.broken = False
        await feed.settled()
        later = await feed.page(reader.member)

    assert len(page.items) == 20
    assert page.degraded == [
        "nearness is known for 0 of 30 posts so far: the others are being read"
    ]
    assert later.degraded == []


async def test_members_are_embedded_again_when_they_change_or_act(router, conninfo):
    """Profile and engagement move the vector of a member who has one; others wait until asked."""
    rooms = Rooms(router)
    _, reader, gus = await village(rooms)
    post = await rooms.post(gus, "sail rope tide harbour")
    encoder = BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        await feed.settled()
        before = encoder.embedded
        await feed.page(reader.member)
        assert encoder.embedded == before + 1
        rooms.clock.move(1)
        await rooms.reactions.like(reader, post.key)
        await until(lambda: encoder.embedded == before + 2)
        await rooms.members.update(
            reader, reader.member, ProfileChanges(headline="a sailor"), expected_version=None
        )
        await until(lambda: encoder.embedded == before + 3)
        await rooms.members.update(
            gus, gus.member, ProfileChanges(headline="never asked"), expected_version=None
        )
        await feed.settled()

    assert encoder.embedded == before + 4  # his post names him; of himself nobody asked


async def test_whoever_waits_is_told_when_embedding_fails_again_and_again(
    router, conninfo, monkeypatch
):
    """An import that learns must not wait ten minutes for a database that has left."""
    monkeypatch.setattr("millrace.feed.embedder.RETRY_SECONDS", 0.01)
    rooms = Rooms(router)
    _, _, gus = await village(rooms)
    encoder = BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        encoder.broken = True
        post = await rooms.post(gus, "one")
        with pytest.raises(UnavailableError, match=r"embedding failed \d+ times in a row"):
            await feed.settled(SECONDS_MAX)
        encoder.broken = False
        await until(lambda: feed.index.find(post.key) is not None)
        await feed.settled(SECONDS_MAX)


async def test_one_process_embeds_and_the_other_takes_over(router, conninfo):
    """Both indexes hear of every vector, and only the process that has the slot makes them."""
    rooms = Rooms(router)
    _, _, gus = await village(rooms)
    first, second = BrokenEncoder(), BrokenEncoder()
    async with feeding(rooms, conninfo, encoder=second) as heir:
        async with feeding(rooms, conninfo, encoder=first) as other:
            one = await rooms.post(gus, "one")
            await heir.settled(SECONDS_MAX)
            await other.settled(SECONDS_MAX)
            both = [feed.index.find(one.key) is not None for feed in (heir, other)]
            beside = first.embedded
            await heir.freshness.stop()
            two = await rooms.post(gus, "two")
            await until(lambda: other.index.find(two.key) is not None)
        taken_over = first.embedded
        before = second.embedded
        await heir.freshness.start()
        three = await rooms.post(gus, "three")
        await until(lambda: heir.index.find(three.key) is not None)

    assert both == [True, True]
    assert beside == 0
    assert taken_over >= 1
    assert before < second.embedded
