"""Goal: bulk work takes what is right, says what is wrong, and twice changes nothing."""

import asyncio
from datetime import timedelta

import psycopg
import pytest
from msgspec.structs import replace

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import (
    BATCH_MAX,
    Action,
    Audience,
    CommentDraft,
    CommunityDraft,
    EngagementDraft,
    FollowDraft,
    ImpressionDraft,
    Key,
    MemberDraft,
    PostDraft,
    Rejected,
    Role,
)
from millrace.kernel import ids as kernel_ids
from millrace.kernel.errors import ForbiddenError, NotFoundError, TooLargeError

pytestmark = pytest.mark.services


def member(name, **fields):
    return MemberDraft(external_id=name, display_name=name.title(), joined_at=NOON, **fields)


def post(name, author="ann", **fields):
    return PostDraft(
        **{"external_id": name, "author": author, "text": "A text.", "created_at": NOON} | fields
    )


def comment(name, **fields):
    return CommentDraft(
        **{"external_id": name, "author": "ann", "post": "p", "text": "Yes.", "created_at": NOON}
        | fields
    )


def versions(conninfo):
    """Return the version of every row of the community."""
    tables = (
        "community",
        "nearby",
        "member",
        "post",
        "post_counter",
        "member_counter",
        "comment",
        "follow",
        "reaction",
    )
    with psycopg.connect(conninfo) as db:
        return {
            name: sorted(db.execute(f"select * from {name}").fetchall(), key=str) for name in tables
        }


@pytest.fixture
async def rooms(router):
    return Rooms(router)


@pytest.fixture
async def home(rooms):
    return await rooms.community("home")


async def everything(rooms):
    """Bring in one of everything, and return the results."""
    communities = await rooms.communities.upsert(
        OPERATOR,
        [
            CommunityDraft(external_id="a", name="A", nearby=["b"]),
            CommunityDraft(external_id="b", name="B"),
        ],
    )
    home = communities.ids["a"]
    return [
        communities,
        await rooms.members.upsert(OPERATOR, home, [member("ann"), member("ben", role=Role.MODERATOR)]),
        await rooms.posts.upsert(OPERATOR, home, [post("p", views=7), post("q", "ben", topics=["x", "y"])]),
        await rooms.threads.upsert(OPERATOR, home, [comment("d", parent="c"), comment("c")]),
        await rooms.relations.upsert_follows(OPERATOR, home, [FollowDraft(member="ann", target="ben", created_at=NOON)]),
        await rooms.activity.upsert_impressions(OPERATOR, home, [ImpressionDraft(member="ann", post="q", shown_at=NOON)]),
        await rooms.activity.upsert_engagements(
            OPERATOR, home,
            [EngagementDraft(member="ann", post="q", kind=kind, happened_at=NOON) for kind in (Action.LIKE, Action.SHARE)],
        ),
    ]  # fmt: skip


async def test_twice_changes_nothing(rooms, conninfo):
    """A second import finds everything unchanged and touches no row."""
    first = await everything(rooms)
    before = versions(conninfo)
    second = await everything(rooms)

    assert [result.created for result in first] == [2, 2, 2, 2, 1, 1, 2]
    assert [(r.created, r.updated, r.unchanged) for r in second] == [
        (0, 0, n) for n in (2, 2, 2, 2, 1, 1, 2)
    ]
    assert all(result.rejected == [] for result in first + second)
    assert [result.ids for result in second] == [result.ids for result in first]
    assert versions(conninfo) == before


async def test_ids_do_not_depend_on_the_machine(rooms, server):
    """The same drafts get the same ids in another database."""
    from millrace.store.testing import opened

    async with opened(server.copy()) as other:
        there = await everything(Rooms(other))
    here = await everything(rooms)

    assert [result.ids for result in there[1:4]] == [result.ids for result in here[1:4]]


async def test_updates_only_what_differs(rooms, home):
    """A changed draft raises the version of its row and of no other."""
    await rooms.members.upsert(OPERATOR, home, [member("ann")])
    await rooms.posts.upsert(OPERATOR, home, [post("p"), post("q")])
    rooms.clock.move(60)
    result = await rooms.posts.upsert(OPERATOR, home, [post("p", text="Other."), post("q")])

    p, q = [
        view.post
        for view in await rooms.posts.views(OPERATOR, [Key(home, result.ids[n]) for n in "pq"])
    ]
    assert (result.created, result.updated, result.unchanged) == (0, 1, 1)
    assert (p.text, p.system_version, p.edited_at) == ("Other.", 2, NOON + timedelta(seconds=60))
    assert (q.system_version, q.edited_at) == (1, None)


