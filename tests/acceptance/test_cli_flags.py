"""A life with flags on the command line, on a real database."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Millrace, Ran

from millrace.community.testing import Rooms
from millrace.community.types import Viewer
from millrace.store.testing import opened

pytestmark = pytest.mark.services

GERMAN = {"in": [{"var": "country"}, ["DE"]]}


def people(conninfo: str, *names: str) -> list[str]:
    """Make members of one community; return their ids."""

    async def make() -> list[Viewer]:
        async with opened(conninfo) as router:
            rooms = Rooms(router)
            return await rooms.people(await rooms.community("town"), *names)

    return [str(viewer.member) for viewer in asyncio.run(make())]


def well(ran: Ran) -> dict[str, Any]:
    """Return the one JSON object of a command that ended well, without a word beside it."""
    assert (ran.status, ran.err) == (0, "")
    return ran.json


def tokens(beside: Millrace, **roles: str) -> list[str]:
    """Make operators; return what proves each."""
    made = [
        beside("operator", "create", name, "--role", role, "--json") for name, role in roles.items()
    ]
    return [well(one)["token"] for one in made]


# ------------------------------------------------- set, show, list


def test_a_flag_is_made_grows_rules_and_is_shown(beside: Millrace, conninfo: str) -> None:
    (ada,) = people(conninfo, "ada")

    made = beside("flags", "set", "new-home", "--boolean", "--owner", "feed")
    assert made.out.splitlines()[-1] == "flag new-home has version 1"
    assert "By default: off." in made.out
    assert beside("flags", "set", "new-home", "--give", "on", "--country", "de").status == 0
    changed = beside("flags", "set", "new-home", "--give", "on", "--member", "ada", "--json")
    assert well(changed) == {"key": "new-home", "version": 3}

    shown = well(beside("flags", "show", "new-home", "--json"))
    assert shown["rules"] == [f"Whoever is {ada} gets on.", "Whoever is in DE gets on."]
    assert (shown["version"], shown["owner"], shown["requests"]) == (3, "feed", [])
    assert shown["content"]["targeting"] == {
        "if": [{"in": [{"var": "targetingKey"}, [ada]]}, "on", GERMAN, "on"]
    }
    told = beside("flags", "show", "new-home").out
    assert "new-home, version 3, of feed" in told
    assert "2. Whoever is in DE gets on." in told
    (row,) = well(beside("flags", "list", "--json"))["flags"]
    assert (row["key"], row["default"], row["rules"]) == ("new-home", "off = false", 2)
    assert "new-home" in beside("flags", "list").out
    assert well(beside("flags", "list", "--prefix", "feed.", "--json")) == {"flags": []}


def test_options_write_values_splits_defaults_and_metadata(beside: Millrace) -> None:
    set_ = ("flags", "set", "depth")
    wide = ("--variant", "few=100", "--variant", "many=400", "--default", "few")
    assert beside(*set_, *wide, "--metadata", "permanent=true").status == 0
    assert beside(*set_, "--split", "many=5,few=95", "--since", "2026-01-01T00:00Z").status == 0
    ends = ("--app-from", "2.0.0", "--app-below", "3.0.0", "--having", "platform=ios,mac")
    assert beside(*set_, "--give", "many", *ends, "--ring", "alpha").status == 0
    assert beside(*set_, "--no-default").status == 0

    content = well(beside("flags", "show", "depth", "--json"))["content"]
    assert content["variants"] == {"few": 100, "many": 400}
    assert "defaultVariant" not in content
    assert content["metadata"] == {"permanent": True}
    assert well(beside("flags", "show", "depth", "--json"))["rules"] == [
        "Whoever is in ring alpha, uses app version 2.0.0 or later and before 3.0.0 "
        "and has platform ios or mac gets many.",
        "Whoever asks from 2026-01-01 00:00 UTC on gets many for 5 % and few for 95 %.",
    ]
    assert beside(*set_, "--no-rules").status == 0
    assert "targeting" not in well(beside("flags", "show", "depth", "--json"))["content"]


def test_a_file_is_kept_to_the_letter_and_so_is_what_a_later_change_leaves(
    beside: Millrace, tmp_path: Path
) -> None:
    text = '{ "state":"ENABLED",\n  "variants": {"a": 1.0, "b": 2e0}, "defaultVariant": "a" }\n'
    file = tmp_path / "f.json"
    file.write_text(text, encoding="utf-8")
    assert beside("flags", "set", "ratio", "--file", str(file)).status == 0

    out = beside("flags", "export").out
    assert "1.0" in out
    assert "2e0" in out
    assert beside("flags", "set", "ratio", "--default", "b").status == 0
    out = beside("flags", "export").out
    assert "1.0" in out
    assert "2e0" in out


def test_what_cannot_be_is_refused_in_words_and_nothing_is_changed(beside: Millrace) -> None:
    beside("flags", "set", "new-home", "--boolean")

    for options, status, said in (
        (["--give", "blue"], 2, "blue"),
        (["--split", "on=10,off=20"], 2, "30"),
        (["--country", "DE"], 2, "nothing that is given"),
        (["--member", "nobody", "--give", "on"], 4, "nobody"),
        (["--version", "7", "--default", "on"], 5, "version 7"),
        (["--when", "other=on", "--give", "on"], 2, "other"),
    ):
        ran = beside("flags", "set", "new-home", *options)
        assert (ran.status, ran.out, said in ran.err) == (status, "", True), ran.err
    assert beside("flags", "set", "new-home", "--give", "blue", "--dry-run").status == 2
    assert well(beside("flags", "show", "new-home", "--json"))["version"] == 1


def test_nobody_s_change_is_lost_silently(beside: Millrace) -> None:
    beside("flags", "set", "new-home", "--boolean")
    beside("flags", "set", "new-home", "--default", "on")

    late = beside("flags", "set", "new-home", "--give", "off", "--version", "1")

    assert late.status == 5
    assert "version 1" in late.err
    assert "version 2" in late.err
    assert "  next: " in late.err


def test_unknown_flags_are_not_found(beside: Millrace) -> None:
    for command in (
        ["show", "none"], ["kill", "none"], ["revive", "none"], ["remove", "none"],
        ["ramp", "none", "on", "5"], ["history", "none"], ["diff", "none"],
        ["explain", "none", "ada"], ["revert", "none", "1"], ["cancel", "7"],
    ):  # fmt: skip
        ran = beside("flags", *command)
        assert (ran.status, ran.out) == (4, ""), command


# ------------------------------------------------- ramp, kill, revert, whom


def test_a_ramp_a_kill_and_the_way_back(beside: Millrace, conninfo: str) -> None:
    people(conninfo, *[f"m{n}" for n in range(40)])
    beside("flags", "set", "new-home", "--boolean")

    rehearsed = beside("flags", "set", "new-home", "--split", "on=50,off=50", "--dry-run", "--json")
    whom = well(rehearsed)
    on = next(turn for turn in whom["turns"] if turn["variant"] == "on")
    assert whom["members"] == 40
    assert 0 < on["added"] == whom["changed"] < 40
    assert beside("flags", "ramp", "new-home", "on", "50").out == "flag new-home has version 2\n"
    counted = well(beside("flags", "show", "new-home", "--audience", "--json"))["audience"]
    assert counted["variants"] == {"on": on["added"], "off": 40 - on["added"]}
    assert sum(sum(each.values()) for each in counted["rings"].values()) == 40
    assert "ring everyone" in beside("flags", "show", "new-home", "--audience").out

    killed = beside("flags", "kill", "new-home", "--reason", "shown twice")
    assert killed.out == "flag new-home has version 3\n"
    assert well(beside("flags", "list", "--json"))["flags"][0]["state"] == "DISABLED"
    assert beside("flags", "revive", "new-home").status == 0
    assert beside("flags", "revert", "new-home", "1").out == "flag new-home has version 5\n"
    assert beside("flags", "remove", "new-home").status == 0
    assert beside("flags", "show", "new-home").status == 4
    assert beside("flags", "revert", "new-home", "2", "--json").json["version"] == 7

    trail = well(beside("flags", "history", "new-home", "--json"))["changes"]
    assert [change["move"] for change in trail] == [
        "revert", "remove", "revert", "revive", "kill", "ramp", "put",
    ]  # fmt: skip
    kill = trail[4]
    assert kill["reason"] == "shown twice"
    assert kill["actor"].startswith("cli:")
    assert kill["words"] == ["Switched off: everybody gets the default in the code."]
    assert kill["patch"] == [
        {"op": "replace", "path": "/state", "before": "ENABLED", "value": "DISABLED"}
    ]
    assert "shown twice" in beside("flags", "history", "new-home").out


def test_a_ramp_by_schedule_is_a_chain_that_waits(beside: Millrace) -> None:
    beside("flags", "set", "new-home", "--boolean")

    steps = well(
        beside("flags", "ramp", "new-home", "on", "1", "10", "100", "--every", "1d",
               "--wait-for", "ios:4.2.0:80%:DE", "--json")
    )["steps"]  # fmt: skip

    assert [("version" in step, "request" in step) for step in steps] == [(False, True)] * 3
    assert "until 80% use ios 4.2.0 or later in DE" in steps[0]["waits"]
    waiting = well(beside("flags", "requests", "--json"))["requests"]
    assert [each["base_version"] for each in waiting] == [1, 2, 3]
    assert waiting[1]["due_at"] < waiting[2]["due_at"]
    assert waiting[0]["wait"]["share"] == 0.8
    assert "80% use ios" in beside("flags", "requests", "--key", "new-home").out
    assert beside("flags", "cancel", str(waiting[2]["id"]), "--note", "no").status == 0
    assert well(beside("flags", "requests", "--state", "cancelled", "--json"))["requests"][0][
        "note"
    ] == ("no")

    now = well(beside("flags", "ramp", "new-home", "on", "5", "50", "--every", "2h", "--json"))
    assert [step.get("version") for step in now["steps"]] == [2, None]
    assert "from one to the next" in beside("flags", "ramp", "new-home", "on", "1", "2").err


# ------------------------------------------------- four eyes


def test_every_change_that_waits_is_listed(beside: Millrace) -> None:
    beside("flags", "set", "new-home", "--boolean")
    steps = [f"{number / 2:g}" for number in range(1, 106)]
    beside(
        "flags", "ramp", "new-home", "on", *steps, "--every", "1d", "--wait-for", "ios:4.2.0:80%"
    )

    waiting = well(beside("flags", "requests", "--json"))["requests"]
    assert [each["base_version"] for each in waiting] == list(range(1, 106))
    assert len(well(beside("flags", "show", "new-home", "--json"))["requests"]) == 105
    older = beside("flags", "requests", "--before", str(waiting[5]["id"]), "--json")
    assert well(older)["requests"] == waiting[:5]


def test_where_others_approve_a_reason_is_needed_and_a_kill_is_not_held_up(
    beside: Millrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside("flags", "set", "new-home", "--boolean")
    ada, grace, shop = tokens(beside, ada="operator", grace="release_manager", shop="flag_reader")
    monkeypatch.setenv("MILLRACE_FLAGS_APPROVAL", "required")
    monkeypatch.setenv("MILLRACE_TOKEN", ada)

    bare = beside("flags", "set", "new-home", "--default", "on")
    assert (bare.status, "--reason" in bare.err) == (2, True)
    asked = well(
        beside("flags", "set", "new-home", "--default", "on", "--reason", "all like it", "--json")
    )
    assert asked["state"] == "proposed"
    assert well(beside("flags", "show", "new-home", "--json"))["version"] == 1
    own = beside("flags", "approve", str(asked["request"]))
    assert own.status != 0
    assert "operator:ada proposed this change" in own.err
    monkeypatch.setenv("LOGNAME", "grace")  # which anybody can say of themselves
    assert "proposed this change" in beside("flags", "approve", str(asked["request"])).err
    monkeypatch.setenv("MILLRACE_TOKEN", shop)
    assert "operator:shop changes no flags" in beside("flags", "approve", str(asked["request"])).err
    file = tmp_path / "token"
    file.write_text(f"{grace}\n", "utf-8")
    by = ("--token-file", str(file))
    approved = well(beside("flags", "approve", str(asked["request"]), *by, "--json"))
    assert (approved["state"], approved["decided_by"]) == ("applied", "operator:grace")
    monkeypatch.setenv("MILLRACE_TOKEN", ada)
    assert well(beside("flags", "show", "new-home", "--json"))["version"] == 2

    assert beside("flags", "kill", "new-home").out == "flag new-home has version 3\n"
    again = well(beside("flags", "revive", "new-home", "--reason", "mended", "--json"))
    rejected = beside("flags", "reject", str(again["request"]), "--note", "wait", "--json")
    assert well(rejected)["state"] == "rejected"


def test_where_others_approve_a_name_on_this_machine_is_no_proof(
    beside: Millrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside("flags", "set", "new-home", "--boolean")
    monkeypatch.setenv("MILLRACE_FLAGS_APPROVAL", "required")
    why = ("--reason", "all like it")

    for bare in (
        beside("flags", "set", "new-home", "--default", "on", *why),
        beside("flags", "ramp", "new-home", "on", "5", *why),
        beside("flags", "revive", "new-home", *why),
        beside("flags", "remove", "new-home", *why),
        beside("flags", "revert", "new-home", "1", *why),
        beside("flags", "approve", "1"),
        beside("flags", "reject", "1"),
        beside("flags", "cancel", "1"),
    ):
        assert bare.status != 0
        assert "nothing proves who you are" in bare.err
        assert "MILLRACE_TOKEN" in bare.err
    monkeypatch.setenv("MILLRACE_FLAGS_APPROVAL", "none")
    assert "nothing proves who you are" in beside("flags", "approve", "1").err
    monkeypatch.setenv("MILLRACE_FLAGS_APPROVAL", "required")
    assert beside("flags", "kill", "new-home").out == "flag new-home has version 2\n"


def test_an_import_waits_for_approval_too(
    beside: Millrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (ada,) = tokens(beside, ada="operator")
    monkeypatch.setenv("MILLRACE_FLAGS_APPROVAL", "required")
    monkeypatch.setenv("MILLRACE_TOKEN", ada)
    file = tmp_path / "flags.json"
    file.write_text('{"flags": {"a": {"state": "ENABLED", "variants": {"x": 1}}}}', "utf-8")

    made = well(beside("flags", "import", str(file), "--reason", "moved", "--json"))

    assert (made["created"], made["waiting"]) == ([], ["a"])
    assert beside("flags", "import", str(file)).status == 2
    assert well(beside("flags", "list", "--json")) == {"flags": []}


# ------------------------------------------------- explain


def test_explain_says_which_rule_which_ring_and_which_place(
    beside: Millrace, conninfo: str
) -> None:
    ada, _ = people(conninfo, "ada", "grace")
    beside("rings", "add", "employees", "ada")
    beside("flags", "set", "new-home", "--boolean")
    beside("flags", "set", "new-home", "--split", "on=25,off=75")
    beside("flags", "set", "new-home", "--give", "on", "--ring", "employees")

    inner = well(beside("flags", "explain", "new-home", "ada", "--json"))
    assert (inner["variant"], inner["value"], inner["reason"]) == ("on", True, "TARGETING_MATCH")
    assert inner["sentence"] == "Rule 1 decides: Whoever is in ring employees gets on."
    assert [rule["holds"] for rule in inner["rules"]] == [True, None]
    assert inner["ring"]["ring"] == "employees"
    assert "listed by cli:" in inner["ring"]["sentence"]
    assert inner["context"]["targetingKey"] == ada
    assert inner["context"]["rings"][0] == "employees"

    outer = well(
        beside("flags", "explain", "new-home", "grace", "--country", "DE", "--having", "x=1",
               "--json")
    )  # fmt: skip
    split = outer["split"]
    assert outer["reason"] == "SPLIT"
    assert [(each["variant"], each["start"], each["end"]) for each in split["slices"]] == [
        ("on", 0, 25), ("off", 25, 100),
    ]  # fmt: skip
    assert (outer["variant"] == "on") == (split["bucket"] < 25)
    assert outer["context"]["country"] == "DE"
    assert outer["context"]["x"] == 1
    told = beside("flags", "explain", "new-home", "grace").out
    assert "2^32" in told
    assert "here" in told

    stranger = well(beside("flags", "explain", "new-home", "visitor-1", "--stranger", "--json"))
    assert stranger["split"]["hashed"] == "new-homevisitor-1"
    assert beside("flags", "explain", "new-home", "visitor-1").status == 4


# ------------------------------------------------- diff, export, import


def test_diff_of_versions_and_of_files(beside: Millrace, conninfo: str, tmp_path: Path) -> None:
    people(conninfo, "ada", "grace")
    beside("flags", "set", "new-home", "--boolean")
    beside("flags", "set", "new-home", "--give", "on", "--country", "DE")
    beside("flags", "set", "new-home", "--default", "on")

    last = well(beside("flags", "diff", "new-home", "--json"))
    assert last["differences"][0]["words"] == ["By default: off becomes on."]
    turns = {turn["variant"]: turn for turn in last["whom"]["turns"]}
    assert (turns["on"]["added"], turns["off"]["dropped"]) == (2, 2)
    assert (turns["off"]["before"], turns["on"]["after"]) == (2, 2)
    out = beside("flags", "diff", "new-home").out
    assert '~ /defaultVariant: "off" becomes "on"' in out
    since = well(beside("flags", "diff", "new-home", "1", "--json"))["differences"][0]["words"]
    assert since == ["By default: off becomes on.", "Rule 1 is new: Whoever is in DE gets on."]
    assert "Rule 1 is new" in beside("flags", "diff", "new-home", "1", "2").out
    assert "The flag is new." in beside("flags", "diff", "new-home", "0", "1").out
    assert "nothing differs" in beside("flags", "diff", "new-home", "2", "2").out

    file = tmp_path / "flags.json"
    assert beside("flags", "export", str(file)).out == f"wrote 1 flag to {file}\n"
    assert well(beside("flags", "diff", "--file", str(file), "--json"))["differences"] == []
    whole = json.loads(file.read_text(encoding="utf-8"))
    whole["flags"]["new-home"]["defaultVariant"] = "off"
    file.write_text(json.dumps(whole), encoding="utf-8")
    of_file = well(beside("flags", "diff", "new-home", "--file", str(file), "--json"))
    assert of_file["differences"][0]["patch"] == [
        {"op": "replace", "path": "/defaultVariant", "before": "on", "value": "off"}
    ]
    assert (of_file["whom"]["members"], of_file["whom"]["changed"]) == (2, 2)
    assert "2 of 2 members" in beside("flags", "diff", "new-home", "--file", str(file)).err
    assert beside("flags", "diff").status == 2


def test_export_and_import_change_nothing(beside: Millrace, tmp_path: Path) -> None:
    file = tmp_path / "flags.json"
    text = json.dumps(
        {
            "$evaluators": {"german": GERMAN},
            "flags": {
                "a": {"state": "ENABLED", "variants": {"x": 1.0, "y": 2}, "defaultVariant": "x",
                      "targeting": {"if": [{"$ref": "german"}, "y"]}},
                "b": {"state": "ENABLED", "variants": {"on": True, "off": False},
                      "targeting": {"if": [{"millrace_flag": ["a", "x"]}, "on", "off"]}},
                "odd": {"state": "PERHAPS"},
            },
        }
    )  # fmt: skip
    file.write_text(text, encoding="utf-8")

    rehearsed = beside("flags", "import", str(file), "--dry-run")
    assert "nothing was changed" in rehearsed.out
    assert well(beside("flags", "list", "--json")) == {"flags": []}
    made = beside("flags", "import", str(file))
    assert made.out == "4 new, 0 changed, 0 the same\n"
    assert "warning: state is missing or unknown" in made.err
    assert beside("flags", "import", str(file)).out == "0 new, 0 changed, 4 the same\n"

    exported = beside("flags", "export")
    assert json.loads(exported.out) == json.loads(text)
    assert "only Millrace knows 'millrace_flag'" in exported.err
    file.write_text(exported.out, encoding="utf-8")
    again = well(beside("flags", "import", str(file), "--json"))
    assert (again["created"], again["changed"]) == ([], [])
    file.write_text(text.replace('"y": 2', '"y": 3'), encoding="utf-8")
    assert well(beside("flags", "import", str(file), "--json"))["changed"] == ["a"]
    assert beside("flags", "history", "a").out.count("import") >= 2
    file.write_text("{", encoding="utf-8")
    assert beside("flags", "import", str(file)).status == 2
    assert "no-such.json cannot be read" in beside("flags", "import", "no-such.json").err


# ------------------------------------------------- rings


def test_rings_by_list_rule_and_share(beside: Millrace, conninfo: str) -> None:
    ada, grace = people(conninfo, "ada", "grace")

    listed = well(beside("rings", "add", "employees", "ada", "grace", "--json"))["listed"]
    assert [each["member_id"] for each in listed] == [ada, grace]
    shown = well(beside("rings", "show", "employees", "--json"))
    assert (shown["ring"]["listed"], len(shown["entries"])) == (2, 2)
    assert ada in beside("rings", "show", "employees").out
    assert beside("rings", "remove", "employees", "grace").status == 0
    gone = beside("rings", "remove", "employees", "grace")
    assert (gone.status, "is not in ring employees" in gone.err) == (4, True)

    assert beside("rings", "rule", "beta", "--percentage", "100").status == 0
    told = well(beside("rings", "explain", "grace", "--json"))
    assert (told["ring"], len(told["steps"])) == ("beta", 5)
    assert "by their place within 100 % of all" in beside("rings", "explain", "grace").out
    ruled = beside("rings", "rule", "beta", "--attribute", "platform", "--value", "ios")
    assert ruled.out == "ring beta of server, by a rule: platform is ios\n"
    rows = {
        (each["track"], each["ring"]): each
        for each in well(beside("rings", "list", "--json"))["rings"]
    }
    assert rows["server", "employees"]["listed"] == 1
    assert rows["server", "beta"]["rule"]["version"] == 2
    assert rows["ios", "one_percent"]["rule"]["percentage"] == 1.0
    assert "platform is ios" in beside("rings", "list", "--track", "server").out
    assert beside("rings", "rule", "beta", "--nobody").out.endswith("nobody\n")


def test_a_slip_is_said_before_anything_is_written(beside: Millrace) -> None:
    """A mistyped key makes no flag, a time to nowhere is none, and what went past is told."""
    slip = beside("flags", "set", "new-hme", "--give", "on")
    assert (slip.status, "--boolean" in slip.err) == (2, True)
    well(beside("flags", "set", "new-home", "--boolean", "--json"))
    alone = beside("flags", "ramp", "new-home", "on", "50", "--every", "1d")
    assert (alone.status, "10 50 100" in alone.err) == (2, True)
    well(beside("flags", "ramp", "new-home", "on", "10", "50", "--every", "1d", "--json"))
    assert "outdated" not in beside("flags", "requests").out
    beside("flags", "kill", "new-home")

    assert "outdated" in beside("flags", "requests").out


def test_a_ring_that_cannot_be(beside: Millrace, conninfo: str) -> None:
    people(conninfo, "ada")

    for arguments, status, said in (
        (["add", "everyone", "ada"], 2, "everyone is in the ring everyone"),
        (["add", "employees", "nobody"], 4, "nobody"),
        (["add", "employees", "ada", "--track", "Play Store"], 2, "is no track"),
        (["rule", "beta"], 2, "for somebody, or for nobody"),
        (["rule", "beta", "--attribute", "platform"], 2, "its values"),
        (["explain", "nobody"], 4, "nobody"),
    ):
        ran = beside("rings", *arguments)
        assert (ran.status, ran.out, said in ran.err) == (status, "", True), ran.err
