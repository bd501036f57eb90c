"""Goal: a rule comes to what its table says, at the place of a value and of a condition."""

import json
from pathlib import Path

import pytest

from millrace.release.flags.coercion import truthy
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.logic import KNOWN
from millrace.release.flags.types import Reason

TABLE = json.loads((Path(__file__).parent / "jsonlogic.json").read_text(encoding="utf-8"))
KEY = "asked"
NOW = 1_790_000_000.5
SPLITS = {"fractional", "millrace_flag", "sem_ver"}  # they have tables of their own


def operators(rule):
    """Every name of an operator in a rule."""
    if isinstance(rule, list):
        return {name for one in rule for name in operators(one)}
    if not isinstance(rule, dict):
        return set()
    return set(rule) | operators(list(rule.values()))


@pytest.mark.parametrize(("rule", "data", "wanted"), TABLE["values"])
def test_a_rule_comes_to_its_value(rule, data, wanted):
    flags = FlagSet.compile({"flags": {KEY: {"state": "ENABLED", "variants": {"on": True}}}})
    branch = {"if": [rule, "holds", "does not"]}
    definition = {
        "state": "ENABLED",
        "variants": {"holds": True, "does not": False},
        "targeting": branch,
    }
    decided = FlagSet.compile({"flags": {KEY: definition}}).evaluate(KEY, data, NOW)

    found = flags.value(KEY, rule, data, NOW)

    assert found == wanted
    assert isinstance(found, bool) is isinstance(wanted, bool)
    assert (decided.value, decided.reason) == (truthy(wanted), decided.reason)
    assert decided.reason is not Reason.ERROR, decided.message


@pytest.mark.parametrize(("version", "operator", "other", "wanted"), TABLE["versions"])
def test_versions_compare_so(version, operator, other, wanted):
    flags = FlagSet.compile({})
    constant = {"sem_ver": [{"var": "version"}, operator, other]}
    computed = {"sem_ver": [{"var": "version"}, {"cat": [operator]}, {"var": "other"}]}
    data = {"version": version, "other": other}

    assert flags.value(KEY, constant, data, NOW) is wanted
    assert flags.value(KEY, computed, data, NOW) is wanted


def test_what_a_comparison_remembers_does_not_change_it():
    flags = FlagSet.compile({})
    rows = [row for row in TABLE["versions"] if row[1:3] == ["=", "1.2.3"]]
    rule = {"map": [{"var": "versions"}, {"sem_ver": [{"var": ""}, "=", "1.2.3"]}]}
    data = {"versions": [row[0] for row in rows] * 3}

    assert flags.value(KEY, rule, data, NOW) == [row[3] for row in rows] * 3


def test_the_table_has_every_operator():
    asked = {name for rule, _, _ in TABLE["values"] for name in operators(rule)}

    assert sorted(KNOWN - asked - SPLITS) == []
