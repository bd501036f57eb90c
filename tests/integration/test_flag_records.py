"""Goal: what the trail says stays said, and the database refuses what it does not say."""

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import errors

from millrace.community.testing import NOON, OPERATOR, Rooms
from millrace.community.types import Key
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import (
    ConflictError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    TooLargeError,
)
from millrace.kernel.ids import IdMaker
from millrace.release.flags.book import Book, Edit
from millrace.release.flags.testing import OLGA, OSCAR, flags_on, split, switch
from millrace.release.flags.types import (
    Choice,
    FlagConfig,
    FlagMove,
    Ring,
    RingEntry,
    RingRule,
    Terms,
)

pytestmark = pytest.mark.services

SAID = {"actor": OLGA, "reason": "because"}


@pytest.fixture
def flags(router):
    """The room."""
    return flags_on(router)


@pytest.fixture
async def ann(router):
    """A member."""
    rooms = Rooms(router)
    (viewer,) = await rooms.people(await rooms.community("home"), "ann")
    return viewer


def entry(member, ring=Ring.BETA, choice=Choice.LISTED, actor="operator:olga"):
    """An entry of a track."""
    return RingEntry(track="ios", ring=ring, member=member, choice=choice, actor=actor, at=NOON)


REWRITES = [
    ("update flag_change set reason = 'another'", errors.FeatureNotSupported),
    ("delete from flag_change", errors.FeatureNotSupported),
    ("truncate flag_change", errors.FeatureNotSupported),
    ("truncate flag", errors.FeatureNotSupported),
    ("update ring_change set actor = 'another'", errors.FeatureNotSupported),
    ("delete from ring_change", errors.FeatureNotSupported),
    ("truncate ring_change", errors.FeatureNotSupported),
    ("delete from flag_request", errors.FeatureNotSupported),
    ("update flag set content = '{}'", errors.CheckViolation),
    ("update flag set content = '{}', version = version + 1", errors.CheckViolation),
    ("update flag set version = version - 1", errors.CheckViolation),
    ("delete from flag", errors.CheckViolation),
    ("insert into flag values ('other', '{}', 1, '', now(), now())", errors.CheckViolation),
    ("update flag_request set content = '{}'", errors.CheckViolation),
    ("update flag_request set state = 'applied' where state = 'proposed'", errors.CheckViolation),
    (
        "update flag_request set state = 'approved', decided_by = '', decided_at = null"
        " where state = 'cancelled'",
        errors.CheckViolation,
    ),
]


async def test_the_database_keeps_what_was_said(flags, ann, conninfo):
    """Whoever goes past the program: no line is rewritten, and no flag changes without a line."""
    await flags.put("flag", switch(), version=0, **SAID)
    await flags.put("flag", switch("on"), version=1, **SAID)
    await flags.ring_put(entry(ann.member), reason="tests")
    await flags.put("later", switch(), version=0, terms=Terms(due_at=NOON), **SAID)
    (asked,) = await flags.requests()
    await flags.cancel(asked.id, OSCAR)
    with psycopg.connect(conninfo, autocommit=True) as database:
        database.execute(
            "insert into flag_request select request_id + 1, flag_key, move, content, owner,"
            " base_version, reason, 'proposed', proposed_by, proposed_at from flag_request"
        )
        for statement, refusal in REWRITES:
            with pytest.raises(refusal):
                database.execute(statement)


