"""Goal: nobody sees, changes or learns of what is not theirs, through any verb of the room."""

from datetime import timedelta

import pytest

from millrace.community.testing import NOON, OPERATOR, Rooms, as_member
from millrace.community.types import (
    BIGINT_MAX,
    Action,
    Audience,
    Engagement,
    Impression,
    Key,
    NewPost,
    PostChanges,
    ProfileChanges,
    Role,
    Viewer,
)
from millrace.kernel.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TooLargeError,
)

pytestmark = pytest.mark.services


@pytest.fixture
async def rooms(router):
    return Rooms(router)


@pytest.fixture
async def town(rooms):
    """Two communities: here sees the nearby posts of there, not the other way round."""
    there = await rooms.community("there")
    here = await rooms.community("here", nearby=["there"])
    ann, ben = await rooms.people(here, "ann", "ben")
    (mod,) = await rooms.people(here, "mod", role=Role.MODERATOR)
    far, off = await rooms.people(there, "far", "off")
    (judge,) = await rooms.people(there, "judge", role=Role.MODERATOR)
    return {"ann": ann, "ben": ben, "mod": mod, "far": far, "off": off, "judge": judge}


MANAGER = Viewer(Role.RELEASE_MANAGER, None, "operator:rm")


async def sees(rooms, viewer, key):
    try:
        await rooms.posts.get(viewer, key)
    except NotFoundError:
        return False
    return True


@pytest.mark.parametrize(
    ("audience", "seen_by"),
    [
        (Audience.COMMUNITY, {"far", "off", "judge"}),
        (Audience.NEARBY, {"far", "off", "judge", "ann", "ben", "mod"}),
        (Audience.PUBLIC, {"far", "off", "judge", "ann", "ben", "mod", "manager"}),
    ],
)
async def test_audience(rooms, town, audience, seen_by):
    """A post reaches whom it is for, also across communities, and nobody else."""
    everybody = {**town, "manager": MANAGER}
    post = await rooms.post(town["far"], audience=audience)

    assert {
        name for name, viewer in everybody.items() if await sees(rooms, viewer, post.key)
    } == seen_by
    assert await sees(rooms, OPERATOR, post.key)


async def test_nearby_is_directed(rooms, town):
    """Here sees there's nearby posts; there does not see here's."""
    post = await rooms.post(town["ann"], audience=Audience.NEARBY)

    assert not await sees(rooms, town["far"], post.key)


async def every_verb(rooms, viewer, post, comment, author):
    """Yield each verb that names a post, for a viewer who must not know of it."""
    yield "get", rooms.posts.get(viewer, post)
    yield "edit", rooms.posts.edit(viewer, post, PostChanges(title="x"))
    yield "remove", rooms.posts.remove(viewer, post, "")
    yield "thread", rooms.threads.thread(viewer, post)
    yield "comment", rooms.threads.comment(viewer, post, "x")
    yield "remove comment", rooms.threads.remove(viewer, comment, "")
    yield "like", rooms.reactions.like(viewer, post)
    yield "unlike", rooms.reactions.unlike(viewer, post)
    yield "answer", rooms.threads.comment(viewer, post, "x", comment)
    if author is not None:
        yield "member", rooms.members.get(viewer, author)
        yield "update", rooms.members.update(viewer, author, ProfileChanges(headline="x"))
        yield "remove member", rooms.members.remove(viewer, author, "")
        yield "follow", rooms.relations.follow(viewer, author)
        yield "mute", rooms.relations.mute(viewer, author)


async def named(verb, asked):
    """Fail with the name of the verb where it did not refuse."""
    await asked
    pytest.fail(f"{verb} knew of it")


