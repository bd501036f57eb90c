"""Which flags a flag depends on, whether they are there, and whether they go round in circles."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from millrace.release.flags.expressions import DEPENDS, operation
from millrace.release.flags.logic import REFERENCE
from millrace.release.flags.parts import DEPENDENCE_MAX
from millrace.release.flags.pointers import escaped
from millrace.release.flags.types import Problem

VISITED_MAX = 200_000  # JSON values that one search looks at


def dependences(definition: object, evaluators: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the keys that a flag depends on, each with a place in it and the variant it wants.

    A place within a shared evaluator is where the flag refers to it.
    """
    found: dict[str, tuple[str, str]] = {}
    seen: set[str] = set()
    rule = (
        cast("dict[str, Any]", definition).get("targeting") if isinstance(definition, dict) else 0
    )
    waiting: list[tuple[Any, str, bool]] = [(rule, "/targeting", True)]
    for _ in range(VISITED_MAX):
        if not waiting:
            break
        logic, place, own = waiting.pop()
        match operation(logic):
            case name, [str(key), str(variant)] if name == DEPENDS:
                found.setdefault(key, (f"{place}/{DEPENDS}" if own else place, variant))
            case name, [str(evaluator)] if name == REFERENCE:
                if evaluator not in seen:
                    seen.add(evaluator)
                    waiting.append((evaluators.get(evaluator), place, False))
            case _:
                waiting += [(one, f"{place}/{at}" if own else place, own) for at, one in _in(logic)]
    return found


def dependents(key: str, flags: Mapping[str, Any], evaluators: Mapping[str, Any]) -> list[str]:
    """Return the keys of the flags that depend on a flag, in order."""
    return sorted(
        other
        for other, definition in flags.items()
        if other != key and key in dependences(definition, evaluators)
    )


def problems(
    key: str, flags: Mapping[str, Any], evaluators: Mapping[str, Any]
) -> Iterator[Problem]:
    """Yield what is wrong with what a flag depends on."""
    for other, (place, variant) in dependences(flags.get(key), evaluators).items():
        if other not in flags:
            yield Problem(place, f"there is no flag {other[:80]!r}: make it first, or name another")
            continue
        if variant not in _map(_map(flags[other]).get("variants")):
            message = f"flag {other[:80]!r} has no variant {variant[:80]!r}"
            yield Problem(place, f"{message}: name one that it has")
        circle = _circle(key, other, flags, evaluators)
        if circle:
            way = " -> ".join(name[:80] for name in circle)
            yield Problem(place, f"flags depend on one another in a circle: {way}; break it")
        elif _length(other, flags, evaluators) >= DEPENDENCE_MAX:
            message = f"more than {DEPENDENCE_MAX} flags depend on one another in a row"
            yield Problem(place, f"{message}: name the last of them directly")


def _circle(
    key: str, start: str, flags: Mapping[str, Any], evaluators: Mapping[str, Any]
) -> list[str]:
    """Return the way from a flag over another one back to itself, nothing where there is none."""
    ways, seen = [[key, start]], {start}
    while ways:
        way = ways.pop()
        if way[-1] == key:
            return way
        for other in dependences(flags.get(way[-1]), evaluators):
            if other == key or other not in seen:
                seen.add(other)
                ways.append([*way, other])
    return []


def _length(key: str, flags: Mapping[str, Any], evaluators: Mapping[str, Any]) -> int:
    """Return how many flags depend on one another in a row from here, at most one beyond the bound."""
    row, length = {key}, 0
    while row and length <= DEPENDENCE_MAX:
        row = {one for other in row for one in dependences(flags.get(other), evaluators)}
        length += 1
    return length


def _in(logic: Any) -> list[tuple[str, Any]]:
    """Return the lists and objects in a list or object, each with its step of a JSON pointer."""
    if isinstance(logic, list):
        each = enumerate(cast("list[Any]", logic))
        return [(str(index), one) for index, one in each if isinstance(one, list | dict)]
    each = _map(logic).items()
    return [(escaped(name), one) for name, one in each if isinstance(one, list | dict)]


def _map(value: object) -> dict[str, Any]:
    """Return an object, an empty one for anything else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