BAD_POSTS = {
    "author": post("x", "nobody"),
    "text": post("x", text=" \n "),
    "external_id": post("x", external_id=""),
    "title": post("x", title="t" * 301),
    "audience": post("x", audience="everyone"),
    "kind": post("x", kind="poem"),
    "link": post("x", link="javascript:alert(1)"),
    "language": post("x", language="Klingon"),
    "topics": post("x", topics=["t"] * 21),
    "created_at": post("x", created_at=NOON + timedelta(seconds=61)),
    "views": post("x", views=-1),
}


@pytest.mark.parametrize("field", BAD_POSTS)
async def test_a_bad_post_is_rejected_and_the_rest_is_taken(rooms, home, field):
    """The reject names place and field; its neighbours go in."""
    await rooms.members.upsert(OPERATOR, home, [member("ann")])
    result = await rooms.posts.upsert(OPERATOR, home, [post("p"), BAD_POSTS[field], post("q")])

    assert [(one.index, one.field) for one in result.rejected] == [(1, field)]
    assert (result.created, set(result.ids)) == (2, {"p", "q"})


@pytest.mark.parametrize("text", ["a\x00b", "half \ud83d pair"])
async def test_text_that_cannot_be_stored(rooms, home, text):
    """NUL and lone surrogates are rejected by name, wherever they stand."""
    await rooms.members.upsert(OPERATOR, home, [member("ann")])
    bad = [
        post("x", text=text),
        post("y", topics=[text]),
        post(text),
        post("z", author=text),
        post("l", link=text),
    ]
    result = await rooms.posts.upsert(OPERATOR, home, bad)
    people = await rooms.members.upsert(OPERATOR, home, [replace(member("ben"), about=text)])

    assert [one.field for one in result.rejected] == [
        "text",
        "topics[0]",
        "external_id",
        "author",
        "link",
    ]
    assert people.rejected[0].field == "about"


async def test_dates(rooms, home):
    """A date without a zone is refused, one a little ahead of the clock is taken, none means now."""
    await rooms.members.upsert(OPERATOR, home, [member("ann")])
    result = await rooms.posts.upsert(
        OPERATOR, home,
        [post("naive", created_at=NOON.replace(tzinfo=None)), post("skew", created_at=NOON + timedelta(seconds=59)),
         post("now", created_at=None), post("old", created_at=NOON - timedelta(days=20_000))],
    )  # fmt: skip
    again = await rooms.posts.upsert(
        OPERATOR, home, [post("skew", created_at=NOON), post("now", created_at=None)]
    )

    now = await rooms.posts.get(OPERATOR, Key(home, result.ids["now"]))
    assert result.rejected == [
        Rejected(0, "created_at", "created_at 2026-03-01T12:00:00 has no time zone")
    ]
    assert now.post.created_at == NOON
    assert [(one.index, one.field) for one in again.rejected] == [(0, "created_at")]
    assert again.unchanged == 1


async def test_the_same_name_twice_in_a_batch(rooms, home):
    """The first one counts; the second is rejected and names the first."""
    result = await rooms.members.upsert(
        OPERATOR, home, [member("ann"), member("ben"), member("ann", headline="Me")]
    )

    assert result.created == 2
    assert result.rejected == [Rejected(2, "external_id", "external_id is the same as in draft 0")]


async def test_two_names_on_one_id(rooms, home, monkeypatch):
    """Where two external ids meet on one id, the later one takes the next free id."""
    monkeypatch.setattr(kernel_ids, "hash64", lambda name: kernel_ids.TAIL_MAX)
    people = await rooms.members.upsert(OPERATOR, home, [member("ann"), member("ben")])
    later = await rooms.members.upsert(OPERATOR, home, [member("cem"), member("ben")])

    first = kernel_ids.floor_at(NOON)
    assert people.ids == {"ann": first | kernel_ids.TAIL_MAX, "ben": first}
    assert later.ids == {"cem": first + 1, "ben": first}


