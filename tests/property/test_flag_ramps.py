"""Goal: a share that grows keeps everybody it had, in every bucketing, whoever they are."""

from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.release.flags import bucketing
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.reassignment import moved, reassigned

NOW = 1_790_000_000.0
members = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=30)
totals = st.sampled_from([100, 1_000, 10_000, 1_000_000_000, 2**31 - 1])
keys = st.sampled_from([None, {"var": "company"}, {"cat": ["seed", {"var": "targetingKey"}]}])


def definition(shares, version="v2", key=None):
    """A flag that splits."""
    return {
        "state": "ENABLED",
        "variants": {name: name for name, _ in shares},
        "targeting": {"fractional": [*([] if key is None else [key]), *map(list, shares)]},
        "metadata": {"bucketing": version},
    }


def given_to(names, *arguments):
    """Return the variant that each member gets."""
    flags = FlagSet.compile({"flags": {"ramp": definition(*arguments)}})
    contexts = [{"targetingKey": name, "company": name[:3]} for name in names]
    return [flags.evaluate("ramp", context, NOW).variant for context in contexts]


@pytest.mark.parametrize("version", list(bucketing.NAMED))
@settings(max_examples=60, deadline=None)
@given(names=members, total=totals, shares=st.data(), key=keys)
def test_nobody_loses_the_share_that_grows(version, names, total, shares, key):
    small = shares.draw(st.integers(0, total))
    large = shares.draw(st.integers(small, total))

    before = given_to(names, [("on", small), ("off", total - small)], version, key)
    after = given_to(names, [("on", large), ("off", total - large)], version, key)

    assert all(new == "on" for old, new in zip(before, after, strict=True) if old == "on")
    assert small < total or set(before) == {"on"}
    assert large > 0 or set(after) == {"off"}


@pytest.mark.parametrize("version", list(bucketing.NAMED))
@settings(max_examples=60, deadline=None)
@given(weights=st.lists(st.integers(0, 2**28), min_size=1, max_size=6).filter(any), data=st.data())
def test_bounds_are_the_places_where_a_bucket_ends(version, weights, data):
    bounds = bucketing.NAMED[version].bounds(weights)
    near = [bound + step for bound in [0, *bounds, 2**32 - 1] for step in (-1, 0, 1)]
    place = data.draw(st.sampled_from([at for at in near if 0 <= at < 2**32]))

    bucket = place * sum(weights) >> 32

    number = bisect_right(bounds, place)
    assert sum(weights[:number]) <= bucket < sum(weights[: number + 1])


@pytest.mark.parametrize("version", list(bucketing.NAMED))
@settings(max_examples=40, deadline=None)
@given(names=members, part=st.integers(0, 100), times=st.sampled_from([10, 1_000, 10_000_000]))
def test_weights_of_the_same_ratio_split_alike(version, names, part, times):
    coarse = [("on", part), ("off", 100 - part)]
    fine = [("on", part * times), ("off", (100 - part) * times)]

    assert given_to(names, coarse, version) == given_to(names, fine, version)


@settings(max_examples=60, deadline=None)
@given(
    names=members,
    before=st.lists(st.integers(0, 9), min_size=2, max_size=4).filter(any),
    after=st.lists(st.integers(0, 9), min_size=2, max_size=4).filter(any),
)
def test_a_warning_tells_of_every_move_that_was_not_needed(names, before, after):
    old = [(f"v{n}", weight) for n, weight in enumerate(before)]
    new = [(f"v{n}", weight) for n, weight in enumerate(after)]
    share = {name: weight / sum(before) for name, weight in old}
    grown = {name for name, weight in new if weight / sum(after) >= share.get(name, 0) > 0}

    pairs = zip(given_to(names, old), given_to(names, new), strict=True)
    lost = [one for one, other in pairs if one in grown and one != other]

    assert not lost or reassigned(definition(old), definition(new))
    assert 0 <= moved(tuple(old), tuple(new)) <= 1


def test_the_warning_says_where_and_how_many():
    two = [("on", 10), ("off", 90)]
    three = [("a", 10), ("b", 10), ("c", 80)]

    def told(before, after):
        return [(one.place, one.message[:6], one.grave) for one in reassigned(before, after)]

    split = "/targeting/fractional"
    assert told(definition(two), definition([("on", 20), ("off", 80)])) == []
    assert told(definition(two), definition([("on", 5), ("off", 95)])) == []
    assert told(definition(two), definition([("on", 1_000), ("off", 9_000)])) == []
    assert told(definition(two), definition(two[::-1])) == [(split, "20.00%", False)]
    grown = definition([("a", 20), ("b", 10), ("c", 70)])
    assert told(definition(three), grown) == [(split, "10.00%", False)]
    keyed = definition(two, "v2", {"var": "company"})
    assert told(definition(two), keyed) == [(split, "the sp", False)]
    other = definition(two, "v3")
    assert told(definition(two), other) == [("/metadata/bucketing", "bucket", False)]
    assert told({"targeting": {"var": "a"}}, definition(two)) == []


def test_a_rule_before_a_split_is_no_reassignment():
    split = {"fractional": [["on", 10], ["off", 90]]}
    other = {"fractional": [["off", 90], ["on", 10]]}

    before = {"targeting": {"if": [{"var": "a"}, "on", split]}}
    after = {"targeting": {"if": [{"var": "b"}, "off", {"var": "a"}, "on", split]}}
    turned = {"targeting": {"if": [{"var": "b"}, "off", {"var": "a"}, "on", other]}}

    assert reassigned(before, after) == []
    assert [one.place for one in reassigned(before, turned)] == ["/targeting/if/4/fractional"]
