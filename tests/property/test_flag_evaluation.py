"""Goal: no definition and no context makes an evaluation raise, hang, or answer outside its list."""

import json
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.release.flags import check, document, reassignment, soundness
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.logic import KNOWN
from millrace.release.flags.types import ABSENT, ErrorCode, FlagType, Reason, Resolution

NOW = 1_790_000_000.0
HANG_SECONDS = 20.0  # of processor time; what is bounded takes milliseconds
KEYS = ["a", "b", "c"]
NAMES = ["a", "b", "on", "off", "targetingKey", "$flagd", "a.b", "length", ""]

numbers = st.one_of(
    st.integers(-5, 300),
    st.floats(),
    st.sampled_from([10**1000, -(10**1000), 2**63, 2**31, 0, -0.0]),
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.sampled_from(NAMES), st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(NAMES), st.text(max_size=4)), inner, max_size=3),
    ),
    max_leaves=12,
)
operators = st.sampled_from([*sorted(KNOWN), "$ref", "unknown"])
rules = st.recursive(
    st.one_of(
        scalars,
        st.sampled_from(["v1", "1.2.3", "=", "~"]),
        st.builds(lambda name: {"var": name}, st.sampled_from(NAMES)),
        st.builds(lambda key: {"millrace_flag": [key, "on"]}, st.sampled_from(KEYS)),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.builds(
            lambda name, arguments: {name: arguments},
            operators,
            st.one_of(inner, st.lists(inner, max_size=4)),
        ),
        st.builds(
            lambda key, shares: {"fractional": [*key, *shares]},
            st.lists(inner, max_size=1),
            st.lists(st.lists(inner, max_size=3), max_size=3),
        ),
        st.builds(
            lambda name, items, rule: {name: [items, rule, 0]},
            st.sampled_from(["map", "filter", "reduce", "all", "none", "some"]),
            st.lists(inner, max_size=5),
            inner,
        ),
    ),
    max_leaves=25,
)
variants = st.one_of(
    st.just({"on": True, "off": False}),
    st.dictionaries(st.sampled_from(["on", "off", "true", "1"]), values, max_size=3),
    values,
)
definitions = st.one_of(
    values,
    st.fixed_dictionaries(
        {"state": st.sampled_from(["ENABLED", "ENABLED", "DISABLED", None]), "variants": variants},
        optional={
            "defaultVariant": st.one_of(st.sampled_from(["on", "off", None]), scalars),
            "targeting": rules,
            "metadata": st.one_of(
                values, st.builds(lambda name: {"bucketing": name}, st.sampled_from(["v2", "v3"]))
            ),
        },
    ),
)
documents = st.fixed_dictionaries(
    {"flags": st.one_of(st.dictionaries(st.sampled_from(KEYS), definitions), values)},
    optional={
        "$evaluators": st.one_of(
            st.dictionaries(st.sampled_from(NAMES), rules, max_size=4), values
        ),
        "metadata": values,
    },
)


def judged(found: Resolution) -> None:
    """An answer is one of the closed list, whole, and says why where there is no value."""
    assert type(found) is Resolution
    assert found.reason in Reason
    assert (found.error is not None) is (found.reason is Reason.ERROR)
    assert bool(found.message) is (found.error is not None)
    assert len(found.message) < 2_000
    assert all(isinstance(one, str | int | float) for one in found.metadata.values())
    if found.error is not None or found.reason is Reason.DISABLED:
        assert found.value is ABSENT
        assert found.variant == ""


@settings(max_examples=80, deadline=None)
@given(documents, values, st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.just(NOW)))
def test_nothing_makes_an_evaluation_raise(whole, context, now):
    flags = FlagSet.compile(whole)

    for key in (*KEYS, "nowhere", None, 7, ["a"]):
        for asked in (context, {"a": context, "targetingKey": "1-1"}):
            judged(flags.evaluate(key, asked, now))
            for kind in FlagType:
                judged(flags.resolve(key, kind, asked, now))


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS), definitions, max_size=3), values, values)
def test_nothing_makes_an_editor_raise(flags, other, evaluators):
    whole = {"flags": flags, "$evaluators": evaluators}
    for key, definition in flags.items():
        for problem in check.problems(key, definition, whole):
            assert problem.message
            assert problem.place == "" or problem.place[0] == "/"
        reassignment.reassigned(definition, other)
        reassignment.reassigned(other, definition)


@settings(max_examples=150, deadline=None)
@given(definitions)
def test_what_an_editor_accepts_never_is_broken(definition):
    whole = {"flags": {"a": definition}}
    accepted = not any(problem.grave for problem in check.problems("a", definition, whole))

    found = FlagSet.compile(whole).evaluate("a", {}, NOW)

    assert not accepted or found.error is not ErrorCode.PARSE_ERROR, found.message


