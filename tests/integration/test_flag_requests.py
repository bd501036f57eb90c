"""Goal: changes that wait are made once, whole and in time, or not at all; and a kill waits for nobody."""

import asyncio
import itertools
from contextlib import suppress
from datetime import timedelta

import psycopg
import pytest

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import CommunityDraft, Key
from millrace.kernel.clock import ManualClock
from millrace.kernel.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnavailableError,
)
from millrace.kernel.rng import rng
from millrace.release.flags.testing import OLGA, OSCAR, flags_on, split, switch
from millrace.release.flags.types import (
    Actor,
    Approval,
    FlagConfig,
    FlagMove,
    RequestState,
    Terms,
    Wait,
)

pytestmark = pytest.mark.services

WAIT_SECONDS = 30
SAID = {"actor": OLGA, "reason": "because"}
HOUR = timedelta(hours=1)
WRITERS = 8
LOCKED = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
END_WAITING = (
    "select pg_terminate_backend(pid) from pg_locks"
    " where locktype = 'advisory' and not granted and database = (select oid from pg_database"
    " where datname = current_database())"
)


@pytest.fixture
def clock():
    """A clock that the test moves."""
    return ManualClock(NOON)


@pytest.fixture
def flags(router, clock):
    """The room where nobody has to approve."""
    return flags_on(router, clock=clock)


@pytest.fixture
def reviewed(router, clock):
    """The room where every change but a kill is approved by somebody else."""
    return flags_on(router, clock=clock, config=FlagConfig(approval=Approval.REQUIRED))


async def test_of_many_writers_one_wins(router, clock):
    """The others are told both versions, and nothing of theirs is half there."""
    rooms = [flags_on(router, clock=clock, node=node) for node in range(WRITERS)]
    await rooms[0].put("flag", switch(), version=0, **SAID)

    made = await asyncio.gather(
        *(
            room.put("flag", switch(targeting=split(number)), version=1, **SAID)
            for number, room in enumerate(rooms, 1)
        ),
        return_exceptions=True,
    )

    refused = [one for one in made if isinstance(one, ConflictError)]
    assert len(refused) == WRITERS - 1
    assert {(one.field, one.value, one.limit) for one in refused} == {("version", 1, 2)}
    assert "made from version 1" in refused[0].message
    assert "has version 2" in refused[0].message
    (won,) = [one for one in made if not isinstance(one, ConflictError)]
    assert await rooms[0].get("flag") == won
    assert [line.version for line in await rooms[0].history("flag")] == [2, 1]


async def test_a_switch_back_is_made_from_what_was_seen(flags):
    """Whoever names a version that they did not see does not get the one that is there."""
    await flags.put("flag", switch(), version=0, **SAID)
    for version in (0, 2):
        with pytest.raises(ConflictError, match=f"made from version {version}"):
            await flags.revive("flag", version=version, **SAID)
        with pytest.raises(ConflictError, match="has version 1"):
            await flags.ramp("flag", "on", 5, version=version, **SAID)


async def test_of_many_who_create_one_wins(router, clock):
    """A flag that is there already is not written over by whoever thought it new."""
    rooms = [flags_on(router, clock=clock, node=node) for node in range(WRITERS)]

    made = await asyncio.gather(
        *(room.put("flag", switch(), version=None, **SAID) for room in rooms),
        return_exceptions=True,
    )

    assert sum(isinstance(one, ConflictError) for one in made) == WRITERS - 1
    assert (await rooms[0].get("flag")).version == 1


async def test_several_processes_make_a_change_once(router, clock, flags):
    """All of them look for what is due, again and again."""
    rooms = [flags_on(router, clock=clock, node=node) for node in range(2, 6)]
    await flags.put("flag", switch(), version=0, **SAID)
    for version, share in enumerate((10, 20, 30), 1):
        await flags.put(
            "flag",
            switch(targeting=split(share)),
            version=version,
            terms=Terms(due_at=NOON + version * HOUR),
            **SAID,
        )
    clock.move(3 * 3600)

    made = 0
    for _ in range(6):
        made += sum(await asyncio.gather(*(room.apply_due(clock.now()) for room in rooms)))

    assert made == 3
    trail = await flags.history("flag")
    assert [(line.version, line.actor) for line in trail] == [
        (4, "schedule"), (3, "schedule"), (2, "schedule"), (1, "operator:olga"),
    ]  # fmt: skip
    assert [line.request_id for line in trail[:3]] == [one.id for one in await flags.requests()]
    assert trail[0].after == switch(targeting=split(30))


