"""Goal: named changes do what they say, leave the rest as it was, and refuse what has no place."""

import json
from copy import deepcopy
from typing import Any

import pytest

from millrace.kernel.errors import ConflictError, InvalidError
from millrace.release.flags.conditions import Members
from millrace.release.flags.edits import with_ramp, with_rules, with_state
from millrace.release.flags.outcomes import Give
from millrace.release.flags.rules import Rule

DE = {"in": [{"var": "country"}, ["DE"]]}
BY_HAND = {"starts_with": [{"var": "email"}, "a"]}


def flag(targeting: Any = None, default: str | None = "off", **more: Any) -> dict[str, Any]:
    """A definition with keys on both sides of what is changed."""
    found = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": default,
        "targeting": targeting,
        "metadata": {"team": "feed"},
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


def split(*shares: tuple[str, int]) -> dict[str, Any]:
    return {"fractional": [list(share) for share in shares]}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, split(("on", 10), ("off", 90))),
        ({}, split(("on", 10), ("off", 90))),
        (split(("on", 5), ("off", 95)), split(("on", 10), ("off", 90))),
        (split(("off", 95), ("on", 5)), split(("off", 90), ("on", 10))),
        (split(("on", 1), ("off", 1)), split(("on", 10), ("off", 90))),
        (split(("on", 100), ("off", 0)), split(("on", 10), ("off", 90))),
        ({"fractional": [["off"]]}, split(("on", 10), ("off", 90))),
        ({"if": [True, "on"]}, {"if": [True, split(("on", 10), ("off", 90))]}),
        ({"if": [DE, "on"]}, {"if": [DE, "on", split(("on", 10), ("off", 90))]}),
        ({"if": [DE, "on", None]}, {"if": [DE, "on", split(("on", 10), ("off", 90))]}),
        ({"if": [DE, "on", "off"]}, {"if": [DE, "on", split(("on", 10), ("off", 90))]}),
        (
            {"if": [DE, split(("on", 50), ("off", 50)), "off"]},
            {"if": [DE, split(("on", 50), ("off", 50)), split(("on", 10), ("off", 90))]},
        ),
        ({"if": [DE, split(("on", 1), ("off", 99))]}, {"if": [DE, split(("on", 10), ("off", 90))]}),
        (
            {"if": [BY_HAND, "on", {"if": [DE, "off", split(("on", 1), ("off", 99))]}]},
            {"if": [BY_HAND, "on", {"if": [DE, "off", split(("on", 10), ("off", 90))]}]},
        ),
        (
            {"fractional": [{"var": "email"}, ["on", 1], ["off", 9]]},
            {"fractional": [{"var": "email"}, ["on", 10], ["off", 90]]},
        ),
    ],
)
def test_a_ramp_sets_one_percentage(before: Any, after: Any):
    """The split for everyone, or the only one, changes; nothing else does, nor does it move."""
    definition = flag(before)
    given = deepcopy(definition)

    changed = with_ramp(definition, "on", 10)

    assert changed["targeting"] == after
    assert definition == given, "the definition that was given is not touched"
    rest = {name: value for name, value in changed.items() if name != "targeting"}
    assert rest == {name: value for name, value in given.items() if name != "targeting"}
    if before is not None:
        assert list(changed) == list(given)


def test_a_ramp_takes_decimals_exactly():
    """A tenth of a percent is a tenth of a percent."""
    assert with_ramp(flag(), "on", 0.1)["targeting"] == split(("on", 1), ("off", 999))


def test_the_rest_keeps_its_proportions():
    """Of three variants the two that are not ramped share what is left as before."""
    three = flag(split(("a", 20), ("b", 20), ("c", 60)), variants={"a": 1, "b": 2, "c": 3})

    assert with_ramp(three, "b", 60)["targeting"] == split(("a", 10), ("b", 60), ("c", 30))


def test_thirds_are_written_as_finely_as_people_read():
    """What no percentage holds exactly is right to a hundredth of one, and adds up to 10,000."""
    three = flag(split(("a", 1), ("b", 2), ("c", 4)), variants={"a": 1, "b": 2, "c": 3})

    assert with_ramp(three, "a", 1)["targeting"] == split(("a", 1), ("b", 33), ("c", 66))
    assert with_ramp(three, "a", 30)["targeting"] == split(("a", 3000), ("b", 2333), ("c", 4667))


def test_a_variant_that_is_new_to_a_split_comes_first():
    """From there it can grow without losing anybody."""
    three = flag(split(("a", 50), ("b", 50)), variants={"a": 1, "b": 2, "c": 3})

    assert with_ramp(three, "c", 20)["targeting"] == split(("c", 20), ("a", 40), ("b", 40))


@pytest.mark.parametrize(
    ("definition", "words"),
    [
        (flag({"if": [DE, split(("on", 1)), BY_HAND, split(("off", 1))]}), "2 rules have a split"),
        (flag({"and": [True]}), "written by hand"),
        (flag({"fractional": [["on", {"var": "x"}], ["off", 1]]}), "written by hand"),
        (flag({"if": []}), "decides nothing"),
        (flag(default=None), "not known which variant"),
        (flag(default="on", variants={"on": 1, "a": 2, "b": 3}), "not known which variant"),
    ],
)
def test_a_ramp_without_a_place_is_refused(definition: dict[str, Any], words: str):
    """The message says why, and what to do instead."""
    with pytest.raises(ConflictError, match=words) as caught:
        with_ramp(definition, "on", 10)

    assert caught.value.next_step


@pytest.mark.parametrize("percentage", [-1, 100.5, float("nan"), 0.00000001])
def test_only_percentages_are_percentages(percentage: float):
    """What a split cannot hold exactly is refused and not rounded."""
    with pytest.raises(InvalidError, match="percentage"):
        with_ramp(flag(), "on", percentage)


def test_only_variants_of_the_flag_can_be_ramped():
    """The message names those that there are."""
    with pytest.raises(InvalidError, match="only on, off"):
        with_ramp(flag(), "blue", 10)


def test_switching_keeps_the_rest():
    """A kill and its end leave no trace in the definition."""
    definition = flag(split(("on", 5), ("off", 95)))

    killed = with_state(definition, enabled=False)

    assert killed["state"] == "DISABLED"
    assert json.dumps(with_state(killed, enabled=True)) == json.dumps(definition)


def test_rules_replace_the_targeting():
    """No rules, no targeting."""
    ruled = with_rules(flag(), [Rule((Members(("7-1",)),), Give("on"))])

    assert ruled["targeting"] == {"if": [{"in": [{"var": "targetingKey"}, ["7-1"]]}, "on"]}
    assert with_rules(ruled, []) == flag()
