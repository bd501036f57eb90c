"""Pages of a feed, through the room's door, on real PostgreSQL."""

from datetime import timedelta

import pytest
from msgspec.structs import replace

from millrace.api.metrics import Metrics
from millrace.community.testing import OPERATOR, Rooms, as_member
from millrace.community.types import (
    Action,
    Audience,
    Engagement,
    Impression,
    Key,
    MemberDraft,
    ProfileChanges,
)
from millrace.feed.testing import BrokenEncoder, FakeEncoder, feeding
from millrace.feed.types import FeedConfig
from millrace.kernel.errors import InvalidError, NotFoundError
from millrace.kernel.ids import IdMaker
from millrace.release.flags.room import FlagParts, Flags

pytestmark = pytest.mark.services
QUICK = FeedConfig(coalesce_seconds=0.0, fit_minutes=0.0)
TEXTS = {
    "gardening": "tomatoes compost seeds spring bed garden soil",
    "sailing": "harbour boat wind sail rope tide keel",
    "cooking": "soup bread oven salt kitchen recipe flour",
}


async def village(rooms: Rooms, posts: int = 12):
    """A community with one reader, three authors, and posts about three topics."""
    home = await rooms.community("village")
    reader, *authors = await rooms.people(home, "rita", "gus", "sal", "cora")
    written = []
    for place in range(posts):
        topic, author = list(TEXTS)[place % 3], authors[place % 3]
        rooms.clock.move(60)
        written.append(await rooms.post(author, f"{TEXTS[topic]} number {place}", topics=[topic]))
    return home, reader, authors, written


async def saw(rooms: Rooms, page, member: Key) -> None:
    """Record an impression of every post of a page."""
    shown = [
        Impression(
            member=member,
            post=item.view.post.key,
            shown_at=rooms.clock.now(),
            position=item.position,
            served_feed_id=page.served_feed_id,
        )
        for item in page.items
    ]
    await rooms.activity.record(as_member(member), shown, [])


async def liked(rooms: Rooms, member: Key, *posts: Key) -> None:
    for post in posts:
        rooms.clock.move(1)
        await rooms.reactions.like(as_member(member), post)


def keys(page) -> list[Key]:
    return [item.view.post.key for item in page.items]


async def walk(feed, member: Key, sizes: list[int]) -> list:
    """Every page of one feed, with sizes in turn."""
    pages, cursor = [], ""
    while True:
        size = sizes[len(pages) % len(sizes)]
        pages.append(await feed.page(member, limit=size, cursor=cursor))
        cursor = pages[-1].next_cursor
        if not cursor:
            return pages


async def test_member_with_only_a_headline_gets_near_posts_at_once(router, conninfo):
    """Cold start: no history, no embedding, and the first page is about the headline."""
    rooms = Rooms(router)
    home, _, _, _ = await village(rooms)
    draft = MemberDraft(
        external_id="new", display_name="New", headline="sail boat wind tide harbour"
    )
    made = await rooms.members.upsert(OPERATOR, home, [draft])
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()

        page = await feed.page(Key(home, made.ids["new"]), limit=4)

    assert len(page.items) == 4
    assert page.items[0].view.post.topics == ["sailing"]
    assert page.degraded == []
    assert all(item.reason.endswith(".") for item in page.items)


async def test_pages_are_one_list_whatever_their_sizes(router, conninfo):
    """Pages neither repeat nor lose, also when new posts arrive between them."""
    rooms = Rooms(router)
    _, reader, authors, written = await village(rooms, 30)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        first = await feed.page(reader.member, limit=3)
        await rooms.post(authors[0], "a new one in between")
        await feed.settled()
        rest, cursor = [], first.next_cursor
        while cursor:
            page = await feed.page(reader.member, limit=7, cursor=cursor)
            rest.append(page)
            cursor = page.next_cursor

        found = keys(first) + [key for page in rest for key in keys(page)]

    assert sorted(found) == sorted(post.key for post in written)
    assert len(found) == len(set(found))
    positions = [i.position for page in [first, *rest] for i in page.items]
    assert positions == list(range(30))


