"""Goal: whatever moderators and members try, the audit trail explains the state of every thing."""

import itertools
from collections import Counter

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from millrace.community.docket import ActionQuery, CaseQuery
from millrace.community.moves import Move, ReportReason, State, Thing, ThingKind
from millrace.community.testing import OPERATOR, Rooms
from millrace.community.types import Role
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError

pytestmark = pytest.mark.services

THINGS = ("ann's post", "ben's post", "ben's comment", "mo's post", "ann", "ben", "mo")
ACTORS = ("ann", "ben", "cat", "mo", "mi", "operator")
MODERATORS = ("mo", "mi")
WRITTEN = {Move.HIDE, Move.RESTORE, Move.REMOVE, Move.WARN, Move.DISMISS}
PERSONAL = {Move.BAN, Move.LIFT, Move.REMOVE, Move.WARN, Move.DISMISS}
steps = st.lists(
    st.tuples(
        st.sampled_from(["report", "decide", "decide", "decide", "retract"]),
        st.sampled_from(ACTORS),
        st.sampled_from(THINGS),
        st.sampled_from(Move),
    ),
    min_size=1,
    max_size=25,
)
numbers = itertools.count(1)


class Model:
    """What must be so, in words that owe nothing to the code."""

    def __init__(self):
        self.state = dict.fromkeys(THINGS, State.STANDING)
        self.waiting = {}  # thing -> who reported it since the last move
        self.reported = set()  # (who, thing), for ever
        self.trail = []

    def author(self, thing):
        return thing.partition("'")[0]

    def there(self, thing):
        """Whether people of the community see it."""
        author = self.author(thing)
        post = "ann's post" if thing == "ben's comment" else thing
        stands = all(self.state[one] is State.STANDING for one in (thing, post))
        writers = {author, self.author(post)}
        return stands and all(
            self.state.get(one, State.STANDING) is State.STANDING for one in writers
        )

    def gone(self, thing):
        """Whether nobody will ever see it again: it, its author, or the post that it is under."""
        below = "ann's post" if thing == "ben's comment" else thing
        ended = {thing, self.author(thing), below}
        return any(self.state[one] is State.REMOVED for one in ended if one in self.state)

    def may_act(self, actor):
        return self.state.get(actor, State.STANDING) is State.STANDING

    def report(self, actor, thing):
        """Return what a report must do: be new, be old, or be refused."""
        if actor == "operator" or self.author(thing) == actor:
            return "refused"
        seen = self.there(thing) or (actor in MODERATORS)
        if not seen or self.state[thing] is not State.STANDING:
            return "refused"
        if (actor, thing) in self.reported:
            return "old"
        self.reported.add((actor, thing))
        self.waiting.setdefault(thing, set()).add(actor)
        return "new"

    def decide(self, actor, thing, move):
        """Return whether the move must be made."""
        personal = "'" not in thing
        state = self.state[thing]
        legal = actor in (*MODERATORS, "operator") and self.author(thing) != actor
        legal = legal and move in (PERSONAL if personal else WRITTEN)
        if personal and thing in MODERATORS and move in {Move.BAN, Move.LIFT, Move.REMOVE}:
            legal = legal and actor == "operator"
        after = {
            Move.HIDE: {State.STANDING: State.HIDDEN},
            Move.RESTORE: {State.HIDDEN: State.STANDING},
            Move.BAN: {State.STANDING: State.BANNED},
            Move.LIFT: {State.BANNED: State.STANDING},
            Move.REMOVE: dict.fromkeys((State.STANDING, State.HIDDEN, State.BANNED), State.REMOVED),
            Move.WARN: {State.STANDING: state} if personal else {state: state},
            Move.DISMISS: {state: state} if thing in self.waiting else {},
        }[move].get(state)
        if not legal or after is None:
            return False
        self.state[thing] = after
        self.waiting.pop(thing, None)
        self.trail.append((actor, move, thing))
        return True


