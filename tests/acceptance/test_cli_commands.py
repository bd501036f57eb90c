"""Commands beside a database: what they print, and how they fail."""

import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from command_line import Millrace, Ran

from millrace.cli import checks
from millrace.cli.checks import Applied, ContentState, ServerState, State
from millrace.cli.proof import judged
from millrace.cli.up import with_demo
from millrace.community.recount import Compared, Difference
from millrace.feed.types import Training
from millrace.settings import overlaid, read
from millrace.store.changes.slots import RiverRoom, SlotState
from millrace.store.migrate import Migration

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
SERVER = ServerState(version="18.4", wal_level="logical", size_bytes=9 << 20, migrated=True)


# ------------------------------------------------------------------------------ help and failure


def test_help_names_every_command(millrace: Millrace) -> None:
    ran = millrace("--help")

    assert ran.status == 0
    for name in ("up", "serve", "import", "feed", "why", "operator", "doctor", "bench"):
        assert re.search(rf"^  {name} ", ran.out, re.MULTILINE), f"{name} is missing"


def test_version(millrace: Millrace) -> None:
    assert re.fullmatch(r"millrace \d+\.\d+\.\d+\n", millrace("--version").out)


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nonsense"], 2, "No such command 'nonsense'"),
        (["feed"], 2, "Missing argument 'MEMBER'"),
        (["why", "ada", "twelve"], 2, "POST 'twelve' is not an id"),
        (["feed", "ada", "--limit", "0"], 2, "--limit"),
        (["--settings", "none.toml", "settings"], 3, "none.toml cannot be read"),
        (["up", "--port", "70000"], 3, "cannot listen on 127.0.0.1 port 70000"),
        (["up", "--host", "203.0.113.1", "--port", "0"], 3, "cannot listen on 203.0.113.1"),
    ],
)
def test_a_mistake_is_told_in_words(
    millrace: Millrace, arguments: list[str], status: int, said: str
) -> None:
    ran = millrace(*arguments)

    assert ran.status == status
    assert said in ran.err
    assert ran.out == ""
    assert "Traceback" not in ran.err