async def test_what_was_delivered_or_seen_waits_behind_what_is_new(router, conninfo):
    """Seen posts never stand before new ones, and the page says that the member is caught up."""
    rooms = Rooms(router)
    _, reader, _, _ = await village(rooms, 12)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        first = await feed.page(reader.member, limit=4, token=await rooms.router.token())
        await saw(rooms, first, reader.member)
        rooms.clock.move(3 * 60)
        second = await feed.page(reader.member, limit=4, token=await rooms.router.token())
        rooms.clock.move(3 * 60)
        third = await feed.page(reader.member, limit=12, token=await rooms.router.token())
        rooms.clock.move(31 * 60)
        await saw(rooms, third, reader.member)
        shorter = await feed.page(reader.member, limit=5, token=await rooms.router.token())

    assert shorter.next_cursor
    assert shorter.caught_up
    assert not set(keys(first)) & set(keys(second))
    assert not first.caught_up
    assert third.caught_up
    assert keys(third)[:4] == [k for k in keys(third) if k not in {*keys(first), *keys(second)}]
    assert set(keys(third)[4:8]) == set(keys(second))
    assert set(keys(third)[8:]) == set(keys(first))
    assert [item.seen for item in third.items] == [False] * 8 + [True] * 4


async def test_seen_posts_do_not_take_the_place_of_new_ones_in_a_source(router, conninfo):
    """Sources that give a few posts give new ones while there are any, whatever was seen."""
    rooms = Rooms(router)
    _, reader, _, written = await village(rooms, 24)
    config = FeedConfig(
        coalesce_seconds=0, fit_minutes=0, retrieval_max=4, network_max=4, exploration_max=4
    )
    found = []
    async with feeding(rooms, conninfo, config=config) as feed:
        await feed.settled()
        while len(found) < 40:
            page = await feed.page(reader.member, limit=4, token=await rooms.router.token())
            fresh = [item.view.post.key for item in page.items if not item.seen]
            if not fresh:
                break
            found += fresh
            await saw(rooms, page, reader.member)

    assert sorted(found) == sorted(post.key for post in written)


async def test_a_feed_ends_at_its_length_and_says_what_it_left(router, conninfo):
    """Five of twelve posts: the others are behind it, so the member is not caught up."""
    rooms = Rooms(router)
    _, reader, _, written = await village(rooms, 12)
    config = FeedConfig(coalesce_seconds=0, fit_minutes=0, ranked_max=5)
    async with feeding(rooms, conninfo, config=config) as feed:
        await feed.settled()
        pages = await walk(feed, reader.member, [3])
        shown = [key for page in pages for key in keys(page)]
        left = next(post.key for post in written if post.key not in shown)
        why = await feed.why(reader.member, left)

    assert len(shown) == 5
    assert not pages[-1].caught_up
    assert why.removed.stage == "select"
    assert why.removed.reason.endswith("of 12; a feed holds 5")


async def test_a_reload_at_once_loses_nothing_that_was_not_seen(router, conninfo):
    """Two posts were looked at: those wait, the others of the page keep their places."""
    rooms = Rooms(router)
    _, reader, _, _ = await village(rooms, 12)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        first = await feed.page(reader.member, limit=6, token=await rooms.router.token())
        looked = replace(first, items=first.items[:2])
        await saw(rooms, looked, reader.member)
        rooms.clock.move(5)
        again = await feed.page(reader.member, limit=6, token=await rooms.router.token())
        rooms.clock.move(3 * 60)
        later = await feed.page(reader.member, limit=6, token=await rooms.router.token())

    assert set(keys(first)[2:]) <= set(keys(again))
    assert not set(keys(looked)) & set(keys(again))
    assert not again.caught_up
    assert not set(keys(later)[:4]) & set(keys(again))