async def test_handles(rooms, home):
    """Handles are made from names, stay unique and stay as they are."""
    people = [replace(member(name), display_name="Zoë Ångström") for name in ("u1", "u2", "Ünal 3")]
    await rooms.members.upsert(OPERATOR, home, [*people, replace(member("u4"), display_name="王")])
    taken = await rooms.members.upsert(
        OPERATOR, home, [member("u5", handle="Zoe-Angstrom"), member("u1", handle="zoe")]
    )

    handles = {one.external_id: one.handle for one in await rooms.members.list(OPERATOR, home)}
    assert handles == {
        "u1": "zoe",
        "u2": "zoe-angstrom-u2",
        "Ünal 3": "zoe-angstrom-unal-3",
        "u4": "member",
    }
    assert [(one.index, one.field) for one in taken.rejected] == [(0, "handle")]
    assert taken.updated == 1


async def test_comments_need_their_post_and_parent(rooms, home):
    """An orphan takes its answers with it; what stands beside it goes in."""
    await rooms.members.upsert(OPERATOR, home, [member("ann")])
    await rooms.posts.upsert(OPERATOR, home, [post("p"), post("q")])
    result = await rooms.threads.upsert(
        OPERATOR, home,
        [comment("a"), comment("b", parent="a"), comment("c", parent="none"), comment("d", parent="c"),
         comment("e", parent="a", post="q"), comment("f", post="none"), comment("g", author="none")],
    )  # fmt: skip

    assert result.created == 2
    assert [(one.index, one.field) for one in result.rejected] == [
        (2, "parent"), (3, "parent"), (4, "parent"), (5, "post"), (6, "author"),
    ]  # fmt: skip


async def test_neighbours_are_exactly_those_named(rooms):
    """A neighbour that is no longer named is taken away, and an unknown one is rejected."""
    drafts = [CommunityDraft(external_id=name, name=name, nearby=near) for name, near in
              [("a", ["b", "c"]), ("b", []), ("c", ["none"]), ("d", ["c"])]]  # fmt: skip
    first = await rooms.communities.upsert(OPERATOR, drafts)
    second = await rooms.communities.upsert(
        OPERATOR, [CommunityDraft(external_id=name, name=name, nearby=near) for name, near in
                   [("b", []), ("a", ["b"]), ("e", ["a"])]])  # fmt: skip

    assert [(one.index, one.field) for one in first.rejected] == [
        (0, "nearby"),
        (2, "nearby"),
        (3, "nearby"),
    ]
    assert (second.created, second.unchanged) == (2, 1)
    (someone,) = await rooms.people(second.ids["a"], "ann")
    assert (await rooms.relations.of(someone.member)).nearby == {second.ids["b"]}


async def test_a_removal_survives_an_import(rooms, home):
    """What a moderator removed does not come back with the next import."""
    await rooms.members.upsert(OPERATOR, home, [member("ann")])
    made = await rooms.posts.upsert(OPERATOR, home, [post("p")])
    key = Key(home, made.ids["p"])
    await rooms.posts.remove(OPERATOR, key, "spam")
    again = await rooms.posts.upsert(OPERATOR, home, [post("p", text="Buy!")])

    assert again.updated == 1
    assert (await rooms.posts.get(OPERATOR, key)).post.removed_at == NOON


async def test_imported_views_only_rise(rooms, home):
    """The views of an import are where the counter starts; a later one never lowers it."""
    await rooms.members.upsert(OPERATOR, home, [member("ann")])
    made = await rooms.posts.upsert(OPERATOR, home, [post("p", views=100)])
    await rooms.activity.upsert_impressions(
        OPERATOR, home, [ImpressionDraft(member="ann", post="p", shown_at=NOON)]
    )
    same = await rooms.posts.upsert(OPERATOR, home, [post("p", views=100)])
    more = await rooms.posts.upsert(OPERATOR, home, [post("p", views=150)])

    key = Key(home, made.ids["p"])
    assert (same.unchanged, more.updated) == (1, 1)
    assert (await rooms.posts.get(OPERATOR, key)).counts.views == 150
    assert (await rooms.members.counts((await rooms.members.find("ann")).key)).views == 150


async def test_two_imports_at_once(rooms, home, conninfo):
    """Equal imports at the same time wait for one another; each row is made once."""
    results = await asyncio.gather(
        *(
            rooms.members.upsert(OPERATOR, home, [member(f"m{n}") for n in range(50)])
            for _ in range(3)
        )
    )

    assert sorted(result.created for result in results) == [0, 0, 50]
    assert len(await rooms.members.list(OPERATOR, home, 0, 100)) == 50


