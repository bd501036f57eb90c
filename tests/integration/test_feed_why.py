"""Why a post is in a feed, or what keeps it out."""

import math

import pytest

from millrace.community.moves import Move, Thing, ThingKind
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import (
    Action,
    Audience,
    Engagement,
    Impression,
    Key,
    ProfileChanges,
)
from millrace.feed.testing import feeding
from millrace.feed.types import FeedConfig
from millrace.kernel.errors import NotFoundError

pytestmark = pytest.mark.services


async def village(rooms: Rooms, posts: int = 8):
    home = await rooms.community("village")
    reader, gus, sal = await rooms.people(home, "rita", "gus", "sal")
    written = []
    for place in range(posts):
        rooms.clock.move(60)
        written.append(
            await rooms.post(
                gus if place % 2 else sal, f"harbour boat wind {place}", topics=["sea"]
            )
        )
    return home, reader, gus, sal, written


async def test_a_shown_post_is_explained_from_its_served_feed(router, conninfo):
    """Sources, features, probabilities with weights, adjustments and place add up."""
    rooms = Rooms(router)
    _, reader, gus, _, _ = await village(rooms)
    await rooms.relations.follow(reader, gus.member)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        page = await feed.page(reader.member, limit=5)
        for item in page.items:
            found = await feed.why(reader.member, item.view.post.key)

            assert found.shown
            assert found.position == item.position
            assert found.served_feed_id == page.served_feed_id
            assert found.sentence == item.reason
            assert found.removed is None
            assert {note.source for note in found.sources} >= {"retrieval"}
            assert set(found.versions) >= {"encoder", "prompt", "scorer", "value"}
            value = sum(note.value for note in found.actions)
            assert all(
                math.isclose(n.value, n.probability * n.weight, abs_tol=1e-9) for n in found.actions
            )
            after = found.adjustments[-1].after if found.adjustments else value
            assert found.score == pytest.approx(after, abs=1e-5)
            assert found.features["follows_author"] == float(item.view.post.author == gus.member)
        followed = [i for i in page.items if i.view.post.author == gus.member]

    assert followed[0].reason == "Because you follow Gus."


async def test_a_post_of_a_later_page_is_ranked_but_not_shown(router, conninfo):
    rooms = Rooms(router)
    _, reader, _, _, written = await village(rooms)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        page = await feed.page(reader.member, limit=2)
        shown = {item.view.post.key for item in page.items}
        other = next(post.key for post in written if post.key not in shown)
        found = await feed.why(reader.member, other)
        await feed.page(reader.member, limit=7, cursor=page.next_cursor)
        later = await feed.why(reader.member, other)

    assert not found.shown
    assert found.position is not None
    assert later.shown
    assert later.position == found.position


async def test_every_way_out_has_its_stage_and_reason(router, conninfo):
    """Own, muted, hidden, other language, too old, seen: from a run that is not recorded."""
    rooms = Rooms(router)
    home = await rooms.community("village")
    reader, gus, mia, *many = await rooms.people(home, "rita", "gus", "mia", "a", "b", "c")
    old = await rooms.post(gus, "an old one")
    rooms.clock.move(10 * 24 * 3600)
    own = await rooms.post(reader, "mine")
    muted = await rooms.post(mia, "by mia")
    hidden = await rooms.post(gus, "hidden")
    german = await rooms.post(gus, "auf deutsch", language="de")
    seen = await rooms.post(gus, "seen")
    for place in range(3):
        await rooms.post(many[place], f"another {place}")
    await rooms.relations.mute(reader, mia.member)
    now = rooms.clock.now()
    await rooms.activity.record(
        reader,
        [Impression(member=reader.member, post=seen.key, shown_at=now, position=0)],
        [Engagement(member=reader.member, post=hidden.key, kind=Action.HIDE, happened_at=now)],
    )
    await rooms.members.update(
        reader, reader.member, ProfileChanges(languages=["en"]), expected_version=None
    )
    config = FeedConfig(
        coalesce_seconds=0, fit_minutes=0, age_days_max=5, retrieval_max=1, network_max=1,
        exploration_max=1,
    )  # fmt: skip
    stages = {}
    async with feeding(rooms, conninfo, config=config) as feed:
        await feed.settled()
        for name, post in (
            ("own_post", own), ("muted", muted), ("hidden_post", hidden), ("language", german),
            ("seen", seen), ("age", old),
        ):  # fmt: skip
            found = await feed.why(reader.member, post.key)
            assert not found.shown
            assert found.sentence.endswith(".")
            stages[name] = found.removed.stage

    assert stages == {name: name for name in stages}


