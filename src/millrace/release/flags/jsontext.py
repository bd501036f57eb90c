"""JSON as text: read strictly and within bounds, written as people read it."""

import json
from collections.abc import Iterator
from typing import Any, NoReturn, cast

from millrace.release.flags.parts import DEPTH_MAX, VALUES_MAX, RefusedError
from millrace.release.flags.pointers import escaped

TEXT_MAX = 16 * 2**20  # characters of a document


def value_of(text: str) -> Any:
    """Return the value that a text holds.

    Raises:
        RefusedError: it is no JSON, is too long or too deep, or holds NaN, which JSON has not.
    """
    if len(text) > TEXT_MAX:
        raise RefusedError("", f"a text of {len(text):,} characters; at most {TEXT_MAX:,}")
    try:
        return json.loads(text.removeprefix("\ufeff"), parse_constant=_refuse)
    except RecursionError as error:
        raise RefusedError("", f"nested more than {DEPTH_MAX} levels deep") from error
    except json.JSONDecodeError as error:
        message = f"no JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        raise RefusedError("", message) from error
    except ValueError as error:  # a number of more digits than Python reads
        raise RefusedError("", f"no JSON: {error}") from error


def written(value: object) -> str:
    """Return a value as text, in the order in which it was read."""
    return json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def weigh(value: object) -> None:
    """Refuse a value that is too deep or too large, before anything walks it.

    Raises:
        RefusedError: it is.
    """
    count, waiting = 0, [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > DEPTH_MAX:
            raise RefusedError("", f"nested more than {DEPTH_MAX} levels deep: use $evaluators")
        inner = inside(item)
        count += len(inner)
        if count > VALUES_MAX:
            raise RefusedError("", f"holds more than {VALUES_MAX:,} values: shorten its lists")
        waiting.extend((one, depth + 1) for one in inner)


def expect_kept(value: object) -> None:
    """Refuse a value with a text that cannot be kept or told: NUL, or half of a pair.

    Raises:
        RefusedError: names the place.
    """
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
        if "\\u0000" not in text:
            return
    except UnicodeEncodeError:
        pass  # below is found where
    except RecursionError:
        return  # that it is too deep is told by `weigh`
    for place, text in _texts(value):
        if not is_kept(text):
            raise RefusedError(place, f"{text[:80]!r} has NUL or half of a pair: take it out")


def is_kept(text: str) -> bool:
    """Return whether the database takes a text, and UTF-8 can tell it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in text


def _texts(value: object) -> Iterator[tuple[str, str]]:
    """Yield every text within a value, names too, with its place."""
    waiting: list[tuple[str, object]] = [("", value)]
    while waiting:
        place, item = waiting.pop()
        if isinstance(item, str):
            yield place, item
        elif isinstance(item, list):
            each = enumerate(cast("list[object]", item))
            waiting.extend((f"{place}/{index}", one) for index, one in each)
        elif isinstance(item, dict):
            for name, one in cast("dict[str, object]", item).items():
                yield place, name
                waiting.append((f"{place}/{escaped(name)}", one))


def inside(value: object) -> list[object]:
    """Return the values of a list or an object, none for anything else."""
    if isinstance(value, dict):
        return list(cast("dict[str, object]", value).values())
    return cast("list[object]", value) if isinstance(value, list) else []


def _refuse(name: str) -> NoReturn:
    raise RefusedError("", f"JSON has no {name}")