async def test_delivered_posts_come_back_after_their_time(router, conninfo):
    """Thirty minutes without an impression: nobody looked, so it is new again."""
    rooms = Rooms(router)
    _, reader, _, _ = await village(rooms, 6)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        first = await feed.page(reader.member, limit=3)
        rooms.clock.move(31 * 60)
        again = await feed.page(reader.member, limit=3)

    assert keys(first) == keys(again)


async def test_cursor_of_another_member_forged_or_expired_is_refused(router, conninfo):
    rooms = Rooms(router)
    _, reader, authors, _ = await village(rooms, 12)
    async with feeding(rooms, conninfo) as feed:
        page = await feed.page(reader.member, limit=2)
        cursor = page.next_cursor
        body, _, signature = cursor.rpartition(".")

        for text in (f"{body}0.{signature}", "nonsense", "1.é.\udce9", cursor + "x", "." * 900):
            with pytest.raises(InvalidError, match="is not one that this feed gave out"):
                await feed.page(reader.member, cursor=text)
        with pytest.raises(InvalidError, match="another member"):
            await feed.page(authors[0].member, cursor=cursor)
        rooms.clock.move(25 * 3600)
        with pytest.raises(InvalidError, match="has expired") as refused:
            await feed.page(reader.member, cursor=cursor)

    assert refused.value.next_step == "ask for the first page without a cursor"
    assert refused.value.field == "cursor"


async def test_next_page_leaves_out_what_changed_since(router, conninfo):
    """Removed, blocked, muted or hidden between two pages: left out, and the pages still full.

    Removals and blocks hold at once for everybody; what a member chose to see no more, for whoever
    brings the token of that choice.
    """
    rooms = Rooms(router)
    _, reader, authors, written = await village(rooms, 30)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        first = await feed.page(reader.member, limit=3, token=await rooms.router.token())
        left = [post for post in written if post.key not in keys(first)]
        await rooms.relations.mute(reader, authors[0].member)
        await rooms.relations.block(authors[1], reader.member)
        last = [post for post in left if post.author == authors[2].member]
        await rooms.posts.remove(authors[2], last[0].key, "no longer true")
        hide = Engagement(
            member=reader.member, post=last[1].key, kind=Action.HIDE, happened_at=rooms.clock.now()
        )
        await rooms.activity.record(reader, [], [hide])

        found = {}
        for token in ("", await rooms.router.token()):
            found[bool(token)], cursor = [], first.next_cursor
            while cursor:
                page = await feed.page(reader.member, limit=5, cursor=cursor, token=token)
                found[bool(token)] += keys(page)
                cursor = page.next_cursor

    never = {last[0].key, *(post.key for post in left if post.author == authors[1].member)}
    assert not never & set(found[False])
    assert sorted(found[True]) == sorted(post.key for post in last[2:])


async def test_an_encoder_that_fails_costs_nearness_and_nothing_else(router, conninfo):
    """The feed answers with the newest posts, and says that it is degraded."""
    rooms = Rooms(router)
    _, reader, _, written = await village(rooms, 6)
    encoder = BrokenEncoder()
    encoder.broken = True
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        page = await feed.page(reader.member, limit=6)
        degraded = feed.degraded_pages

    assert keys(page) == [post.key for post in reversed(written)]
    assert page.degraded == ["the newest posts, not the nearest ones: the encoder does not answer"]
    assert degraded == 1


async def test_audience_and_nearby(router, conninfo):
    """Posts reach whom they are for, and nobody else."""
    rooms = Rooms(router)
    far = await rooms.community("far")
    near = await rooms.community("near")
    home = await rooms.community("home", nearby=["near"])
    (reader,) = await rooms.people(home, "rita")
    (author,) = await rooms.people(near, "ned")
    (stranger,) = await rooms.people(far, "fay")
    wanted = []
    for viewer, audience, reaches in (
        (author, Audience.COMMUNITY, False),
        (author, Audience.NEARBY, True),
        (author, Audience.PUBLIC, True),
        (stranger, Audience.NEARBY, False),
        (stranger, Audience.PUBLIC, True),
    ):
        post = await rooms.post(viewer, f"{audience} by {viewer.name}", audience=audience)
        wanted += [post.key] * reaches
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        page = await feed.page(reader.member)

    assert sorted(keys(page)) == sorted(wanted)


