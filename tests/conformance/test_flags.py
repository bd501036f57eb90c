"""Goal: every flag of our own file answers what its table says, with the reason that it says."""

import json
from pathlib import Path

import pytest

from millrace.release.flags import document
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.types import ABSENT, ErrorCode, FlagType, Reason

TABLE = json.loads((Path(__file__).parent / "flags.json").read_text(encoding="utf-8"))
NOW = 1_790_000_000.0
NOT_OURS = {ErrorCode.TARGETING_KEY_MISSING}  # flagd gives the default instead; a door may refuse


@pytest.fixture(scope="module")
def flags():
    return FlagSet.compile(TABLE["document"])


@pytest.mark.parametrize("row", TABLE["rows"], ids=lambda row: row["flag"])
def test_a_flag_answers_so(row, flags):
    found = flags.resolve(row["flag"], FlagType(row["type"]), row.get("context", {}), NOW)

    wanted = row.get("value", ABSENT)
    assert (found.value, type(found.value)) == (wanted, type(wanted)), found.message
    assert (found.key, found.variant) == (row["flag"], row.get("variant", ""))
    assert found.reason.value == row["reason"]
    assert (found.error.value if found.error else None) == row.get("error")
    assert bool(found.message) is (found.error is not None)
    assert dict(found.metadata).items() >= row.get("metadata", {"set": "conformance"}).items()
    assert "left-out" not in found.metadata


def test_a_broken_answer_says_why(flags):
    def told(key):
        return flags.evaluate(key, {}, NOW).message

    assert "depends on itself" in told("round")
    assert "'nowhere', which is not there" in told("needs-nothing")
    assert "'no-operator', which is broken" in told("needs-broken")
    assert "at /targeting/iff: there is no operator 'iff'" in told("no-operator")
    assert "'onn', which is no variant" in told("unknown-variant")


def test_the_table_has_every_reason_and_every_error_and_every_flag():
    rows = TABLE["rows"]

    assert {row["reason"] for row in rows} == {reason.value for reason in Reason}
    assert {row.get("error") for row in rows} - {None} == set(ErrorCode) - NOT_OURS
    assert {row["flag"] for row in rows} - {"nowhere"} == set(TABLE["document"]["flags"])


def test_a_file_is_written_as_it_was_read():
    text = json.dumps(TABLE["document"], indent=2) + "\n"

    read = document.read(text)

    assert document.written(read) == text
    assert [problem for problem in read.problems if problem.grave] == []
    assert FlagSet.compile(read.content).keys() == FlagSet.compile(TABLE["document"]).keys()


def test_a_change_of_one_flag_leaves_the_others_as_they_are(flags):
    other = {"state": "ENABLED", "variants": {"on": 1}, "defaultVariant": "on"}

    changed = flags.with_changes({"static": json.dumps(other), "text": None, "new": other})

    assert changed.evaluate("static", {}, NOW).value == 1
    assert changed.evaluate("new", {}, NOW).metadata["set"] == "conformance"
    assert changed.evaluate("text", {}, NOW).error is ErrorCode.FLAG_NOT_FOUND
    assert changed.evaluate("whole", {}, NOW) is flags.evaluate("whole", {}, NOW)
    assert flags.evaluate("static", {}, NOW).value is True
    assert "text" in set(flags.keys())


def test_a_set_is_made_of_texts_and_a_broken_text_breaks_its_flag_alone():
    whole = TABLE["document"]
    texts = {key: json.dumps(definition) for key, definition in whole["flags"].items()}
    texts["no-json"] = '{"state": '

    flags = FlagSet.of(texts, json.dumps(whole["$evaluators"]), json.dumps(whole["metadata"]))

    context = {"email": "ada@example.org", "country": "SE"}
    assert flags.evaluate("staff-only", context, NOW).variant == "yes"
    broken = flags.evaluate("no-json", {}, NOW)
    assert (broken.error, broken.value) == (ErrorCode.PARSE_ERROR, ABSENT)
    assert "line 1" in broken.message
