"""Goal: rules are told in plain words, read from what others write, and refused with a reason."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from millrace.kernel.errors import InvalidError
from millrace.release.flags import rules
from millrace.release.flags.conditions import (
    AppVersions,
    Between,
    Condition,
    Depends,
    Having,
    InRings,
    Markets,
    Members,
)
from millrace.release.flags.outcomes import Give, Outcome, Share, Split
from millrace.release.flags.ramps import Ramp, Step, scheduled
from millrace.release.flags.rules import Rule
from millrace.release.flags.types import Ring

DAY = timedelta(days=1)
START = datetime(2026, 12, 1, 9, tzinfo=UTC)
ON = Give("on")
TEN = Split((Share("on", 10), Share("off", 90)))
RAMP = Ramp("on", "off", scheduled(START, DAY, [1, 10.5, 100]))


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        (Rule((), ON), "Everyone gets on."),
        (Rule((), TEN), "Everyone gets on for 10 % and off for 90 %."),
        (
            Rule((), RAMP),
            "Everyone gets on for 1 % from 2026-12-01 09:00 UTC, 10.5 % from 2026-12-02 09:00 UTC, "
            "100 % from 2026-12-03 09:00 UTC, and off otherwise.",
        ),
        (
            Rule((Markets(("DE", "FR"), ("7",)), AppVersions("2.1.0", "3.0.0")), TEN),
            "Whoever is in DE, FR or community 7 and uses app version 2.1.0 or later and before "
            "3.0.0 gets on for 10 % and off for 90 %.",
        ),
        (
            Rule(
                (InRings((Ring.ALPHA, Ring.BETA)), Having("platform", ("ios",)), Depends("a", "b")),
                ON,
            ),
            "Whoever is in ring alpha or beta, has platform ios and is given b by flag a gets on.",
        ),
        (
            Rule((Members(("7-1", "7-2", "7-3", "7-4", "7-5")),), ON),
            "Whoever is 7-1, 7-2, 7-3 or 2 more gets on.",
        ),
        (
            Rule((AppVersions("", "3.0.0"),), ON),
            "Whoever uses an app version before 3.0.0 gets on.",
        ),
        (
            Rule((Between(START, START + DAY),), ON),
            "Whoever asks from 2026-12-01 09:00 UTC on until 2026-12-02 09:00 UTC gets on.",
        ),
    ],
)
def test_a_rule_is_a_sentence(rule: Rule, sentence: str):
    """People read what a rule does without reading JSON."""
    assert rules.in_words(rule) == sentence


def test_rules_are_written_as_flagd_has_them():
    """First match wins, the last is for everyone else."""
    written = rules.write([Rule((InRings((Ring.BETA,)), Between(START)), ON), Rule((), RAMP)])

    now, at = {"var": "$flagd.timestamp"}, [int((START + n * DAY).timestamp()) for n in range(3)]
    steps = [{">=": [now, at[2]]}, 1000, {">=": [now, at[1]]}, 105, {">=": [now, at[0]]}, 10, 0]
    rest = [{">=": [now, at[2]]}, 0, {">=": [now, at[1]]}, 895, {">=": [now, at[0]]}, 990, 1000]
    assert written == {
        "if": [
            {"and": [{"in": ["beta", {"var": "rings"}]}, {">=": [now, at[0]]}]},
            "on",
            {"fractional": [["on", {"if": steps}], ["off", {"if": rest}]]},
        ]
    }


@pytest.mark.parametrize(
    ("targeting", "found"),
    [
        (None, []),
        ({}, []),
        (
            {"if": [{"==": [{"var": ["country"]}, "DE"]}, "on", None]},
            [Rule((Markets(("DE",)),), ON)],
        ),
        (
            {"fractional": [["on"], ["off", 1]]},
            [Rule((), Split((Share("on", 1), Share("off", 1))))],
        ),
        (
            {"if": [{"==": ["7-1", {"var": "targetingKey"}]}, "on", {"if": [True, "off"]}]},
            [Rule((Members(("7-1",)),), ON), Rule((), Give("off"))],
        ),
    ],
)
def test_what_others_write_is_read_where_it_means_the_same(targeting: Any, found: list[Rule]):
    """Definitions from elsewhere can be edited as rules too."""
    assert rules.read(targeting) == found


@pytest.mark.parametrize(
    "targeting",
    [
        {"if": [{"==": [{"var": "ring"}, "beta"]}, "on"]},
        {"if": [{"in": ["gamma", {"var": "rings"}]}, "on"]},
        {"if": [{"!": [{"in": [{"var": "country"}, ["DE"]]}]}, "on"]},
        {"if": [1, "on"]},
        {"if": [{"in": [{"var": "country"}, []]}, "on"]},
        {"if": [{">": [{"var": "$flagd.timestamp"}, 5]}, "on"]},
        {"if": [{">=": [{"var": "$flagd.timestamp"}, 10**20]}, "on"]},
        {"if": [{"sem_ver": [{"var": "appVersion"}, "^", "1.0.0"]}, "on"]},
        {"fractional": [{"var": "email"}, ["on", 1], ["off", 1]]},
        {"fractional": [["on", True], ["off", 1]]},
        {"fractional": [["on", 1], ["on", 1]]},
        {"fractional": [["on", -1], ["off", 2]]},
        {
            "fractional": [
                ["on", {"if": [{">=": [{"var": "$flagd.timestamp"}, 5]}, 7, 0]}],
                ["off", 1],
            ]
        },
        {"fractional": []},
        {"if": []},
        "on",
        {"$ref": "shared"},
    ],
)
def test_what_is_no_rule_is_somebody_s_own(targeting: Any):
    """It is never shown as something that it is not."""
    assert rules.read(targeting) is None


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule((Members(()),), ON), "names none"),
        (Rule((Members(("a", "a")),), ON), "twice"),
        (Rule((Members(("a",)), Members(("b",))), ON), "two conditions on Members"),
        (Rule((Markets(("de",)),), ON), "'de' is none of the countries"),
        (Rule((Markets((), ("seven",)),), ON), "'seven' is none of the communities"),
        (Rule((AppVersions("two"),), ON), "'two' is none of the app versions"),
        (Rule((AppVersions("2.0", "1.0"),), ON), "no app version is 2.0 or later and before 1.0"),
        (Rule((Between(START, START - DAY),), ON), "ends before it begins"),
        (Rule((Between(datetime(2026, 1, 1)),), ON), "time zone"),  # noqa: DTZ001 - that is the case
        (Rule((Having("country", ("DE",)),), ON), "reserved"),
        (Rule((Depends("", "on"),), ON), "flags and variants"),
        (Rule((), Give("")), "without a name"),
        (Rule((), Split((Share("on", 0),))), "add up to 1 or more"),
        (Rule((), Ramp("on", "on", (Step(START, 1),))), "from one variant to another"),
        (Rule((), Ramp("on", "off", ())), "1 to 100 steps"),
        (Rule((), Ramp("on", "off", (Step(START, 1), Step(START, 2)))), "not after the one before"),
        (
            Rule((), Ramp("on", "off", (Step(START, 2), Step(START + DAY, 1)))),
            "never drops anybody",
        ),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(rule: Rule, words: str):
    """The message says which rule and what is wrong with it."""
    with pytest.raises(InvalidError, match=words) as caught:
        rules.write([Rule((), ON), rule])

    assert caught.value.message.startswith("rule 2: ")


@pytest.mark.parametrize("conditions", [(), (Markets(("DE",)),)])
@pytest.mark.parametrize("outcome", [ON, TEN, RAMP])
def test_a_rule_for_all_is_an_object_all_the_same(
    conditions: tuple[Condition, ...], outcome: Outcome
):
    """flagd's targeting is a JSON object, so a variant alone is wrapped."""
    assert isinstance(rules.write([Rule(conditions, outcome)]), dict)
