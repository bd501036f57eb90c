"""Reading a context: `var`, `missing`, `missing_some`."""

from collections.abc import Sequence
from typing import Any, cast

from millrace.release.flags.coercion import number_of, text_of
from millrace.release.flags.parts import ITEMS_MAX, BoundError, Way

DATA = "$flagd"


def steps_of(path: Any) -> tuple[str, ...]:
    """Return the names of a path, none for the data itself."""
    return () if path is None or path == "" else tuple(text_of(path).split("."))


def found(data: Any, names: Sequence[str]) -> Any:
    """Return what lies at a path, null where there is nothing."""
    for name in names:
        if isinstance(data, dict):
            data = cast("dict[str, Any]", data).get(name)
        elif isinstance(data, list | str):
            data = _item(cast("list[Any]", data), name)
        else:
            return None
    return data


def _item(items: list[Any], name: str) -> Any:
    """Return an item by its number, or how many there are; null where there is none."""
    if name == "length":
        return len(items)
    if len(name) > 9 or not (name.isascii() and name.isdigit()) or name != str(int(name)):
        return None
    return items[int(name)] if int(name) < len(items) else None


def reader(names: tuple[str, ...], default: Way | None, *, top: bool) -> Way:
    """Return the way to what lies at a path.

    Args:
        names: of the path.
        default: the way to what stands for nothing there.
        top: whether the data is the context itself, which is always an object.
    """
    if default is not None:
        return _with_default(reader(names, None, top=top), default)
    if top and len(names) == 1:
        return _attribute(names[0])
    if top and len(names) == 2:
        return _attribute_of_attribute(*names)

    def at_path(data: Any, _run: Any) -> Any:
        return found(data, names)

    return at_path


def _with_default(way: Way, default: Way) -> Way:
    def read(data: Any, run: Any) -> Any:
        value = way(data, run)
        return default(data, run) if value is None else value

    return read


def _attribute(name: str) -> Way:
    def read(data: Any, _run: Any) -> Any:
        return data.get(name)

    return read


def _attribute_of_attribute(name: str, inner: str) -> Way:
    def read(data: Any, _run: Any) -> Any:
        value = data.get(name)
        if type(value) is dict:
            return cast("dict[str, Any]", value).get(inner)
        return found(value, (inner,))

    return read


def missing(data: Any, keys: Any) -> list[Any]:
    """Return which of the paths lead to nothing, or to an empty text.

    Raises:
        BoundError: there are too many to look up.
    """
    names = cast("list[Any]", keys) if isinstance(keys, list) else [keys]
    if len(names) > ITEMS_MAX:
        raise BoundError(f"{len(names):,} paths to look up; at most {ITEMS_MAX:,}")
    return [name for name in names if found(data, steps_of(name)) in (None, "")]


def missing_some(data: Any, wanted: Any, keys: Any) -> list[Any]:
    """Return the paths that lead to nothing, or none where enough of them lead somewhere."""
    if not isinstance(keys, list):
        return []
    names = cast("list[Any]", keys)
    absent = missing(data, names)
    return [] if len(names) - len(absent) >= number_of(wanted) else absent
