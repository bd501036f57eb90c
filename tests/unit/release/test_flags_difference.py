"""What differs between two definitions: a patch that leads from one to the other, and words."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET
from msgspec import json as wire

from millrace.release.flags.difference import difference, differences
from millrace.release.flags.patch import Op, Patch, applied, patches, same

SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2), st.sampled_from([0.0, 1.0, 0.5]), st.text("a/~0")
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text("a/~0", max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)
FLAG: dict[str, Any] = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
    "targeting": {"if": [{"in": [{"var": "country"}, ["DE"]]}, "on"]},
}


def changed(**parts: Any) -> dict[str, Any]:
    """Return the flag with other parts; UNSET leaves one out."""
    return {key: value for key, value in {**FLAG, **parts}.items() if value is not UNSET}


@given(before=VALUES, after=VALUES)
def test_a_patch_leads_from_one_value_to_the_other_and_is_empty_only_for_the_same(
    before: Any, after: Any
) -> None:
    made = list(patches(before, after))

    assert same(applied(made, before), after)
    assert (not made) == same(before, after)
    assert (not made) == (json.dumps(before, sort_keys=True) == json.dumps(after, sort_keys=True))


@given(before=VALUES, after=VALUES)
def test_a_patch_holds_what_it_takes_to_go_back(before: Any, after: Any) -> None:
    back = {Op.ADD: Op.REMOVE, Op.REMOVE: Op.ADD, Op.REPLACE: Op.REPLACE}
    made = [
        Patch(back[each.op], each.path, before=each.value, value=each.before)
        for each in reversed(list(patches(before, after)))
    ]

    assert same(applied(made, after), before)


def test_one_item_more_is_one_line() -> None:
    made = list(patches({"a": [1, 2, 4, 5]}, {"a": [1, 2, 3, 4, 5]}))

    assert wire.encode(made) == b'[{"op":"add","path":"/a/2","value":3}]'


def test_what_is_replaced_by_nothing_is_told_apart_from_what_is_removed() -> None:
    made = list(patches({"a": 1, "b": 1}, {"a": None}))

    assert wire.decode(wire.encode(made)) == [
        {"op": "replace", "path": "/a", "before": 1, "value": None},
        {"op": "remove", "path": "/b", "before": 1},
    ]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (FLAG, FLAG, []),
        (FLAG, None, ["The flag is removed."]),
        (
            None,
            changed(targeting=UNSET),
            ["The flag is new.", "Variant on is new: true.", "Variant off is new: false.",
             "By default: off."],
        ),
        (
            FLAG,
            changed(state="DISABLED"),
            ["Switched off: everybody gets the default in the code."],
        ),
        (changed(state="DISABLED"), FLAG, ["Switched on: its variants are given again."]),
        (
            FLAG,
            changed(variants={"on": 1, "blue": "#00f"}),
            ["Variant on: true becomes 1.", "Variant off is gone; it was false.",
             'Variant blue is new: "#00f".'],
        ),
        (FLAG, changed(defaultVariant="on"), ["By default: off becomes on."]),
        (FLAG, changed(defaultVariant=None), ["By default: off becomes the default in the code."]),
        (
            FLAG,
            changed(targeting={"fractional": [["on", 10], ["off", 90]]}),
            ["Rule 1 was: Whoever is in DE gets on.",
             "Rule 1 is: Everyone gets on for 10 % and off for 90 %."],
        ),
        (
            FLAG,
            changed(targeting={"if": [
                {"in": [{"var": "targetingKey"}, ["7-1"]]}, "off",
                {"in": [{"var": "country"}, ["DE"]]}, "on",
            ]}),
            ["Rule 1 is new: Whoever is 7-1 gets off."],
        ),
        (FLAG, changed(targeting={}), ["Rule 1 is gone: Whoever is in DE gets on."]),
        (
            FLAG,
            changed(targeting={"if": [{"==": [{"var": "country"}, "DE"]}, "on"]}),
            ["The targeting is written in another way, and says the same."],
        ),
        (
            FLAG,
            changed(targeting={"if": [{"in": [{"var": "email"}, 3]}, "on"]}),
            ["The targeting, which is written by hand, changes at /targeting/if/0/in/0/var, "
             "/targeting/if/0/in/1."],
        ),
        (
            FLAG,
            changed(metadata={"bucketing": "v3", "team": "feed"}),
            ['Bucketing v2 becomes v3: all splits are dealt anew.',
             'Metadata team is new: "feed".'],
        ),
        (FLAG, changed(note="x"), ['note is new: "x".']),
    ],
)  # fmt: skip
def test_a_difference_in_words(
    before: dict[str, Any] | None, after: dict[str, Any] | None, words: list[str]
) -> None:
    found = difference("f", before, after)

    assert found.words == words
    assert bool(found.patch) == bool(words)


@pytest.mark.parametrize("broken", [{}, {"variants": 3}, {"targeting": [1]}, {"metadata": "x"}])
def test_what_an_import_let_in_is_compared_as_well(broken: dict[str, Any]) -> None:
    assert difference("f", broken, FLAG).words
    assert difference("f", FLAG, broken).words
    assert difference("f", None, broken).words


def test_what_flags_share_has_parts_and_no_variants() -> None:
    found = difference("$evaluators", {"a": 1, "b": 2}, {"b": 3, "c": {"var": "x"}})

    assert found.words == ["a is gone; it was 1.", "b: 2 becomes 3.", 'c is new: {"var":"x"}.']


def test_two_sets_are_compared_by_key() -> None:
    before = {"same": FLAG, "gone": FLAG, "moved": FLAG}
    after = {"new": FLAG, "moved": changed(state="DISABLED"), "same": FLAG}

    assert [(each.key, each.words[0].split()[0]) for each in differences(before, after)] == [
        ("gone", "The"), ("moved", "Switched"), ("new", "The"),
    ]  # fmt: skip


def test_a_long_value_is_cut_in_words_and_whole_in_the_patch() -> None:
    found = difference("f", FLAG, changed(variants={"on": "x" * 500, "off": False}))

    assert len(found.words[0]) < 150
    assert found.patch[0].value == "x" * 500
