"""Goal: an editor hears of everything that is wrong, where it is, and what to do."""

import json

import pytest

from millrace.release.flags import check, dependences, document
from millrace.release.flags.types import KEY_MAX

GOOD = {"state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off"}
OTHER = {"state": "ENABLED", "variants": {"yes": 1, "no": 2}, "defaultVariant": "no"}


def told(definition, key="a", **others):
    """Return the places and messages of what is wrong with a definition."""
    flags = {"flags": {"other": OTHER, **others.pop("flags", {})}, **others}
    return [(one.place, one.message) for one in check.problems(key, definition, flags) if one.grave]


def with_rule(targeting, **others):
    return told({**GOOD, "targeting": targeting}, **others)


def test_a_good_definition_has_no_problems():
    rule = {
        "if": [
            {"and": [{"in": [{"var": "country"}, ["SE"]]}, {"sem_ver": [{"var": "v"}, ">=", "1"]}]},
            {"fractional": [{"cat": ["seed", {"var": "targetingKey"}]}, ["on", 5], ["off", 995]]},
            {"!": {"millrace_flag": ["other", "yes"]}},
            {"fractional": [["on"], ["off"], [None]]},
            {"$ref": "staff"},
            "on",
            None,
        ]
    }
    metadata = {"bucketing": "v3", "owner": "feed", "tier": 1}

    found = told(
        {**GOOD, "targeting": rule, "metadata": metadata}, **{"$evaluators": {"staff": True}}
    )

    assert found == []
    assert with_rule({}) == with_rule(None) == told({**GOOD, "defaultVariant": None}) == []


@pytest.mark.parametrize("key", ["", "$x", ".x", "a b", "a/b", "ä", "a" * (KEY_MAX + 1), "a\n"])
def test_a_key_that_no_address_can_carry_is_refused(key):
    ((place, message),) = told(GOOD, key=key)

    assert place == ""
    assert "key" in message


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"state": "on"}, "/state", '"ENABLED" or "DISABLED"'),
        ({"variants": {}}, "/variants", "at least one"),
        ({"variants": {"on": True, "off": 0}}, "/variants/off", "values of one type"),
        ({"variants": {"on": True, "off": None}}, "/variants/off", "give it a value"),
        ({"variants": {"on/off": True, "x": ""}, "defaultVariant": "x"}, "/variants/x", "'on/off'"),
        ({"defaultVariant": "of"}, "/defaultVariant", "name one of 'on', 'off'"),
        ({"defaultVariant": True}, "/defaultVariant", "name one of"),
        ({"metadata": {"bucketing": "v1"}}, "/metadata/bucketing", "use one of v2, v3"),
        ({"metadata": {"a~b": []}}, "/metadata/a~0b", "text or number"),
        ({"metadata": []}, "/metadata", "an object"),
        ({"targeting": ["on"]}, "/targeting", "a JSON object"),
    ],
)
def test_each_member_is_checked(change, place, words):
    found = told({**GOOD, **change})

    assert [where for where, _ in found] == [place]
    assert words in found[0][1]


@pytest.mark.parametrize(
    ("rule", "place", "words"),
    [
        ({"iff": [True, "on"]}, "/iff", "did you mean 'if'?"),
        ({"if": [{"zzz": 1}, "on"]}, "/if/0/zzz", "no operator 'zzz'"),
        ({"if": [{"!": {"zzz": 1}}, "on"]}, "/if/0/!/zzz", "no operator"),
        ({"if": [{"==": [1, 2], "!=": [1]}, "on"]}, "/if/0", "stands alone"),
        ({"if": [True, "onn"]}, "/if/1", "did you mean 'on'?"),
        ({"if": [True, ["on"]]}, "/if/1", "no variant"),
        ({"==": [{"var": "a"}, 1]}, "", "put it in an `if`"),
        ({"if": [{"$ref": "staf"}, "on"]}, "/if/0/$ref", "add it to $evaluators"),
        ({"if": [{"in": ["a"]}, "on"]}, "/if/0/in", "give it 2"),
        ({"if": [{"in": ["a", 7]}, "on"]}, "/if/0/in/1", "write a list"),
        ({"if": [{"starts_with": [{"var": "a"}, 7]}, "on"]}, "/if/0/starts_with/1", "a text"),
        ({"if": [{"sem_ver": [{"var": "v"}, "=>", "1"]}, "on"]}, "/if/0/sem_ver/1", ">="),
        ({"if": [{"sem_ver": [{"var": "v"}, "=", "1.x"]}, "on"]}, "/if/0/sem_ver/2", "1.2.3"),
        ({"if": [{"var": True}, "on"]}, "/if/0/var", "name of an attribute"),
        ({"if": [{"some": ["abc", True]}, "on"]}, "/if/0/some/0", "a list"),
        ({"fractional": [["on", 50], ["off", 60]]}, "/fractional", "add up to 110: make it 100"),
        ({"fractional": [["on", 1], ["off"]]}, "/fractional", "add up to 2"),
        ({"fractional": [["on", 500], ["off", 600]]}, "/fractional", "add up to 1100"),
        ({"fractional": [["on", 2**31], ["off", 1]]}, "/fractional", "lower all of them"),
        ({"fractional": [["on", 10.5], ["off", 89.5]]}, "/fractional/0/1", "whole number"),
        ({"fractional": [["on", -1], ["off", 101]]}, "/fractional/0/1", "below zero"),
        ({"fractional": [["on", True], ["off", 99]]}, "/fractional/0/1", "whole number"),
        ({"fractional": [["onn", 100]]}, "/fractional/0/0", "did you mean 'on'?"),
        ({"fractional": [["on", 50, 1], ["off", 100]]}, "/fractional/0", "a variant and a weight"),
        ({"fractional": []}, "/fractional", "no shares"),
        ({"fractional": [7, ["on", 100]]}, "/fractional/0", "the key of a split"),
        (
            {"if": [{"millrace_flag": ["none", "on"]}, "on"]},
            "/if/0/millrace_flag",
            "no flag 'none'",
        ),
        ({"if": [{"millrace_flag": ["other", "on"]}, "on"]}, "/if/0/millrace_flag", "no variant"),
        ({"if": [{"millrace_flag": ["a", "on"]}, "on"]}, "/if/0/millrace_flag", "a -> a"),
        (
            {"if": [{"millrace_flag": [{"var": "a"}, "on"]}, "on"]},
            "/if/0/millrace_flag",
            "two texts",
        ),
    ],
)
def test_each_place_of_a_rule_is_checked(rule, place, words):
    found = with_rule(rule)

    assert found[0][0] == f"/targeting{place}"
    assert words in " ".join(message for _, message in found)


