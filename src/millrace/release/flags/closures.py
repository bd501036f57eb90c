"""The closures that rules are compiled to, with short ways for the commonest forms."""

from collections.abc import Callable
from typing import Any, cast

from millrace.release.flags import paths
from millrace.release.flags.coercion import alike, same, truthy
from millrace.release.flags.operators import among
from millrace.release.flags.parts import ITEMS_MAX, Part, Run, Way
from millrace.release.flags.semver import OPERATORS, Version, holds, parsed

REMEMBERED_MAX = 500  # outcomes of versions that one comparison remembers
REMEMBERED_TEXT_MAX = 64
LOOK_STEPS = 5  # of a path that is looked up
UNKNOWN = object()  # one look, because another thread may clear what is remembered


def then(way: Way, function: Callable[[Any], Any]) -> Way:
    """Return the way to what a function makes of a value."""

    def applied_then(data: Any, run: Any) -> Any:
        return function(way(data, run))

    return applied_then


def applied(operator: Callable[..., Any], ways: tuple[Way, ...]) -> Way:
    """Return the way to what an operator makes of the values of its arguments.

    Here and below, a short rule has no run: what it looks at is bounded by its own length.
    """
    if len(ways) == 2:
        first, second = ways

        def on_two(data: Any, run: Any) -> Any:
            one, two = first(data, run), second(data, run)
            if run is not None:
                run.weigh(one, two)
            return operator(one, two)

        return on_two

    def on_all(data: Any, run: Any) -> Any:
        values = [way(data, run) for way in ways]
        if run is not None:
            run.weigh(*values)
        return operator(*values)

    return on_all


def listed(ways: tuple[Way, ...]) -> Way:
    """Return the way to a list of values."""

    def made(data: Any, run: Any) -> list[Any]:
        return [way(data, run) for way in ways]

    return made


def negated(way: Way) -> Way:
    """Return the way to the opposite of Python's truth."""

    def opposite(data: Any, run: Any) -> bool:
        return not way(data, run)

    return opposite


def both_or_any(name: str, parts: list[Part]) -> Way:
    """Return the way to whether all (`and`) or one (`or`) of some tests hold."""
    ways = tuple(part.way for part in parts)
    if len(ways) == 1:
        return ways[0]
    one, two = ways[0], ways[1] if len(ways) == 2 else _rest(name, parts[1:])

    def both(data: Any, run: Any) -> Any:
        return one(data, run) and two(data, run)

    def either(data: Any, run: Any) -> Any:
        return one(data, run) or two(data, run)

    return both if name == "and" else either


def _rest(name: str, parts: list[Part]) -> Way:
    """Return the way to whether all or one of two or more tests hold."""
    if len(parts) == 2:
        return both_or_any(name, parts)
    ways = tuple(part.way for part in parts)
    wanted = name == "or"

    def found(data: Any, run: Any) -> bool:
        for way in ways:
            if bool(way(data, run)) is wanted:
                return wanted
        return not wanted

    return found


def first(name: str, parts: list[Part]) -> Way:
    """Return the way to the first value that decides: the first false or true one, or the last."""
    ways = tuple(part.way for part in parts)
    wanted = name == "or"

    def decided(data: Any, run: Any) -> Any:
        value = None
        for way in ways:
            value = way(data, run)
            if truthy(value) is wanted:
                return value
        return value

    return decided


def branches(pairs: list[tuple[Part, Part]], otherwise: Part) -> Way:
    """Return the way to the branch of the first test that holds."""
    if len(pairs) > 1:
        return _many([(test.way, then_.way) for test, then_ in pairs], otherwise.way)
    test, way, other = pairs[0][0].way, pairs[0][1].way, otherwise.way
    if pairs[0][1].constant and otherwise.constant:
        value, other_value = pairs[0][1].value, otherwise.value
        return lambda data, run: value if test(data, run) else other_value
    if otherwise.constant:
        other_value = otherwise.value
        return lambda data, run: way(data, run) if test(data, run) else other_value
    return lambda data, run: way(data, run) if test(data, run) else other(data, run)


def _many(pairs: list[tuple[Way, Way]], otherwise: Way) -> Way:
    def chosen(data: Any, run: Any) -> Any:
        for test, way in pairs:
            if test(data, run):
                return way(data, run)
        return otherwise(data, run)

    return chosen


def timestamp(_data: Any, run: Run) -> int:
    """Return the time of the evaluation, in whole seconds since 1970."""
    return int(run.now)


def plain_data(data: Any, _run: Any) -> Any:
    """Return the data."""
    return data


def with_flagd(key: str) -> Way:
    """Return the way to the whole context, with what flagd adds to it."""

    def whole(data: Any, run: Run) -> Any:
        return {**data, paths.DATA: {"flagKey": key, "timestamp": int(run.now)}}

    return whole


def looked_up(whole: Way, path: Way, default: Way | None) -> Way:
    """Return the way to what lies at a path that is found when it is asked."""

    def read(data: Any, run: Any) -> Any:
        wanted = path(data, run)
        if run is not None:
            run.weigh(wanted)
        value = paths.found(whole(data, run), paths.steps_of(wanted))
        return default(data, run) if value is None and default is not None else value

    return read


def missing(ways: tuple[Way, ...]) -> Way:
    """Return the way to the paths that lead to nothing: a list of them, or each an argument."""

    def absent(data: Any, run: Any) -> list[Any]:
        keys: list[Any] = [way(data, run) for way in ways]
        keys = cast("list[Any]", keys[0]) if keys and isinstance(keys[0], list) else keys
        if run is not None:
            run.charge(len(keys) * LOOK_STEPS)
            run.weigh(*keys[:ITEMS_MAX])
        return paths.missing(data, keys)

    return absent


