"""Goal: the rule of visibility in Python and the one in SQL agree, and every read obeys it."""

import itertools
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from millrace.community.search import PostQuery
from millrace.community.testing import Rooms
from millrace.community.types import Audience, Comment, Key, Member, Post, PostKind, Role, Viewer
from millrace.community.visibility import sees_comment, sees_member, sees_post
from millrace.kernel.errors import NotFoundError

NOW = datetime(2026, 1, 1, tzinfo=UTC)
pytestmark = pytest.mark.services

MEMBER_STATES = ("standing", "standing", "banned", "removed")
THING_STATES = ("standing", "standing", "hidden", "removed")

_next = itertools.count(1_000)


def pairs_of(count):
    """A few pairs of different numbers below `count`."""
    number = st.integers(0, count - 1)
    return st.sets(st.tuples(number, number).filter(lambda pair: pair[0] != pair[1]), max_size=4)


@st.composite
def worlds(draw):
    """Up to three communities with members, blocks, posts and comments, as plain numbers."""
    homes = draw(st.lists(st.integers(0, 2), min_size=2, max_size=5))
    members = [
        (
            home,
            draw(st.sampled_from(MEMBER_STATES) if n else st.just("standing")),
            draw(st.sampled_from(["member", "moderator"])),
        )
        for n, home in enumerate(homes)
    ]
    posts = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(homes) - 1),
                st.sampled_from(Audience),
                st.sampled_from(THING_STATES),
            ),
            min_size=1,
            max_size=5,
        )
    )
    comments = draw(
        st.lists(
            st.tuples(
                st.integers(0, len(homes) - 1),
                st.integers(0, len(posts) - 1),
                st.sampled_from(THING_STATES),
            ),
            max_size=4,
        )
    )
    return members, draw(pairs_of(len(homes))), draw(pairs_of(3)), posts, comments


class World:
    """One drawn world as rows, with ids that no other world has."""

    def __init__(self, drawn, conninfo):
        members, blocks, nearby, posts, comments = drawn
        self.homes = [next(_next) for _ in range(3)]
        self.members = [
            self._member(self.homes[home], state, Role(role)) for home, state, role in members
        ]
        self.blocks = {(self.members[a].key, self.members[b].key) for a, b in blocks}
        self.nearby = {(self.homes[a], self.homes[b]) for a, b in nearby}
        self.posts = [
            self._post(self.members[author], audience, state) for author, audience, state in posts
        ]
        self.comments = [
            self._comment(self.members[a], self.posts[p], state) for a, p, state in comments
        ]
        self._write(conninfo)

    def author(self, key):
        return next(member for member in self.members if member.key == key)

    def _member(self, home, state, role):
        number = next(_next)
        return Member(
            community_id=home,
            member_id=number,
            external_id=str(number),
            handle=f"m{number}",
            display_name="M",
            headline="",
            about="",
            skills=[],
            place="",
            languages=[],
            role=role,
            joined_at=NOW,
            removed_at=NOW if state == "removed" else None,
            banned_at=NOW if state == "banned" else None,
            system_version=1,
        )

    def _post(self, author, audience, state):
        number = next(_next)
        return Post(
            community_id=author.community_id,
            post_id=number,
            external_id=str(number),
            author_id=author.member_id,
            kind=PostKind.NOTE,
            title="",
            text="tide",
            link="",
            topics=[],
            language="en",
            audience=audience,
            created_at=NOW,
            edited_at=None,
            removed_at=NOW if state == "removed" else None,
            hidden_at=NOW if state == "hidden" else None,
            system_version=1,
        )

    def _comment(self, author, post, state):
        number = next(_next)
        return Comment(
            community_id=author.community_id,
            comment_id=number,
            external_id=str(number),
            author_id=author.member_id,
            post_community_id=post.community_id,
            post_id=post.post_id,
            parent_community_id=None,
            parent_id=None,
            text="c",
            created_at=NOW,
            edited_at=None,
            removed_at=NOW if state == "removed" else None,
            hidden_at=NOW if state == "hidden" else None,
            system_version=1,
        )

    def _write(self, conninfo):
        by = {None: None, NOW: "test"}
        rows = {
            "community (community_id, external_id, name, created_at)": [
                (home, str(home), "C", NOW) for home in self.homes
            ],
            "nearby (community_id, neighbour_id)": sorted(self.nearby),
            "member (community_id, member_id, external_id, handle, display_name, role, joined_at,"
            " removed_at, removed_by, banned_at, banned_by)": [
                (m.community_id, m.member_id, m.external_id, m.handle, "M", m.role, NOW, m.removed_at, by[m.removed_at], m.banned_at, by[m.banned_at])
                for m in self.members
            ],
            "block (community_id, member_id, target_community_id, target_id, created_at)": [
                (a.community_id, a.id, b.community_id, b.id, NOW) for a, b in sorted(self.blocks)
            ],
            "post (community_id, post_id, external_id, author_id, text, audience, created_at,"
            " removed_at, removed_by, hidden_at, hidden_by)": [
                (p.community_id, p.post_id, p.external_id, p.author_id, "tide", p.audience, NOW, p.removed_at, by[p.removed_at], p.hidden_at, by[p.hidden_at])
                for p in self.posts
            ],
            "post_counter (community_id, post_id)": [(p.community_id, p.post_id) for p in self.posts],
            "comment (community_id, comment_id, external_id, author_id, post_community_id, post_id,"
            " text, created_at, removed_at, removed_by, hidden_at, hidden_by)": [
                (c.community_id, c.comment_id, c.external_id, c.author_id, c.post_community_id, c.post_id, "c", NOW, c.removed_at, by[c.removed_at], c.hidden_at, by[c.hidden_at])
                for c in self.comments
            ],
        }  # fmt: skip
        with psycopg.connect(conninfo) as db, db.cursor() as cursor:
            for table, lines in rows.items():
                places = ", ".join(["%s"] * len(lines[0])) if lines else ""
                cursor.executemany(f"insert into {table} values ({places})", lines)


