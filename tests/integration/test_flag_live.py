"""Goal: what somebody changes decides in every process at once, and goes on without the database."""

import asyncio
import itertools
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from waiting import until

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import CommunityDraft, Key
from millrace.kernel.clock import ManualClock
from millrace.kernel.errors import ConflictError, ForbiddenError, InvalidError
from millrace.kernel.hashing import hash64
from millrace.release.flags.contexts import App
from millrace.release.flags.testing import OLGA, flags_on, split, switch
from millrace.release.flags.types import (
    Choice,
    ErrorCode,
    FlagConfig,
    FlagType,
    Reason,
    Ring,
    RingEntry,
    RingRule,
    Terms,
)

pytestmark = pytest.mark.services

WAIT_SECONDS = 30
SAID = {"actor": OLGA, "reason": "because"}
SLOW = FlagConfig(usage_seconds=3600, schedule_seconds=3600)


@asynccontextmanager
async def processes(router, conninfo, count=2):
    """Lend the room as several processes have it, each following the changes."""
    made = [flags_on(router, conninfo, node=node, config=SLOW) for node in range(count)]
    try:
        for flags in made:
            await flags.start()
        yield made
    finally:
        for flags in made:
            await flags.stop()


async def same(one, *others):
    """Wait until all decide from the same rows."""
    await until(lambda: {one.etag()} == {other.etag() for other in others})


async def test_a_change_decides_in_every_process(router, conninfo):
    """The writer's own has it when the write returns; who waits in another is woken."""
    async with processes(router, conninfo) as (one, two):
        before = two.etag()
        waiting = asyncio.create_task(two.changed(before, WAIT_SECONDS))
        await one.put("greeting", switch("on"), version=0, **SAID)
        assert one.resolve("greeting", FlagType.BOOLEAN, {}).value is True
        after = await waiting
        assert two.resolve("greeting", FlagType.BOOLEAN, {}).value is True
        await one.kill("greeting", **SAID)
        killed = one.evaluate("greeting", {})
        await two.changed(after, WAIT_SECONDS)

        assert before != after
        assert killed.reason is two.evaluate("greeting", {}).reason is Reason.DISABLED
        assert one.etag() == two.etag()
        await one.remove("greeting", version=2, **SAID)
        assert one.evaluate("greeting", {}).error is ErrorCode.FLAG_NOT_FOUND
        assert await two.changed("other", 0.0) == two.etag()


async def test_only_what_changed_is_compiled(router, conninfo):
    """Also when everything is begun anew, and of evaluators those flags that refer to them."""
    async with processes(router, conninfo) as (one, two):
        for number in range(5):
            await one.put(f"flag{number}", switch(), version=0, **SAID)
        await same(one, two)
        compiled = two.live.compiled
        await one.put("flag3", switch("on"), version=1, **SAID)
        await one.put("flag3", switch("on"), version=2, terms=Terms(owner="olga"), **SAID)
        await same(one, two)
        assert two.live.compiled == compiled + 2

        end_streams(conninfo)
        await until(lambda: all(each.state().restarts for each in (one, two)))
        assert two.live.compiled == compiled + 2

        await one.put_shared("$evaluators", '{"crew": true}', version=0, **SAID)
        refers = switch(targeting={"if": [{"$ref": "crew"}, "on", "off"]})
        for key, text in (("refers", refers), ("escaped", refers.replace("$r", r"\u0024\u0072"))):
            await one.put(key, text, version=0, **SAID)
        await same(one, two)
        compiled = two.live.compiled
        await one.put_shared("$evaluators", '{"crew": false}', version=1, **SAID)
        await same(one, two)
        assert two.live.compiled == compiled + 2
        assert [two.evaluate(key, {}).variant for key in ("refers", "escaped")] == ["off", "off"]

        await one.put_shared("$metadata", '{"team": "search"}', version=0, **SAID)
        await same(one, two)
        assert two.evaluate("flag1", {}).metadata["team"] == "search"


