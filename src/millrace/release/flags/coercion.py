"""What JsonLogic makes of values of other kinds: JavaScript's rules, bounded in time.

`null` is what JavaScript calls undefined, too. Lists and objects are equal only to themselves.
Whole numbers stay exact within 64 bits and are doubles beyond, so that no product grows.
"""

from decimal import Decimal
from math import inf, isinf, isnan, nan
from typing import Any, cast

from millrace.release.flags.parts import TEXT_MAX, WRITTEN_MAX, BoundError

NUMBER_TEXT_MAX = 400  # no double needs more digits; a longer text is no number
EXACT_MAX = 2**63
_NAMED = {"Infinity": inf, "+Infinity": inf, "-Infinity": -inf}
_PREFIXES = {"0x": 16, "0o": 8, "0b": 2}


def truthy(value: Any) -> bool:
    """Return whether a value counts as true: an empty list does not, an empty object does."""
    if type(value) is float:
        return value == value and value != 0
    return type(value) is dict or bool(value)


def number_of(value: Any) -> int | float:
    """Return a value as a number, NaN where it is none."""
    match value:
        case bool() | None:
            return int(bool(value))
        case int():
            return exact(value)
        case float():
            return value
        case str():
            return _number_in(value)
        case list():
            return _number_in(text_of(cast("list[Any]", value)))
        case _:
            return nan


def exact(value: float) -> int | float:
    """Return a whole number as it is within 64 bits, and as a double beyond."""
    if type(value) is not int or -EXACT_MAX <= value <= EXACT_MAX:
        return value
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


def _number_in(text: str) -> int | float:
    """Return the number that a text spells."""
    text = text.strip() if len(text) <= NUMBER_TEXT_MAX else "?"
    if not text:
        return 0
    if text in _NAMED:
        return _NAMED[text]
    try:
        if text[:2].lower() in _PREFIXES:
            return exact(int(text[2:], _PREFIXES[text[:2].lower()]))
        # Python also reads `nan`, `inf` and `1_000`, which JavaScript does not.
        return float(text) if text[-1] in "0123456789." and "_" not in text else nan
    except ValueError:
        return nan


def text_of(value: Any) -> str:
    """Return a value as a text: `null`, `true`, `1`, `1.5`, `a,b`, `[object Object]`."""
    match value:
        case str():
            return value
        case bool() | None:
            return {True: "true", False: "false", None: "null"}[value]
        case int():
            number = exact(value)
            return str(value) if type(number) is int else _double(number)
        case float():
            return _double(value)
        case list():
            return _joined(cast("list[Any]", value))
        case _:
            return "[object Object]"


def _double(value: float) -> str:
    """Return a double as JavaScript writes it."""
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    digits, _, power = repr(value).partition("e")
    if not power:
        return digits
    # JavaScript writes 0.000001 in full, and 1e-7 without the zero before the seven.
    return f"{Decimal(repr(value)):f}" if -7 < int(power) < 0 else f"{digits}e{int(power):+d}"


def _joined(items: list[Any]) -> str:
    """Return a list as a text, its parts joined by commas, `null` as nothing.

    Raises:
        BoundError: it holds more than can be written in bounded time.
    """
    written: list[str] = []
    waiting: list[Any] = [items]
    left = WRITTEN_MAX  # a list may hold itself, or the same list over and over
    while waiting:
        item = waiting.pop()
        if type(item) is not list:
            written.append("" if item is None else text_of(item))
            continue
        inner = cast("list[Any]", item)
        left -= len(inner) + 1
        if left < 0:
            raise BoundError(f"a list of more than {WRITTEN_MAX:,} items cannot become a text")
        waiting.extend(reversed(inner or [""]))
    return joined(",", written)


def joined(separator: str, texts: list[str]) -> str:
    """Return texts as one.

    Raises:
        BoundError: it would be too long; it is not made then.
    """
    length = sum(map(len, texts))
    if length > TEXT_MAX:
        raise BoundError(f"a text of {length:,} characters; at most {TEXT_MAX:,}")
    return separator.join(texts)


def bounded(text: str) -> str:
    """Return a text that is short enough to be looked at.

    Raises:
        BoundError: it is longer than a text may be.
    """
    if len(text) > TEXT_MAX:
        raise BoundError(f"a text of {len(text):,} characters; at most {TEXT_MAX:,}")
    return text


def same(a: Any, b: Any) -> bool:
    """Return whether two values are `===`: of one kind, and equal."""
    if type(a) is type(b):
        return a is b if type(a) in (list, dict) else a == b
    numbers = (int, float)
    return type(a) in numbers and type(b) in numbers and a == b


def alike(a: Any, b: Any) -> bool:
    """Return whether two values are `==`: equal after JavaScript's coercions."""
    if type(a) is type(b):
        return a is b if type(a) in (list, dict) else a == b
    if a is None or b is None:
        return False
    containers = (list, dict)
    if isinstance(a, containers):
        return not isinstance(b, containers) and alike(text_of(a), b)
    if isinstance(b, containers):
        return alike(a, text_of(b))
    return number_of(a) == number_of(b)


def less(a: Any, b: Any) -> bool:
    """Return whether a < b: texts by their letters, everything else as numbers."""
    if type(a) is type(b) is int:
        return a < b
    left, right = _comparable(a, b)
    return left < right


def at_most(a: Any, b: Any) -> bool:
    """Return whether a <= b; not the opposite of b < a, for nothing is either to NaN."""
    if type(a) is type(b) is int:
        return a <= b
    left, right = _comparable(a, b)
    return left <= right


def _comparable(a: Any, b: Any) -> tuple[Any, Any]:
    """Return two values as a pair of texts or a pair of numbers."""
    left, right = (text_of(one) if isinstance(one, list | dict) else one for one in (a, b))
    if type(left) is str and type(right) is str:
        return left, right
    return number_of(left), number_of(right)
