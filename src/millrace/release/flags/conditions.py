"""Conditions that people think in: each has its JsonLogic, the way back, and its words."""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.release.flags import moments, semver
from millrace.release.flags.expressions import (
    DEPENDS,
    TIMESTAMP,
    ByHandError,
    Expression,
    any_of,
    attribute,
    operation,
    texts,
    variable,
)
from millrace.release.flags.types import TARGETING_KEY, Ring

COUNTRY = re.compile(r"[A-Z]{2}")
COMMUNITY = re.compile(r"[0-9]{1,19}")
ATTRIBUTE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
RESERVED = frozenset({TARGETING_KEY, "ring", "rings", "country", "community", "appVersion"})
"""Attributes that have a condition of their own, or that Millrace computes."""

WORDS_MAX = 3  # of a long list, so many are named and the rest is counted


class Members(Struct, frozen=True, tag_field="kind", tag="members"):
    """These members, by their targeting keys."""

    members: tuple[str, ...]


class InRings(Struct, frozen=True, tag_field="kind", tag="rings"):
    """Whoever is in one of these rings, and so whoever is in a ring inside of them."""

    rings: tuple[Ring, ...]


class Markets(Struct, frozen=True, tag_field="kind", tag="markets"):
    """Whoever is in one of these countries (ISO 3166 alpha-2) or in one of these communities."""

    countries: tuple[str, ...] = ()
    communities: tuple[str, ...] = ()


class AppVersions(Struct, frozen=True, tag_field="kind", tag="app_versions"):
    """Whoever uses the app in a version of a range; an empty end is open."""

    at_least: str = ""
    below: str = ""


class Between(Struct, frozen=True, tag_field="kind", tag="between"):
    """From a moment on, until before another; None is open."""

    start: datetime | None = None
    end: datetime | None = None


class Depends(Struct, frozen=True, tag_field="kind", tag="depends"):
    """Whoever is given a variant by another flag."""

    flag: str
    variant: str


class Having(Struct, frozen=True, tag_field="kind", tag="having"):
    """Whoever's attribute of the context is one of these values: a platform, a language."""

    attribute: str
    values: tuple[str, ...]


Condition: TypeAlias = Members | InRings | Markets | AppVersions | Between | Depends | Having


def write(condition: Condition) -> list[Expression]:
    """Return the expressions that all have to be true where the condition holds."""
    match condition:
        case Members() | Having():
            return [_one_of(*_list_of(condition))]
        case InRings(rings):
            return [any_of([{"in": [ring.value, variable("rings")]} for ring in rings])]
        case Markets(countries, communities):
            parts = [("country", countries), ("community", communities)]
            return [any_of([_one_of(name, values) for name, values in parts if values])]
        case AppVersions(at_least, below):
            ends = [(">=", at_least), ("<", below)]
            return [{"sem_ver": [variable("appVersion"), sign, end]} for sign, end in ends if end]
        case Between(start, end):
            moved = [(">=", start), ("<", end)]
            return [{s: [variable(TIMESTAMP), moments.seconds(at)]} for s, at in moved if at]
        case Depends(flag, variant):
            return [{DEPENDS: [flag, variant]}]


def read(expressions: Sequence[Expression]) -> tuple[Condition, ...]:
    """Return the conditions that the expressions stand for; both ends of a range are one.

    Where one of them is none that people think in, that is a ByHandError.
    """
    found: list[Condition] = []
    for expression in expressions:
        condition = _read(expression)
        joined = _joined(found[-1], condition) if found else None
        if joined is None:
            found.append(condition)
        else:
            found[-1] = joined
    return tuple(found)


def check(conditions: Sequence[Condition]) -> None:
    """Refuse conditions that nobody can meet, or that could not be read back.

    Raises:
        InvalidError: a kind of condition comes twice; or a list is empty, or a range, as the
            checks of each kind find out.
    """
    for condition in conditions:
        _check(condition)
    kinds = [_kind(condition) for condition in conditions]
    twice = {kind for kind in kinds if kinds.count(kind) > 1}
    if twice:
        raise InvalidError(
            f"a rule has two conditions on {min(twice)}",
            field="conditions",
            next_step="put them into one, or make two rules",
        )


def in_words(condition: Condition) -> str:
    """Write what must be true of somebody, to go after `whoever`."""
    match condition:
        case Members(members):
            words = f"is {_listed(members)}"
        case InRings(rings):
            words = f"is in ring {_listed(rings)}"
        case Markets(countries, communities):
            words = "is in " + _listed([*countries, *(f"community {it}" for it in communities)])
        case AppVersions(at_least, below):
            ends = [f"{at_least} or later" if at_least else "", f"before {below}" if below else ""]
            words = (
                f"uses {'app' if at_least else 'an app'} version {' and '.join(filter(None, ends))}"
            )
        case Between(start, end):
            ends = [f"from {moments.in_words(start)} on" if start else ""]
            ends += [f"until {moments.in_words(end)}" if end else ""]
            words = "asks " + " ".join(filter(None, ends))
        case Depends(flag, variant):
            words = f"is given {variant} by flag {flag}"
        case Having(name, values):
            words = f"has {name} {_listed(values)}"
    return words


def _list_of(condition: Members | Having) -> tuple[str, tuple[str, ...]]:
    match condition:
        case Members(members):
            return TARGETING_KEY, members
        case Having(name, values):
            return name, values


def _one_of(name: str, values: Sequence[str]) -> Expression:
    return {"in": [variable(name), list(values)]}


