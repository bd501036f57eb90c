"""Whom a change of a split would move from one variant to another without need.

A share that grows takes members from shares that shrink; that is what it is for. What is warned of
is every other move: of a member whose variant keeps its share, or gains, and who is given another.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Any, cast

import msgspec
from msgspec import Struct

from millrace.release.flags import bucketing
from millrace.release.flags.expressions import FRACTIONAL, operation
from millrace.release.flags.splits import SUM_MAX, weight_of
from millrace.release.flags.types import Problem

LEAST = 1e-7  # a smaller share is the rounding of weights
WHOLE = 2**32
SCALE = bucketing.NAMED[bucketing.DEFAULT]  # all versions lay shares side by side in the same way


class Drawn(Struct, frozen=True):
    """A split as it stands in a definition. shares: variant and weight, if all are constant."""

    place: str
    key: str
    shares: tuple[tuple[str, int], ...] | None


def reassigned(before: object, after: object) -> list[Problem]:
    """Return a warning for each split that a change draws anew, wholly or in part.

    Args:
        before: the definition as a JSON value, as it is now.
        after: the same flag's definition as it would be.
    """
    old, new = list(_splits(before)), list(_splits(after))
    if not old or not new:
        return []
    if _version(before) != _version(after):
        message = f"bucketing {_version(after)} draws anew whom {_version(before)} drew"
        return [_warning("/metadata/bucketing", f"{message}: everyone may get another variant")]
    places = {split.place: split for split in new}
    warnings: list[Problem] = []
    for index, split in enumerate(old):
        # A rule that was put before others moves them; then they still come in the same order.
        other = new[index] if len(old) == len(new) else places.get(split.place)
        if other is not None:
            warnings += _compared(split, other)
    return warnings


def moved(before: tuple[tuple[str, int], ...], after: tuple[tuple[str, int], ...]) -> float:
    """Return the share of members that moves from a variant to another beyond what must move."""
    old_ends, new_ends = _ends(before), _ends(after)
    ends = sorted({0, *old_ends, *new_ends})
    lost: dict[str, int] = {}
    for start, end in pairwise(ends):
        old, new = _at(before, old_ends, start), _at(after, new_ends, start)
        if old != new:
            lost[old] = lost.get(old, 0) + end - start
    sizes, new_sizes = _sizes(before), _sizes(after)
    needed = {name: max(0, size - new_sizes.get(name, 0)) for name, size in sizes.items()}
    return sum(max(0, count - needed.get(name, 0)) for name, count in lost.items()) / WHOLE


def _compared(old: Drawn, new: Drawn) -> Iterator[Problem]:
    """Yield whom the change of one split would move."""
    if old.key != new.key:
        message = "the split is made by another key, so everyone is drawn anew"
        yield _warning(new.place, message)
    elif old.shares is not None and new.shares is not None:
        share = moved(old.shares, new.shares)
        if share > LEAST:
            step = "keep the order, and grow a share at the cost of its neighbour"
            message = f"{share:.2%} of members would be given another variant without need"
            yield _warning(new.place, f"{message}: {step}")


def _splits(definition: object) -> Iterator[Drawn]:
    """Yield the splits of a definition, in their order."""
    if not isinstance(definition, dict):
        return
    rule = cast("dict[str, Any]", definition).get("targeting")
    waiting: list[tuple[Any, str]] = [(rule, "/targeting")]
    while waiting:
        logic, place = waiting.pop()
        match operation(logic):
            case name, arguments if name == FRACTIONAL:
                yield _drawn(arguments, f"{place}/{FRACTIONAL}")
            case None if isinstance(logic, list):
                items = list(enumerate(cast("list[Any]", logic)))
                waiting += [(one, f"{place}/{index}") for index, one in reversed(items)]
            case None:
                pass
            case name, arguments:
                items = list(enumerate(arguments))
                waiting += [(one, f"{place}/{name}/{index}") for index, one in reversed(items)]


def _drawn(arguments: list[Any], place: str) -> Drawn:
    """Return a split as it is written."""
    keyed = bool(arguments) and not isinstance(arguments[0], list)
    key = msgspec.json.encode(arguments[0]).decode() if keyed else ""
    shares: list[tuple[str, int]] = []
    for share in arguments[1 if keyed else 0 :]:
        items = cast("list[Any]", share) if isinstance(share, list) else []
        weight = weight_of(items[1]) if len(items) == 2 else 1
        if not items or operation(items[0]) is not None or weight is None:
            return Drawn(place, key, None)
        shares.append((str(items[0]), weight))
    fits = 0 < sum(weight for _, weight in shares) <= SUM_MAX
    return Drawn(place, key, tuple(shares) if fits else None)


def _version(definition: object) -> str:
    """Return the bucketing that a definition names."""
    members = cast("dict[str, Any]", definition) if isinstance(definition, dict) else {}
    metadata = members.get("metadata")
    said: Mapping[str, Any] = cast("dict[str, Any]", metadata) if isinstance(metadata, dict) else {}
    return str(said.get(bucketing.METADATA_KEY, bucketing.DEFAULT))


def _ends(shares: tuple[tuple[str, int], ...]) -> list[int]:
    """Return the place beyond each share."""
    return [*SCALE.bounds([weight for _, weight in shares]), WHOLE]


def _at(shares: tuple[tuple[str, int], ...], ends: list[int], place: int) -> str:
    """Return the variant at a place."""
    return shares[bisect_right(ends, place)][0]


def _sizes(shares: tuple[tuple[str, int], ...]) -> dict[str, int]:
    """Return how many places each variant has."""
    sizes: dict[str, int] = {}
    start = 0
    for (name, _), end in zip(shares, _ends(shares), strict=True):
        sizes[name] = sizes.get(name, 0) + end - start
        start = end
    return sizes


def _warning(place: str, message: str) -> Problem:
    return Problem(place, message, grave=False)