async def anything(flags, draws, now):
    """Do something to a flag as it was seen a moment ago."""
    key = draws.choice(("one", "two"))
    version = len(await flags.history(key, limit=1_000))
    share = switch(targeting=split(draws.randrange(100)))
    match draws.randrange(7):
        case 0:
            await flags.put(key, share, version=version, **SAID)
        case 1:
            await flags.put(key, share, version=0, **SAID)
        case 2:
            await flags.put(key, share, version=version, terms=Terms(due_at=NOON), **SAID)
        case 3:
            await flags.kill(key, **SAID)
        case 4:
            await flags.revive(key, version=version, **SAID)
        case 5:
            await flags.remove(key, version=version, **SAID)
        case _:
            await flags.apply_due(now)


async def test_many_at_once_leave_one_story(router, clock):
    """Writers, killers and schedules in several processes: every version follows from the one before."""
    rooms = [flags_on(router, clock=clock, node=node) for node in range(6)]

    async def live(flags, draws):
        for _ in range(40):
            with suppress(ConflictError, NotFoundError):
                await anything(flags, draws, clock.now())

    async with asyncio.timeout(WAIT_SECONDS):
        await asyncio.gather(*(live(flags, rng(node)) for node, flags in enumerate(rooms)))

    standing = {flag.key: flag for flag in await rooms[0].list()}
    for key in ("one", "two"):
        trail = [*reversed(await rooms[0].history(key, limit=1_000))]
        assert len(trail) > 3
        assert [line.version for line in trail] == [*range(1, len(trail) + 1)]
        assert [line.before for line in trail[1:]] == [line.after for line in trail[:-1]]
        last = trail[-1]
        assert (last.after or None) == (standing[key].content if key in standing else None)
        carried = [line.request_id for line in trail if line.request_id is not None]
        assert len(carried) == len(set(carried))
    applied = await rooms[0].requests([RequestState.APPLIED], limit=1_000)
    assert {one.note.partition(" ")[0] for one in applied} <= {"made", "removed"}


async def test_killed_in_the_middle_it_is_made_by_another(router, conninfo, clock, flags):
    """The server ends the connection of who was at it; nothing of it is left, and nothing is lost."""
    await flags.put("flag", switch(), version=0, **SAID)
    await flags.put("flag", switch("on"), version=1, terms=Terms(due_at=NOON + HOUR), **SAID)
    clock.move(3600)
    with psycopg.connect(conninfo) as other, psycopg.connect(conninfo, autocommit=True) as admin:
        other.execute("select pg_advisory_xact_lock(hashtextextended('millrace.flags', 0))")
        working = asyncio.create_task(flags.apply_due(clock.now()))
        async with asyncio.timeout(WAIT_SECONDS):
            while admin.execute(LOCKED).fetchone()[0] == 0:
                await asyncio.sleep(0.01)
        admin.execute(END_WAITING)
        with pytest.raises(UnavailableError):
            await working
    (request,) = await flags.requests()
    assert request.state is RequestState.APPROVED
    assert (await flags.get("flag")).version == 1

    another = flags_on(router, clock=clock, node=2)
    assert await another.apply_due(clock.now()) == 1
    assert await flags.apply_due(clock.now()) == 0
    assert (await flags.get("flag")).content == switch("on")
    assert [line.version for line in await flags.history("flag")] == [2, 1]


async def test_a_kill_waits_for_nobody(router, conninfo, reviewed):
    """Neither for a second pair of eyes nor for a writer who hangs."""
    asked = await reviewed.put("flag", switch("on"), version=0, **SAID)
    await reviewed.approve(asked.id, OSCAR)
    with psycopg.connect(conninfo) as hanging:
        hanging.execute("select pg_advisory_xact_lock(hashtextextended('millrace.flags', 0))")
        async with asyncio.timeout(WAIT_SECONDS):
            killed = await reviewed.kill("flag", actor=OLGA, reason="crashes")

    assert killed.content == switch("on", state="DISABLED")
    told = (await reviewed.history("flag"))[0]
    assert (told.move, told.actor, told.reason) == (FlagMove.KILL, "operator:olga", "crashes")
    revived = await reviewed.revive("flag", version=2, **SAID)
    assert revived.state is RequestState.PROPOSED


async def test_a_kill_of_what_is_off_stops_what_is_to_come(flags, clock):
    """It stands in the trail, and a change that was asked for before does not switch the flag on."""
    await flags.put("flag", switch(), version=0, **SAID)
    killed = await flags.kill("flag", **SAID)
    due = Terms(due_at=NOON + HOUR)
    await flags.put("flag", switch("on"), version=killed.version, terms=due, **SAID)

    again = await flags.kill("flag", actor=OSCAR, reason="must stay off")
    clock.move(3600)
    assert await flags.apply_due(clock.now()) == 0

    assert await flags.get("flag") == again
    assert (again.version, again.content) == (killed.version + 1, killed.content)
    told = (await flags.history("flag"))[0]
    assert (told.move, told.actor, told.reason) == (
        FlagMove.KILL,
        "operator:oscar",
        "must stay off",
    )
    (request,) = await flags.requests()
    assert request.state is RequestState.FAILED