async def test_a_post_that_no_source_proposed_names_its_rank_and_the_cutoff(router, conninfo):
    rooms = Rooms(router)
    _, reader, _, _, written = await village(rooms, 12)
    config = FeedConfig(
        coalesce_seconds=0, fit_minutes=0, retrieval_max=3, network_max=2, exploration_max=1
    )
    async with feeding(rooms, conninfo, config=config) as feed:
        await feed.settled()
        found = [await feed.why(reader.member, post.key) for post in written]

    out = [one for one in found if one.removed and one.removed.stage == "sources"]
    assert len(out) >= 12 - 6
    assert all("in retrieval" in one.removed.reason for one in out)
    assert all("the first 3 are taken" in one.removed.reason for one in out)


async def test_what_a_member_may_not_see_is_not_there_for_them(router, conninfo):
    """NotFound for the member, whatever the reason; the operator reads the reason."""
    rooms = Rooms(router)
    far = await rooms.community("far")
    home = await rooms.community("home")
    (reader, gus, bad) = await rooms.people(home, "rita", "gus", "bad")
    (stranger,) = await rooms.people(far, "fay")
    removed = await rooms.post(gus, "removed")
    await rooms.posts.remove(gus, removed.key, "a mistake")
    blocked = await rooms.post(bad, "blocked")
    await rooms.relations.block(bad, reader.member)
    foreign = await rooms.post(stranger, "foreign", audience=Audience.NEARBY)
    (vic,) = await rooms.people(home, "vic")
    hidden, banned = await rooms.post(gus, "hidden"), await rooms.post(vic, "banned")
    for thing, move in (
        (Thing(ThingKind.POST, hidden.key), Move.HIDE),
        (Thing(ThingKind.MEMBER, vic.member), Move.BAN),
    ):
        await rooms.moderation.decide(OPERATOR, thing, move, "for the test")
    async with feeding(rooms, conninfo) as feed:
        reasons = []
        for post in (removed.key, blocked.key, foreign.key, hidden.key, banned.key):
            with pytest.raises(NotFoundError, match="there is no post"):
                await feed.why(reader.member, post)
            found = await feed.why(reader.member, post, oversees=True)
            assert found.removed.stage == "visibility"
            reasons.append(found.removed.reason)
        with pytest.raises(NotFoundError, match="there is no post"):
            await feed.why(reader.member, Key(home, 5), oversees=True)

    assert reasons[0].startswith("the post was removed at 2026-")
    assert reasons[1] == "a block stands between the member and the author"
    assert reasons[2] == f"its audience is nearby of community {far}, which is not nearby"
    assert reasons[3].startswith("a moderator hid the post at 2026-")
    assert reasons[4].startswith("its author was banned at 2026-")


async def test_a_dry_run_is_not_logged(router, conninfo):
    rooms = Rooms(router)
    _, reader, _, _, written = await village(rooms)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        first = await feed.why(reader.member, written[0].key)
        page = await feed.page(reader.member, limit=8)

    assert first.served_feed_id is None
    assert not first.shown
    assert len(page.items) == 8
    assert not page.items[0].seen


async def test_a_ranked_post_that_was_muted_since_is_not_said_to_come(router, conninfo):
    """What was delivered stays explained as it was; what only waited for a later page does not."""
    rooms = Rooms(router)
    _, reader, gus, _, written = await village(rooms)
    async with feeding(rooms, conninfo) as feed:
        await feed.settled()
        page = await feed.page(reader.member, limit=4)
        shown = {item.view.post.key for item in page.items}
        await rooms.relations.mute(reader, gus.member)
        mine = [post.key for post in written if post.author == gus.member]
        found = {key: await feed.why(reader.member, key) for key in mine}

    assert {key for key in mine if found[key].shown} == shown & set(mine)
    later = [one for key, one in found.items() if key not in shown]
    assert later
    assert {one.removed.stage for one in later} == {"muted"}