@pytest.mark.parametrize(
    "reason", ["audience", "removed", "blocked", "blocks", "author removed", "unknown"]
)
async def test_what_is_not_seen_is_not_there(rooms, town, reason):
    """Whatever hides a post, every verb gives the answer that an unknown id gives."""
    viewer, author = town["ann"], town["ben"]
    if reason == "audience":
        author = town["far"]
    post = (await rooms.post(author)).key
    line = await rooms.threads.comment(author, post, "Mine.")
    comment = Key(line.community_id, line.comment_id)
    if reason == "removed":
        await rooms.posts.remove(author, post, "")
    elif reason == "blocked":
        await rooms.relations.block(author, viewer.member)
    elif reason == "blocks":
        await rooms.relations.block(viewer, author.member)
    elif reason == "author removed":
        await rooms.members.remove(OPERATOR, author.member, "spam")
    elif reason == "unknown":
        post, comment = Key(post.community_id, 5), Key(post.community_id, 6)
    hidden = author.member if reason in ("blocked", "blocks", "author removed") else None

    async for verb, asked in every_verb(rooms, viewer, post, comment, hidden):
        with pytest.raises(NotFoundError, match=r"^there is no (post|comment|member) \d+-\d+$"):
            await named(verb, asked)
    result = await rooms.activity.record(
        viewer,
        [Impression(member=viewer.member, post=post, shown_at=NOON, position=0)],
        [Engagement(member=viewer.member, post=post, kind=Action.LIKE, happened_at=NOON)],
    )
    assert [one.reason for one in result.rejected] == [f"there is no post {post}"] * 2
    assert await rooms.posts.views(viewer, [post]) == []
    listed = await rooms.posts.newest(viewer, post.community_id)
    assert post not in [view.post.key for view in listed]


async def test_others_things_are_not_changed(rooms, town):
    """A member who sees a thing of somebody else may still not change it."""
    post = (await rooms.post(town["ben"])).key
    line = await rooms.threads.comment(town["ben"], post, "Mine.")
    ann = town["ann"]
    for asked in (
        rooms.posts.edit(ann, post, PostChanges(title="x")),
        rooms.posts.remove(ann, post, ""),
        rooms.threads.remove(ann, Key(line.community_id, line.comment_id), ""),
        rooms.members.update(ann, town["ben"].member, ProfileChanges(headline="x")),
        rooms.members.remove(ann, town["ben"].member, ""),
        rooms.members.list(ann, town["far"].member.community_id),
        rooms.activity.record(
            ann, [Impression(member=town["ben"].member, post=post, shown_at=NOON, position=0)], []
        ),
    ):
        with pytest.raises(ForbiddenError, match="may not"):
            await asked


async def test_a_moderator_keeps_order_at_home_only(rooms, town):
    """A moderator removes, and sees what is removed, in the own community and in no other."""
    mod, judge = town["mod"], town["judge"]
    post = (await rooms.post(town["ann"], audience=Audience.PUBLIC)).key
    guest = await rooms.threads.comment(town["far"], post, "Hello from there.")
    comment = Key(guest.community_id, guest.comment_id)
    with pytest.raises(ForbiddenError):
        await rooms.posts.remove(judge, post, "")
    with pytest.raises(ForbiddenError):
        await rooms.posts.edit(mod, post, PostChanges(title="x"))
    with pytest.raises(ForbiddenError):
        await rooms.members.remove(mod, town["far"].member, "")
    with pytest.raises(ForbiddenError):
        await rooms.members.remove(as_member(town["ann"].member, Role.MODERATOR), mod.member, "")
    for unsaid in (
        rooms.threads.remove(mod, comment, ""),
        rooms.posts.remove(mod, post, " \n"),
        rooms.members.remove(mod, town["ben"].member, ""),
    ):
        with pytest.raises(InvalidError, match="without a reason"):
            await unsaid
    await rooms.threads.remove(mod, comment, "rude")
    await rooms.relations.block(town["ann"], mod.member)
    await rooms.posts.remove(mod, post, "spam")

    assert await sees(rooms, mod, post)
    assert not await sees(rooms, judge, post)
    assert len(await rooms.threads.thread(mod, post)) == 1
    assert await rooms.posts.newest(mod, post.community_id) == []
    with pytest.raises(ConflictError, match="is removed"):
        await rooms.reactions.like(mod, post)
    await rooms.members.remove(mod, town["ben"].member, "spam")
    assert (await rooms.members.get(mod, town["ben"].member)).removed_at == NOON


@pytest.mark.parametrize("who", [OPERATOR, MANAGER])
async def test_who_is_no_member_does_not_act_as_one(rooms, town, who):
    """Operators and release managers have no voice of their own."""
    post = (await rooms.post(town["ann"], audience=Audience.PUBLIC)).key
    for asked in (
        rooms.posts.write(who, NewPost(text="x")),
        rooms.threads.comment(who, post, "x"),
        rooms.reactions.like(who, post),
        rooms.reactions.unlike(who, post),
        rooms.relations.follow(who, town["ann"].member),
        rooms.relations.list(who, "follows"),
    ):
        with pytest.raises(ForbiddenError, match="is not a member"):
            await asked
    with pytest.raises(ForbiddenError):
        await rooms.activity.record(MANAGER, [], [])