class Town:
    """The same, in the database."""

    def __init__(self, rooms):
        self.rooms = rooms

    async def settle(self):
        rooms = self.rooms
        self.home = await rooms.community(f"home{next(numbers)}")
        people = await rooms.people(self.home, "ann", "ben", "cat")
        keepers = await rooms.people(self.home, "mo", "mi", role=Role.MODERATOR)
        names = ("ann", "ben", "cat", "mo", "mi")
        self.people = dict(zip(names, [*people, *keepers], strict=True)) | {"operator": OPERATOR}
        posts = {name: await rooms.post(self.people[name]) for name in ("ann", "ben", "mo")}
        comment = await rooms.threads.comment(self.people["ben"], posts["ann"].key, "Why?")
        self.things = (
            {f"{name}'s post": Thing(ThingKind.POST, one.key) for name, one in posts.items()}
            | {"ben's comment": Thing(ThingKind.COMMENT, comment.key)}
            | {name: Thing(ThingKind.MEMBER, self.people[name].member) for name in THINGS[-3:]}
        )
        return self

    async def report(self, actor, thing):
        moderation = self.rooms.moderation
        try:
            new = await moderation.report(self.people[actor], self.things[thing], ReportReason.SPAM)
        except (ForbiddenError, NotFoundError, ConflictError, InvalidError):
            return "refused"
        return "new" if new else "old"

    async def decide(self, actor, thing, move):
        try:
            await self.rooms.moderation.decide(
                self.people[actor], self.things[thing], move, f"{actor} says so"
            )
        except (ForbiddenError, NotFoundError, ConflictError):
            return False
        return True

    async def retract(self, thing):
        """Let an author remove what they wrote; that is no move."""
        kind, key = self.things[thing].kind, self.things[thing].key
        room = {ThingKind.POST: self.rooms.posts, ThingKind.COMMENT: self.rooms.threads}[kind]
        await room.remove(self.people[thing.partition("'")[0]], key, "")

    async def seen(self, thing, viewer):
        kind, key = self.things[thing].kind, self.things[thing].key
        try:
            if kind is ThingKind.POST:
                await self.rooms.posts.get(viewer, key)
            elif kind is ThingKind.MEMBER:
                await self.rooms.members.get(viewer, key)
            else:
                post = self.things["ann's post"].key
                thread = await self.rooms.threads.thread(viewer, post)
                return key in [one.comment.key for one in thread]
        except NotFoundError:
            return False
        return True


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(tried=steps)
@example(
    tried=[
        ("report", "cat", "ann's post", Move.WARN),
        ("decide", "mo", "ann's post", Move.HIDE),
        ("decide", "mi", "ann's post", Move.REMOVE),
        ("decide", "mo", "ben's post", Move.HIDE),
        ("retract", "ben", "ben's post", Move.WARN),
    ]
)
@example(
    tried=[
        ("report", "cat", "ann's post", Move.WARN),
        ("report", "cat", "ben's comment", Move.WARN),
        ("report", "ben", "mo's post", Move.WARN),
        ("retract", "ann", "ann's post", Move.WARN),
    ]
)
@example(
    tried=[
        ("decide", "mo", "ben's comment", Move.HIDE),
        ("retract", "ben", "ben's comment", Move.WARN),
    ]
)
@example(
    tried=[
        ("decide", "mi", "ben's comment", Move.HIDE),
        ("decide", "operator", "ben's comment", Move.REMOVE),
        ("decide", "mi", "ben", Move.BAN),
        ("decide", "mo", "ben", Move.LIFT),
        ("decide", "mo", "ben", Move.REMOVE),
        ("decide", "mo", "ben", Move.LIFT),
    ]
)
async def test_the_trail_explains_the_state(router, conninfo, tried):
    """Random moves by anybody: only legal ones happen, each leaves a line, and the lines say it all."""
    town, model = await Town(Rooms(router)).settle(), Model()
    for what, actor, thing, move in tried:
        if what == "retract" and "'" in thing and model.may_act(model.author(thing)):
            if model.state[thing] is not State.REMOVED and _finds_own(model, thing):
                model.state[thing] = State.REMOVED
                await town.retract(thing)
        elif not model.may_act(actor):
            continue  # a banned or removed member does not come past the door
        elif what == "report":
            assert await town.report(actor, thing) == model.report(actor, thing)
        elif what == "decide":
            expected = model.decide(actor, thing, move)
            assert await town.decide(actor, thing, move) == expected, (actor, thing, move)

    for thing in THINGS:
        assert await town.seen(thing, town.people["cat"]) == model.there(thing), thing
        states = {case.state for case in await _cases(town) if case.thing == town.things[thing]}
        assert states <= {model.state[thing]}
    waiting = {one.thing: one.reports for one in await _cases(town)}
    assert {
        thing: thing in [one.thing for one in await _cases(town, True)] for thing in waiting
    } == {town.things[thing]: model.gone(thing) for thing in model.waiting}
    assert waiting == {town.things[thing]: len(who) for thing, who in model.waiting.items()}
    await _trail_is(town, model)
    assert _counted(conninfo, town.home) == _recounted(conninfo, town.home)


def _finds_own(model, thing):
    """Whether an author can reach what they wrote: a comment goes with its post."""
    if thing != "ben's comment":
        return True
    post = model.state["ann's post"] is State.STANDING
    return post and model.state["ann"] is State.STANDING


async def _cases(town, *stretches):
    """What waits, and what is gone meanwhile: together every open case once."""
    found = [
        one
        for gone in stretches or (False, True)
        for one in await town.rooms.moderation.cases(
            OPERATOR, CaseQuery(community_id=town.home, gone=gone)
        )
    ]
    assert len(found) == len({one.key for one in found})
    return found


async def _trail_is(town, model):
    """Every move is a line with who, which thing and why, in order; nothing else is."""
    lines = await town.rooms.moderation.actions(
        OPERATOR, ActionQuery(community_id=town.home), limit=100
    )
    told = [(line.by, line.move, line.thing, line.reason) for line in reversed(lines)]
    assert told == [
        (town.people[actor].name, move, town.things[thing], f"{actor} says so")
        for actor, move, thing in model.trail
    ]
    assert Counter(line.by for line in lines) == {
        name: len(
            await town.rooms.moderation.actions(
                OPERATOR, ActionQuery(community_id=town.home, by=name), limit=100
            )
        )
        for name in {line.by for line in lines}
    }


def _counted(conninfo, home):
    with psycopg.connect(conninfo) as db:
        return (
            db.execute(
                "select member_id, posts from member_counter where community_id = %s order by 1",
                [home],
            ).fetchall(),
            db.execute(
                "select post_id, comments, reports from post_counter where community_id = %s"
                " order by 1",
                [home],
            ).fetchall(),
        )


def _recounted(conninfo, home):
    with psycopg.connect(conninfo) as db:
        return (
            db.execute(
                "select member_id, (select count(*) from post where post.community_id = %s"
                " and author_id = member_id and removed_at is null and hidden_at is null)"
                " from member where community_id = %s order by 1",
                [home, home],
            ).fetchall(),
            db.execute(
                "select post_id, (select count(*) from comment where post_community_id = %s"
                " and comment.post_id = post.post_id and removed_at is null and hidden_at is null),"
                " (select count(*) from engagement where post_community_id = %s"
                " and engagement.post_id = post.post_id and kind = 'report')"
                " from post where community_id = %s order by 1",
                [home, home, home],
            ).fetchall(),
        )
