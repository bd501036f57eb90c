"""What options make of a definition, and how times, shares and adoptions are written."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace.cli import flag_edits
from millrace.cli.flag_edits import BOOLEAN, Wish, edited, text_of
from millrace.kernel.errors import InvalidError
from millrace.release.flags.types import Wait

NOW = datetime(2026, 11, 21, 12, 0, 0, 5, tzinfo=UTC)
HAND: dict[str, Any] = {**BOOLEAN, "targeting": {"if": [{"in": [{"var": "x"}, 3]}, "on"]}}


def test_what_is_not_asked_for_stays() -> None:
    for definition in (dict(BOOLEAN), HAND):
        assert edited(definition, Wish()) == definition
    assert edited(HAND, Wish(default="on"))["targeting"] == HAND["targeting"]
    assert edited(dict(BOOLEAN), Wish(boolean=True, give="on"))["targeting"] == {"if": [True, "on"]}


def test_a_new_rule_is_first_or_last() -> None:
    first = edited(dict(BOOLEAN), Wish(give="on", countries=("de",)))
    both = edited(first, Wish(give="off", communities=("7",)))
    last = edited(first, Wish(split="on=1,off=99", last=True))

    german = {"in": [{"var": "country"}, ["DE"]]}
    assert first["targeting"] == {"if": [german, "on"]}
    assert both["targeting"]["if"][0] == {"in": [{"var": "community"}, ["7"]]}
    assert last["targeting"] == {"if": [german, "on", {"fractional": [["on", 1], ["off", 99]]}]}


def test_a_value_is_json_and_a_text_where_it_is_none() -> None:
    made = edited({}, Wish(variants=("a=1.5", "b=true", 'c={"x": 1}', "d=#00f", "e=a=b")))

    assert made == {
        "state": "ENABLED",
        "variants": {"a": 1.5, "b": True, "c": {"x": 1}, "d": "#00f", "e": "a=b"},
    }


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        (Wish(split="on=x,off=1"), "'x' is no weight"),
        (Wish(split="on=-1,off=1"), "'-1' is no weight"),
        (Wish(give="on", split="on=1,off=1"), "not both"),
        (Wish(rings=("alpha",)), "nothing that is given"),
        (Wish(variants=("on",)), "no name=value"),
        (Wish(metadata=("=1",)), "no name=value"),
        (Wish(give="on", countries=("Germany",)), "GERMANY"),
        (Wish(give="on", app_from="one"), "one"),
        (Wish(give="on", app_from="2.0.0", app_below="1.0.0"), "no app version"),
        (Wish(give="on", since=NOW), "whole seconds"),
    ],
)
def test_what_cannot_be_read_is_told(wish: Wish, said: str) -> None:
    with pytest.raises(InvalidError, match=said):
        edited(dict(BOOLEAN), wish)


def test_rules_by_hand_are_not_thrown_away_unasked() -> None:
    with pytest.raises(InvalidError, match="by hand"):
        edited(HAND, Wish(give="on"))
    assert edited(HAND, Wish(no_rules=True, give="on"))["targeting"] == {"if": [True, "on"]}


def test_text_stays_to_the_letter_where_nothing_changed() -> None:
    text = '{ "state":"ENABLED", "variants": {"a": 1.0, "b":2e0},\t"defaultVariant": "a" }'
    definition = json.loads(text)

    assert text_of(definition, text) == text
    moved = text_of({**definition, "defaultVariant": "b"}, text)
    assert moved == text.replace('"defaultVariant": "a"', '"defaultVariant": "b"')
    assert json.loads(text_of({"state": "DISABLED"}, text)) == {"state": "DISABLED"}
    floats = text_of({**definition, "variants": {"a": 1, "b": 2.0}}, text)
    assert '"a": 1,' in floats, "1 and 1.0 are two values"


def test_a_file_of_many_is_not_a_definition() -> None:
    for text, said in (
        ('{"flags": {}}', "several flags"), ("[]", "no JSON object"), ("{", "line 1"),
    ):  # fmt: skip
        with pytest.raises(InvalidError, match=said):
            flag_edits.definition_in(text, "the file")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2h", NOW.replace(microsecond=0) + timedelta(hours=2)),
        ("3d", NOW.replace(microsecond=0) + timedelta(days=3)),
        ("30min", NOW.replace(microsecond=0) + timedelta(minutes=30)),
        ("2026-12-01T09:00Z", datetime(2026, 12, 1, 9, tzinfo=UTC)),
        ("2026-12-01T09:00+01:00", datetime(2026, 12, 1, 8, tzinfo=UTC)),
    ],
)
def test_a_moment(text: str, at: datetime) -> None:
    assert flag_edits.moment(text, NOW, "at") == at


@pytest.mark.parametrize("text", ["tomorrow", "2026-12-01T09:00", "", "2 fortnights", "9999999d"])
def test_no_moment(text: str) -> None:
    with pytest.raises(InvalidError):
        flag_edits.moment(text, NOW, "at")


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("ios:4.2.0:80%", Wait(track="ios", version="4.2.0", share=0.8)),
        ("ios:4.2.0:0.8:de", Wait(track="ios", version="4.2.0", share=0.8, country="DE")),
        ("android:1.0.0:100%:7", Wait(track="android", version="1.0.0", share=1.0, community_id=7)),
    ],
)
def test_an_adoption(text: str, wait: Wait) -> None:
    assert flag_edits.wait_for(text) == wait


@pytest.mark.parametrize(
    "text",
    ["ios", "ios:1.0.0", "ios::80%", "ios:1.0.0:0", "ios:1.0.0:180%", "ios:1:x", "a:b:1:c:d"],
)
def test_no_adoption(text: str) -> None:
    with pytest.raises(InvalidError):
        flag_edits.wait_for(text)


def test_a_step_of_a_ramp_that_changes_nothing_is_left_out() -> None:
    steps = flag_edits.ramped(dict(BOOLEAN), "on", [0, 5, 5, 100])

    assert [percentage for percentage, _ in steps][-2:] == [5, 100]
    assert [step["targeting"]["fractional"][0] for _, step in steps[-2:]] == [
        ["on", 5], ["on", 100],
    ]  # fmt: skip