async def test_nobody_approves_their_own(reviewed, conninfo):
    """Whatever door they come by, and also past the program."""
    asked = await reviewed.put("flag", switch(), version=0, **SAID)
    for name in ("operator:olga", "operator olga", "cli:olga"):
        with pytest.raises(ForbiddenError, match="operator:olga proposed this change"):
            await reviewed.approve(asked.id, Actor(name))
    with psycopg.connect(conninfo) as database, pytest.raises(psycopg.errors.CheckViolation):
        database.execute(
            "update flag_request set state = 'approved', decided_by = proposed_by,"
            " decided_at = now()"
        )
    with pytest.raises(NotFoundError):
        await reviewed.get("flag")

    approved = await reviewed.approve(asked.id, OSCAR)
    assert (approved.state, approved.decided_by) == (RequestState.APPLIED, "operator:oscar")
    told = (await reviewed.history("flag"))[0]
    assert (told.actor, told.request_id) == ("operator:olga", asked.id)
    for decide in (reviewed.approve(asked.id, OSCAR), reviewed.cancel(asked.id, OLGA)):
        with pytest.raises(ConflictError, match="is applied"):
            await decide


async def test_what_nobody_approved_waits_once_somebody_has_to(flags, reviewed, clock):
    """A schedule from before `flags.approval` was set is listed to be approved, and then made."""
    await flags.put("flag", switch(), version=0, **SAID)
    for number, share in enumerate((10, 20), 1):
        due = Terms(due_at=NOON + number * HOUR)
        await flags.put("flag", switch(targeting=split(share)), version=number, terms=due, **SAID)
    clock.move(3600)

    assert await reviewed.apply_due(clock.now()) == 0
    second, first = await reviewed.requests((RequestState.PROPOSED,))
    assert await reviewed.pending.carry_out(first.id) is None
    with pytest.raises(ForbiddenError):
        await reviewed.approve(first.id, Actor("cli:olga"))
    await reviewed.approve(first.id, OSCAR)
    assert await reviewed.apply_due(clock.now()) == 1
    clock.move(3600)
    assert await reviewed.apply_due(clock.now()) == 0

    assert (await reviewed.get("flag")).content == switch(targeting=split(10))
    assert (await reviewed.request(second.id)).state is RequestState.PROPOSED


async def test_what_was_approved_is_not_proposed_again(reviewed, clock, conninfo):
    """Nor by hand: the database keeps that somebody decided."""
    due = Terms(due_at=NOON + HOUR)
    asked = await reviewed.put("flag", switch(), version=0, terms=due, **SAID)
    await reviewed.approve(asked.id, OSCAR)

    assert await reviewed.apply_due(clock.now()) == 0
    assert (await reviewed.request(asked.id)).state is RequestState.APPROVED
    with psycopg.connect(conninfo) as database, pytest.raises(psycopg.errors.CheckViolation):
        database.execute("update flag_request set state = 'proposed'")


async def test_what_moved_on_is_not_written_over(flags, clock):
    """A scheduled change says why it was not made; so does one that is wrong by then."""
    await flags.put("flag", switch(), version=0, **SAID)
    await flags.put("needed", switch(), version=0, **SAID)
    due = Terms(due_at=NOON + HOUR)
    await flags.put("flag", switch("on"), version=1, terms=due, **SAID)
    needs = switch(targeting={"if": [{"millrace_flag": ["needed", "on"]}, "on"]})
    await flags.put("needs", needs, version=0, terms=due, **SAID)
    await flags.put("flag", switch(targeting=split(5)), version=1, **SAID)
    await flags.remove("needed", version=1, **SAID)
    clock.move(3600)

    assert await flags.apply_due(clock.now()) == 0

    wrong, moved = await flags.requests([RequestState.FAILED])
    assert "made from version 1, and the flag has version 2" in moved.note
    assert "needed" in wrong.note
    assert (await flags.get("flag")).content == switch(targeting=split(5))