async def test_who_may(rooms, home):
    """Only operators do bulk work, into communities that exist, in batches that are bounded."""
    (ann,) = await rooms.people(home, "ann", role=Role.MODERATOR)
    with pytest.raises(ForbiddenError, match="may not create or change members in bulk"):
        await rooms.members.upsert(ann, home, [member("ben")])
    with pytest.raises(NotFoundError, match="there is no community 5"):
        await rooms.posts.upsert(OPERATOR, 5, [post("p")])
    with pytest.raises(TooLargeError, match="10,001 entries, 10,000 are allowed"):
        await rooms.posts.upsert(OPERATOR, home, [post("p")] * (BATCH_MAX + 1))


async def test_roles_and_audiences_are_read_from_drafts(rooms, home):
    """What a draft says about role and audience is what is there afterwards."""
    await rooms.members.upsert(OPERATOR, home, [member("ann", role=Role.MODERATOR)])
    operator = await rooms.members.upsert(OPERATOR, home, [member("eve", role=Role.OPERATOR)])
    made = await rooms.posts.upsert(OPERATOR, home, [post("p", audience=Audience.PUBLIC)])

    assert (await rooms.members.find("ann")).role is Role.MODERATOR
    assert operator.rejected[0].field == "role"
    assert (
        await rooms.posts.get(OPERATOR, Key(home, made.ids["p"]))
    ).post.audience is Audience.PUBLIC


LOSE_ONCE = """
create sequence tries;
create function lose_once() returns trigger language plpgsql as $$
begin
    if nextval('tries') = 1 then
        raise exception 'deadlock detected' using errcode = 'deadlock_detected';
    end if;
    return null;
end $$;
"""


async def test_a_batch_that_loses_a_race_is_made_again(rooms, home, conninfo):
    """The database ends one side of a deadlock: the batch is run again, and counted once."""
    who = [member("ann"), member("ben")]
    verbs = {
        "member": lambda: rooms.members.upsert(OPERATOR, home, who),
        "post": lambda: rooms.posts.upsert(OPERATOR, home, [post("p"), post("q")]),
        "comment": lambda: rooms.threads.upsert(
            OPERATOR,
            home,
            [CommentDraft(external_id=c, author="ben", post="p", text=c) for c in "ab"],
        ),
        "follow": lambda: rooms.relations.upsert_follows(
            OPERATOR,
            home,
            [FollowDraft(member="ann", target="ben"), FollowDraft(member="ben", target="ann")],
        ),
        "impression": lambda: rooms.activity.upsert_impressions(
            OPERATOR, home, [ImpressionDraft(member="ben", post=p, shown_at=NOON) for p in "pq"]
        ),
        "engagement": lambda: rooms.activity.upsert_engagements(
            OPERATOR,
            home,
            [
                EngagementDraft(member="ben", post=p, kind=Action.LIKE, happened_at=NOON)
                for p in "pq"
            ],
        ),
        "community": lambda: rooms.communities.upsert(
            OPERATOR, [CommunityDraft(external_id=c, name=c) for c in "xy"]
        ),
    }
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute(LOSE_ONCE)
        for table, verb in verbs.items():
            db.execute("alter sequence tries restart")
            db.execute(f"create trigger lose after insert on {table} execute function lose_once()")

            result = await verb()

            assert (result.created, result.unchanged, result.rejected) == (2, 0, []), table
            assert db.execute("select last_value from tries").fetchone() == (2,), table
            db.execute(f"drop trigger lose on {table}")


async def test_the_planner_knows_what_came_in(rooms, home, conninfo):
    """Tables that grew are analyzed with the batch: else the next reads believe them empty."""
    await rooms.people(home, "ann")
    await rooms.posts.upsert(OPERATOR, home, [post(f"p{n}") for n in range(1_000)])
    with psycopg.connect(conninfo) as db:
        known = db.execute("select reltuples from pg_class where relname = 'post'").fetchone()

    assert known == (1_000,)


async def test_a_community_says_its_country_in_two_letters(rooms):
    """A market is known by it: a word, or a code of three letters, is refused with its reason."""
    drafts = [
        CommunityDraft(external_id=name, name=name.upper(), country=country)
        for name, country in [("a", "nl"), ("b", ""), ("c", "NLD"), ("d", "Holland")]
    ]

    done = await rooms.communities.upsert(OPERATOR, drafts)

    assert (done.created, [one.field for one in done.rejected]) == (2, ["country", "country"])
    assert (await rooms.communities.get(OPERATOR, done.ids["a"])).country == "NL"
    moved = await rooms.communities.upsert(
        OPERATOR, [CommunityDraft(external_id="b", name="B", country="BE")]
    )
    assert moved.updated == 1
    assert (await rooms.communities.get(OPERATOR, done.ids["b"])).country == "BE"