def test_flags_that_depend_on_one_another_in_a_circle_are_refused():
    def needing(key):
        return {**GOOD, "targeting": {"if": [{"millrace_flag": [key, "on"]}, "on"]}}

    shared = {"b_is_on": {"millrace_flag": ["b", "on"]}}
    through = {**GOOD, "targeting": {"if": [{"$ref": "b_is_on"}, "on"]}}
    flags = {"b": needing("c"), "c": needing("a")}
    row = {f"r{n}": needing(f"r{n + 1}") for n in range(12)} | {"r12": GOOD}

    found = told(through, flags=flags, **{"$evaluators": shared})
    long = told(needing("r0"), flags=row)

    assert found[0][0] == "/targeting/if/0"
    assert "a -> b -> c -> a" in found[0][1]
    assert "more than 8 flags" in long[0][1]
    assert told(needing("r6"), flags=row) == []
    assert dependences.dependents("b", {"a": through, **flags}, shared) == ["a"]


def test_what_is_too_deep_or_too_large_is_refused_before_it_is_walked():
    deep = {"var": "a"}
    for _ in range(5_000):
        deep = {"!": [deep]}
    nested = {"if": [json.loads('{"!": ' * 95 + '{"!": [{"!": [1]}]}' + "}" * 95), "on"]}
    many = {"or": [{"var": "a"}] * 10_001}
    bomb = {f"e{n}": {"or": [{"$ref": f"e{n + 1}"}] * 9} for n in range(9)} | {"e9": {"var": "a"}}

    assert "levels deep" in with_rule(deep)[0][1]
    assert with_rule(nested) == []
    assert "10,000" in with_rule(many)[0][1]
    assert (
        "10,000 steps" in with_rule({"if": [{"$ref": "e0"}, "on"]}, **{"$evaluators": bomb})[0][1]
    )
    assert "200,000 values" in told({**GOOD, "metadata": {"x": [0] * 200_001}})[0][1]


def test_what_is_unknown_is_kept_and_told_of():
    (found,) = check.problems("a", {**GOOD, "colour": "red"}, {})

    assert (found.place, found.grave) == ("/colour", False)


def test_what_flags_share_is_checked_too():
    evaluators = {"a/b": {"nope": 1}, "round": {"!": [{"$ref": "round"}]}, "good": {"var": "a"}}

    found = check.shared_problems(evaluators, {"owner": None})

    assert [one.place for one in found] == [
        "/metadata/owner",
        "/$evaluators/a~1b/nope",
        "/$evaluators/round/!/0/$ref",
    ]


def test_a_file_is_read_with_warnings():
    flags = {"a": {**GOOD, "targeting": {"fractional": [["on", 1], ["of", 1]]}}, "b": 7}
    text = "\ufeff" + json.dumps({"flags": flags, "$evaluators": [], "metadata": {"x": None}})

    read = document.read(text)

    assert [one.grave for one in read.problems] == [False] * len(read.problems)
    assert [one.place for one in read.problems] == [
        "/$evaluators",
        "/metadata/x",
        "/flags/a/targeting/fractional/1/0",
        "/flags/a/targeting/fractional",
        "/flags/b",
    ]
    assert read.flags == flags
    assert read.evaluators == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "line 1, column 1"),
        ('{"flags": {', "line 1, column"),
        ('{"flags": NaN}', "NaN"),
        ("[" * 100_000, "levels deep"),
        ('{"flags": ' + "9" * 5_000 + "}", "no JSON"),
        ("[]", "a JSON object"),
        ('{"flags": []}', '"flags"'),
        ("{}", '"flags"'),
    ],
)
def test_what_cannot_be_read_says_why(text, words):
    read = document.read(text)

    assert words in read.problems[0].message
    assert read.problems[0].grave
    assert read.flags == {}