def missing_some(ways: tuple[Way, ...]) -> Way:
    """Return the way to the paths that lead to nothing, unless enough lead somewhere."""

    def absent(data: Any, run: Any) -> list[Any]:
        wanted, keys = (*[way(data, run) for way in ways], None, None)[:2]
        if run is not None and isinstance(keys, list):
            run.charge(len(cast("list[Any]", keys)) * LOOK_STEPS)
            run.weigh(wanted, *cast("list[Any]", keys)[:ITEMS_MAX])
        return paths.missing_some(data, wanted, keys)

    return absent


def special(name: str, parts: list[Part]) -> Way | None:
    """Return the short way of an operator on an attribute and a constant, None for any other."""
    if name == "sem_ver":
        return _compared(parts)
    if len(parts) != 2:
        return None
    one, two = parts
    if name == "in":
        return _searched(one, two)
    if name in ("==", "===", "!=", "!=="):
        if one.constant:
            one, two = two, one
        return _equal(name, one, two.value) if two.constant and type(two.value) is str else None
    if name == "starts_with" and one.name and two.constant and type(two.value) is str:
        return _prefixed(one.name, two.value)
    return None


def _equal(name: str, part: Part, text: str) -> Way:
    """Return the way to whether a value is a text, or is not."""
    equal = alike if len(name) == 2 else same
    wanted = name[0] == "="
    attribute, way = part.name, part.way

    def of_attribute(data: Any, run: Any) -> bool:
        value = data.get(attribute)
        if type(value) is str:
            return (value == text) is wanted
        if run is not None:
            run.weigh(value)
        return equal(value, text) is wanted

    def of_value(data: Any, run: Any) -> bool:
        value = way(data, run)
        if run is not None:
            run.weigh(value)
        return equal(value, text) is wanted

    return of_attribute if attribute else of_value


def _searched(needle: Part, haystack: Part) -> Way | None:
    """Return the way to whether a value is one of some texts, None where they are not constant."""
    value: Any = haystack.value
    if not isinstance(value, list):
        return None if haystack.constant else _held(needle, haystack)
    items = cast("list[Any]", value)
    kinds: set[type] = {type(item) for item in items}
    if not kinds <= {str}:
        return _numbered(needle.way, items) if kinds <= {str, int, float} else None
    texts = frozenset(cast("list[str]", items))
    attribute, way = needle.name, needle.way

    def by_attribute(data: Any, _run: Any) -> bool:
        try:
            return data.get(attribute) in texts
        except TypeError:  # a list or an object is none of them
            return False

    def by_value(data: Any, run: Any) -> bool:
        value = way(data, run)
        return type(value) is str and value in texts

    return by_attribute if attribute else by_value


def _numbered(way: Way, items: list[Any]) -> Way:
    """Return the way to whether a value is one of some numbers and texts."""
    known = frozenset(items)

    def among_known(data: Any, run: Any) -> bool:
        value = way(data, run)
        return type(value) in (str, int, float) and value == value and value in known

    return among_known


def _held(needle: Part, haystack: Part) -> Way | None:
    """Return the way to whether a list of the context holds a text, None for other searches."""
    if not needle.constant or type(needle.value) is not str or not haystack.name:
        return None
    text, attribute = needle.value, haystack.name

    def held(data: Any, run: Any) -> bool:
        items = data.get(attribute)
        if run is not None:
            run.weigh(items)
        if type(items) is list and len(cast("list[Any]", items)) <= ITEMS_MAX:
            return text in items
        return among(text, items)

    return held


def _prefixed(attribute: str, prefix: str) -> Way:
    def starts(data: Any, _run: Any) -> bool | None:
        value = data.get(attribute)
        return value.startswith(prefix) if type(value) is str else None

    return starts


def _compared(parts: list[Part]) -> Way | None:
    """Return the way to how a version stands to a constant one, None for other comparisons.

    Outcomes are remembered by the text of the version, of which an installation has few.
    """
    if len(parts) != 3 or not (parts[1].constant and parts[2].constant):
        return None
    operator, other = parts[1].value, parsed(parts[2].value)
    if operator not in OPERATORS or other is None:
        return lambda _data, _run: None
    remembered: dict[Any, bool | None] = {}
    outcome = _remembering(operator, other, remembered)
    attribute, way = parts[0].name, parts[0].way

    def of_attribute(data: Any, _run: Any) -> bool | None:
        value = data.get(attribute)
        try:
            return remembered[value] if type(value) is str else outcome(value)
        except KeyError:
            return outcome(value)

    def of_value(data: Any, run: Any) -> bool | None:
        return outcome(way(data, run))

    return of_attribute if attribute else of_value


def _remembering(
    operator: str, other: Version, remembered: dict[Any, bool | None]
) -> Callable[[Any], bool | None]:
    """Return how a version stands to another, remembering what it finds for texts."""

    def outcome(value: Any) -> bool | None:
        found = remembered.get(value, UNKNOWN) if type(value) is str else UNKNOWN
        if found is not UNKNOWN:
            return cast("bool | None", found)
        version = parsed(value)
        held = None if version is None else holds(version, operator, other)
        if type(value) is str and len(value) <= REMEMBERED_TEXT_MAX:
            if len(remembered) >= REMEMBERED_MAX:
                remembered.clear()
            remembered[value] = held
        return held

    return outcome