LONG = {
    "<numbers>": [0] * 9_000,
    "<texts>": ["x"] * 9_000,
    "<fractions>": [0.1] * 90,
    "<lists>": [[1] * 50] * 50,
    "<letters>": "x" * 60_000,
}
"""What a short name stands for: an example that is found stays short."""
LISTS = {
    "<numbers>": [1] * 2_000,
    "<texts>": ["x"] * 900,
    "<lists>": [[0.5] * 50] * 400,
    "<letters>": ["x" * 9_000] * 200,
}


def drawn_out(rule):
    """A rule with the long values in place of their names."""
    if isinstance(rule, dict):
        return {name: drawn_out(inner) for name, inner in rule.items()}
    if isinstance(rule, list):
        return [drawn_out(inner) for inner in rule]
    return LONG.get(rule, rule) if isinstance(rule, str) else rule


LOOPS = ["map", "filter", "all", "none", "some", "reduce"]
sound_rules = st.recursive(
    st.one_of(
        st.sampled_from(sorted(LONG)),
        st.builds(lambda name: {"var": name}, st.sampled_from(["", "accumulator", "current"])),
        st.sampled_from(["xs", 0, 1, "x"]),
    ),
    lambda inner: st.one_of(
        st.builds(
            lambda name, one, two: {name: [one, two]},
            st.sampled_from(["==", "!=", "===", "<", "<=", "+", "cat", "in", "merge", "and", "or"]),
            inner,
            inner,
        ),
        st.builds(
            lambda name, one: {name: [one]},
            st.sampled_from(["!", "-", "*", "min", "missing", "cat", "var", "merge"]),
            inner,
        ),
        st.builds(lambda one: {"fractional": [one, ["on", 50], ["off", 50]]}, inner),
        st.builds(lambda one: {"missing_some": [1, [*["a"] * 900, one]]}, inner),
        st.builds(
            lambda name, rule: {name: [{"var": "xs"}, rule, *["x"] * (name == "reduce")]},
            st.sampled_from(LOOPS),
            inner,
        ),
    ),
    max_leaves=8,
)
EVENTS_MAX = 1_200_000
"""Calls of functions that 100,000 steps may come to."""


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(LOOPS[:5]), sound_rules, st.sampled_from(sorted(LISTS)))
def test_one_evaluation_takes_bounded_steps(loop, rule, items):
    """Whatever an editor accepts: counted are the calls that an evaluation really makes."""
    definition = flag({"if": [{loop: [{"var": "xs"}, drawn_out(rule)]}, "on", "on"]})
    if any(problem.grave for problem in check.problems("a", definition, {})):
        return
    flags = FlagSet.compile({"flags": {"a": definition}})
    events = 0

    def count(_frame, _event, _argument):
        nonlocal events
        events += 1

    sys.setprofile(count)
    try:
        found = flags.evaluate("a", {"targetingKey": "1-1", "xs": LISTS[items]}, NOW)
    finally:
        sys.setprofile(None)

    judged(found)
    assert events < EVENTS_MAX


def test_what_flags_share_is_compiled_once():
    """Five thousand members that a hundred flags refer to are not as many expressions each."""
    rules = {"crew": {"in": [{"var": "targetingKey"}, [f"7-{n}" for n in range(5_000)]]}}
    texts = {f"f{n}": json.dumps(flag({"if": [{"$ref": "crew"}, "on"]})) for n in range(100)}
    events = 0

    def count(_frame, _event, _argument):
        nonlocal events
        events += 1

    sys.setprofile(count)
    try:
        flags = FlagSet.of(texts, json.dumps(rules))
        compiled = events
        soundness.problems("$evaluators", json.dumps(rules), texts)
    finally:
        sys.setprofile(None)

    assert flags.evaluate("f99", {"targetingKey": "7-4999"}, NOW).reason is Reason.TARGETING_MATCH
    assert compiled < 100_000  # one walk over the members; a hundred walks are millions
    assert events < 5_000_000


def whole(rule, evaluators):
    """A rule with evaluators written out where they are referred to."""
    if isinstance(rule, list):
        return [whole(inner, evaluators) for inner in rule]
    if not isinstance(rule, dict):
        return rule
    if list(rule) == ["$ref"]:
        return whole(evaluators[rule["$ref"]], evaluators)
    return {name: whole(inner, evaluators) for name, inner in rule.items()}


