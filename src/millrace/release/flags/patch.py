"""A patch: what turns one JSON value into another, place by place.

RFC 6902 with the old value beside the new one, so that it can be read, applied and taken back.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, TypeAlias, cast

import msgspec
from msgspec import UNSET, Struct, UnsetType

Object: TypeAlias = Mapping[str, Any]


class Op(StrEnum):
    """What happens at a place."""

    ADD = "add"
    REMOVE = "remove"
    REPLACE = "replace"


class Patch(Struct, frozen=True, omit_defaults=True):
    """One change. before: what a removal or replacement takes away; value: what it puts there.

    path: a JSON pointer (RFC 6901); empty for the whole.
    """

    op: Op
    path: str
    before: Any = UNSET
    value: Any = UNSET


def patches(before: object, after: object, path: str = "") -> Iterator[Patch]:
    """Yield what turns one value into the other, in an order in which it can be applied.

    Args:
        before: a JSON value; UNSET for none.
        after: the same.
        path: where the two are.
    """
    if isinstance(before, UnsetType):
        if not isinstance(after, UnsetType):
            yield Patch(Op.ADD, path, value=after)
    elif isinstance(after, UnsetType):
        yield Patch(Op.REMOVE, path, before=before)
    elif isinstance(before, Mapping) and isinstance(after, Mapping):
        yield from _in_objects(path, cast("Object", before), cast("Object", after))
    elif isinstance(before, list) and isinstance(after, list):
        yield from _in_lists(path, cast("list[Any]", before), cast("list[Any]", after))
    elif not same(cast("Any", before), cast("Any", after)):
        yield Patch(Op.REPLACE, path, before=before, value=after)


def applied(patch: Sequence[Patch], before: object) -> object:
    """Return what the patch makes of a value, which is left as it is; UNSET where nothing is left.

    Nothing is looked at but the places: whoever applies it to another value gets what comes of it.
    """
    made: Any = msgspec.json.decode(msgspec.json.encode(before)) if before is not UNSET else UNSET
    for each in patch:
        if not each.path:
            made = each.value
            continue
        *way, last = [_unescaped(part) for part in each.path.split("/")[1:]]
        inner: Any = made
        for part in way:
            inner = inner[int(part) if isinstance(inner, list) else part]
        _put(inner, last, each)
    return made


def same(one: object, other: object) -> bool:
    """Compare as JSON does: `1`, `1.0` and `true` are three values."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        first, second = cast("Object", one), cast("Object", other)
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(one, list) and isinstance(other, list):
        left, right = cast("list[Any]", one), cast("list[Any]", other)
        return len(left) == len(right) and all(map(same, left, right))
    return type(cast("Any", one)) is type(other) and one == other


def _put(inner: Any, last: str, patch: Patch) -> None:
    match inner, patch.op:
        case list(), Op.ADD:
            cast("list[Any]", inner).insert(int(last), patch.value)
        case list(), Op.REMOVE:
            del inner[int(last)]
        case list(), Op.REPLACE:
            inner[int(last)] = patch.value
        case _, Op.REMOVE:
            del inner[last]
        case _:
            inner[last] = patch.value


def _in_objects(path: str, before: Object, after: Object) -> Iterator[Patch]:
    for key in dict.fromkeys([*before, *after]):
        yield from patches(before.get(key, UNSET), after.get(key, UNSET), f"{path}/{_escaped(key)}")


def _in_lists(path: str, before: list[Any], after: list[Any]) -> Iterator[Patch]:
    """Leave out what is the same at both ends; what is between is compared place by place."""
    short = min(len(before), len(after))
    start = 0
    while start < short and same(before[start], after[start]):
        start += 1
    end = 0
    while end < short - start and same(before[-1 - end], after[-1 - end]):
        end += 1
    both = short - start - end
    for n in range(start, start + both):
        yield from patches(before[n], after[n], f"{path}/{n}")
    for n in reversed(range(start + both, len(before) - end)):  # from behind, so that places stay
        yield Patch(Op.REMOVE, f"{path}/{n}", before=before[n])
    for n in range(start + both, len(after) - end):
        yield Patch(Op.ADD, f"{path}/{n}", value=after[n])


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")
