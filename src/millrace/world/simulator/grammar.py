"""Templates: text with slots, choices and numbers, compiled once and expanded many times.

{name}      a phrase of the list of that name; {Name} begins with a capital letter
{2-9}       a whole number between the two
(a|b|)      one of these, perhaps nothing; may hold slots, and choices of its own
[in words]  the same words in round brackets
"""

import re
from collections.abc import Callable
from random import Random

from msgspec import Struct

RANGE = re.compile(r"(\d+)(-|\.\.)(\d+)")
WORDS = ("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
DEPTH_MAX = 12


class Slot(Struct, frozen=True):
    """A place to be filled from a list."""

    name: str
    capital: bool


class Range(Struct, frozen=True):
    """A place to be filled with a number."""

    low: int
    high: int
    spelt: bool


class Choice(Struct, frozen=True):
    """A place to be filled with one of several templates."""

    options: "tuple[Template, ...]"


Part = str | Slot | Range | Choice
Template = tuple[Part, ...]
Fill = Callable[[str], str]


def compiled(text: str) -> Template:
    """Return the parts of a template.

    Raises:
        ValueError: a bracket is not closed.
    """
    parts, position = _sequence(text, 0, 0)
    if position != len(text):
        raise ValueError(f"a bracket too many at {position} of {text!r}")
    return parts


def expand(template: Template, rng: Random, fill: Fill) -> str:
    """Return the template with every place filled; `fill` answers for slots."""
    pieces: list[str] = []
    for part in template:
        if isinstance(part, str):
            pieces.append(part)
        elif isinstance(part, Slot):
            text = fill(part.name)
            pieces.append(capital(text) if part.capital else text)
        elif isinstance(part, Range):
            pieces.append(number(rng, part))
        else:
            option = part.options[int(rng.random() * len(part.options))]
            pieces.append(expand(option, rng, fill))
    return "".join(pieces)


def number(rng: Random, between: Range) -> str:
    """Return a number as people write it: small ones mostly as words."""
    value = between.low + int(rng.random() * (between.high - between.low + 1))
    spelt = between.spelt and 2 <= value <= 12 and rng.random() < 0.7
    return WORDS[value - 2] if spelt else str(value)


def capital(text: str) -> str:
    """Return the text with its first letter as a capital."""
    return text[:1].upper() + text[1:]


def slots(template: Template) -> set[str]:
    """Return the names of every list that a template draws from."""
    found: set[str] = set()
    for part in template:
        if isinstance(part, Slot):
            found.add(part.name)
        elif isinstance(part, Choice):
            found.update(name for option in part.options for name in slots(option))
    return found


def _sequence(text: str, position: int, depth: int) -> tuple[Template, int]:
    """Return the parts from `position` to the end of this branch, and where it ends."""
    assert depth <= DEPTH_MAX, f"brackets within brackets within brackets: {text!r}"
    parts: list[Part] = []
    start = position
    while position < len(text):
        sign = text[position]
        if sign in "{(":
            if position > start:
                parts.append(_plain(text[start:position]))
            read = _slot if sign == "{" else _choice
            part, position = read(text, position + 1, depth + 1)
            parts.append(part)
            start = position
        elif sign in "|)" and depth:
            break
        else:
            position += 1
    if position > start:
        parts.append(_plain(text[start:position]))
    return tuple(parts), position


def _plain(text: str) -> str:
    """Return literal text with its brackets as they are written."""
    return text.replace("[", "(").replace("]", ")")


def _slot(text: str, position: int, depth: int) -> tuple[Part, int]:
    """Return the slot or range whose name begins at `position`."""
    del depth  # a slot holds nothing
    end = text.index("}", position)
    name = text[position:end]
    if bounds := RANGE.fullmatch(name):
        return Range(int(bounds[1]), int(bounds[3]), spelt=bounds[2] == "-"), end + 1
    return Slot(name.lower(), capital=name[0].isupper()), end + 1


def _choice(text: str, position: int, depth: int) -> tuple[Part, int]:
    """Return the choice whose first option begins at `position`.

    Raises:
        ValueError: it has no end.
    """
    options: list[Template] = []
    while True:
        option, position = _sequence(text, position, depth)
        options.append(option)
        if position >= len(text):
            raise ValueError(f"a choice has no end in {text!r}")
        if text[position] == ")":
            return Choice(tuple(options)), position + 1
        position += 1
