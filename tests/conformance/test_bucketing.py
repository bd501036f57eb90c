"""Goal: whoever was given a variant keeps it: the answers of each bucketing are those of its table."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from millrace.release.flags import bucketing
from millrace.release.flags.flagset import FlagSet

CORE = "openfeature.contrib.tools.flagd.core"
TABLES = {
    name: json.loads((Path(__file__).parent / f"bucketing_{name}.json").read_text(encoding="utf-8"))
    for name in bucketing.NAMED
}


def weights(row: dict) -> list[int]:
    """The weights of a row; `equal` stands for so many of 1."""
    return row.get("weights") or [1] * row["equal"]


def share(name: str, row: dict, expression: list):
    """Ask a flag that splits so, and return the number of the share that was given."""
    shares = [[f"share {number}", weight] for number, weight in enumerate(weights(row))]
    definition = {
        "state": "ENABLED",
        "variants": {variant: number for number, (variant, _) in enumerate(shares)},
        "targeting": {"fractional": [*expression, *shares]},
        "metadata": {"bucketing": name},
    }
    key = row.get("flag", "any")
    context = {"targetingKey": row.get("targetingKey"), "key": row.get("key")}
    found = FlagSet.compile({"flags": {key: definition}}).evaluate(key, context, 0)
    assert found.error is None, found.message
    return found.value if found.variant else None


@pytest.mark.parametrize("kind", ["by_key", "by_targeting_key"])
@pytest.mark.parametrize("name", list(TABLES))
def test_the_answers_are_those_of_the_table(name, kind):
    expression = [{"var": "key"}] if kind == "by_key" else []
    rows = TABLES[name][kind]

    assert [share(name, row, expression) for row in rows] == [row["share"] for row in rows]


@pytest.mark.parametrize("name", list(TABLES))
def test_every_table_has_keys_of_every_kind(name):
    rows = TABLES[name]["by_key"]

    assert len(rows) >= 80
    assert {type(row["key"]) for row in rows} >= {str, int, bool, type(None)}
    assert len(TABLES[name]["by_targeting_key"]) >= 40


def test_a_bucket_can_be_asked_for_without_a_flag():
    rows = TABLES["v2"]["by_key"]

    found = [bucketing.v2.bucket(row["key"], weights(row)) for row in rows]

    assert found == [row["share"] for row in rows]


scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text())
keys = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=10,
)


@settings(max_examples=100, deadline=None)
@given(key=keys.filter(lambda key: key is not None), flag=st.text(), targeting=st.text(min_size=1))
def test_v3_is_what_flagd_s_evaluator_hashes(key, flag, targeting):
    reason = "flagd-core is a development tool"
    theirs = pytest.importorskip(f"{CORE}.targeting.custom_ops", reason=reason)
    shares = [[number, 1] for number in range(97)]
    data = {"$flagd": {"flagKey": flag}, "targetingKey": targeting}

    def share(place):
        return place * len(shares) >> 32

    whole = {"a": key}  # a list would be a share
    assert share(bucketing.v3.place(whole)) == theirs.fractional(data, whole, *shares)
    by_targeting = bucketing.v3.place_of(flag)(targeting)
    assert share(by_targeting) == theirs.fractional(data, *shares)


def test_v2_is_the_default_and_an_unknown_one_is_none():
    assert bucketing.DEFAULT == "v2"
    assert bucketing.named("v1") is None
