"""Operators that are applied to the values of all their arguments, whichever these are.

Missing arguments are null and further ones are ignored, as in JsonLogic. `sem_ver`,
`starts_with` and `ends_with` answer null where they cannot be applied, as in flagd.
"""

from collections.abc import Callable, Mapping
from math import fmod, inf, isinf, isnan, nan
from typing import Any, TypeAlias, cast

from millrace.release.flags.coercion import (
    alike,
    at_most,
    bounded,
    exact,
    joined,
    less,
    number_of,
    same,
    text_of,
    truthy,
)
from millrace.release.flags.parts import ITEMS_MAX, TEXT_MAX, BoundError
from millrace.release.flags.semver import holds, parsed

Operator: TypeAlias = Callable[..., Any]


def _alike(a: Any = None, b: Any = None, *_: Any) -> bool:
    return alike(a, b)


def _unlike(a: Any = None, b: Any = None, *_: Any) -> bool:
    return not alike(a, b)


def _same(a: Any = None, b: Any = None, *_: Any) -> bool:
    return same(a, b)


def _other(a: Any = None, b: Any = None, *_: Any) -> bool:
    return not same(a, b)


def _truth(value: Any = None, *_: Any) -> bool:
    return truthy(value)


def _not(value: Any = None, *_: Any) -> bool:
    return not truthy(value)


def _less(a: Any = None, b: Any = None, c: Any = None, *_: Any) -> bool:
    return less(a, b) and (c is None or less(b, c))


def _at_most(a: Any = None, b: Any = None, c: Any = None, *_: Any) -> bool:
    return at_most(a, b) and (c is None or at_most(b, c))


def _more(a: Any = None, b: Any = None, c: Any = None, *_: Any) -> bool:
    return less(b, a) and (c is None or less(c, b))


def _at_least(a: Any = None, b: Any = None, c: Any = None, *_: Any) -> bool:
    return at_most(b, a) and (c is None or at_most(c, b))


def _sum(*values: Any) -> int | float:
    total: int | float = 0
    for value in values:
        total = exact(total + number_of(value))
    return total


def _product(*values: Any) -> int | float:
    product: int | float = 1
    for value in values:
        product = exact(product * number_of(value))
    return product


def _difference(a: Any = None, *rest: Any) -> int | float:
    """Return a - b, or -a of one argument."""
    if not rest:
        return exact(-number_of(a))
    return exact(number_of(a) - number_of(rest[0]))


def _quotient(a: Any = None, b: Any = None, *_: Any) -> int | float:
    """Return a / b; what is divided by zero is infinite, as in JavaScript."""
    above, below = number_of(a), number_of(b)
    if below == 0:
        return nan if above == 0 or isnan(above) else inf if above > 0 else -inf
    return above / below


def _remainder(a: Any = None, b: Any = None, *_: Any) -> int | float:
    """Return what a division leaves, with the sign of what was divided."""
    above, below = number_of(a), number_of(b)
    if below == 0 or isinf(above) or isnan(above) or isnan(below):
        return nan
    if type(above) is int and type(below) is int:
        return (abs(above) % abs(below)) * (1 if above >= 0 else -1)
    return fmod(above, below)


def _least(*values: Any) -> int | float:
    numbers = [number_of(value) for value in values]
    return nan if any(map(isnan, numbers)) else min(numbers, default=inf)


def _greatest(*values: Any) -> int | float:
    numbers = [number_of(value) for value in values]
    return nan if any(map(isnan, numbers)) else max(numbers, default=-inf)


def _joined(*values: Any) -> str:
    return joined("", ["" if value is None else text_of(value) for value in values])


def _part_of_text(text: Any = None, start: Any = None, length: Any = None, *_: Any) -> str:
    """Return a part of a text; a negative start or length counts from the end."""
    whole = bounded(text_of(text))
    part = whole[_whole(start) :]
    return part if length is None else part[: _whole(length)]


def _whole(value: Any) -> int:
    """Return a number as an index, zero where it is none."""
    number = number_of(value)
    return 0 if isnan(number) else int(max(min(number, TEXT_MAX), -TEXT_MAX))


def among(needle: Any = None, haystack: Any = None, *_: Any) -> bool:
    """Return whether a list holds a value, or a text another.

    Raises:
        BoundError: it is too long to be searched in bounded time.
    """
    if isinstance(haystack, str):
        return text_of(needle) in bounded(haystack)
    if not isinstance(haystack, list | tuple):
        return False
    items = cast("list[Any]", haystack)
    if len(items) > ITEMS_MAX:
        raise BoundError(f"a list of {len(items):,} items to search; at most {ITEMS_MAX:,}")
    # The language itself finds a text, and rules most out of the rest, which goes kind by kind.
    if type(needle) is str:
        return needle in items
    if type(needle) not in (list, dict) and needle not in items:
        return False
    return any(same(needle, item) for item in items)


def _starts(*values: Any) -> bool | None:
    return values[0].startswith(values[1]) if _texts(values) else None


def _ends(*values: Any) -> bool | None:
    return values[0].endswith(values[1]) if _texts(values) else None


def _texts(values: tuple[Any, ...]) -> bool:
    """Return whether these are two texts."""
    return len(values) == 2 and isinstance(values[0], str) and isinstance(values[1], str)


def _version(*values: Any) -> bool | None:
    """Return how a version stands to another, null for what is no version or no comparison."""
    if len(values) != 3 or type(values[1]) is not str:
        return None
    version, other = parsed(values[0]), parsed(values[2])
    return None if version is None or other is None else holds(version, values[1], other)


def _logged(value: Any = None, *_: Any) -> Any:
    """Return the value; nothing is printed, for an evaluation must never wait."""
    return value


EAGER: Mapping[str, Operator] = {
    "==": _alike,
    "!=": _unlike,
    "===": _same,
    "!==": _other,
    "<": _less,
    "<=": _at_most,
    ">": _more,
    ">=": _at_least,
    "!": _not,
    "!!": _truth,
    "+": _sum,
    "-": _difference,
    "*": _product,
    "/": _quotient,
    "%": _remainder,
    "min": _least,
    "max": _greatest,
    "in": among,
    "cat": _joined,
    "substr": _part_of_text,
    "starts_with": _starts,
    "ends_with": _ends,
    "sem_ver": _version,
    "log": _logged,
}

PLAIN = frozenset(EAGER) - {"+", "-", "*", "/", "%", "min", "max", "log"}
"""Those whose answer is never an object or NaN."""

STEPS: Mapping[str, int] = {"in": 5, "cat": 5, "substr": 5, "sem_ver": 5}
"""What a slow one costs; the others cost one step."""