async def test_blocks_hold_both_ways_and_can_be_mutual(rooms, town):
    """After a block neither meets the other anywhere; the blocked one may block back."""
    ann, ben, far = town["ann"], town["ben"], town["far"]
    post = (await rooms.post(far, audience=Audience.PUBLIC)).key
    for one in (ann, ben):
        await rooms.threads.comment(one, post, "Here.")
    await rooms.relations.follow(ann, ben.member)
    await rooms.relations.follow(ben, ann.member)

    assert await rooms.relations.block(ann, ben.member)
    assert not await rooms.relations.block(ann, ben.member)
    for one, other in ((ann, ben), (ben, ann)):
        assert [line.author.key for line in await rooms.threads.thread(one, post)] == [one.member]
        assert other.member in (await rooms.relations.of(one.member)).hidden
        assert await rooms.relations.list(one, "follows") == []
        assert other.member not in [
            m.key for m in await rooms.members.list(one, one.member.community_id)
        ]
    assert [m.key for m in await rooms.relations.list(ann, "blocks")] == [ben.member]
    assert await rooms.relations.list(ben, "blocks") == []
    assert await rooms.relations.block(ben, ann.member)
    assert await rooms.relations.unblock(ann, ben.member)
    with pytest.raises(NotFoundError):
        await rooms.members.get(ann, ben.member)
    assert await rooms.relations.unblock(ben, ann.member)
    assert (await rooms.members.get(ann, ben.member)).key == ben.member


async def test_a_mute_leaves_the_direct_link(rooms, town):
    """Muting is for the feed: the post itself can still be read."""
    post = (await rooms.post(town["ben"])).key
    await rooms.relations.mute(town["ann"], town["ben"].member)

    assert await sees(rooms, town["ann"], post)
    assert (await rooms.relations.of(town["ann"].member)).mutes == {town["ben"].member}
    assert await rooms.relations.unmute(town["ann"], town["ben"].member)
    assert not await rooms.relations.unmute(town["ann"], town["ben"].member)


@pytest.mark.parametrize("verb", ["follow", "block", "mute"])
async def test_relations_with_nobody_and_oneself(rooms, town, verb):
    """Nobody relates to themself or to a member who is not there."""
    ann = town["ann"]
    with pytest.raises(InvalidError, match=f"cannot {verb} themself"):
        await getattr(rooms.relations, verb)(ann, ann.member)
    with pytest.raises(NotFoundError, match="there is no member"):
        await getattr(rooms.relations, verb)(ann, Key(1, BIGINT_MAX))


async def test_versions_guard_changes(rooms, town):
    """A change made from an old version is refused, and names both versions."""
    ann = town["ann"]
    post = await rooms.post(ann, title="One")
    second = await rooms.posts.edit(ann, post.key, PostChanges(title="Two"), post.system_version)
    with pytest.raises(ConflictError, match="has version 2, the change was made from version 1"):
        await rooms.posts.edit(ann, post.key, PostChanges(title="Three"), post.system_version)
    same = await rooms.posts.edit(ann, post.key, PostChanges(title=" Two "), 2)
    member = await rooms.members.update(ann, ann.member, ProfileChanges(headline="I knit"), 1)
    with pytest.raises(ConflictError, match="has version 2"):
        await rooms.members.update(ann, ann.member, ProfileChanges(headline="I sew"), 1)

    assert (second.title, second.system_version, second.edited_at) == ("Two", 2, NOON)
    assert same == second
    assert (member.headline, member.display_name, member.system_version) == ("I knit", "Ann", 2)


async def test_wrong_values_are_named(rooms, town):
    """Each wrong value is refused with its field, and nothing is written."""
    ann = town["ann"]
    post = (await rooms.post(ann)).key
    for asked, error, field in (
        (rooms.posts.write(ann, NewPost(text="x" * 40_001)), TooLargeError, "text"),
        (rooms.posts.write(ann, NewPost(text="a\x00b")), InvalidError, "text"),
        (rooms.posts.write(ann, NewPost(text="x", link="ftp://x.org")), InvalidError, "link"),
        (rooms.posts.edit(ann, post, PostChanges(text="")), InvalidError, "text"),
        (
            rooms.members.update(ann, ann.member, ProfileChanges(display_name=" ")),
            InvalidError,
            "display_name",
        ),
        (
            rooms.members.update(ann, ann.member, ProfileChanges(languages=["Klingon"])),
            InvalidError,
            "languages[0]",
        ),
        (rooms.threads.comment(ann, post, "\ud800"), InvalidError, "text"),
        (rooms.posts.remove(ann, post, "x" * 1_001), TooLargeError, "reason"),
        (rooms.posts.newest(ann, limit=0), InvalidError, "limit"),
        (rooms.posts.newest(ann, limit=1_001), InvalidError, "limit"),
        (rooms.relations.list(ann, "enemies"), InvalidError, "kind"),
    ):
        with pytest.raises(error) as caught:
            await asked
        assert caught.value.field == field

    assert (await rooms.posts.get(ann, post)).post.system_version == 1


