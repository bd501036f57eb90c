"""Who is given what: exact counts over members, and what a change would do to whom.

Both are counted over a slice of members at a time and put together afterwards, so that a process
that serves can let others run between two slices. A hundred thousand members take a second or two.
"""

from collections import Counter
from collections.abc import Mapping
from typing import TypeAlias

from msgspec import Struct

from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.rings import Population

NOBODY = ""
"""In the place of a variant: the flag gives none, and the caller's own default holds."""

Counts: TypeAlias = Mapping[str, int]
"""Members by variant."""


class Audience(Struct, frozen=True):
    """How many members are given each variant, in all and by the innermost ring and the market.

    rings, countries, communities: by name; empty where a member's is not known.
    """

    key: str
    members: int
    variants: Counts
    rings: Mapping[str, Counts]
    countries: Mapping[str, Counts]
    communities: Mapping[str, Counts]

    def merged(self, other: "Audience") -> "Audience":
        """Return the counts of both slices together."""
        assert self.key == other.key, "counts of two flags do not add up"
        return Audience(
            key=self.key,
            members=self.members + other.members,
            variants=_added(self.variants, other.variants),
            rings=_added_all(self.rings, other.rings),
            countries=_added_all(self.countries, other.countries),
            communities=_added_all(self.communities, other.communities),
        )


class Turn(Struct, frozen=True):
    """Whom a change gives a variant, and from whom it takes it; the first few by name."""

    variant: str
    before: int = 0
    after: int = 0
    added: int = 0
    dropped: int = 0
    added_names: tuple[str, ...] = ()
    dropped_names: tuple[str, ...] = ()


class Difference(Struct, frozen=True):
    """What a change of one flag would do: per variant, in order of its name.

    members: how many were asked about. changed: how many would be given another variant.
    """

    key: str
    members: int
    changed: int
    turns: tuple[Turn, ...]
    names_max: int

    def merged(self, other: "Difference") -> "Difference":
        """Return what the change does to both slices together."""
        assert self.key == other.key, "differences of two flags do not add up"
        mine = {turn.variant: turn for turn in self.turns}
        others = {turn.variant: turn for turn in other.turns}
        return Difference(
            key=self.key,
            members=self.members + other.members,
            changed=self.changed + other.changed,
            turns=tuple(
                _merged(mine.get(name, Turn(name)), others.get(name, Turn(name)), self.names_max)
                for name in sorted({*mine, *others})
            ),
            names_max=self.names_max,
        )


def count(flags: FlagSet, key: str, people: Population, now: float) -> Audience:
    """Count who of a slice is given which variant of a flag.

    Args:
        flags: by which it is decided.
        key: of the flag.
        people: members by name, each with the context that a request of theirs would have.
        now: seconds since 1970.
    """
    found: Counter[tuple[str, str, str, str]] = Counter()
    for _, context in people:
        ring, country = context.get("ring", ""), context.get("country", "")
        variant = flags.evaluate(key, context, now).variant
        found[variant, str(ring), str(country), str(context.get("community", ""))] += 1
    variants: Counter[str] = Counter()
    cuts: tuple[dict[str, Counter[str]], ...] = ({}, {}, {})
    for (variant, *places), members in found.items():
        variants[variant] += members
        for cut, place in zip(cuts, places, strict=True):
            cut.setdefault(place, Counter())[variant] += members
    return Audience(key, found.total(), variants, *cuts)


def compare(
    before: FlagSet, after: FlagSet, key: str, people: Population, now: float, names_max: int = 20
) -> Difference:
    """Count whom of a slice a change of a flag gives another variant.

    Args:
        before: what holds now.
        after: the same with the change in it.
        key: of the flag.
        people: as for `count`.
        now: seconds since 1970.
        names_max: how many are named, for each variant and each way.
    """
    moves: Counter[tuple[str, str]] = Counter()
    added: dict[str, list[str]] = {}
    dropped: dict[str, list[str]] = {}
    for name, context in people:
        old = before.evaluate(key, context, now).variant
        new = after.evaluate(key, context, now).variant
        moves[old, new] += 1
        if old != new:
            for names in (added.setdefault(new, []), dropped.setdefault(old, [])):
                if len(names) < names_max:
                    names.append(name)
    variants = sorted({variant for move in moves for variant in move})
    return Difference(
        key=key,
        members=moves.total(),
        changed=sum(members for (old, new), members in moves.items() if old != new),
        turns=tuple(
            Turn(
                variant=variant,
                before=sum(n for (old, _), n in moves.items() if old == variant),
                after=sum(n for (_, new), n in moves.items() if new == variant),
                added=sum(n for (old, new), n in moves.items() if old != new == variant),
                dropped=sum(n for (old, new), n in moves.items() if new != old == variant),
                added_names=tuple(added.get(variant, ())),
                dropped_names=tuple(dropped.get(variant, ())),
            )
            for variant in variants
        ),
        names_max=names_max,
    )


def _added(one: Counts, other: Counts) -> Counts:
    return Counter(one) + Counter(other)


def _added_all(one: Mapping[str, Counts], other: Mapping[str, Counts]) -> Mapping[str, Counts]:
    return {name: _added(one.get(name, {}), other.get(name, {})) for name in sorted({*one, *other})}


def _merged(one: Turn, other: Turn, names_max: int) -> Turn:
    return Turn(
        variant=one.variant,
        before=one.before + other.before,
        after=one.after + other.after,
        added=one.added + other.added,
        dropped=one.dropped + other.dropped,
        added_names=(*one.added_names, *other.added_names)[:names_max],
        dropped_names=(*one.dropped_names, *other.dropped_names)[:names_max],
    )