async def test_a_place_in_a_ring_concerns_its_member(router, conninfo):
    """Nobody else's name of what decides is another one; that of everything is, in both processes."""
    rooms = Rooms(router)
    ann, bob = await rooms.people(await rooms.community("here"), "ann", "bob")
    wish = RingEntry(
        track="ios",
        ring=Ring.BETA,
        member=ann.member,
        choice=Choice.OPTED_IN,
        actor=ann.name,
        at=NOON,
    )
    async with processes(router, conninfo) as (one, two):
        await one.put("greeting", switch("on"), version=0, **SAID)
        await same(one, two)
        told: list[frozenset[Key] | None] = []
        two.listen(told.append)
        before = {who.member: two.etag_of(who.member) for who in (ann, bob)}
        whole = two.etag()
        await one.ring_put(wish, reason="curious")
        await same(one, two)
        entered = {who.member: two.etag_of(who.member) for who in (ann, bob)}
        assert told == [frozenset({ann.member})]
        assert two.etag() != whole
        assert entered[ann.member] != before[ann.member]
        assert entered[bob.member] == before[bob.member]

        end_streams(conninfo)
        await until(lambda: all(each.state().restarts for each in (one, two)))
        assert [one.etag_of(who.member) for who in (ann, bob)] == [*entered.values()]
        await one.ring_remove(wish, reason="enough")
        await same(one, two)
        assert two.etag() == whole
        assert two.etag_of(ann.member) == before[ann.member]
        await one.kill("greeting", **SAID)
        await same(one, two)

        assert told[1:] == [frozenset({ann.member}), None]
        assert two.etag_of(bob.member) != before[bob.member]


async def test_decisions_go_on_without_the_database(router, conninfo):
    """The last known definitions hold, and what was changed meanwhile comes afterwards."""
    async with processes(router, conninfo) as (one, two):
        await one.put("greeting", switch("on"), version=0, **SAID)
        await same(one, two)
        with psycopg.connect(conninfo, autocommit=True) as database:
            name = database.info.dbname
        with psycopg.connect(elsewhere(conninfo), autocommit=True) as database:
            database.execute(f'alter database "{name}" with allow_connections false')
            end_streams(elsewhere(conninfo), name)
            await until(lambda: not one.live.following and not two.live.following)
            held = [flags.resolve("greeting", FlagType.BOOLEAN, {}).value for flags in (one, two)]
            database.execute(f'alter database "{name}" with allow_connections true')
        await one.put("greeting", switch("off"), version=1, **SAID)
        await until(lambda: two.resolve("greeting", FlagType.BOOLEAN, {}).value is False)

        assert held == [True, True]


async def test_a_kill_comes_while_the_stream_has_to_wait(router, conninfo):
    """A stream begins when the transactions of that moment have ended: one may run for an hour."""
    async with processes(router, conninfo) as (one, two):
        await one.put("greeting", switch("on"), version=0, **SAID)
        await same(one, two)
        with psycopg.connect(conninfo) as importing:
            importing.execute("insert into mute values (1, 2, 1, 3, now())")
            end_streams(conninfo)
            await until(lambda: not one.live.following and not two.live.following)
            await one.kill("greeting", **SAID)
            await until(lambda: two.evaluate("greeting", {}).reason is Reason.DISABLED)
            assert not two.live.following
        await until(lambda: two.live.following)

        assert two.evaluate("greeting", {}).reason is Reason.DISABLED


def elsewhere(conninfo):
    """Return the address of another database of the same server."""
    return conninfo.rpartition(" dbname=")[0]


def end_streams(conninfo, name=None):
    """End the connections of all streams of a database."""
    with psycopg.connect(conninfo, autocommit=True) as database:
        database.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots"
            " where database = coalesce(%s, current_database()) and active",
            [name],
        )