def viewers(world):
    """Everybody who might ask: each member in each role, and those who are no members."""
    for member in world.members:
        for role in (Role.MEMBER, Role.MODERATOR):
            yield Viewer(role, member.key, "test")
    yield Viewer(Role.OPERATOR, None, "test")
    yield Viewer(Role.RELEASE_MANAGER, None, "test")


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(drawn=worlds())
async def test_sql_and_python_agree(router, conninfo, drawn):
    """Whatever the world, every viewer gets from the database what the pure rule says."""
    rooms, world = Rooms(router), World(drawn, conninfo)
    for viewer in viewers(world):
        seen = [
            p
            for p in world.posts
            if sees_post(viewer, p, world.author(p.author), world.blocks, world.nearby)
        ]
        met = {m.key for m in world.members if sees_member(viewer, m, world.blocks)}

        got = [view.post for view in await rooms.posts.views(viewer, [p.key for p in world.posts])]
        assert [p.key for p in got] == [p.key for p in seen]
        listed = [
            v.post.key for home in world.homes for v in await rooms.posts.newest(viewer, home)
        ]
        offered = [p.key for p in seen if p.removed_at is None and _own_or_open(viewer, p)]
        assert sorted(listed) == sorted(offered)
        hits = (await rooms.search.posts(viewer, PostQuery(text="tides"), limit=400)).hits
        here = [h.view.post.key for h in hits if h.view.post.community_id in world.homes]
        assert sorted(here) == sorted(offered)
        for member in world.members:
            assert await _finds(rooms.members.get(viewer, member.key)) == (member.key in met)
        for post in world.posts:
            expected = [
                c.comment_id
                for c in world.comments
                if (c.post_community_id, c.post_id) == (post.community_id, post.post_id)
                and sees_comment(
                    viewer,
                    c,
                    world.author(Key(c.community_id, c.author_id)),
                    world.blocks,
                    sees_its_post=post in seen,
                )
            ]
            if post in seen:
                thread = await rooms.threads.thread(viewer, post.key)
                assert [line.comment.comment_id for line in thread] == expected
            else:
                assert not await _finds(rooms.threads.thread(viewer, post.key))


def _own_or_open(viewer, post):
    return post.hidden_at is None or post.author == viewer.member


async def _finds(asked):
    try:
        await asked
    except NotFoundError:
        return False
    return True