async def test_a_ramp_waits_for_a_version_in_a_market(router, conninfo):
    """Until enough of those who are active there have it; who has left the market does not count."""
    clock = ManualClock(NOON)
    rooms, flags = Rooms(router, clock), flags_on(router, conninfo, clock=clock)
    homes = {}
    for name, country in (("here", "NL"), ("there", "US")):
        draft = CommunityDraft(external_id=name, name=name, country=country)
        homes[name] = (await rooms.communities.upsert(OPERATOR, [draft])).ids[name]
    people = await rooms.people(homes["here"], "ann", "ben", "cat", "dan")
    (eve,) = await rooms.people(homes["there"], "eve")
    await flags.load()
    await flags.put("flag", switch(), version=0, **SAID)
    wait = Wait(track="ios", version="9.2.0", share=0.75, country="NL")
    await flags.put("flag", switch("on"), version=1, terms=Terms(wait=wait), **SAID)

    async def use(version, *viewers):
        for one in viewers:
            await flags.note_app(one.member, "ios", version)
        await flags.flush()
        found = await flags.adoption(wait)
        return await flags.apply_due(clock.now()), found.members, found.active

    assert await use("9.1.9") == (0, 0, 0)
    assert await use("9.2.0", eve) == (0, 0, 0)
    assert await use("9.1.9", *people[:3]) == (0, 0, 3)
    assert await use("9.2.0-rc.1", people[0]) == (0, 0, 3)
    assert await use("9.10", *people[:2]) == (0, 2, 3)
    clock.move(timedelta(days=8).total_seconds())
    assert await use("v9.2.0", *people[:2]) == (1, 2, 2)
    assert (await flags.get("flag")).version == 2


async def test_apps_are_written_seldom(router, conninfo):
    """At most hourly for a member and track, at once where the version is another; strangers never."""
    clock = ManualClock(NOON)
    rooms, flags = Rooms(router, clock), flags_on(router, conninfo, clock=clock)
    home = await rooms.community("home")
    (ann,) = await rooms.people(home, "ann")
    await flags.load()

    async def seen():
        await flags.flush()
        with psycopg.connect(conninfo) as database:
            rows = database.execute(
                "select track, version, seen_at from member_app order by track"
            ).fetchall()
        return [(track, version, (at - NOON).total_seconds()) for track, version, at in rows]

    for stranger in (Key(home, 5), Key(5, 5)):
        await flags.note_app(stranger, "ios", "1.0")
    await flags.note_app(ann.member, "toaster", "1.0")
    for version in ("1.0", "no version", "1." * 100, ""):
        await flags.note_app(ann.member, "ios", version)
    assert await seen() == [("ios", "1.0", 0)]
    clock.move(1800)
    await flags.note_app(ann.member, "ios", "1.0")
    await flags.note_app(ann.member, "android", "3")
    assert await seen() == [("android", "3", 1800), ("ios", "1.0", 0)]
    await flags.note_app(ann.member, "ios", "1.1")
    assert await seen() == [("android", "3", 1800), ("ios", "1.1", 1800)]
    clock.move(3600)
    await flags.note_app(ann.member, "ios", "1.1")
    assert await seen() == [("android", "3", 1800), ("ios", "1.1", 5400)]


BAD = [
    (Terms(due_at=NOON.replace(tzinfo=None)), "due_at"),
    (Terms(wait=Wait(track="ios", version="1.0", share=0.0)), "wait.share"),
    (Terms(wait=Wait(track="ios", version="1.0", share=80)), "wait.share"),
    (Terms(wait=Wait(track="ios", version="newest", share=0.5)), "wait.version"),
    (Terms(wait=Wait(track="toaster", version="1.0", share=0.5)), "wait.track"),
    (Terms(wait=Wait(track="ios", version="1.0", share=0.5, country="Holland")), "wait.country"),
]


@pytest.mark.parametrize(("terms", "field"), BAD)
async def test_what_cannot_come_is_not_waited_for(flags, terms, field):
    """Said when it is asked for, and not by a request that waits for ever."""
    with pytest.raises(InvalidError) as caught:
        await flags.put("flag", switch(), version=0, terms=terms, **SAID)

    assert caught.value.field == field
    assert await flags.requests() == []


async def test_requests_are_listed_by_state_and_flag(flags):
    """Newest first, in stretches."""
    for key, hours in itertools.product(("one", "two"), (1, 2)):
        await flags.put(
            key, switch(), version=hours - 1, terms=Terms(due_at=NOON + hours * HOUR), **SAID
        )
    everything = await flags.requests()
    await flags.cancel(everything[0].id, OSCAR, "not now")

    assert [one.key for one in everything] == ["two", "two", "one", "one"]
    assert await flags.requests(limit=1, before=everything[1].id) == [everything[2]]
    (cancelled,) = await flags.requests([RequestState.CANCELLED])
    assert (cancelled.note, cancelled.decided_by) == ("not now", "operator:oscar")
    assert await flags.requests(key="one") == everything[2:]
    with pytest.raises(NotFoundError):
        await flags.request(1)
