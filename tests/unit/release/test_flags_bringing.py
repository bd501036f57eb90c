"""Whole files of flags: what comes in goes out as it was, and once is enough."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.kernel.errors import InvalidError
from millrace.release.flags.bringing import planned, written
from millrace.release.flags.types import Flag

SUITE = sorted(Path("/work/shared/conformance/flagd").rglob("*.json"))
AT = datetime(2026, 11, 21, tzinfo=UTC)


def stored(texts: dict[str, str]) -> dict[str, Flag]:
    """Return flags as they stand after the texts were written."""
    return {
        key: Flag(key=key, content=text, version=3, owner="", created_at=AT, changed_at=AT)
        for key, text in texts.items()
    }


WHOLE = """{
  "$schema": "s",
  "flags": {
    "a": {"state": "ENABLED", "variants": {"one": 1.0, "many": 1e3}, "defaultVariant": "one"},
    "b": { "variants": {"x": "\\u00e9"},
           "state": "DISABLED" }
  },
  "$evaluators": {"emails": {"in": ["@", {"var": "email"}]}},
  "metadata": {"team": "feed"}
}"""


def test_texts_are_kept_as_they_stand() -> None:
    plan = planned(WHOLE, {})

    assert plan.created == ("$evaluators", "$metadata", "a", "b")
    assert plan.texts["b"] == '{ "variants": {"x": "\\u00e9"},\n           "state": "DISABLED" }'
    assert plan.texts["$metadata"] == '{"team": "feed"}'
    assert set(plan.versions.values()) == {0}
    assert any("'$schema'" in problem.message for problem in plan.problems)


def test_the_same_file_again_changes_nothing() -> None:
    plan = planned(WHOLE, {})
    again = planned(json.dumps(json.loads(WHOLE)), stored(dict(plan.texts)))
    out = written(stored(dict(plan.texts)).values())

    assert (again.texts, len(again.unchanged)) == ({}, 4)
    assert "1.0" in out.text
    assert "1e3" in out.text
    assert planned(out.text, stored(dict(plan.texts))).texts == {}


@pytest.mark.parametrize(
    "other", [WHOLE.replace("1.0", "1"), WHOLE.replace('"one": 1.0, "many": 1e3', '"many": 1e3, "one": 1.0')]
)  # fmt: skip
def test_another_kind_of_number_or_order_is_a_change(other: str) -> None:
    plan = planned(WHOLE, {})
    changed = planned(other, stored(dict(plan.texts)))

    assert changed.changed == ("a",)
    assert changed.versions == {"a": 3}


@pytest.mark.parametrize(
    ("key", "definition", "said"),
    [
        ("$evaluators", {}, "no name of a flag"),
        ("$own", {}, "does not begin with a dollar"),
        ("list", [1], "not a JSON object"),
        ("k" * 201, {}, "201 characters"),
        ("", {}, "key is empty"),
    ],
)
def test_what_cannot_be_kept_is_left_out_and_the_rest_comes_in(
    key: str, definition: Any, said: str
) -> None:
    good = {"state": "ENABLED", "variants": {"on": True}}
    plan = planned(json.dumps({"flags": {key: definition, "good": good}}), {})

    assert (plan.created, plan.left_out) == (("good",), (key,))
    assert any(said in problem.message for problem in plan.problems)


def test_faults_are_warnings_and_no_json_is_refused() -> None:
    plan = planned('{"flags": {"f": {"state": "PERHAPS"}}}', {})

    assert plan.created == ("f",)
    assert plan.problems
    assert not any(problem.grave for problem in plan.problems)
    for text in ("", "[]", '{"flags": 3}', '{"flags": {"f": NaN}}'):
        with pytest.raises(InvalidError, match="cannot be brought in"):
            planned(text, {})


def test_what_only_millrace_knows_is_told_on_the_way_out() -> None:
    depends = '{"targeting": {"if": [{"millrace_flag": ["a", "on"]}, "on"]}}'

    (problem,) = written(stored({"b": depends, "a": "{}"}).values()).problems

    assert problem.place == "/flags/b"


@pytest.mark.parametrize("file", SUITE, ids=lambda file: file.name)
def test_the_suite_s_files_come_out_as_they_went_in(file: Path) -> None:
    whole = json.loads(file.read_text(encoding="utf-8"))
    if "flags" not in whole:
        pytest.skip("not a file of flags")
    plan = planned(file.read_text(encoding="utf-8"), {})

    out = json.loads(written(stored(dict(plan.texts)).values()).text)

    assert json.dumps(out["flags"]) == json.dumps(whole["flags"])
    assert out.get("$evaluators") == whole.get("$evaluators")
    assert out.get("metadata") == whole.get("metadata")


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=4)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip


@given(flags=st.dictionaries(st.text(max_size=4), VALUES, max_size=4), ascii_=st.booleans())
def test_any_file_comes_in_without_a_fault_and_the_second_time_changes_nothing(
    flags: dict[str, Any], ascii_: bool
) -> None:
    text = json.dumps({"flags": flags}, ensure_ascii=ascii_)
    plan = planned(text, {})
    stands = stored(dict(plan.texts))

    assert planned(text, stands).texts == {}
    out = json.loads(written(stands.values()).text)["flags"]
    assert json.dumps(out) == json.dumps({k: v for k, v in flags.items() if k in stands})


@pytest.mark.parametrize("bad", ["\\ud800", "\\u0000"])
def test_what_cannot_be_kept_or_told_stays_out(bad: str) -> None:
    """Half of a pair and NUL, in a key, a name or a value: the rest comes in, all can be told."""
    flags = {
        "good": '{"state": "ENABLED", "variants": {"on": "\\ud83d\\ude00"}}',
        "value": f'{{"state": "ENABLED", "variants": {{"on": "{bad}"}}}}',
        "name": f'{{"state": "ENABLED", "variants": {{"{bad}": 1}}}}',
        f"key{bad}": '{"state": "ENABLED", "variants": {"on": 1}}',
    }
    inside = ", ".join(f'"{key}": {text}' for key, text in flags.items())

    plan = planned(f'{{"flags": {{{inside}}}, "metadata": {{"m{bad}": 1}}}}', {})

    assert list(plan.texts) == ["good"]
    assert len(plan.left_out) == 4
    msgspec.json.encode([*plan.left_out, *plan.problems])