async def test_the_trail_tells_every_version(flags):
    """Who, why, before and after; also of a flag that is gone, and of one that came back."""
    await flags.put("flag", switch(), version=0, terms=Terms(owner="search"), **SAID)
    ramped = await flags.ramp("flag", "on", 10, version=1, actor=OSCAR, reason="first")
    await flags.kill("flag", actor=OLGA, reason="crashes")
    await flags.revive("flag", version=3, actor=OLGA, reason="mended")
    await flags.remove("flag", version=4, actor=OLGA, reason="done")
    with pytest.raises(NotFoundError):
        await flags.get("flag")
    back = await flags.revert("flag", 2, version=0, actor=OSCAR, reason="not done")

    trail = [*reversed(await flags.history("flag"))]
    assert [(line.version, line.move, line.actor, line.reason, line.owner) for line in trail] == [
        (1, FlagMove.PUT, "operator:olga", "because", "search"),
        (2, FlagMove.RAMP, "operator:oscar", "first", "search"),
        (3, FlagMove.KILL, "operator:olga", "crashes", "search"),
        (4, FlagMove.REVIVE, "operator:olga", "mended", "search"),
        (5, FlagMove.REMOVE, "operator:olga", "done", ""),
        (6, FlagMove.REVERT, "operator:oscar", "not done", "search"),
    ]
    befores, afters = [line.before for line in trail], [line.after for line in trail]
    assert befores == ["", *afters[:-1]]
    assert (back.version, back.content, back.owner) == (6, ramped.content, "search")
    assert afters[4] == ""
    assert [line.version for line in await flags.history("flag", limit=2, before=4)] == [3, 2]
    with pytest.raises(InvalidError, match="was taken away"):
        await flags.revert("flag", 5, version=6, **SAID)
    with pytest.raises(NotFoundError, match="never had a version 9"):
        await flags.revert("flag", 9, version=6, **SAID)


async def test_what_was_written_is_what_is_read(flags):
    """Key order, numbers and white space; a switch and a ramp touch their own place only."""
    written = (
        '{ "variants" : {"on":1.50, "off":2e0},\n  "x-note":"für später",'
        ' "state":"ENABLED","defaultVariant" : "off" }'
    )
    await flags.put("flag", written, version=0, **SAID)
    assert (await flags.get("flag")).content == written
    killed = await flags.kill("flag", **SAID)
    assert killed.content == written.replace("ENABLED", "DISABLED")
    revived = await flags.revive("flag", version=2, **SAID)
    assert revived.content == written
    ramped = await flags.ramp("flag", "on", 10, version=3, **SAID)
    assert ramped.content.endswith(written[1:])


WRONG = [
    ("flag", '{"state": "ENABLED"', "content"),
    ("flag", "[1]", "content"),
    ("flag", "", "content"),
    ("flag", switch("neither"), "/defaultVariant"),
    ("flag", switch(targeting={"frobnicate": [1]}), "/targeting/frobnicate"),
    ("$flag", switch(), "key"),
    ("", switch(), "key"),
    ("$evaluators", '{"a": {"frobnicate": [1]}}', "/a/frobnicate"),
    ("$metadata", '{"a": {}}', "/a"),
    ("flag", switch().replace("true", r'"\ud800"'), "/variants/on"),
    ("flag", switch().replace('"on"', r'"\u0000"'), "/variants"),
    ("$metadata", r'{"a": "\ud800"}', "/a"),
    ("$evaluators", r'{"a": {"in": [{"var": "x"}, "\udfff"]}}', "/a/in/1"),
]


@pytest.mark.parametrize(("key", "content", "field"), WRONG)
async def test_what_is_wrong_is_refused_with_its_place(flags, key, content, field):
    """And nothing of it is kept."""
    with pytest.raises(InvalidError) as caught:
        await flags.put(key, content, version=0, **SAID)

    assert caught.value.field == field
    assert await flags.history(key) == []


@pytest.mark.parametrize("move", [FlagMove.PUT, FlagMove.IMPORT, FlagMove.REVERT])
async def test_there_is_room_for_so_many(router, move):
    """Whichever way another flag comes; those that are there are changed and removed."""
    clock = SystemClock()
    book = Book(router=router, clock=clock, ids=IdMaker(clock, 1), most=2)

    def edit(key, move, content, version):
        names = {"actor": "operator:olga", "reason": "because"}
        return Edit(key=key, move=move, content=content, version=version, **names)

    for key in ("a", "b"):
        await book.make(edit(key, move, switch(), 0))
    with pytest.raises(TooLargeError, match="2 flags already"):
        await book.make(edit("c", move, switch(), 0))
    await book.make(edit("a", move, switch("on"), 1))
    await book.make(edit("b", FlagMove.REMOVE, "", 1))
    await book.make(edit("c", move, switch(), 0))

    assert [flag.key for flag in await book.every()] == ["a", "c"]