async def test_empty_community_has_an_empty_feed_that_says_so(router, conninfo):
    rooms = Rooms(router)
    home = await rooms.community("empty")
    (reader,) = await rooms.people(home, "rita")
    async with feeding(rooms, conninfo) as feed:
        page = await feed.page(reader.member)

    assert page.items == []
    assert page.next_cursor == ""
    assert page.caught_up


async def test_unknown_member_and_wrong_limits(router, conninfo):
    rooms = Rooms(router)
    home = await rooms.community("village")
    (reader,) = await rooms.people(home, "rita")
    async with feeding(rooms, conninfo) as feed:
        with pytest.raises(NotFoundError, match="there is no member"):
            await feed.page(Key(home, 42))
        for limit in (0, -1, 101):
            with pytest.raises(InvalidError, match=f"limit {limit}"):
                await feed.page(reader.member, limit=limit)
        await rooms.members.remove(OPERATOR, reader.member, "left")
        with pytest.raises(NotFoundError):
            await feed.page(reader.member)


async def test_likes_turn_the_feed(router, conninfo):
    """What a member likes comes first next time, and the sentence says so."""
    rooms = Rooms(router)
    _, reader, _, written = await village(rooms, 30)
    encoder = FakeEncoder()
    async with feeding(rooms, conninfo, encoder=encoder) as feed:
        await feed.settled()
        await feed.page(reader.member, limit=1, token=await rooms.router.token())
        cooking = [post for post in written if post.topics == ["cooking"]]
        await liked(rooms, reader.member, *[post.key for post in cooking[:4]])
        await feed.settled()
        rooms.clock.move(timedelta(hours=1).total_seconds())
        page = await feed.page(reader.member, limit=3, token=await rooms.router.token())

    assert page.items[0].view.post.topics == ["cooking"]
    assert "you liked posts about cooking" in page.items[0].reason


async def test_stages_count_what_they_did(router, conninfo):
    """Totals only grow; what a filter took out is under its name, and Prometheus can read it."""
    rooms = Rooms(router)
    _, reader, authors, _ = await village(rooms, 9)
    metrics = Metrics()
    ids = IdMaker(rooms.clock, 3)
    flags = Flags(FlagParts(router=router, clock=rooms.clock, ids=ids, conninfo=conninfo))
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        before = {one.stage: one for one in feed.stages()}
        await rooms.relations.mute(reader, authors[0].member)
        for _ in range(2):
            await feed.page(reader.member)
        after = {one.stage: one for one in feed.stages()}
        text = metrics.text(feed, flags).decode()

    assert before == {}
    assert list(after) == [
        "hydrate_member", "sources", "hydrate_candidates", "filters", "score", "value", "select",
        "explain",
    ]  # fmt: skip
    assert all(one.runs == 2 and one.seconds >= 0 for one in after.values())
    assert after["filters"].taken == after["filters"].left + sum(after["filters"].removed.values())
    assert 'millrace_feed_stage_runs_total{stage="filters"} 2.0' in text
    assert "millrace_freshness_lag_seconds 0.0" in text


async def test_a_region_of_a_language_hides_nothing(router, conninfo):
    """A member who reads Portuguese gets pt-BR by every source, and no German."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    reader, gus = await rooms.people(home, "rita", "gus")
    wanted = await rooms.post(gus, "um barco no porto", language="pt-BR")
    await rooms.post(gus, "ein Boot im Hafen", language="de")
    await rooms.members.update(
        reader, reader.member, ProfileChanges(languages=["Portuguese"]), expected_version=None
    )
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        page = await feed.page(reader.member)
        found = await feed.why(reader.member, wanted.key)

    assert keys(page) == [wanted.key]
    assert {note.source for note in found.sources} == {"network", "retrieval", "exploration"}
