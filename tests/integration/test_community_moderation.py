"""Goal: reports become cases, moves settle them, and the database refuses what is not legal."""

import asyncio

import psycopg
import pytest

from millrace.community.docket import ActionQuery, CasePlace, CaseQuery
from millrace.community.identity import Identity
from millrace.community.moves import Move, ReportReason, State, Thing, ThingKind
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Action, Audience, Engagement, FollowDraft, Key, NewPost, Role
from millrace.kernel.errors import (
    BannedError,
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
)

pytestmark = pytest.mark.services
REFUSED = psycopg.errors.CheckViolation
REWRITTEN = psycopg.errors.FeatureNotSupported


@pytest.fixture
async def rooms(router):
    return Rooms(router)


@pytest.fixture
async def town(rooms):
    """Ann, Ben and Cat at home, with the moderators Mo and Mi; Far lives elsewhere."""
    home, away = await rooms.community("home"), await rooms.community("away")
    ann, ben, cat = await rooms.people(home, "ann", "ben", "cat")
    mo, mi = await rooms.people(home, "mo", "mi", role=Role.MODERATOR)
    (far,) = await rooms.people(away, "far")
    (sheriff,) = await rooms.people(away, "sheriff", role=Role.MODERATOR)
    return {
        "home": home, "ann": ann, "ben": ben, "cat": cat, "mo": mo, "mi": mi, "far": far,
        "sheriff": sheriff,
    }  # fmt: skip


def post_of(post):
    return Thing(ThingKind.POST, post.key)


def member(viewer):
    return Thing(ThingKind.MEMBER, viewer.member)


async def queue(rooms, viewer, **which):
    return await rooms.moderation.cases(viewer, CaseQuery(**which))


async def test_reports_of_one_thing_are_one_case(rooms, town):
    """By the button or in a batch, each member once; a comment is judged where its post is."""
    post = await rooms.post(town["ann"], "Buy now.", title="Cheap")
    again = [
        await rooms.moderation.report(town["ben"], post_of(post), ReportReason.SPAM, " twice\x07 ")
        for _ in range(2)
    ]
    done = Engagement(
        member=town["cat"].member, post=post.key, kind=Action.REPORT, happened_at=rooms.clock.now()
    )
    for _ in range(2):
        await rooms.activity.record(town["cat"], [], [done])
    public = await rooms.post(town["ann"], "For all.", audience=Audience.PUBLIC)
    comment = await rooms.threads.comment(town["far"], public.key, "You all!")
    away = Thing(ThingKind.COMMENT, comment.key)
    await rooms.moderation.report(town["ann"], away, ReportReason.HARASSMENT)

    assert again == [True, False]
    (first,) = [one for one in await queue(rooms, town["mo"]) if one.thing == post_of(post)]
    assert (first.title, first.text, first.reports) == ("Cheap", "Buy now.", 2)
    assert first.reasons == {ReportReason.SPAM: 1, ReportReason.OTHER: 1}
    said = await rooms.moderation.reports(town["mo"], first.key)
    assert [(one.reporter, one.detail) for one in said] == [
        (town["ben"].member, "twice"),
        (town["cat"].member, ""),
    ]
    assert post.key in await rooms.activity.hidden_posts(town["ben"].member)
    assert (await rooms.posts.get(town["ann"], post.key)).counts.reports == 2
    (second,) = [one for one in await queue(rooms, town["mo"]) if one.thing == away]
    assert (second.post, second.author.key) == (public.key, town["far"].member)
    assert await queue(rooms, town["sheriff"]) == []
    for other in (town["sheriff"], town["ann"]):
        with pytest.raises(NotFoundError):
            await rooms.moderation.case(other, first.key)
    with pytest.raises(ForbiddenError):
        await queue(rooms, town["ann"])