async def test_what_flags_share_is_kept_as_they_are(flags):
    """Versions, trail and revert; and a change that would break a flag is refused by its name."""
    rules = '{"staff": {"in": [{"var": "ring"}, ["employees"]]}}'
    await flags.put_shared("$evaluators", rules, version=0, **SAID)
    await flags.put(
        "flag", switch(targeting={"if": [{"$ref": "staff"}, "on", "off"]}), version=0, **SAID
    )
    with pytest.raises(InvalidError, match="flag 'flag' would be wrong"):
        await flags.put_shared("$evaluators", '{"crew": true}', version=1, **SAID)

    assert {key: flag.content for key, flag in (await flags.shared()).items()} == {
        "$evaluators": rules
    }
    assert [flag.key for flag in await flags.list()] == ["flag"]
    await flags.load()
    assert flags.evaluate("flag", {"ring": "employees"}).variant == "on"


async def test_a_reason_is_needed_and_has_bounds(flags):
    """An audit without reasons explains nothing."""
    for reason, refusal in ((" ", InvalidError), ("x" * 1_001, TooLargeError)):
        with pytest.raises(refusal) as caught:
            await flags.put("flag", switch(), version=0, actor=OLGA, reason=reason)
        assert caught.value.field == "reason"
    with pytest.raises(NotFoundError, match="there is no flag"):
        await flags.kill("flag", **SAID)


async def test_saying_the_same_is_no_change(flags):
    """No new version and no line; what was imported once is the same the next time."""
    first = await flags.put("flag", switch(), version=0, **SAID)

    assert await flags.put("flag", switch(), version=1, **SAID) == first
    assert len(await flags.history("flag")) == 1


async def test_flags_are_listed_in_stretches(flags):
    """By key, behind one, with a prefix."""
    for key in ("b.2", "a.1", "b.1", "b.3"):
        await flags.put(key, switch(targeting=split(5)), version=0, **SAID)

    assert [flag.key for flag in await flags.list()] == ["a.1", "b.1", "b.2", "b.3"]
    assert [flag.key for flag in await flags.list("b.", limit=1, after="b.1")] == ["b.2"]
    with pytest.raises(InvalidError):
        await flags.list(limit=0)


async def test_entries_of_rings_are_told_too(flags, ann):
    """Who put whom where, and what a member wished; of each member a trail."""
    wish = entry(ann.member, choice=Choice.OPTED_OUT, actor=ann.name)
    await flags.ring_put(wish, reason="enough")
    await flags.ring_put(entry(ann.member), reason="tests")
    with pytest.raises(ConflictError, match="a release manager listed"):
        await flags.ring_put(wish, reason="enough")
    assert not await flags.ring_remove(wish, reason="enough")
    await flags.ring_remove(entry(ann.member), reason="done")
    await flags.ring_put(wish, reason="enough")
    assert [one.choice for one in await flags.ring_entries("ios")] == [Choice.OPTED_OUT]
    assert await flags.ring_remove(entry(ann.member), reason="moved")
    assert not await flags.ring_remove(entry(ann.member), reason="moved")

    told = [(one.choice, one.actor, one.reason) for one in await flags.ring_history(ann.member)]
    assert told == [
        (None, "operator:olga", "moved"),
        (Choice.OPTED_OUT, ann.name, "enough"),
        (None, "operator:olga", "done"),
        (Choice.LISTED, "operator:olga", "tests"),
        (Choice.OPTED_OUT, ann.name, "enough"),
    ]
    assert await flags.ring_entries("ios") == await flags.ring_entries_of(ann.member) == []


