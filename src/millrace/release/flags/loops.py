"""Operators that apply a rule to each item of a list. Each item costs the steps of the rule."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from millrace.release.flags.parts import Run, Way

Loop: TypeAlias = Callable[[Way, Way, int], Way]
"""From the way to the list, the rule for an item and its steps, to the way of the loop."""


def mapped(source: Way, rule: Way, steps: int) -> Way:
    """Return the way to what the rule makes of each item."""

    def loop(data: Any, run: Run) -> list[Any]:
        return [rule(item, run) for item in _items(source(data, run), run, steps)]

    return loop


def filtered(source: Way, rule: Way, steps: int) -> Way:
    """Return the way to the items that the rule holds for."""

    def loop(data: Any, run: Run) -> list[Any]:
        return [item for item in _items(source(data, run), run, steps) if rule(item, run)]

    return loop


def every(source: Way, rule: Way, steps: int) -> Way:
    """Return the way to whether the rule holds for all items, of which there must be one."""

    def loop(data: Any, run: Run) -> bool:
        items = _items(source(data, run), run, steps)
        return bool(items) and all(rule(item, run) for item in items)

    return loop


def some(source: Way, rule: Way, steps: int) -> Way:
    """Return the way to whether the rule holds for an item."""

    def loop(data: Any, run: Run) -> bool:
        return any(rule(item, run) for item in _items(source(data, run), run, steps))

    return loop


def no(source: Way, rule: Way, steps: int) -> Way:
    """Return the way to whether the rule holds for no item."""
    held = some(source, rule, steps)

    def loop(data: Any, run: Run) -> bool:
        return not held(data, run)

    return loop


def reduced(source: Way, rule: Way, steps: int, initial: Way) -> Way:
    """Return the way to what is left when the rule has taken in item after item."""

    def loop(data: Any, run: Run) -> Any:
        items, accumulator = source(data, run), initial(data, run)
        for item in _items(items, run, steps):
            accumulator = rule({"current": item, "accumulator": accumulator}, run)
        return accumulator

    return loop


def merged(ways: tuple[Way, ...]) -> Way:
    """Return the way to one list of all arguments, and of the items of those that are lists."""

    def merge(data: Any, run: Run) -> list[Any]:
        items: list[Any] = []
        for way in ways:
            value = way(data, run)
            if isinstance(value, list):
                items.extend(_items(value, run, 1))
            else:
                items.append(value)
        return items

    return merge


def _items(value: Any, run: Run, steps: int) -> list[Any]:
    """Return a list, paid for; none where there is no list."""
    if type(value) is not list:
        return []
    run.charge(len(value) * steps)  # pyright: ignore[reportUnknownArgumentType]
    return value  # pyright: ignore[reportUnknownVariableType]


LOOPS: Mapping[str, Loop] = {"map": mapped}
"""Those whose rule's value matters."""

TESTS: Mapping[str, Loop] = {"filter": filtered, "all": every, "some": some, "none": no}
"""Those where it matters only whether the rule holds."""