SHARED = {
    "plain": {"==": [{"var": "a"}, "x"]},
    "keyed": {"==": [{"var": "$flagd.flagKey"}, "a"]},
    "drawn": {"fractional": [["on", 50], ["off", 50]]},
    "timed": {">": [{"var": "$flagd.timestamp"}, 5]},
    "computed": {"==": [{"var": {"cat": ["$flagd.", "flagKey"]}}, "b"]},
    "inner": {"==": [{"var": ""}, "x"]},
    "over": {"some": [{"var": "b"}, {"$ref": "inner"}]},
    "both": {"and": [{"$ref": "plain"}, {"$ref": "keyed"}, {"$ref": "timed"}]},
}
used_rules = st.recursive(
    st.builds(lambda name: {"$ref": name}, st.sampled_from(sorted(SHARED))),
    lambda inner: st.one_of(
        st.builds(lambda one: {"!": [one]}, inner),
        st.builds(lambda one, two: {"and": [one, two]}, inner, inner),
        st.builds(lambda one: {"some": [{"var": "b"}, one]}, inner),
        st.builds(lambda one, two: {"if": [one, two, "off"]}, inner, inner),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(used_rules, st.sampled_from(["v2", "v3"])), min_size=3, max_size=3),
    st.sampled_from(["x", "y", None]),
    st.sampled_from([["x"], ["y", "x"], []]),
)
def test_what_is_shared_decides_as_if_it_were_written_out(rules, a, b):
    """Also where it looks at the flag's key or its bucketing, in whatever order it is compiled."""
    context = {"targetingKey": "7-42", "a": a, "b": b}
    texts = {
        key: {
            **flag({"if": [rule, "on", "off"]}),
            "variants": {"on": 1, "off": 0},
            "metadata": {"bucketing": bucketing},
        }
        for key, (rule, bucketing) in zip(KEYS, rules, strict=True)
    }
    shared = FlagSet.compile({"flags": texts, "$evaluators": SHARED})
    alone = FlagSet.compile({"flags": whole(texts, SHARED)})

    for key in KEYS:
        assert shared.evaluate(key, context, NOW) == alone.evaluate(key, context, NOW)


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=40))
def test_no_text_makes_a_reader_raise(text):
    for said in (text, '{"flags": ' + text, '{"flags": {"a": ' + text + "}}"):
        FlagSet.compile(document.read(said).content)
        FlagSet.of({"a": said}, said, said)


def nested(rule, times, name="!"):
    """A rule within as many operators."""
    for _ in range(times):
        rule = {name: [rule]}
    return rule


def flag(targeting):
    """A flag with a rule."""
    return {
        "state": "ENABLED",
        "variants": {"on": 1},
        "defaultVariant": "on",
        "targeting": targeting,
    }