def _read(expression: Expression) -> Condition:
    match operation(expression):
        case "in", _ if _ring(expression):
            found = _rings([expression])
        case (("in" | "=="), [_, _]):
            found = _named(*_choice(expression))
        case "or", parts:
            found = _either(parts)
        case "sem_ver", [left, str(sign), str(end)] if attribute(left) == "appVersion":
            found = AppVersions(**{_end(sign, ("at_least", "below")): end})
        case str(sign), [left, at] if attribute(left) == TIMESTAMP:
            found = Between(**{_end(sign, ("start", "end")): moments.moment(at)})
        case operator, [str(flag), str(variant)] if operator == DEPENDS:
            found = Depends(flag, variant)
        case _:
            raise ByHandError(expression)
    return found


def _end(sign: str, names: tuple[str, str]) -> str:
    """Return which end of a range a comparison is.

    Raises:
        ByHandError: it is neither of `>=` and `<`.
    """
    if sign not in {">=", "<"}:
        raise ByHandError(sign)
    return names[sign == "<"]


def _choice(expression: Expression) -> tuple[str, tuple[str, ...]]:
    """Take apart `x in [...]` and `x == "..."`, which is the same with one value.

    Raises:
        ByHandError: it is neither.
    """
    match operation(expression):
        case "in", [left, right] if (name := attribute(left)) and (values := texts(right)):
            return name, values
        case "==", [left, str(value)] if name := attribute(left):
            return name, (value,)
        case "==", [str(value), right] if name := attribute(right):
            return name, (value,)
        case _:
            raise ByHandError(expression)


def _named(name: str, values: tuple[str, ...]) -> Condition:
    match name:
        case "targetingKey":
            return Members(values)
        case "country":
            return Markets(countries=values)
        case "community":
            return Markets(communities=values)
        case _ if name not in RESERVED:
            return Having(name, values)
        case _:
            raise ByHandError(name)


def _either(parts: list[Any]) -> Condition:
    """Read an `or`: rings, or a country and a community.

    Raises:
        ByHandError: it is neither.
    """
    if parts and all(_ring(part) for part in parts):
        return _rings(parts)
    match [_read(part) for part in parts]:
        case [Markets(countries, ()), Markets((), communities)]:
            return Markets(countries, communities)
        case _:
            raise ByHandError({"or": parts})


def _ring(part: Expression) -> str:
    """Return the name of the ring that an expression asks for; empty if it asks something else."""
    match operation(part):
        case "in", [str(name), right] if attribute(right) == "rings":
            return name
        case _:
            return ""


def _rings(parts: list[Any]) -> InRings:
    try:
        return InRings(tuple(Ring(_ring(part)) for part in parts))
    except ValueError as exc:
        raise ByHandError(parts) from exc


def _joined(before: Condition, after: Condition) -> Condition | None:
    """Return the one range that two ends make; None where they are not its ends."""
    match before, after:
        case AppVersions(at_least, ""), AppVersions("", below):
            return AppVersions(at_least, below)
        case Between(start, None), Between(None, end):
            return Between(start, end)
        case _:
            return None


def _kind(condition: Condition) -> str:
    match condition:
        case Depends(flag, variant):
            return f"flag {flag} and variant {variant}"
        case Having(name, _):
            return f"attribute {name}"
        case _:
            return type(condition).__name__


def _check(condition: Condition) -> None:
    match condition:
        case Members(members):
            _check_all("members", members, lambda each: bool(each))
        case InRings(rings):
            _check_all("rings", rings, lambda _: True)
        case Markets(countries, communities):
            _check_all("markets", [*countries, *communities], lambda _: True)
            _check_all("countries", countries, _matches(COUNTRY), least=0)
            _check_all("communities", communities, _matches(COMMUNITY), least=0)
        case AppVersions(at_least, below):
            _check_versions(at_least, below)
        case Between(start, end):
            _check_between(start, end)
        case Depends(flag, variant):
            for name in (flag, variant):
                _check_all("flags and variants", [name], lambda each: bool(each))
        case Having(name, values):
            free = [name] if name not in RESERVED else ["a reserved name"]
            _check_all("attribute", free, _matches(ATTRIBUTE))
            _check_all("values", values, lambda _: True)


def _check_all(
    field: str, values: Sequence[str], holds: Callable[[str], bool], least: int = 1
) -> None:
    if len(values) < least:
        raise InvalidError(
            f"a condition on {field} names none, so that nobody meets it",
            field=field,
            next_step="name at least one, or leave the condition out",
        )
    if len(set(values)) < len(values):
        raise InvalidError(f"a condition on {field} names one of them twice", field=field)
    for value in values:
        if not holds(value):
            raise InvalidError(f"{value!r} is none of the {field}", field=field, value=value)


def _check_versions(at_least: str, below: str) -> None:
    ends = [end for end in (at_least, below) if end]
    _check_all("app versions", ends, lambda end: semver.parsed(end) is not None)
    found = [version for end in ends if (version := semver.parsed(end))]
    if len(found) == 2 and found[0] >= found[1]:
        raise InvalidError(
            f"no app version is {at_least} or later and before {below}",
            field="below",
            value=below,
            limit=at_least,
        )


def _check_between(start: datetime | None, end: datetime | None) -> None:
    _check_all("times", [str(at) for at in (start, end) if at], lambda _: True)
    ends = [moments.seconds(at) for at in (start, end) if at]
    if ends != sorted(ends):
        raise InvalidError(
            "a condition ends before it begins", field="end", value=str(end), limit=str(start)
        )


def _matches(pattern: re.Pattern[str]) -> Callable[[str], bool]:
    return lambda text: pattern.fullmatch(text) is not None


def _listed(values: Sequence[str]) -> str:
    """Write `a, b or c`; of a long list the first few and how many more."""
    shown = [str(value) for value in values[:WORDS_MAX]]
    more = len(values) - len(shown)
    if more:
        return f"{', '.join(shown)} or {more} more"
    return " or ".join(filter(None, [", ".join(shown[:-1]), shown[-1]]))