def test_an_unreachable_database_is_told_with_the_next_step(
    millrace: Millrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_STORE_PRIMARY", "host=127.0.0.1 port=1 password=hunter2")

    ran = millrace("feed", "ada")

    assert ran.status == 3
    assert ran.err.startswith("error: ")
    assert "  next: " in ran.err
    assert "hunter2" not in ran.err


# ------------------------------------------------------------------------------ settings, migrate


def test_settings_show_value_and_origin(
    millrace: Millrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("millrace.toml").write_text("[door]\nport = 9000\n", encoding="utf-8")
    monkeypatch.setenv("MILLRACE_SECRET", "ab" * 32)

    ran = millrace("settings", "--json")

    assert ran.json["door.port"] == {"value": 9000, "origin": "millrace.toml"}
    assert ran.json["secret"] == {"value": "(set)", "origin": "MILLRACE_SECRET"}
    assert "abab" not in ran.out


def test_settings_can_show_only_what_was_changed(millrace: Millrace) -> None:
    ran = millrace("settings", "--changed")

    assert "store.data_dir" in ran.out
    assert "door.port" not in ran.out


@pytest.mark.services
def test_migrate_twice_changes_nothing(beside: Millrace) -> None:
    assert beside("migrate", "--json").json == {"applied": []}
    assert "nothing to do" in beside("migrate").out


@pytest.mark.parametrize(
    ("options", "demo"),
    [
        ({}, True),
        ({"door.host": "localhost"}, True),
        ({"door.host": "::1"}, True),
        ({"door.host": "0.0.0.0"}, False),
        ({"door.host": "feed.example"}, False),
        ({"door.demo": False}, False),
        ({"door.host": "0.0.0.0", "door.demo": True}, True),
    ],
)
def test_demo_is_on_by_itself_only_where_nobody_else_comes_by(
    options: dict[str, object], demo: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = with_demo(overlaid(read(None, {}), options))
    asked = with_demo(overlaid(read(None, {}), {**options, "feed.training": "off"}))

    assert settings.door.demo is demo
    assert (settings.feed.training is Training.BACKGROUND) is demo
    assert asked.feed.training is Training.OFF
    warned = "may sign in as any member" in capsys.readouterr().err
    assert warned is (options.get("door.demo") is True)


# ------------------------------------------------------------------------------ operators


@pytest.mark.services
def test_the_life_of_an_operator(beside: Millrace) -> None:
    made = beside("operator", "create", "grace", "--json")
    assert made.status == 0
    assert str(made.json["token"]).count(".") == 2

    again = beside("operator", "create", "grace")
    assert again.status == 5
    assert again.out == ""
    assert "grace" in again.err

    beside("operator", "create", "linus", "--role", "release_manager")
    beside("operator", "create", "shop", "--role", "flag_reader")
    token = beside("operator", "token", "linus", "--days", "2")
    assert token.out.count(".") == 2
    assert "the token of linus, valid until" in token.err

    ended = beside("operator", "disable", "grace", "--reason", "left the team")
    assert ended.out == "disabled grace: left the team\n"
    assert beside("operator", "token", "grace").status != 0

    listed = beside("operator", "list", "--json").json["operators"]
    assert [(one["name"], one["role"]) for one in listed] == [  # type: ignore[attr-defined]
        ("linus", "release_manager"),
        ("shop", "flag_reader"),
        ("grace", "operator"),
    ]
    assert "left the team" in beside("operator", "list").out


@pytest.mark.services
def test_an_unknown_operator_is_not_found(beside: Millrace) -> None:
    assert beside("operator", "disable", "nobody", "--reason", "none").status == 4


# ------------------------------------------------------------------------------ doctor


def found(ran: Ran) -> dict[str, str]:
    """Return each check's state by its name."""
    return {one["name"]: one["state"] for one in ran.json["checks"]}  # type: ignore[attr-defined]


@pytest.mark.services
def test_the_doctor_finds_a_fresh_database_well(beside: Millrace) -> None:
    ran = beside("doctor", "--json")

    assert ran.status == 0
    assert found(ran)["migrations"] == "ok"
    assert found(ran)["torch"] == "ok"
    assert "ok" in beside("doctor").out


def test_the_doctor_says_what_to_do_before_the_first_start(millrace: Millrace) -> None:
    ran = millrace("doctor", "--json")

    assert ran.status == 0
    assert found(ran)["database"] == "warn"
    assert not Path("data").exists(), "the doctor changed something"


def test_the_doctor_fails_where_something_does(
    millrace: Millrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MILLRACE_STORE_PRIMARY", "host=127.0.0.1 port=1")

    ran = millrace("doctor", "--json")

    assert ran.status == 1
    assert ran.json["ok"] is False
    assert found(ran)["database"] == "fail"


@pytest.mark.parametrize(
    ("wal_level", "state"),
    [("logical", State.OK), ("replica", State.WARN), ("minimal", State.WARN)],
)
def test_the_log_must_feed_the_river(wal_level: str, state: State) -> None:
    server = ServerState(version="15.18", wal_level=wal_level, size_bytes=0, migrated=True)

    assert checks.database(server).state is state


@pytest.mark.parametrize(
    ("taken", "others", "state", "words"),
    [
        ((10, 0, 10, 0), "", State.OK, "room for 3 more server processes"),
        ((20, 5, 20, 6), "et", State.OK, "room for 4 more"),
        ((4, 0, 3, 0), "", State.OK, "room for 1 more"),
        ((3, 0, 3, 0), "", State.FAIL, "max_replication_slots = 4 and max_wal_senders = 3 or"),
        ((9, 0, 2, 0), "", State.FAIL, "max_replication_slots = 9 and max_wal_senders = 3 or"),
        ((5, 3, 9, 3), "et", State.OK, "room for 1 more"),
        ((4, 3, 9, 3), "et", State.WARN, "max_replication_slots = 5"),
        ((1, 3, 1, 3), "et", State.WARN, "room for 0 more"),
    ],
)
def test_room_for_one_more_process(
    taken: tuple[int, int, int, int], others: str, state: State, words: str
) -> None:
    found = RiverRoom(slots_max=taken[0], slots=taken[1], senders_max=taken[2], senders=taken[3])
    ours = [
        SlotState(
            name=name, active=True, temporary=name == "t", wal_status="reserved", held_bytes=0
        )
        for name in others
    ]

    check = checks.river_room(found, ours)

    assert check.state is state
    assert words in f"{check.detail} {check.next_step}"
    assert bool(check.next_step) is (state is not State.OK)


MIB = 1 << 20


@pytest.mark.parametrize(
    ("slots", "cap", "up", "state", "words"),
    [
        ([], 2048 * MIB, False, State.OK, "0 slots"),
        ([("a", True, "reserved", 5 * MIB)], 2048 * MIB, True, State.OK, "5 MiB"),
        ([("a", True, "reserved", 5 * MIB)], None, True, State.WARN, "without a limit"),
        ([("a", False, "reserved", 5 * MIB)], 2048 * MIB, False, State.OK, "1 slots"),
        ([("a", False, "reserved", 5 * MIB)], 2048 * MIB, True, State.WARN, "nobody reads from"),
        ([("a", False, "extended", 900 * MIB)], 2048 * MIB, False, State.WARN, "900 MiB"),
        ([("a", True, "extended", 900 * MIB)], 2048 * MIB, True, State.WARN, "900 MiB"),
        ([("a", False, "lost", 0)], 2048 * MIB, False, State.WARN, "has lost its log"),
    ],
)
def test_slots_that_need_somebody(
    slots: list[tuple[str, bool, str, int]], cap: int | None, up: bool, state: State, words: str
) -> None:
    found = [
        SlotState(name=name, active=active, temporary=False, wal_status=status, held_bytes=held)
        for name, active, status, held in slots
    ]

    check = checks.river(found, cap, up=up)

    assert (check.state, words in check.detail) == (state, True)
    assert bool(check.next_step) is (state is not State.OK)
    unused = any(not slot.active for slot in found) and state is State.WARN
    assert ("millrace river drop a" in check.next_step) is unused


@pytest.mark.services
def test_a_slot_that_nobody_uses_is_dropped_by_name(beside: Millrace, conninfo: str) -> None:
    with psycopg.connect(conninfo, autocommit=True) as db:
        db.execute("select pg_create_logical_replication_slot('millrace_left_1', 'pgoutput')")
    told = next(c for c in beside("doctor", "--json").json["checks"] if c["name"] == "river")  # type: ignore[attr-defined]

    assert "nobody reads from millrace_left_1" in told["detail"]
    assert "millrace river drop millrace_left_1" in told["next_step"]
    assert beside("river", "drop", "millrace_left_1").status == 0
    assert found(beside("doctor", "--json"))["river"] == "ok"
    assert beside("river", "drop", "millrace_left_1").status != 0


@pytest.mark.parametrize(
    ("applied", "state", "said"),
    [
        (["a1", "b2"], State.OK, "all 2"),
        (["a1"], State.WARN, "waiting: b"),
        (["a1", "b3"], State.FAIL, "not of this release: b"),
        (["a1", "b2", "c1"], State.FAIL, "not of this release: c"),
    ],
)
def test_migrations_are_compared_by_name_and_content(
    applied: list[str], state: State, said: str
) -> None:
    known = [Migration("a", "1", ""), Migration("b", "2", "")]

    check = checks.migrations(known, [Applied(name[0], name[1]) for name in applied])

    assert check.state is state
    assert said in check.detail


@pytest.mark.parametrize(
    ("content", "index", "scale"),
    [
        (ContentState(0, 0, 0, 0, None), State.OK, State.OK),
        (ContentState(1, 9, 50, 20, None), State.WARN, State.WARN),
        (ContentState(1, 9, 50, 50, NOON - timedelta(hours=1)), State.OK, State.OK),
        (ContentState(1, 9, 50, 50, NOON - timedelta(days=3)), State.OK, State.WARN),
    ],
)
def test_contents_are_judged(content: ContentState, index: State, scale: State) -> None:
    assert checks.index(content).state is index
    assert checks.percentiles(content, NOON).state is scale


def test_a_comparison_fails_by_what_differs_and_not_by_what_waits() -> None:
    waiting = judged(Compared(part="vectors of posts", compared=1200, waiting=3))
    first = [Difference("1-2", "likes", "5", "4")]
    wrong = judged(Compared(part="counters of posts", compared=9, differing=1, first=first))
    scales = judged(Compared(part="percentile scales", compared=9, differing=1, first=first))

    assert waiting.state is State.OK
    assert waiting.detail == "1,200 compared, all as a rebuild would make them, 3 wait to be made"
    assert wrong.state is State.FAIL
    assert wrong.detail == "1 of 9 compared differ: 1-2 likes: 5, rebuilt 4"
    assert wrong.next_step == "millrace rebuild --part counters"
    assert scales.next_step == "millrace rebuild --part percentiles"


CTRL_C_WHILE_IMPORTING = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Pressed(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "millrace.cli.failures":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Pressed())
from millrace.__main__ import main
main()
"""


def test_ctrl_c_before_the_command_began_leaves_no_traceback() -> None:
    """The imports take a second, in which a person may think better of it."""
    ended = subprocess.run(
        [sys.executable, "-c", CTRL_C_WHILE_IMPORTING], capture_output=True, text=True, check=False
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "ended by Ctrl-C\n")