BOMB = {f"e{n}": {"and": [{"$ref": f"e{n + 1}"}] * 4} for n in range(40)} | {"e40": {"var": "a"}}
MILLION = list(range(1_000_000))
DOUBLED = {"var": "accumulator"}
REPEATED = {"reduce": [[1] * 200, [DOUBLED, DOUBLED], "x"]}
HOSTILE = {
    "nested 10,000 deep": (flag(nested({"var": "a"}, 10_000)), {}),
    "nested lists": (flag({"in": [nested([], 10_000, "x"), []]}), {}),
    "evaluators that double": (flag({"if": [{"$ref": "e0"}, "on"]}), {"a": 1}),
    "a million to map": (flag({"map": [{"var": "a"}, {"+": [{"var": ""}, 1]}]}), {"a": MILLION}),
    "a million to search": (flag({"if": [{"in": ["x", {"var": "a"}]}, "on"]}), {"a": MILLION}),
    "a million to write": (flag({"cat": [{"var": "a"}]}), {"a": MILLION}),
    "a million to merge": (flag({"merge": [{"var": "a"}]}), {"a": MILLION}),
    "loops in loops": (
        flag({"map": [{"var": "a"}, {"map": [{"var": "b"}, {"map": [{"var": "b"}, 1]}]}]}),
        {"a": [{"b": [{"b": [1] * 300}] * 300}] * 300},
    ),
    "texts that double": (
        flag({"reduce": [[1] * 200, {"cat": [DOUBLED, DOUBLED]}, "x"]}),
        {},
    ),
    "lists that double": (
        flag({"reduce": [[1] * 200, {"merge": [DOUBLED, DOUBLED]}, [1]]}),
        {},
    ),
    "lists of themselves": (
        flag({"cat": [REPEATED]}),
        {},
    ),
    "a key of itself": (
        {
            **flag({"fractional": [REPEATED, ["on", 1]]}),
            "metadata": {"bucketing": "v3"},
        },
        {},
    ),
    "megabytes put together": (flag({"cat": [{"var": "a"}] * 1_500}), {"a": "a" * 1_000_000}),
    "megabytes in a list": (flag({"cat": [{"var": "a"}]}), {"a": ["a" * 1_000_000] * 9_000}),
    "numbers that grow": (
        flag({"reduce": [[1] * 900, {"*": [DOUBLED, DOUBLED]}, 3]}),
        {},
    ),
    "a megabyte of text": (
        flag({"or": [{"in": [c, {"var": "a"}]} for c in "bcdefgh"] * 20}),
        {"a": "a" * 1_000_000},
    ),
    "a megabyte of version": (flag({"sem_ver": [{"var": "a"}, "=", "1"]}), {"a": "1." * 500_000}),
    "a megabyte of number": (
        flag({"if": [{"<": [{"var": "a"}, 1]}, "on"]}),
        {"a": "9" * 1_000_000},
    ),
    "a megabyte of key": (
        flag({"fractional": [{"var": "a"}, ["on", 1]]}),
        {"a": "9" * 1_000_000},
    ),
    "thousands of digits": (
        flag({"fractional": [["on", {"*": [{"var": "a"}, {"var": "a"}]}]]}),
        {"a": 10**4_000, "targetingKey": "1-1"},
    ),
    "thousands of operators": (flag({"or": [{"var": "a"}] * 10_001}), {}),
    "a dependence on all": (flag({"or": [{"millrace_flag": ["a", "on"]}] * 500}), {}),
    "a list to compare": (
        flag({"or": [{"==": [{"var": "a"}, f"x{n}"]} for n in range(1_600)]}),
        {"a": [0.123] * 90},
    ),
    "a list to compare with each item": (
        flag({"if": [{"some": [{"var": "a"}, {"==": [{"var": ""}, [0] * 9_000]}]}, "on"]}),
        {"a": [1] * 9_000},
    ),
    "a long list made for each item": (
        flag({"if": [{"some": [{"var": "a"}, {"in": [2, [{"var": ""}, *[0] * 9_000]]}]}, "on"]}),
        {"a": [1] * 9_000},
    ),
    "a deep context": (flag({"if": [{"==": [{"var": "a"}, "x"]}, "on"]}), {"a": nested(1, 5_000)}),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_built_to_hang_is_answered_at_once(name):
    definition, context = HOSTILE[name]
    before = time.process_time()

    flags = FlagSet.compile({"flags": {"a": definition}, "$evaluators": BOMB})
    found = flags.evaluate("a", {"targetingKey": "1-1", **context}, NOW)
    check.problems("a", definition, {"$evaluators": BOMB})

    judged(found)
    assert time.process_time() - before < HANG_SECONDS


def test_what_a_flag_depends_on_counts_too():
    """Sixty long rules are not the answer of one."""
    long = flag({"if": [{"or": [{"<": [{"var": "a"}, n]} for n in range(400)]}, "on"]})
    many = {f"f{n}": long for n in range(60)}
    asking = flag({"and": [{"millrace_flag": [key, "on"]} for key in many]})

    found = FlagSet.compile({"flags": {**many, "a": asking}}).evaluate("a", {"a": 9_999}, NOW)

    assert found.error is ErrorCode.GENERAL
    assert "steps" in found.message


@pytest.mark.parametrize(
    ("needle", "items", "held"),
    [
        *((1, [1.0, "x"], True), (True, [1, "x"], False), (None, [1], False), ("1", [1], False)),
        *((2**70, [2**70, 1], True), ([1], [1], False), (1, [True, None], False)),
        *((None, [None, 1], True), (True, [True, 1], True), (1, [[1], 1], True)),
    ],
)
def test_a_value_is_found_among_its_own_kind(needle, items, held):
    found = {
        FlagSet.compile({"flags": {"a": flag({"if": [rule, "on", None]})}})
        .evaluate("a", {"needle": needle, "items": items}, NOW)
        .reason
        for rule in (
            {"in": [{"var": "needle"}, items]},
            {"in": [{"var": "needle"}, {"var": "items"}]},
        )
    }

    assert found == {Reason.TARGETING_MATCH if held else Reason.DEFAULT}


def test_a_cyclic_context_is_an_answer_too():
    context = {"a": []}
    context["a"].append(context["a"])
    rule = {"if": [{"==": [{"var": "a"}, "x"]}, "on"]}

    found = FlagSet.compile({"flags": {"a": flag(rule)}}).evaluate("a", context, NOW)

    assert found.error is ErrorCode.GENERAL
    assert "items" in found.message