async def test_the_queue_is_paged_in_both_orders(rooms, town):
    """No case twice, none left out; an operator sees those of every community."""
    posts = []
    for count in (1, 3, 1, 2):
        posts.append(await rooms.post(town["ann"], f"Number {len(posts)}."))
        for name in ("ben", "cat", "mo")[:count]:
            rooms.clock.move(1)
            await rooms.moderation.report(town[name], post_of(posts[-1]), ReportReason.OTHER)
    elsewhere = await rooms.post(town["far"])
    rooms.clock.move(1)
    await rooms.moderation.report(town["sheriff"], post_of(elsewhere), ReportReason.SCAM)

    async def walked(viewer, query):
        found, after = [], None
        while stretch := await rooms.moderation.cases(viewer, query, after, limit=2):
            found += [one.thing for one in stretch]
            last = stretch[-1]
            after = CasePlace(last.reports if query.most_reported else 0, last.key)
        return found

    newest = [post_of(one) for one in reversed(posts)]
    assert await walked(town["mo"], CaseQuery()) == newest
    assert await walked(OPERATOR, CaseQuery()) == [post_of(elsewhere), *newest]
    most = await walked(town["mo"], CaseQuery(most_reported=True))
    assert most == [post_of(posts[place]) for place in (1, 3, 2, 0)]
    beyond = CasePlace(2**63 - 1, Key(town["home"], 1))
    assert len(await rooms.moderation.cases(town["mo"], CaseQuery(most_reported=True), beyond)) == 4


async def test_hidden_is_for_the_author_who_is_told_why(rooms, town):
    """Everybody else finds nothing, may do nothing, and a restored post is as before."""
    post = await rooms.post(town["ann"], "Doubtful.")
    comment = await rooms.threads.comment(town["ben"], post.key, "Is it?")
    await rooms.moderation.decide(town["mo"], post_of(post), Move.HIDE, "Look at the rules.")

    own = (await rooms.posts.get(town["ann"], post.key)).post
    assert (own.hidden_at, own.hidden_reason) == (rooms.clock.now(), "Look at the rules.")
    assert [v.post.key for v in await rooms.posts.newest(town["ann"])] == [post.key]
    assert await rooms.posts.newest(town["ben"]) == []
    assert await rooms.posts.newest(town["mo"]) == []
    for asked in (
        rooms.posts.get(town["ben"], post.key),
        rooms.threads.thread(town["ben"], post.key),
        rooms.reactions.like(town["ben"], post.key),
    ):
        with pytest.raises(NotFoundError):
            await asked
    with pytest.raises(ConflictError, match="is hidden"):
        await rooms.threads.comment(town["ann"], post.key, "But why?")
    (notice,) = await rooms.moderation.notices(town["ann"])
    assert (notice.move, notice.reason, notice.by) == (Move.HIDE, "Look at the rules.", "")
    assert (await rooms.members.counts(town["ann"].member)).posts == 0

    await rooms.moderation.decide(town["mi"], post_of(post), Move.RESTORE, "It is fine.")
    assert (await rooms.posts.get(town["ben"], post.key)).post.hidden_at is None
    assert (await rooms.threads.thread(town["cat"], post.key))[0].comment.key == comment.key
    assert (await rooms.members.counts(town["ann"].member)).posts == 1


async def test_a_banned_member_is_out_until_the_ban_is_lifted(rooms, router, town):
    """No sign-in, no token, nothing of theirs for others; lifting brings all of it back."""
    identity = Identity(router=router, clock=rooms.clock)
    subject = f"member:{town['ann'].member}"
    token = (await identity.issue(subject, 3600)).token
    post = await rooms.post(town["ann"])
    other = await rooms.post(town["ben"])
    await rooms.threads.comment(town["ann"], other.key, "Here I am.")
    await rooms.moderation.decide(town["mo"], member(town["ann"]), Move.BAN, "Three warnings.")

    with pytest.raises(BannedError, match="Three warnings"):
        await identity.authenticate(token)
    with pytest.raises(BannedError):
        await identity.issue(subject, 60)
    for asked in (
        rooms.posts.get(town["ben"], post.key),
        rooms.members.get(town["ben"], town["ann"].member),
        rooms.relations.follow(town["ben"], town["ann"].member),
        rooms.posts.write(town["ann"], NewPost(text="A request that was on its way.")),
    ):
        with pytest.raises(NotFoundError):
            await asked
    assert await rooms.threads.thread(town["ben"], other.key) == []
    assert town["ann"].member not in [
        one.key for one in await rooms.members.list(town["ben"], town["home"])
    ]
    assert (await rooms.members.get(town["mo"], town["ann"].member)).banned_at is not None

    await rooms.moderation.decide(town["mi"], member(town["ann"]), Move.LIFT, "They understood.")
    assert (await identity.authenticate(token)).member == town["ann"].member
    assert (await rooms.posts.get(town["ben"], post.key)).post.key == post.key
    assert len(await rooms.threads.thread(town["ben"], other.key)) == 1