async def test_pages_neither_repeat_nor_lose(rooms, town):
    """Walking in small steps gives everything once, also where two communities share an id."""
    ann, far = town["ann"], town["far"]
    for n in range(7):
        rooms.clock.move(1)
        await rooms.post((ann, far)[n % 2], audience=Audience.PUBLIC)
    twin = Rooms(rooms.router, rooms.clock)  # makes the same ids as the other maker does
    rooms.clock.move(1)
    await rooms.post(ann, audience=Audience.PUBLIC)
    await twin.post(far, audience=Audience.PUBLIC)
    whole = [view.post.key for view in await rooms.posts.newest(ann, limit=100)]
    walked, before = [], BIGINT_MAX
    while page := await rooms.posts.newest(ann, before=before, limit=1):
        walked += [view.post.key for view in page]
        before = page[-1].post.post_id

    assert len(whole) == 9
    assert sorted(walked) == sorted(whole)
    assert walked[0].id == walked[1].id


async def test_find_names_members(rooms, town):
    """A member is found by key, handle or external id; where two have the name, it says so."""
    far = town["far"]
    await rooms.people(town["ann"].member.community_id, "far")
    with pytest.raises(ConflictError, match="several members are called 'far'"):
        await rooms.members.find("far")
    for nobody in ("nobody", "a\x00b", "\ud800", "1-2", ""):
        with pytest.raises(NotFoundError):
            await rooms.members.find(nobody)

    assert (await rooms.members.find(str(far.member))).key == far.member
    assert (await rooms.communities.find("here")).community_id == town["ann"].member.community_id
    assert (await rooms.communities.find(str(far.member.community_id))).external_id == "there"
    assert len(await rooms.members.sample(4)) == 4


async def test_histories(rooms, town):
    """Positives are newest first, without likes taken back; hides and reports are kept for ever."""
    ann, ben = town["ann"], town["ben"]
    posts = [(await rooms.post(ben)).key for _ in range(4)]
    one, two, three, four = posts
    await rooms.reactions.like(ann, one)
    rooms.clock.move(60)
    await rooms.reactions.like(ann, two)
    await rooms.threads.comment(ann, two, "Yes.")
    rooms.clock.move(60)
    await rooms.reactions.unlike(ann, one)
    now = rooms.clock.now()
    await rooms.activity.record(
        ann,
        [Impression(member=ann.member, post=four, shown_at=now, position=3)],
        [Engagement(member=ann.member, post=three, kind=Action.HIDE, happened_at=now)],
    )
    positives = await rooms.activity.positives(ann.member)

    assert [(e.post, e.kind) for e in positives] == [(two, Action.LIKE), (two, Action.COMMENT)]
    assert await rooms.activity.positives(ann.member, 10, NOON + timedelta(seconds=60)) == []
    assert await rooms.activity.seen(ann.member, NOON + timedelta(seconds=90)) == {three, four}
    assert await rooms.activity.hidden_posts(ann.member) == {three}
    assert await rooms.activity.affinity(ann.member, NOON + timedelta(seconds=1)) == {
        ben.member: 2.0
    }


async def test_hide_mute_and_block_have_their_effect(rooms, town):
    """An engagement against an author does what its name says."""
    ann, ben = town["ann"], town["ben"]
    post = (await rooms.post(ben)).key
    own = (await rooms.post(ann)).key
    entries = [
        Engagement(member=ann.member, post=post, kind=kind, happened_at=NOON)
        for kind in (Action.MUTE, Action.BLOCK)
    ]
    silly = Engagement(member=ann.member, post=own, kind=Action.BLOCK, happened_at=NOON)
    result = await rooms.activity.record(ann, [], [*entries, silly])
    again = await rooms.activity.record(ann, [], [*entries, silly])
    relations = await rooms.relations.of(ann.member)

    assert (relations.mutes, relations.blocks) == ({ben.member}, {ben.member})
    assert (result.created, again.created, again.unchanged) == (2, 0, 2)
    assert [(one.index, one.field) for one in again.rejected] == [(2, "kind")]
