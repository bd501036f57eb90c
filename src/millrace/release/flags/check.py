"""What an editor refuses in a definition, and why: the place in the JSON and the next step."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from msgspec.structs import replace

from millrace.release.flags import bucketing, dependences, jsontext
from millrace.release.flags.logic import Answers, Compiler, Evaluators
from millrace.release.flags.parts import RefusedError
from millrace.release.flags.pointers import escaped, existing
from millrace.release.flags.targeting import Rules, targeting_problems
from millrace.release.flags.types import KEY_MAX, Problem

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
STATES = ("ENABLED", "DISABLED")
KNOWN = frozenset({"state", "variants", "defaultVariant", "targeting", "metadata"})
EVALUATORS_MAX = 1_000


def problems(key: str, definition: object, others: Mapping[str, Any]) -> list[Problem]:
    """Return everything that is wrong with a definition, in the order of its members.

    Args:
        key: of the flag.
        definition: as a JSON value.
        others: the document that it is to stand in: `flags`, `$evaluators`, `metadata`.
    """
    found = list(_of_key(key))
    try:
        jsontext.weigh(definition)
        jsontext.expect_kept(definition)
    except RefusedError as error:
        return [*found, Problem(error.place, str(error))]
    if not isinstance(definition, dict):
        return [*found, Problem("", "a definition is a JSON object: write state and variants")]
    members = cast("dict[str, Any]", definition)
    found += _of_state(members)
    found += _of_variants(members.get("variants"))
    found += _of_default(members)
    found += _of_metadata(members.get("metadata", {}), "/metadata")
    found += _of_targeting(key, members, others)
    for name in members:
        if name not in KNOWN:
            message = f"{name[:80]!r} means nothing here and is kept as it is"
            found.append(Problem(f"/{escaped(name)}", message, grave=False))
    return [replace(problem, place=existing(members, problem.place)) for problem in found]


def shared_problems(evaluators: Mapping[str, Any], metadata: Mapping[str, Any]) -> list[Problem]:
    """Return what is wrong with what flags share, with places from the document."""
    found = list(_of_metadata(metadata, "/metadata"))
    if len(evaluators) > EVALUATORS_MAX:
        message = f"{len(evaluators):,} evaluators; at most {EVALUATORS_MAX:,}"
        return [*found, Problem("/$evaluators", message)]
    for name, logic in evaluators.items():
        place = f"/$evaluators/{escaped(name)}"
        try:
            jsontext.weigh(logic)
            jsontext.expect_kept([name, logic])
        except RefusedError as error:
            found.append(Problem(place, str(error)))
            continue
        rules = Rules(key="", variants=None, evaluators=evaluators, flags={})
        of_rule = targeting_problems(logic, place, rules)
        found += of_rule or _of_compiling("", logic, place, evaluators)
    whole = {"metadata": metadata, "$evaluators": evaluators}
    return [replace(problem, place=existing(whole, problem.place)) for problem in found]


def _of_key(key: str) -> Iterator[Problem]:
    """Yield what is wrong with a key."""
    if len(key) > KEY_MAX:
        yield Problem("", f"the key has {len(key)} characters; at most {KEY_MAX}: shorten it")
    elif not KEY.fullmatch(key):
        step = "use letters, digits, full stops, hyphens and underscores, and begin with one of"
        yield Problem("", f"the key {key[:80]!r} is no name of a flag: {step} the first two")


def _of_state(members: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the switch."""
    if members.get("state") not in STATES:
        yield Problem("/state", 'state is missing or unknown: write "ENABLED" or "DISABLED"')


