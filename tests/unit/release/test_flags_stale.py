"""Stale flags: each with what shows it and what to do, and none of those that work."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millrace.release.flags.conditions import Markets
from millrace.release.flags.outcomes import Give, Share, Split
from millrace.release.flags.ramps import Ramp, scheduled
from millrace.release.flags.rules import Rule, write
from millrace.release.flags.stale import Kind, Life, dependents, findings, settled
from millrace.release.flags.types import Usage

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SECOND = int(NOW.timestamp())
OLD = NOW - timedelta(days=40)
ONOFF: dict[str, Any] = {
    "state": "ENABLED", "variants": {"on": True, "off": False}, "defaultVariant": "off",
}  # fmt: skip
SPLIT: dict[str, Any] = {**ONOFF, "targeting": {"fractional": [["on", 10], ["off", 90]]}}


def used(days_ago: int) -> list[Usage]:
    """Return that it was evaluated then."""
    at = NOW - timedelta(days=days_ago)
    return [
        Usage(key="f", variant="on", day=at.date(), evaluations=7, errors=0, last_at=at),
        Usage(key="f", variant="off", day=OLD.date(), evaluations=9, errors=0, last_at=OLD),
    ]


def life(definition: dict[str, Any] = SPLIT, **facts: Any) -> Life:
    """Return a flag that works, but for the facts."""
    whole = {"created_at": OLD, "changed_at": OLD, "usage": used(0), "references": 2, **facts}
    return Life(key="f", definition=definition, owner="feed", **whole)


def kinds(found: Life, days: int = 30) -> list[Kind]:
    """Return only the reasons."""
    return [each.kind for each in findings(found, NOW, days)]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (life(), []),
        (life(references=None), []),
        (life(usage=()), [Kind.NOT_EVALUATED]),
        (life(usage=used(31)), [Kind.NOT_EVALUATED]),
        (life(usage=used(29)), []),
        (life(usage=(), created_at=NOW - timedelta(days=29)), []),
        (life(references=0), [Kind.UNREFERENCED]),
        (life(references=0, created_at=NOW - timedelta(days=29)), []),
        (life(ONOFF), [Kind.ROLLED_OUT]),
        (life(ONOFF, changed_at=NOW - timedelta(days=29)), []),
        (life({**SPLIT, "state": "DISABLED"}), [Kind.SWITCHED_OFF]),
        (life({**SPLIT, "state": "DISABLED"}, changed_at=NOW), []),
        (life({**ONOFF, "metadata": {"permanent": True}}, usage=()), []),
        (life({**ONOFF, "metadata": {"permanent": True}}, references=0), [Kind.UNREFERENCED]),
        (
            life(ONOFF, usage=(), references=0),
            [Kind.NOT_EVALUATED, Kind.ROLLED_OUT, Kind.UNREFERENCED],
        ),
        (life({"variants": 3, "metadata": 4}), [Kind.ROLLED_OUT]),  # what an import let in
    ],
)
def test_why_a_flag_may_go(one: Life, expected: list[Kind]) -> None:
    assert kinds(one) == expected


def test_the_days_are_the_callers() -> None:
    assert kinds(life(ONOFF), days=41) == []
    assert kinds(life(usage=used(8)), days=7) == [Kind.NOT_EVALUATED]


def test_each_has_its_evidence_and_the_next_step() -> None:
    whole = life(ONOFF, usage=(), references=0, dependents=["g", "h"])
    unused, rolled, unnamed = findings(whole, NOW)

    assert unused.evidence == "never evaluated, created on 2026-10-12, 40 days ago"
    assert unused.next_step == (
        "no code names it either: change g, h, which depend on it, `millrace flags remove f`"
    )
    assert rolled.evidence == "everybody is given off (false) since 2026-10-12, 40 days"
    assert "write off (false) into the code" in rolled.next_step
    assert '"metadata": {"permanent": true}' in rolled.next_step
    assert unnamed.evidence == "no place in the code that was searched names it"
    assert unnamed.owner == "feed"


def test_an_unnamed_flag_that_is_asked_for_has_its_asker_elsewhere() -> None:
    (found,) = findings(life(references=0), NOW)

    assert "still it was evaluated on 2026-11-21" in found.evidence
    assert "find who asks" in found.next_step


GERMAN = {"in": [{"var": "country"}, ["DE"]]}


def since(seconds: int) -> dict[str, Any]:
    """Return a condition that holds from then on."""
    return {">=": [{"var": "$flagd.timestamp"}, SECOND + seconds]}


def until(seconds: int) -> dict[str, Any]:
    """Return a condition that holds until then."""
    return {"<": [{"var": "$flagd.timestamp"}, SECOND + seconds]}


@pytest.mark.parametrize(
    ("targeting", "variant"),
    [
        (None, "off"),
        ({}, "off"),
        ({"if": [True, "on"]}, "on"),
        ({"if": [GERMAN, "on"]}, None),
        ({"if": [GERMAN, "off"]}, "off"),
        ({"if": [GERMAN, "on", "on"]}, "on"),
        ({"if": [GERMAN, "on", {"fractional": [["on", 1], ["off", 0]]}]}, "on"),
        ({"fractional": [["on", 0], ["off", 3]]}, "off"),
        ({"fractional": [["on", 1], ["off", 1]]}, None),
        ({"if": [since(-5), "on"]}, "on"),
        ({"if": [since(5), "on"]}, None),
        ({"if": [until(5), "on"]}, None),
        ({"if": [until(-5), "on"]}, "off"),
        ({"if": [until(-5), "on", GERMAN, "off"]}, "off"),
        ({"if": [since(-5), "on", GERMAN, "off"]}, "on"),
        # By hand: only what is plain is believed.
        ({"if": [{"in": ["@x", {"var": "email"}]}, "on", "on"]}, "on"),
        ({"if": [{"in": ["@x", {"var": "email"}]}, "on"]}, None),
        ({"if": [{"in": ["@x", {"var": "email"}]}, "off"]}, "off"),
        ({"if": [{"in": ["@x", {"var": "email"}]}, {"var": "variant"}, "on"]}, None),
        ({"fractional": [{"var": "email"}, ["on", 1], ["off", 1]]}, None),
        ({"$ref": "everyone"}, None),
        ("on", "on"),
    ],
)
def test_what_everybody_is_given(targeting: Any, variant: str | None) -> None:
    found = settled({**ONOFF, "targeting": targeting}, NOW)

    assert (found.variant if found else None) == variant


def test_a_ramp_is_rolled_out_when_its_last_step_was() -> None:
    def flag(start: datetime, *percentages: float) -> dict[str, Any]:
        steps = scheduled(start, timedelta(days=1), percentages)
        return {**ONOFF, "targeting": write([Rule((), Ramp("on", "off", steps))])}

    assert kinds(life(flag(NOW - timedelta(days=35), 1, 10, 100))) == [Kind.ROLLED_OUT]
    assert kinds(life(flag(NOW - timedelta(days=31), 1, 10, 100))) == []
    assert kinds(life(flag(NOW - timedelta(days=35), 1, 10, 99))) == []
    (found,) = findings(life(flag(NOW - timedelta(days=35), 1, 10, 100)), NOW)
    assert found.since == NOW - timedelta(days=33)


OUTCOMES = st.one_of(
    st.sampled_from(["on", "off"]).map(Give),
    st.tuples(st.integers(0, 3), st.integers(0, 3))
    .filter(any)
    .map(lambda w: Split((Share("on", w[0]), Share("off", w[1])))),
)


@given(outcomes=st.lists(OUTCOMES, max_size=4))
def test_whoever_is_told_to_be_settled_has_one_variant(outcomes: list[Any]) -> None:
    """One country each, so that every outcome may be somebody's, and the default too."""
    markets = [Markets((letter * 2,)) for letter in "ABCD"]
    targeting = write([Rule((m,), each) for m, each in zip(markets, outcomes, strict=False)])
    ways = {"off"}
    for outcome in outcomes:
        match outcome:
            case Give(variant):
                ways.add(variant)
            case Split(shares):
                ways |= {share.variant for share in shares if share.weight}

    found = settled({**ONOFF, "targeting": targeting}, NOW)

    assert (found is not None) == (len(ways) == 1)
    assert found is None or found.variant in ways


def test_flags_that_others_depend_on() -> None:
    definitions = {
        "a": ONOFF,
        "b": {**ONOFF, "targeting": {"if": [{"millrace_flag": ["a", "on"]}, "on"]}},
        "c": {
            "targeting": {"and": [{"millrace_flag": ["a", "on"]}, {"millrace_flag": ["b", "x"]}]}
        },
    }

    assert dependents(definitions) == {"a": ["b", "c"], "b": ["c"]}