async def test_who_judges_whom(rooms, town):
    """Nobody about themself, no moderator about a peer's place, nobody from elsewhere."""
    own = await rooms.post(town["mo"])
    post = await rooms.post(town["ann"], audience=Audience.PUBLIC)
    for viewer, thing, move in (
        (town["mo"], post_of(own), Move.HIDE),
        (town["mo"], member(town["mo"]), Move.BAN),
        (town["mo"], member(town["mi"]), Move.BAN),
        (town["sheriff"], post_of(post), Move.HIDE),
        (town["ben"], post_of(post), Move.REMOVE),
    ):
        with pytest.raises(ForbiddenError):
            await rooms.moderation.decide(viewer, thing, move, "a try")
        assert move not in await rooms.moderation.moves(viewer, thing)
    await rooms.moderation.decide(town["mi"], post_of(own), Move.HIDE, "Peers judge posts.")
    await rooms.moderation.decide(OPERATOR, member(town["mi"]), Move.BAN, "An operator may.")
    with pytest.raises(InvalidError, match="reason"):
        await rooms.moderation.decide(town["mo"], post_of(post), Move.HIDE, " ")
    with pytest.raises(InvalidError, match="own"):
        await rooms.moderation.report(town["ann"], post_of(post), ReportReason.SPAM)
    with pytest.raises(ConflictError, match="no open case"):
        await rooms.moderation.decide(town["mo"], post_of(post), Move.DISMISS, "Nothing there.")


async def test_a_moderator_is_not_told_who_reported_them(rooms, town):
    """They see that there is a case, others read who said what in it; a case that is none is told."""
    post = await rooms.post(town["mo"], "I keep order here.")
    for thing in (post_of(post), member(town["mo"])):
        await rooms.moderation.report(town["ann"], thing, ReportReason.HARASSMENT, "he shouts")
        (case, *_) = await queue(rooms, town["mo"])
        with pytest.raises(ForbiddenError, match="is about"):
            await rooms.moderation.reports(town["mo"], case.key)
        for viewer in (town["mi"], OPERATOR):
            (said,) = await rooms.moderation.reports(viewer, case.key)
            assert said.reporter == town["ann"].member
    with pytest.raises(NotFoundError):
        await rooms.moderation.reports(town["mi"], Key(town["home"], 1))


async def test_two_moderators_at_once(rooms, town):
    """One of two equal decisions is made; the other learns that it came too late."""
    post = await rooms.post(town["ann"])
    await rooms.moderation.report(town["ben"], post_of(post), ReportReason.SPAM)
    done = await asyncio.gather(
        *(
            rooms.moderation.decide(town[name], post_of(post), Move.HIDE, name)
            for name in ("mo", "mi")
        ),
        return_exceptions=True,
    )

    assert sorted(type(one).__name__ for one in done) == ["ConflictError", "Recorded"]
    assert len(await rooms.moderation.actions(OPERATOR, ActionQuery(thing=post_of(post)))) == 1


