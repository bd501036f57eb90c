"""Why somebody is given a variant: the explanation agrees with the evaluation, always."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.types import Reason
from millrace.release.flags.why import Decision, explain

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
VARIANTS = ["on", "off", "blue"]
BASE: dict[str, Any] = {
    "state": "ENABLED", "variants": {name: name for name in VARIANTS}, "defaultVariant": "off",
}  # fmt: skip
EVALUATORS = {"german": {"==": [{"var": "country"}, "DE"]}, "half": {"fractional": ["blue", "on"]}}


def told(definition: dict[str, Any], **context: Any) -> Decision:
    """Explain a flag called `f`."""
    whole = {"flags": {"f": definition, "other": BASE}, "$evaluators": EVALUATORS}
    return explain(FlagSet.compile(whole), "f", definition, context, NOW)


def flag(targeting: object, **parts: Any) -> dict[str, Any]:
    """Return a flag with these rules."""
    return {**BASE, "targeting": targeting, **parts}


GERMAN = {"in": [{"var": "country"}, ["DE"]]}
NEW_APP = {"sem_ver": [{"var": "appVersion"}, ">=", "2.0.0"]}


def test_the_rule_that_decided_and_those_before_and_after_it() -> None:
    definition = flag(
        {"if": [{"and": [GERMAN, NEW_APP]}, "blue", GERMAN, "on", {"==": [1, 1]}, "off"]}
    )

    found = told(definition, targetingKey="7-1", country="DE", appVersion="1.9.0")

    assert found.resolution.variant == "on"
    assert [step.holds for step in found.steps] == [False, True, None]
    assert [(test.words, test.holds) for test in found.steps[0].tests] == [
        ("whoever is in DE", True),
        ("whoever uses app version 2.0.0 or later", False),
    ]
    assert found.steps[1].place == "/targeting/if/2"
    assert found.draw is None


def test_the_words_of_a_rule_are_those_that_people_wrote() -> None:
    found = told(flag({"if": [GERMAN, "on"]}), targetingKey="7-1", country="DE")

    assert found.sentence == "Rule 1 decides: Whoever is in DE gets on."


def test_the_place_in_a_split_and_its_shares() -> None:
    found = told(flag({"fractional": [["on", 25], ["off", 75]]}), targetingKey="7-1")

    draw = found.draw
    assert draw is not None
    assert (draw.bucketing, draw.hashed, draw.total) == ("v2", "f7-1", 100)
    assert draw.bucket == draw.place * 100 >> 32
    assert [(each.variant, each.start, each.end) for each in draw.slices] == [
        ("on", 0, 25), ("off", 25, 100),
    ]  # fmt: skip
    assert found.resolution.reason is Reason.SPLIT
    assert found.sentence == "Rule 1 decides: Everyone gets on for 25 % and off for 75 %."


def test_a_split_by_another_bucketing_and_by_a_key_of_its_own() -> None:
    third = told(
        flag({"fractional": ["on", "off"]}, metadata={"bucketing": "v3"}), targetingKey="a"
    )
    own = told(
        flag({"fractional": [{"cat": ["x", {"var": "team"}]}, ["on", 1], ["off", 1]]}), team="red"
    )

    assert third.draw is None, "a share without brackets is no share but a key"
    assert own.draw is not None
    assert own.draw.hashed == "xred"
    third = told(
        flag({"fractional": [["on"], ["off"]]}, metadata={"bucketing": "v3"}), targetingKey="a"
    )
    assert third.draw is not None
    assert (third.draw.bucketing, third.draw.hashed) == ("v3", ["f", "a"])


def test_a_ramp_shows_the_shares_of_this_moment() -> None:
    grown = {"if": [{">=": [{"var": "$flagd.timestamp"}, NOW - 9]}, 40, 10]}
    found = told(flag({"fractional": [["on", grown], ["off", 60]]}), targetingKey="7-1")

    assert found.draw is not None
    assert [each.weight for each in found.draw.slices] == [40, 60]


@pytest.mark.parametrize(
    ("definition", "sentence"),
    [
        (BASE, "There are no rules: everybody gets off."),
        (
            {**BASE, "state": "DISABLED"},
            "The flag is switched off: everybody gets the default in the code.",
        ),
        (flag({"if": [GERMAN, "on"]}), "No rule holds, so the default is given: off."),
        (
            flag({"if": [GERMAN, "on"]}, defaultVariant=None),
            "No rule holds, so the default is given: the default in the code.",
        ),
        (
            flag({"if": [GERMAN, "on", {"fractional": [["on", 1]]}]}),
            "Rule 2 decides, and leaves it at the default, off.",
        ),
        (flag({"nonsense": []}), "There is an error, so the default in the code is given: "),
        (flag({"if": [True, "green"]}), "There is an error, so the default in the code is given: "),
    ],
)
def test_where_no_rule_gives_anything(definition: dict[str, Any], sentence: str) -> None:
    assert told(definition, country="FR").sentence.startswith(sentence)


def test_rules_by_hand_and_shared_ones_are_followed_too() -> None:
    definition = flag({"if": [{"$ref": "german"}, {"$ref": "half"}, "off"]})

    found = told(definition, targetingKey="7-1", country="DE")
    other = told(definition, targetingKey="7-1", country="FR")

    assert [step.words for step in found.steps] == [
        "written by hand, at /targeting/if/0", "written by hand, at /targeting/if/2",
    ]  # fmt: skip
    assert found.steps[0].tests[0].words == '{"$ref":"german"}'
    assert [step.holds for step in other.steps] == [False, True]


def test_a_dependence_on_another_flag_is_a_condition() -> None:
    found = told(flag({"if": [{"millrace_flag": ["other", "off"]}, "on"]}), targetingKey="7-1")

    assert [step.holds for step in found.steps] == [True]
    assert found.steps[0].tests[0].words == "whoever is given off by flag other"


CONDITIONS = st.sampled_from(
    [
        True,
        GERMAN,
        NEW_APP,
        {"and": [GERMAN, NEW_APP]},
        {"or": [GERMAN, {"==": [{"var": "community"}, "7"]}]},
        {"$ref": "german"},
        {"millrace_flag": ["other", "off"]},
        {"<": [{"var": "$flagd.timestamp"}, NOW + 1]},
        {"var": "beta"},
        {"nonsense": 1},
    ]
)
WEIGHTS = st.one_of(st.integers(0, 3), st.just({"var": "weight"}), st.just("x"))
SPLITS = st.builds(
    lambda arms, key: {"fractional": [*key, *arms]},
    st.lists(
        st.one_of(
            st.builds(lambda v, w: [v, w], st.sampled_from(VARIANTS), WEIGHTS),
            st.sampled_from(VARIANTS).map(lambda v: [v]),
        ),
        min_size=1,
        max_size=3,
    ),
    st.sampled_from([[], [], [{"var": "team"}], [{"cat": ["a", {"var": "targetingKey"}]}]]),
)
OUTCOMES = st.one_of(
    st.sampled_from(VARIANTS), st.none(), SPLITS, st.just({"$ref": "half"}), st.just("green")
)
TARGETINGS = st.recursive(
    OUTCOMES,
    lambda inner: st.builds(
        lambda branches, last: {"if": [part for pair in branches for part in pair] + last},
        st.lists(st.tuples(CONDITIONS, OUTCOMES), min_size=1, max_size=3),
        st.lists(inner, max_size=1),
    ),
    max_leaves=3,
)
CONTEXTS = st.fixed_dictionaries(
    {},
    optional={
        "targetingKey": st.sampled_from(["7-1", "7-2", "", 3]),
        "country": st.sampled_from(["DE", "FR"]),
        "community": st.sampled_from(["7", "8"]),
        "appVersion": st.sampled_from(["1.0.0", "2.1.0", "x"]),
        "team": st.sampled_from(["red", None, 4]),
        "weight": st.sampled_from([0, 1, 2.5, "3"]),
        "beta": st.booleans(),
    },
)


@given(
    targeting=TARGETINGS.filter(lambda made: isinstance(made, dict)),
    context=CONTEXTS,
    version=st.sampled_from(["v2", "v3"]),
)
def test_the_explanation_agrees_with_the_evaluation(
    targeting: Any, context: dict[str, Any], version: str
) -> None:
    found = told(flag(targeting, metadata={"bucketing": version}), **context)

    resolution = found.resolution
    held = [step for step in found.steps if step.holds]
    if resolution.reason is Reason.ERROR:
        return
    assert len(held) <= 1
    assert found.sentence
    if found.draw is not None:
        (slice_,) = [s for s in found.draw.slices if s.start <= _at(found) < s.end]
        assert slice_.variant == resolution.variant
        assert resolution.reason is Reason.SPLIT
    elif resolution.reason is Reason.TARGETING_MATCH:
        assert held
    else:
        assert resolution.reason is Reason.DEFAULT


def _at(found: Decision) -> float:
    assert found.draw is not None
    return 100 * found.draw.bucket / found.draw.total