async def test_a_large_definition_survives_another_owner(router, conninfo):
    """The log leaves out a large text that an update does not touch."""
    async with processes(router, conninfo) as (one, two):
        targeting = {"in": [{"var": "targetingKey"}, [f"{hash64(str(n)):x}" for n in range(1_000)]]}
        large = switch(targeting={"if": [targeting, "on", "off"]})
        await one.put("large", large, version=0, **SAID)
        with psycopg.connect(conninfo) as database:
            database.execute(
                "insert into flag_change select change_id + 1, flag_key, 2, move, actor, reason,"
                " after, after, 'olga', null, happened_at from flag_change where flag_key = 'large'"
            )
            database.execute("update flag set version = 2, owner = 'olga' where key = 'large'")
        await until(lambda: one.live.versions["large"] == 2)
        await same(one, two)

        assert two.live.versions["large"] == 2
        assert two.live.texts["large"] == large
        assert two.evaluate("large", {"targetingKey": f"{hash64('1'):x}"}).variant == "on"


async def test_rings_and_markets_follow(router, conninfo):
    """Entries, wishes, rules and the country of a community; what the client claims of them is not believed."""
    rooms = Rooms(router)
    async with processes(router, conninfo) as (one, two):
        home = await rooms.community("home")
        (ann,) = await rooms.people(home, "ann")
        entry = RingEntry(
            track="ios", ring=Ring.BETA, member=ann.member, choice=Choice.OPTED_IN, actor=ann.name, at=NOON
        )  # fmt: skip
        await one.ring_put(entry, reason="curious")
        draft = CommunityDraft(external_id="home", name="Home", country="NL")
        await rooms.communities.upsert(OPERATOR, [draft])
        await same(one, two)
        app = App(track="ios", version="9.2.0")
        await until(lambda: two.context_of(ann.member, app).get("country") == "NL")

        assert two.context_of(ann.member, app) == {
            "targetingKey": str(ann.member), "track": "ios", "community": str(home), "country": "NL",
            "appVersion": "9.2.0", "ring": "beta", "rings": ["beta", "one_percent", "everyone"],
        }  # fmt: skip
        assert two.context_of(ann.member, app, country="US")["country"] == "NL"  # as over OFREP
        claimed = {
            "targetingKey": str(ann.member), "track": "ios", "ring": "employees", "rings": ["employees"],
            "country": "US", "community": "1", "employee": "yes",
        }  # fmt: skip
        await one.ring_rule_put(
            RingRule(track="ios", ring=Ring.EMPLOYEES, attribute="employee", values=("yes",)),
            **SAID,
        )
        await same(one, two)
        found = two.enriched(claimed)
        assert (found["ring"], found["country"], found["community"]) == ("beta", "NL", str(home))
        assert two.enriched(claimed, trusted=True)["ring"] == "employees"
        assert await one.ring_remove(entry, reason="enough")
        await same(one, two)
        assert two.context_of(ann.member, app)["rings"][-1] == "everyone"
        assert two.ring_explain("ios", ann.member).ring in (Ring.EVERYONE, Ring.ONE_PERCENT)


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(("list", "wish", "leave", "remove", "rule", "restart")),
            st.integers(0, 3),
            st.sampled_from(("ios", "android")),
            st.sampled_from((Ring.EMPLOYEES, Ring.ALPHA, Ring.BETA, Ring.ONE_PERCENT)),
        ),
        max_size=15,
    )
)
async def test_rings_that_follow_are_those_that_are_read(router, conninfo, tried):
    """After random entries, wishes, rules and outages: the same as of who reads the tables now."""
    rooms = Rooms(router)
    home = await rooms.community("home")
    people = await rooms.people(home, *(f"member{number}" for number in range(4)))
    async with processes(router, conninfo, 1) as (flags,):
        for verb, number, track, ring in tried:
            choice = {"wish": Choice.OPTED_IN, "leave": Choice.OPTED_OUT}.get(verb, Choice.LISTED)
            entry = RingEntry(
                track=track, ring=ring, member=people[number].member, choice=choice, actor="x", at=NOON
            )  # fmt: skip
            if verb == "rule":
                version = flags.live.rule_version(track, ring)
                rule = RingRule(track=track, ring=ring, percentage=number * 25.0, version=version)
                await flags.ring_rule_put(rule, **SAID)
            elif verb == "restart":
                end_streams(conninfo)
            elif verb == "remove":
                await flags.ring_remove(entry, reason="because")
            else:
                with suppress(ConflictError, ForbiddenError, InvalidError):
                    await flags.ring_put(entry, reason="because")
            await until(lambda: flags.live.following)
        reader = flags_on(router)
        await reader.load()
        await same(flags, reader)

        for one, track in itertools.product(people, ("ios", "android")):
            asked = (track, one.member, {})
            assert flags.rings().explain(*asked) == reader.rings().explain(*asked)