async def test_a_report_that_meets_a_removal_opens_no_case(rooms, conninfo, town):
    """It waits until the removal is done, and learns of it; nothing is left in the queue."""
    post = await rooms.post(town["ann"])
    waiting = (
        "select count(*) from pg_stat_activity"
        " where wait_event_type = 'Lock' and datname = current_database()"
    )
    async with (
        await psycopg.AsyncConnection.connect(conninfo) as remover,
        await psycopg.AsyncConnection.connect(conninfo, autocommit=True) as looker,
    ):
        await remover.execute(
            "update post set removed_at = now(), removed_by = 'test', removed_reason = 'x'"
            " where post_id = %s",
            [post.key.id],
        )
        report = rooms.moderation.report(town["ben"], post_of(post), ReportReason.SPAM)
        reporting = asyncio.create_task(report)
        async with asyncio.timeout(10):
            while (await (await looker.execute(waiting)).fetchone()) == (0,):
                assert not reporting.done(), "the report did not wait"
                await asyncio.sleep(0.005)
        await remover.commit()
        with pytest.raises(NotFoundError):
            await reporting

    assert await queue(rooms, town["mo"]) == []


async def test_reports_and_judgements_at_once(rooms, conninfo, town):
    """Every report is in exactly one case, and the cases count what is in them."""
    crowd = await rooms.people(town["home"], *(f"p{number}" for number in range(16)))
    post = await rooms.post(town["ann"])

    async def reports(who):
        try:
            await rooms.moderation.report(who, post_of(post), ReportReason.OTHER)
        except (NotFoundError, ConflictError):
            return 0  # it was hidden a moment ago
        return 1

    async def judges(name, move):
        for _ in range(4):
            try:
                await rooms.moderation.decide(town[name], post_of(post), move, "at once")
            except ConflictError:
                await asyncio.sleep(0)

    taken = await asyncio.gather(
        *(reports(who) for who in crowd),
        judges("mo", Move.HIDE),
        judges("mi", Move.RESTORE),
        judges("mi", Move.DISMISS),
    )
    with psycopg.connect(conninfo) as db:
        cases = db.execute(
            "select held.reports, count(report.case_id) from moderation_case held"
            " left join report using (community_id, case_id) group by held.case_id, held.reports"
        ).fetchall()
        lost = db.execute("select count(*) from report where case_id is null").fetchone()

    assert lost == (0,)
    assert all(counted == found for counted, found in cases)
    assert sum(found for _, found in cases) == sum(one or 0 for one in taken)


async def test_older_doors_leave_the_same_trail(rooms, town):
    """A removal of what is somebody else's is in the trail and settles its case; one's own is not."""
    post, kept = await rooms.post(town["ann"]), await rooms.post(town["ann"])
    comment = await rooms.threads.comment(town["ben"], kept.key, "Hm.")
    await rooms.moderation.report(town["ben"], post_of(post), ReportReason.HATE)
    (case,) = await queue(rooms, town["mo"])
    await rooms.posts.remove(town["mo"], post.key, "Against the rules.")
    await rooms.threads.remove(OPERATOR, comment.key, "That too.")
    await rooms.members.remove(town["mi"], town["cat"].member, "Asked for it.")
    await rooms.posts.remove(town["ann"], kept.key, "")

    lines = await rooms.moderation.actions(town["mo"], ActionQuery())
    assert [(one.move, one.thing.kind, one.subject) for one in lines] == [
        (Move.REMOVE, ThingKind.MEMBER, town["cat"].member),
        (Move.REMOVE, ThingKind.COMMENT, town["ben"].member),
        (Move.REMOVE, ThingKind.POST, town["ann"].member),
    ]
    assert lines[2].case == case.key
    settled = await rooms.moderation.case(town["mo"], case.key)
    assert (settled.outcome, settled.state, settled.moves) == (
        Move.REMOVE,
        State.REMOVED,
        [Move.WARN],
    )
    about = ActionQuery(member=town["ben"].member)
    assert [one.thing.key for one in await rooms.moderation.actions(OPERATOR, about)] == [
        comment.key
    ]


