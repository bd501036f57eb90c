"""`millrace bench flags`: decisions beside flagd's own evaluator and GrowthBook's, in one run.

The three hold the same four flags in their own forms and answer for the same members. Each takes
its turn over a stretch of contexts, in changing order, so that a noisy neighbour slows all; the
figures are medians over the stretches, per evaluation, of processor time. A context is made for
each system as its callers would hold it before they ask, and every one is distinct.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import ceil
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, TypeAlias

from millrace.kernel.errors import SetupError
from millrace.kernel.rng import Rng, rng
from millrace.lab import flag_suite, report
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.types import FlagType

CONTEXTS = 100_000
CONTEXTS_QUICK = 10_000
STRETCH = 1_000  # contexts that one system answers before the next takes its turn
SUITE = Path("../shared/conformance/flagd")
NOW = 1_790_000_000.0
COUNTRIES = ("SE", "NO", "DK", "FI", "DE", "FR", "NL", "PL", "ES", "IT")
CHOSEN = ["SE", "NO", "DK", "FI", "DE", "FR", "NL", "PL"]
VERSION = "8.7.2"
PERCENTAGE = 50
PACKAGES = ("mmh3", "openfeature-flagd-core", "growthbook")

Context: TypeAlias = Mapping[str, Any]
Ask: TypeAlias = Callable[[Any], bool]
"""From a context, as a system holds it, to whether the flag is on."""

ALLOWED = {"in": [{"var": "country"}, CHOSEN]}
RECENT = {"sem_ver": [{"var": "appVersion"}, ">=", VERSION]}
SHARES = {"fractional": [["on", PERCENTAGE], ["off", 100 - PERCENTAGE]]}
RULES: Mapping[str, Any] = {
    "static": None,
    "rule": {"if": [{"==": [{"var": "country"}, "SE"]}, "on", "off"]},
    "percentage": SHARES,
    "country_semver_percentage": {"if": [{"and": [ALLOWED, RECENT]}, SHARES, "off"]},
}


def run(quick: bool, seed: int, suite: Path = SUITE) -> dict[str, object]:
    """Measure evaluations beside two peers, and count the rows of the public suite that hold.

    Args:
        quick: fewer contexts.
        seed: of the contexts.
        suite: the folder of the public suite; without it there are no counts.

    Returns:
        The keys of BENCH.md for `flags` that concern evaluation.
    """
    start = report.begin(seed)
    return report.finish(start, figures(quick, seed, suite), PACKAGES)


def figures(quick: bool, seed: int, suite: Path = SUITE) -> dict[str, object]:
    """Return what `run` tells, without what every measurement does."""
    contexts = members(rng(seed), CONTEXTS_QUICK if quick else CONTEXTS)
    return {**conformance(suite), "contexts": len(contexts), **evaluations(contexts)}


def evaluations(contexts: list[dict[str, Any]]) -> dict[str, object]:
    """Return microseconds per evaluation of each system, and how they compare.

    flagd's evaluator has bucketing v3 only, so ours is asked in both, and has to give in v3
    what flagd's gives to each member.
    """
    systems = {
        "": ours("v2"),
        "v3_us": ours("v3"),
        "flagd_core_us": flagd_core(),
        "growthbook_us": growthbook(),
    }
    held = [[prepare(context) for context in contexts] for _, prepare in systems.values()]
    times: dict[str, dict[str, float]] = {name: {} for name in systems}
    differing = 0
    for rule in RULES:
        asks = [asks[rule] for asks, _ in systems.values()]
        spent, answers = measured(asks, held)
        for name, microseconds in zip(systems, spent, strict=True):
            times[name][rule] = microseconds
        differing += sum(a != b for a, b in zip(answers[1], answers[2], strict=True))
    last = {name: column["country_semver_percentage"] for name, column in times.items()}
    shown = {name: {rule: round(us, 4) for rule, us in of.items()} for name, of in times.items()}
    return {
        **{f"{rule}_us": us for rule, us in shown.pop("").items()},
        **shown,
        "ratio_to_flagd_core": round(last["flagd_core_us"] / last[""], 2),
        "ratio_to_flagd_core_in_v3": round(last["flagd_core_us"] / last["v3_us"], 2),
        "ratio_to_growthbook": round(last["growthbook_us"] / last[""], 2),
        "answers_unlike_flagd_core": differing,
    }


def members(chance: Rng, count: int) -> list[dict[str, Any]]:
    """Return contexts of as many members, no two alike."""
    return [
        {
            "targetingKey": f"{number % 50}-{number}",
            "country": chance.choice(COUNTRIES),
            "appVersion": f"8.{chance.randrange(6, 12)}.{chance.randrange(20)}",
            "platform": chance.choice(("android", "ios")),
            "language": chance.choice(("en", "sv", "de")),
            "ring": chance.choice(("everyone", "beta")),
        }
        for number in range(count)
    ]


def conformance(suite: Path) -> dict[str, object]:
    """Return how many rows of the public suite hold, do not, and belong to another bucketing."""
    if not suite.is_dir():
        absent = f"{suite} is absent: give its place with --suite"
        return {"conformance_passed": None, "conformance_failed": None, "conformance_suite": absent}
    flags = flag_suite.flags(suite)
    played = [flag_suite.play(row, flags) for row in flag_suite.rows(suite)]
    return {
        "conformance_passed": sum(not one.failure and not one.skipped for one in played),
        "conformance_failed": sum(bool(one.failure) for one in played),
        "conformance_of_other_bucketing": sum(bool(one.skipped) for one in played),
        "conformance_suite": str(suite),
    }


def measured(
    asks: Sequence[Ask], held: Sequence[list[Any]]
) -> tuple[list[float], list[list[bool]]]:
    """Return microseconds per evaluation and all answers, of each system."""
    stretches = ceil(len(held[0]) / STRETCH)
    spent: list[list[float]] = [[] for _ in asks]
    given: list[list[bool]] = [[] for _ in asks]
    for number in range(-1, stretches):  # the first is to warm up
        for turn in range(len(asks)):
            system = (turn + number) % len(asks)
            at = max(number, 0) * STRETCH
            contexts, ask = held[system][at : at + STRETCH], asks[system]
            before = process_time()
            answers = [ask(context) for context in contexts]
            elapsed = process_time() - before
            if number >= 0:
                spent[system].append(elapsed / len(contexts) * 1e6)
                given[system] += answers
    return [median(times) for times in spent], given


def definition(rule: Any, bucketing: str) -> dict[str, Any]:
    """Return a flag in flagd's JSON."""
    found: dict[str, Any] = {
        "state": "ENABLED",
        "variants": {"on": True, "off": False},
        "defaultVariant": "off",
        "metadata": {"bucketing": bucketing},
    }
    return found if rule is None else {**found, "targeting": rule}