async def test_an_import_does_not_stand_before_a_switch(router, conninfo):
    """The stream of flags has nothing else in it: not the rows, and not the transaction."""
    rooms = Rooms(router)
    async with processes(router, conninfo, 1) as (flags,):
        home = await rooms.community("home")
        await until(lambda: home in flags.live.countries)
        before = flags.state().changes
        await rooms.people(home, *(f"member{number}" for number in range(200)))
        await flags.put("greeting", switch("on"), version=0, **SAID)

        assert flags.state().changes == before + 1


async def test_uses_are_counted_and_kept(router, conninfo):
    """Per flag, variant and day, of all processes; unknown keys leave no row behind."""
    async with processes(router, conninfo) as (one, two):
        await one.put("greeting", switch(targeting=split(50)), version=0, **SAID)
        await same(one, two)
        variants = [
            flags.evaluate("greeting", {"targetingKey": f"who{number}"}).variant
            for flags in (one, two)
            for number in range(20)
        ]
        one.evaluate("greeting", "no context")  # fails
        one.evaluate("someone's guess", {})
        for flags in (one, two):
            await flags.flush()
        counted = await one.usage("greeting")
        everything = await two.usage()

        assert {(line.variant, line.evaluations) for line in counted if not line.errors} == {
            (name, variants.count(name)) for name in ("on", "off")
        }
        assert [(line.variant, line.errors) for line in counted if line.errors] == [("", 1)]
        assert everything == counted
        assert one.usage_book.failures == {"greeting": 1, "": 1}
        assert set(await one.last_evaluated()) == {"greeting"}


async def test_counts_outlive_an_outage_and_the_end(router, conninfo):
    """What cannot be written is counted still; the end of a process writes its last."""
    clock = ManualClock(NOON)
    flags = flags_on(router, conninfo, clock=clock, config=FlagConfig(usage_days=2))
    await flags.put("greeting", switch(), version=0, **SAID)
    await flags.load()
    flags.evaluate("greeting", {})
    broken = flags_on(router, conninfo, clock=clock)
    for key, variant in (("half\ud800", "on"), ("whole", "nul\x00"), ("whole", "on")):
        broken.usage_book.counts[key, variant] += 1
    await broken.flush()  # what no table can hold is told, and holds nothing up
    assert broken.usage_book.lost == 2
    assert [line.variant for line in await flags.usage("whole")] == ["on"]

    await flags.stop()
    assert [line.evaluations for line in await flags.usage("greeting")] == [1]
    clock.move(timedelta(days=3).total_seconds())
    flags.evaluate("greeting", {})
    await flags.flush()
    assert [line.day.day for line in await flags.usage("greeting")] == [NOON.day + 3]


async def test_a_command_reads_once(router, conninfo):
    """Who does not stay decides from what stands; it follows nothing."""
    flags = flags_on(router)
    await flags.put("greeting", switch("on"), version=0, **SAID)
    assert flags.evaluate("greeting", {}).error is ErrorCode.FLAG_NOT_FOUND
    await flags.load()

    assert [found.variant for found in flags.evaluate_all({})] == ["on"]
    assert not flags.live.following
