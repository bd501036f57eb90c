"""Goal: rules come back from the JSON that they are written as, and no step of them drops anybody."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.kernel.errors import InvalidError
from millrace.release.flags import check, rules
from millrace.release.flags.bucketing import v2
from millrace.release.flags.conditions import (
    AppVersions,
    Between,
    Depends,
    Having,
    InRings,
    Markets,
    Members,
)
from millrace.release.flags.expressions import operation
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.outcomes import Give, Share, Split
from millrace.release.flags.ramps import Ramp, Step, percentage_at
from millrace.release.flags.rules import Rule
from millrace.release.flags.semver import parsed
from millrace.release.flags.types import Ring

PLAIN = {"if", "and", "or", "in", "var", "sem_ver", "fractional", ">=", "<"}
"""The operators that a rule may be written with, all of which flagd has."""

names = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12
)
"""What the database takes: no half of a pair, and no NUL."""
VARIANTS = ["on", "off", "blue", "true", "0", "größer"]
variants = st.sampled_from(VARIANTS)
seconds = st.integers(0, 4_000_000_000)
moments = seconds.map(lambda at: datetime.fromtimestamp(at, UTC))
versions = st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30)).map(
    lambda parts: ".".join(map(str, parts))
)
percentages = st.integers(0, 100_000_000).map(lambda n: n / 1_000_000) | st.sampled_from(
    [0.0, 0.1, 0.5, 1.0, 2.5, 10.0, 33.3, 100.0]
)


def several(of: st.SearchStrategy[Any], least: int = 1) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, min_size=least, max_size=4, unique=True).map(tuple)


countries = several(st.from_regex(r"[A-Z]{2}", fullmatch=True))
communities = several(st.integers(1, 2**63 - 1).map(str))
attributes = st.sampled_from(["platform", "language", "track", "plan"])


@st.composite
def ranges(draw: st.DrawFn) -> AppVersions:
    ends = draw(st.lists(versions, min_size=2, max_size=2, unique=True))
    ends.sort(key=lambda end: tuple(map(int, end.split("."))))
    return draw(
        st.sampled_from([AppVersions(ends[0]), AppVersions("", ends[1]), AppVersions(*ends)])
    )


@st.composite
def times(draw: st.DrawFn) -> Between:
    start, end = sorted(draw(st.lists(moments, min_size=2, max_size=2, unique=True)))
    return draw(st.sampled_from([Between(start), Between(None, end), Between(start, end)]))


kinds = [
    several(names).map(Members),
    several(st.sampled_from(Ring)).map(InRings),
    st.one_of(
        countries.map(Markets),
        communities.map(lambda found: Markets((), found)),
        st.tuples(countries, communities).map(lambda found: Markets(*found)),
    ),
    ranges(),
    times(),
    st.tuples(names, names).map(lambda pair: Depends(*pair)),
    st.tuples(attributes, several(names)).map(lambda pair: Having(*pair)),
]
conditions = st.lists(st.sampled_from(range(len(kinds))), unique=True, max_size=4).flatmap(
    lambda chosen: st.tuples(*(kinds[n] for n in chosen))
)


@st.composite
def ramps(draw: st.DrawFn) -> Ramp:
    at = sorted(draw(st.lists(moments, min_size=1, max_size=6, unique=True)))
    grown = sorted(draw(st.lists(percentages, min_size=len(at), max_size=len(at))))
    variant, otherwise = draw(st.lists(variants, min_size=2, max_size=2, unique=True))
    return Ramp(variant, otherwise, tuple(Step(*step) for step in zip(at, grown, strict=True)))


@st.composite
def splits(draw: st.DrawFn) -> Split:
    named = draw(st.lists(variants, min_size=1, max_size=4, unique=True))
    weights = draw(
        st.lists(st.integers(0, 1000), min_size=len(named), max_size=len(named)).filter(sum)
    )
    return Split(tuple(Share(*share) for share in zip(named, weights, strict=True)))


outcomes = variants.map(Give) | splits() | ramps()
lists = st.lists(st.builds(Rule, conditions, outcomes), max_size=5)


def operators(node: Any) -> set[str]:
    """Every operator of an expression."""
    found = operation(node)
    if found is not None:
        return {found[0]}.union(*(operators(each) for each in found[1]))
    return set().union(*(operators(each) for each in node)) if isinstance(node, list) else set()


@given(lists)
def test_rules_come_back_from_the_json_that_they_are_written_as(found: list[Rule]):
    """What the editor saves is what it shows again, also after a journey through text."""
    written = json.loads(json.dumps(rules.write(found)))

    assert rules.read(written) == found


@given(lists)
def test_rules_are_plain_flagd_but_for_a_dependence(found: list[Rule]):
    """Another evaluator of the same JSON decides the same."""
    depends = any(isinstance(each, Depends) for rule in found for each in rule.conditions)

    used = operators(rules.write(found))

    assert used <= (PLAIN | {"millrace_flag"} if depends else PLAIN)


@given(lists)
def test_rules_travel_as_structs_and_are_told_in_a_sentence(found: list[Rule]):
    """The wire has the same rules, and each has words."""
    again = msgspec.json.decode(msgspec.json.encode(found), type=list[Rule])

    assert again == found
    assert all(rules.in_words(rule).endswith(".") for rule in found)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from([*sorted(PLAIN), "==", "millrace_flag", "!", "cat", "x"]),
            inner | st.lists(inner, max_size=4),
            max_size=2,
        )
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_rules_or_somebody_s_own(targeting: Any):
    """Reading raises for nothing; what it reads is written so that it reads the same."""
    found = rules.read(targeting)

    if found is not None:
        assert rules.read(rules.write(found)) == found


@given(ramps(), seconds, seconds)
def test_a_ramp_grows_with_time(ramp: Ramp, first: int, second: int):
    """Nobody who had the first variant loses it later."""
    early, late = (datetime.fromtimestamp(at, UTC) for at in sorted([first, second]))

    assert percentage_at(ramp, early) <= percentage_at(ramp, late)


@given(ramps(), st.data())
def test_a_ramp_that_falls_is_refused(ramp: Ramp, data: st.DataObject):
    """The editor cannot save a schedule that would take the variant from somebody."""
    last = ramp.steps[-1]
    step = Step(last.at + timedelta(seconds=1), data.draw(percentages))
    longer = Ramp(ramp.variant, ramp.otherwise, (*ramp.steps, step))

    if step.percentage < last.percentage:
        with pytest.raises(InvalidError, match="never drops"):
            rules.write([Rule((), longer)])
    else:
        assert rules.read(rules.write([Rule((), longer)])) == [Rule((), longer)]


def holds(condition: Any, context: dict[str, Any], now: datetime, others: dict[str, str]) -> bool:
    """Whether a condition holds, by its words."""
    match condition:
        case Members(members):
            return context["targetingKey"] in members
        case InRings(rings):
            return any(ring in context["rings"] for ring in rings)
        case Markets(countries, communities):
            return context["country"] in countries or context["community"] in communities
        case AppVersions(at_least, below):
            mine, low, high = map(parsed, (context["appVersion"], at_least or "0", below or "999"))
            return low <= mine < high
        case Between(start, end):
            return (start is None or start <= now) and (end is None or now < end)
        case Depends(flag, variant):
            return others[flag] == variant
        case Having(name, values):
            return context[name] in values


def given_by(outcome: Any, flag: str, context: dict[str, Any], now: datetime) -> str:
    """The variant that an outcome gives, by its words."""
    match outcome:
        case Give(variant):
            return variant
        case Split(shares):
            key = flag + context["targetingKey"]
            return shares[v2.bucket(key, [share.weight for share in shares])].variant
        case Ramp(variant, otherwise):
            share = round(percentage_at(outcome, now) * 10**6)
            key = flag + context["targetingKey"]
            return otherwise if v2.bucket(key, [share, 10**8 - share]) else variant


@st.composite
def requests(draw: st.DrawFn, found: list[Rule]) -> dict[str, Any]:
    """A context in which conditions of these rules often hold."""
    held = [condition for rule in found for condition in rule.conditions]
    said = {"targetingKey": ["7-1"], "country": ["DE"], "community": ["7"], "appVersion": ["2.0.0"]}
    said |= {name: ["x"] for name in ("platform", "language", "track", "plan")}
    for condition in held:
        match condition:
            case Members(members):
                said["targetingKey"] += members
            case Markets(countries, communities):
                said["country"] += countries
                said["community"] += communities
            case AppVersions(at_least, below):
                said["appVersion"] += [end for end in (at_least, below) if end]
            case Having(name, values):
                said[name] += values
    context = {name: draw(st.sampled_from(values)) for name, values in said.items()}
    inner = draw(st.integers(0, len(Ring) - 1))
    return {**context, "rings": [ring.value for ring in Ring][inner:]}


@st.composite
def times_near(draw: st.DrawFn, found: list[Rule]) -> datetime:
    """A moment at which something changes, a second before it, or any."""
    marks = [step.at for rule in found for step in getattr(rule.outcome, "steps", ())]
    for rule in found:
        for condition in rule.conditions:
            if isinstance(condition, Between):
                marks += [at for at in (condition.start, condition.end) if at]
    at = draw(st.sampled_from(marks) if marks else moments)
    return at - timedelta(seconds=draw(st.integers(0, 1)))


def spelt(node: Any) -> Any:
    """The same expression in other words that are read as the same rules."""
    match operation(node):
        case "in", [left, [value]]:
            return {"==": [value, spelt(left)]}
        case "var", [str(name)]:
            return {"var": [name]}
        case "if", [first, then, *rest] if rest:
            return {"if": [spelt(first), spelt(then), spelt({"if": rest} if rest[1:] else rest[0])]}
        case "fractional", _:
            return node
        case (name, arguments):
            return {name: [spelt(each) for each in arguments]}
    return [spelt(each) for each in node] if isinstance(node, list) else node


@settings(max_examples=150)
@given(lists, st.data())
def test_what_is_written_decides_as_the_words_say(found: list[Rule], data: st.DataObject):
    """First match wins, then the default; in either spelling."""
    context, now = data.draw(requests(found)), data.draw(times_near(found))
    asked = {c.flag: c.variant for r in found for c in r.conditions if isinstance(c, Depends)}
    others = {flag: data.draw(st.sampled_from([variant, "x"])) for flag, variant in asked.items()}
    flag = next(
        name
        for name in ("flag", "other", "third", "fourth", "fifth", "sixth")
        if name not in others
    )
    plain = {"state": "ENABLED", "variants": dict.fromkeys([*VARIANTS, "rest"], 1)}
    fixed = {
        other: {"state": "ENABLED", "variants": {given: 1}, "defaultVariant": given}
        for other, given in others.items()
    }
    matching = [r for r in found if all(holds(c, context, now, others) for c in r.conditions)]
    expected = given_by(matching[0].outcome, flag, context, now) if matching else "rest"

    written = rules.write(found)
    for targeting in (written, spelt(written)):
        mine = {**plain, "defaultVariant": "rest", "targeting": targeting or {}}
        flags = FlagSet.compile({"flags": {**fixed, flag: mine}})
        assert flags.evaluate(flag, context, now.timestamp()).variant == expected
        assert rules.read(targeting) is not None


@settings(max_examples=60)
@given(lists)
def test_the_editor_accepts_what_rules_are_written_as(found: list[Rule]):
    """The check of the editor refuses no rule but for weights that do not add up to 100."""
    found = [rule for rule in found if not isinstance(rule.outcome, Split)]
    asked = {c.flag: c.variant for r in found for c in r.conditions if isinstance(c, Depends)}
    others = {
        flag: {"state": "ENABLED", "variants": {variant: 1}, "defaultVariant": variant}
        for flag, variant in asked.items()
    }
    mine = {
        "state": "ENABLED",
        "variants": dict.fromkeys(VARIANTS, 1),
        "defaultVariant": "on",
        "targeting": rules.write(found) or {},
    }

    problems = check.problems("mine", mine, {"flags": {**others, "mine": mine}})

    assert not [problem for problem in problems if problem.grave]
