"""`fractional`: which share of a split somebody falls to."""

from bisect import bisect_right
from collections.abc import Callable
from math import isfinite
from typing import Any, cast

from msgspec import Struct

from millrace.release.flags.bucketing import Bucketing
from millrace.release.flags.coercion import bounded
from millrace.release.flags.parts import Part, Way, constant
from millrace.release.flags.types import TARGETING_KEY

SUM_MAX = 2**31 - 1
STEPS = 10


class Share(Struct, frozen=True):
    """One share.

    entry: an expression that gives the whole of it, `[variant, weight]`; None where it is written out.
    """

    variant: Part
    weight: Part
    entry: Part | None = None


class Split(Struct, frozen=True):
    """A split that is to be compiled.

    key: what is hashed; None for the flag's key and the targeting key.
    outcome: what a variant becomes. nothing: what stands where no share can be found.
    top: whether the data is the context itself.
    """

    flag_key: str
    bucketing: Bucketing
    key: Part | None
    shares: tuple[Share, ...]
    outcome: Callable[[Any], Any]
    nothing: Any
    top: bool


def compiled(split: Split) -> Part:
    """Return the part that says what somebody gets."""
    parts = [part for share in split.shares for part in (share.variant, share.weight)]
    steps = (
        STEPS
        + len(split.shares)
        + sum(part.steps for part in parts)
        + (split.key.steps if split.key else 0)
    )
    steps += sum(share.entry.steps for share in split.shares if share.entry)
    fixed = all(part.constant for part in parts) and not any(share.entry for share in split.shares)
    if not fixed:
        return Part(way=_moving(split), steps=steps)
    weights = [weight_of(share.weight.value) for share in split.shares]
    whole = [weight for weight in weights if weight is not None]
    if len(whole) < len(weights) or not 0 < sum(whole) <= SUM_MAX:
        if split.key is None or split.key.constant:
            return constant(split.nothing, steps)
        return Part(way=_moving(split), steps=steps)  # the key may turn out to be a share
    outcomes = [split.outcome(share.variant.value) for share in split.shares]
    ends = split.bucketing.bounds(whole)
    if split.key is None and split.top and len(outcomes) == 2:
        return Part(way=_of_two(split, ends[0], outcomes), steps=steps)
    return Part(way=_fixed(split, ends, outcomes), steps=steps)


def weight_of(value: Any) -> int | None:
    """Return a weight: its whole part, not below zero; None for what is no number."""
    if type(value) is int or (type(value) is float and isfinite(value)):
        return max(0, int(value))
    return None


def _of_two(split: Split, end: int, outcomes: list[Any]) -> Way:
    """Return the way of the commonest split: two fixed shares by targeting key."""
    place, nothing = split.bucketing.place_of(split.flag_key), split.nothing
    first, second = outcomes

    def choose(data: Any, _run: Any) -> Any:
        key = data.get(TARGETING_KEY)
        if type(key) is not str or not key:
            return nothing
        at = place(key)
        return nothing if at is None else first if at < end else second

    return choose


def _fixed(split: Split, ends: list[int], outcomes: list[Any]) -> Way:
    """Return the way of a split whose shares are fixed."""
    place, nothing, moving = _place(split), split.nothing, _moving(split)

    def choose(data: Any, run: Any) -> Any:
        at = place(data, run)
        if type(at) is int:
            return outcomes[bisect_right(ends, at)]
        # A rule that was to give the key gave a share instead, so the shares are others.
        return nothing if at is None else moving(data, run)

    return choose


def _moving(split: Split) -> Way:
    """Return the way of a split whose shares are found when it is asked."""
    place, nothing, shares, outcome = _place(split), split.nothing, split.shares, split.outcome
    by_default, bounds = _default_place(split), split.bucketing.bounds

    def choose(data: Any, run: Any) -> Any:
        at = place(data, run)
        entries = [_entry(share, data, run) for share in shares]
        if isinstance(at, list):
            entries.insert(0, _pair(at))
            at = by_default(data)
        pairs = [entry for entry in entries if entry is not None]
        weights = [weight for _, weight in pairs]
        if at is None or len(pairs) < len(entries) or not 0 < sum(weights) <= SUM_MAX:
            return nothing
        return outcome(pairs[bisect_right(bounds(weights), at)][0])

    return choose


def _place(split: Split) -> Callable[[Any, Any], int | list[Any] | None]:
    """Return the way to where somebody lies; to a share, where the key turns out to be one."""
    if split.key is None:
        by_default = _default_place(split)
        return lambda data, _run: by_default(data)
    way, place = split.key.way, split.bucketing.place

    def by_key(data: Any, run: Any) -> int | list[Any] | None:
        key = way(data, run)
        if run is not None:
            run.weigh(key)
        if isinstance(key, list):
            return cast("list[Any]", key)
        return place(bounded(key) if type(key) is str else key)

    return by_key


def _default_place(split: Split) -> Callable[[Any], int | None]:
    """Return the way to where the targeting key lies."""
    place = split.bucketing.place_of(split.flag_key)

    def by_targeting(data: Any) -> int | None:
        key: Any = cast("dict[str, Any]", data).get(TARGETING_KEY) if type(data) is dict else None
        return place(bounded(key)) if type(key) is str and key else None

    return by_targeting


def _entry(share: Share, data: Any, run: Any) -> tuple[Any, int] | None:
    """Return the variant and weight of a share now, None where it is none."""
    if share.entry is not None:
        entry = share.entry.way(data, run)
        return _pair(cast("list[Any]", entry)) if isinstance(entry, list) else None
    weight = weight_of(share.weight.way(data, run))
    return None if weight is None else (share.variant.way(data, run), weight)


def _pair(entry: list[Any]) -> tuple[Any, int] | None:
    """Return the variant and weight of an entry that was computed."""
    if not 1 <= len(entry) <= 2:
        return None
    weight = weight_of(entry[1]) if len(entry) == 2 else 1
    return None if weight is None else (entry[0], weight)