def _of_variants(variants: object) -> Iterator[Problem]:
    """Yield what is wrong with the variants: none, null, or of different types."""
    if not isinstance(variants, dict) or not variants:
        yield Problem("/variants", 'variants is missing: write at least one, as {"on": true}')
        return
    kinds: dict[str, str] = {}
    for name, value in cast("dict[str, Any]", variants).items():
        place = f"/variants/{escaped(name)}"
        if not name:
            yield Problem(place, "a variant needs a name")
        kind = _kind(value)
        if kind == "null":
            yield Problem(place, f"variant {name[:80]!r} is null: give it a value")
        elif kinds and kind not in kinds:
            other, of_other = next(iter(kinds.items()))
            message = (
                f"variant {name[:80]!r} is of type {kind} and {of_other[:80]!r} of type {other}"
            )
            yield Problem(place, f"{message}: a flag has values of one type")
        if kind != "null":
            kinds.setdefault(kind, name)


def _of_default(members: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield what is wrong with the default variant."""
    default, variants = members.get("defaultVariant"), members.get("variants")
    if default is None or not variants or not isinstance(variants, dict):
        return
    names = list(cast("dict[str, Any]", variants))
    if not isinstance(default, str) or default not in names:
        step = f"name one of {_named(names)}, or leave it out for the caller's own default"
        yield Problem("/defaultVariant", f"the default {_shown(default)} is no variant: {step}")


def _of_metadata(metadata: object, place: str) -> Iterator[Problem]:
    """Yield what is wrong with metadata: only texts, numbers and truths, and a known bucketing."""
    if not isinstance(metadata, dict):
        yield Problem(place, "metadata is an object of names and values")
        return
    for name, value in cast("dict[str, Any]", metadata).items():
        inside = f"{place}/{escaped(name)}"
        if not jsontext.is_kept(f"{name}{value}"):
            yield Problem(inside, f"{name[:80]!r} has NUL or half of a pair: take it out")
        elif _kind(value) not in ("boolean", "string", "number"):
            yield Problem(inside, f"metadata {name[:80]!r} is {_kind(value)}: write text or number")
        elif name == bucketing.METADATA_KEY and bucketing.named(value) is None:
            known = ", ".join(bucketing.NAMED)
            yield Problem(inside, f"there is no bucketing {_shown(value)}: use one of {known}")


def _of_targeting(
    key: str, members: Mapping[str, Any], others: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield what is wrong with the rules of a flag."""
    targeting = members.get("targeting")
    if targeting is None or targeting == {}:
        return
    if not isinstance(targeting, dict):
        yield Problem("/targeting", "targeting is a JSON object: an operator with its arguments")
        return
    variants, evaluators = members.get("variants"), _object(others.get("$evaluators"))
    flags = {**_object(others.get("flags")), key: members}
    rules = Rules(
        key=key,
        variants=frozenset(cast("dict[str, Any]", variants))
        if isinstance(variants, dict)
        else None,
        evaluators=evaluators,
        flags=flags,
    )
    found = targeting_problems(cast("Any", targeting), "/targeting", rules)
    yield from found
    if not any(problem.grave for problem in found):
        yield from _of_compiling(key, cast("Any", targeting), "/targeting", evaluators)
    yield from dependences.problems(key, flags, evaluators)


def _of_compiling(
    key: str, logic: object, place: str, evaluators: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield what the evaluator itself refuses: too deep, too long, in a circle."""
    try:
        version = bucketing.NAMED[bucketing.DEFAULT]
        Compiler(key, Evaluators(evaluators), version, Answers()).answer(logic, place)
    except RefusedError as error:
        yield Problem(error.place, str(error))
    except RecursionError:
        yield Problem(place, "nested too deep: use $evaluators")


def _object(value: object) -> Mapping[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _kind(value: object) -> str:
    """Return the type of a JSON value, in JSON's words."""
    match value:
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case None:
            return "null"
        case _:
            return "object"


def _named(names: list[str]) -> str:
    """Return a few names, quoted."""
    shown = ", ".join(repr(name[:80]) for name in names[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown


def _shown(value: object) -> str:
    """Return a short form of a value that may be of any size and kind."""
    simple = isinstance(value, str | bool | float) or value is None
    return repr(value)[:80] if simple else f"of type {_kind(value)}"