async def test_a_removed_follower_no_longer_counts(rooms, town):
    """Removal ends what they follow; a later import does not bring it back; a ban ends nothing."""
    for name in ("ben", "cat", "far"):
        await rooms.relations.follow(town[name], town["ann"].member)
    await rooms.moderation.decide(town["mo"], member(town["cat"]), Move.BAN, "For now.")
    await rooms.members.remove(OPERATOR, town["ben"].member, "Left.")
    again = await rooms.relations.upsert_follows(
        OPERATOR, town["home"], [FollowDraft(member="ben", target="ann")]
    )

    assert (again.created, again.rejected) == (0, [])
    assert (await rooms.members.counts(town["ann"].member)).followers == 2
    people = await rooms.relations.list(town["mo"], "followers", of=town["ann"].member)
    assert [one.key for one in people] == [town["far"].member]
    profile = await rooms.members.profile(town["far"], town["ann"].member)
    assert (profile.beside.followers, profile.beside.followed_by_me) == (2, True)


async def test_a_removal_compares_the_version_where_it_removes(rooms, town):
    """An edit between reading and removing keeps the post."""
    post = await rooms.post(town["ann"])
    with pytest.raises(ConflictError, match="version"):
        await rooms.posts.remove(town["ann"], post.key, "", post.system_version + 1)
    with pytest.raises(ConflictError, match="version"):
        await rooms.members.remove(town["ann"], town["ann"].member, "", 99)
    await rooms.posts.remove(town["ann"], post.key, "", post.system_version)


ACTION = (
    "insert into moderation_action (community_id, action_id, move, thing_kind, thing_community_id,"
    " thing_id, subject_community_id, subject_id, done_by, reason, happened_at)"
    " values (%(home)s, 1, %(move)s, %(kind)s, %(home)s, %(thing)s, %(home)s, %(subject)s,"
    " %(by)s, 'a try', now())"
)


async def test_the_database_refuses_it_too(rooms, conninfo, town):
    """Whoever writes past the program: no rewriting, no illegal move, no way back from a removal."""
    gone, hidden = await rooms.post(town["ann"]), await rooms.post(town["ann"])
    for post in (gone, hidden):
        await rooms.moderation.report(town["ben"], post_of(post), ReportReason.SPAM)
    await rooms.moderation.decide(town["mo"], post_of(gone), Move.REMOVE, "Spam.")
    names = {name: town[name].member.id for name in ("ann", "mo", "mi")}
    mo = f"member:{town['mo'].member}"
    by_mo = {"home": town["home"], "by": mo}
    for error, statement, params in (
        (REWRITTEN, "update moderation_action set reason = 'nicer'", {}),
        (REWRITTEN, "delete from moderation_action", {}),
        (REWRITTEN, "truncate moderation_action", {}),
        (REWRITTEN, "update moderation_case set outcome = 'dismiss' where outcome = 'remove'", {}),
        (
            REFUSED,
            "update post set hidden_at = now(), hidden_by = 'x' where removed_at is not null",
            {},
        ),
        (
            REFUSED,
            "update post set removed_at = null, removed_by = null where removed_at is not null",
            {},
        ),
        (
            psycopg.errors.UniqueViolation,
            "insert into moderation_case select community_id, case_id + 1, thing_kind,"
            " thing_community_id, thing_id, author_community_id, author_id, opened_at,"
            " reported_at, reports from moderation_case where settled_at is null",
            {},
        ),
        (
            REFUSED,
            ACTION,
            by_mo | {"move": "ban", "kind": "member", "thing": names["mo"], "subject": names["mo"]},
        ),
        (
            REFUSED,
            ACTION,
            by_mo | {"move": "ban", "kind": "member", "thing": names["mi"], "subject": names["mi"]},
        ),
        (
            REFUSED,
            ACTION,
            by_mo | {"move": "ban", "kind": "post", "thing": gone.post_id, "subject": names["ann"]},
        ),
    ):
        with psycopg.connect(conninfo) as db, pytest.raises(error):
            db.execute(statement, params)