def ours(bucketing: str) -> tuple[Mapping[str, Ask], Callable[[Context], Any]]:
    """Return how our evaluator is asked, per rule, and what it is given."""
    definitions = {name: definition(rule, bucketing) for name, rule in RULES.items()}
    flags = FlagSet.compile({"flags": definitions})

    def asking(key: str) -> Ask:
        resolve = flags.resolve
        return lambda context: resolve(key, FlagType.BOOLEAN, context, NOW).value

    return {name: asking(name) for name in RULES}, dict


def flagd_core() -> tuple[Mapping[str, Ask], Callable[[Context], Any]]:
    """Return how flagd's own evaluator in Python is asked, and what it is given."""
    core = _peer("openfeature.contrib.tools.flagd.core", "openfeature-flagd-core")
    contexts = _peer("openfeature.evaluation_context", "openfeature-flagd-core")
    logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)
    evaluator = core.FlagdCore()
    flags = {name: definition(rule, "v3") for name, rule in RULES.items()}
    evaluator.set_flags(json.dumps({"flags": flags}))

    def asking(key: str) -> Ask:
        resolve = evaluator.resolve_boolean_value
        return lambda context: resolve(key, False, context).value  # noqa: FBT003 - their order

    def prepared(context: Context) -> Any:
        rest = {name: value for name, value in context.items() if name != "targetingKey"}
        return contexts.EvaluationContext(context["targetingKey"], rest)

    return {name: asking(name) for name in RULES}, prepared


def growthbook() -> tuple[Mapping[str, Ask], Callable[[Context], Any]]:
    """Return how GrowthBook's evaluator is asked, and what it is given.

    Its versions are compared by `$vgte`, its percentages are coverages of a rule.
    """
    module = _peer("growthbook", "growthbook")
    here = {"country": {"$in": CHOSEN}, "appVersion": {"$vgte": VERSION}}
    part: dict[str, Any] = {"force": True, "coverage": PERCENTAGE / 100, "hashAttribute": "id"}
    features: dict[str, Any] = {
        "static": {"defaultValue": False},
        "rule": {
            "defaultValue": False,
            "rules": [{"condition": {"country": "SE"}, "force": True}],
        },
        "percentage": {"defaultValue": False, "rules": [part]},
        "country_semver_percentage": {
            "defaultValue": False,
            "rules": [{**part, "condition": here}],
        },
    }
    book = module.GrowthBook(features=features)

    def asking(key: str) -> Ask:
        def asked(attributes: Any) -> bool:
            book.set_attributes(attributes)
            return book.is_on(key)

        return asked

    def prepared(context: Context) -> Any:
        return {**context, "id": context["targetingKey"]}

    return {name: asking(name) for name in RULES}, prepared


def _peer(module: str, package: str) -> Any:
    """Return a peer, which only this measurement needs.

    Raises:
        SetupError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise SetupError(
            f"bench flags compares with {package}, which is not installed",
            field=package,
            next_step="install the development tools: pip install --group dev",
        ) from error