async def test_a_place_that_is_had_already_is_told_once(flags, ann):
    """Whoever says the same again fills no trail, and takes no place from whoever gave it."""
    for wish in ({"actor": ann.name, "choice": Choice.OPTED_IN}, {}):
        first = await flags.ring_put(entry(ann.member, **wish), reason="first")
        for _ in range(3):
            later = replace(entry(ann.member, **wish), actor="operator:oscar")
            assert await flags.ring_put(later, reason="again") == first

    told = [(one.choice, one.reason) for one in await flags.ring_history(ann.member)]
    assert told == [(Choice.LISTED, "first"), (Choice.OPTED_IN, "first")]


async def test_rings_take_only_who_may_be_there(router, ann):
    """Members, by themselves into what is offered; everything else has a release manager's name."""
    flags = flags_on(router, config=FlagConfig(opt_in_rings=(Ring.BETA,)))
    wish = {"choice": Choice.OPTED_IN, "actor": ann.name}
    await flags.ring_put(entry(ann.member, **wish), reason="curious")
    with pytest.raises(ForbiddenError, match="do not enter the ring alpha"):
        await flags.ring_put(entry(ann.member, Ring.ALPHA, **wish), reason="curious")
    for ring in (Ring.EMPLOYEES, Ring.EVERYONE):
        with pytest.raises(InvalidError):
            await flags.ring_put(entry(ann.member, ring, **wish), reason="curious")
    with pytest.raises(InvalidError, match="choose nothing for the track toaster"):
        await flags.ring_put(replace(entry(ann.member, **wish), track="toaster"), reason="curious")
    with pytest.raises(NotFoundError):
        await flags.ring_put(entry(Key(ann.member.community_id, 1)), reason="tests")

    (kept,) = await flags.ring_entries("ios", Ring.BETA)
    assert (kept.member, kept.choice) == (ann.member, Choice.OPTED_IN)
    assert await flags.ring_entries("ios", after=ann.member) == []


async def test_rules_of_rings_have_versions_and_a_trail(flags):
    """Two who change one at a time do not lose each other's."""
    rule = RingRule(track="ios", ring=Ring.ONE_PERCENT, percentage=1.0)
    await flags.ring_rule_put(rule, **SAID)
    with pytest.raises(ConflictError, match="made from version 0, and it has version 1"):
        await flags.ring_rule_put(rule, **SAID)
    wider = RingRule(track="ios", ring=Ring.ONE_PERCENT, percentage=2.5, version=1)
    made = await flags.ring_rule_put(wider, actor=OSCAR, reason="more")

    assert await flags.ring_rules() == [made]
    trail = await flags.history("$ring/ios/one_percent")
    assert [(line.version, line.actor, line.move) for line in trail] == [
        (2, "operator:oscar", FlagMove.RULE),
        (1, "operator:olga", FlagMove.RULE),
    ]
    assert trail[0].before == trail[1].after


async def test_everybody_is_counted_exactly(router, conninfo, ann, monkeypatch):
    """Slice by slice as at once; who is gone is not counted, and a change is seen at once."""
    rooms, flags = Rooms(router), flags_on(router)
    people = await rooms.people(
        ann.member.community_id, *(f"member{number}" for number in range(40))
    )
    await rooms.members.remove(OPERATOR, people[0].member, "left")
    await flags.put("flag", switch(targeting=split(50)), version=0, **SAID)
    await flags.load()
    keys = [one.member for one in (ann, *people[1:])]
    variants = [flags.evaluate("flag", flags.context_of(key)).variant for key in keys]
    expected = {name: variants.count(name) for name in ("on", "off")}

    whole = await flags.audience("flag")
    monkeypatch.setattr("millrace.release.flags.census.SLICE", 7)
    flags.census = type(flags.census)(router=router, clock=rooms.clock, known=flags)
    sliced = await flags.audience("flag")
    more = await flags.preview("flag", switch(targeting=split(80)))

    assert (whole.members, dict(whole.variants)) == (40, expected)
    assert sliced == whole
    on = next(turn for turn in more.turns if turn.variant == "on")
    assert (more.members, on.before, on.dropped) == (40, expected["on"], 0)
    assert on.after == on.before + on.added
    with pytest.raises(NotFoundError):
        await flags.audience("another")
