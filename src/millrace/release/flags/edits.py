"""Changes to a definition that people ask for by name; everything else of it stays as it was.

A definition is the JSON object of one flag. Whatever is returned is new: the one that was given
is not touched, and no key of it moves.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from fractions import Fraction
from itertools import accumulate, pairwise
from math import ceil, floor
from typing import Any, NamedTuple, TypeAlias, cast

from millrace.kernel.errors import ConflictError, InvalidError
from millrace.release.flags import outcomes, percentages, rules
from millrace.release.flags.expressions import FRACTIONAL, operation
from millrace.release.flags.outcomes import Share
from millrace.release.flags.rules import Rule

Definition: TypeAlias = Mapping[str, Any]

TOTALS = tuple(100 * 10**places for places in range(percentages.DECIMALS_MAX + 1))
FINE_TOTAL = 10_000  # where shares cannot be exact, they are to a hundredth of a percent


class NoPlaceError(ConflictError):
    """What stands where a percentage should go is no split of set weights."""

    def __init__(self, found: object) -> None:
        super().__init__(
            f"the targeting has a schedule or is written by hand: {str(found)[:100]}",
            field="targeting",
            next_step="edit its rules or its JSON",
        )


def with_state(definition: Definition, enabled: bool) -> dict[str, Any]:
    """Return the definition switched on, or off: then every caller's own default holds."""
    return {**definition, "state": "ENABLED" if enabled else "DISABLED"}


def with_rules(definition: Definition, wanted: Sequence[Rule]) -> dict[str, Any]:
    """Return the definition with these rules for its targeting."""
    targeting = rules.write(wanted)
    changed = {**definition, "targeting": targeting}
    if targeting is None:
        del changed["targeting"]
    return changed


def with_ramp(definition: Definition, variant: str, percentage: float) -> dict[str, Any]:
    """Return the definition with a percentage of those whom its split is for on a variant.

    That split is the one for everyone, or, where no rule is for everyone, the only one. Where
    everyone gets one variant so far, they are split between that and this one. The order of a
    split stays and the others share what is left as they did, so that whoever has a variant
    keeps it while its percentage grows.

    Where no place, or no one place, is for a percentage, that is a ConflictError.

    Raises:
        InvalidError: the definition has no such variant, or it is no percentage.
    """
    names = list(cast("dict[str, Any]", definition.get("variants") or {}))
    if variant not in names:
        raise InvalidError(
            f"the flag has no variant {variant!r}, only {', '.join(names)}",
            field="variant",
            value=variant,
            next_step="name one of them, or add it to the variants first",
        )
    holder: dict[str, Any] = {"targeting": deepcopy(definition.get("targeting")) or None}
    slot = _slot(holder)
    found = slot.holder[slot.place]
    slot.holder[slot.place] = _ramped(definition, found, variant, percentage)
    return {**definition, **holder}


class _Slot(NamedTuple):
    """A place in a targeting that gives an outcome, and whether it is for all who come to it."""

    holder: Any
    place: Any
    everyone: bool


def _slot(holder: dict[str, Any]) -> _Slot:
    """Return the place of the split that a percentage is for.

    Raises:
        ConflictError: there is no such place, or more than one.
    """
    slots = list(_slots(holder))
    for slot in slots:
        if slot.everyone:
            return slot
    splits = [slot for slot in slots if operation(slot.holder[slot.place]) is not None]
    if len(splits) > 1:
        raise ConflictError(
            f"{len(splits)} rules have a split, and none is for everyone",
            field="targeting",
            value=len(splits),
            next_step="set the weights of the rule that you mean",
        )
    return splits[0] if splits else _added(slots)


def _slots(holder: dict[str, Any]) -> Iterator[_Slot]:
    """Yield the outcomes of a chain of rules, in order, up to the first that is for everyone."""
    slot = _Slot(holder, "targeting", everyone=True)
    while (branches := _branches(slot.holder[slot.place])) is not None:
        for n in range(0, len(branches) - 1, 2):
            everyone = branches[n] is True
            yield _Slot(branches, n + 1, everyone)
            if everyone:
                return
        if len(branches) % 2 == 0:
            return
        slot = _Slot(branches, len(branches) - 1, everyone=True)
    yield slot


def _branches(node: Any) -> list[Any] | None:
    """Return the branches of an `if`, the very list that is in the definition."""
    match node:
        case {"if": list()} if len(cast("dict[str, Any]", node)) == 1:
            return node["if"]
        case _:
            return None


def _added(slots: Sequence[_Slot]) -> _Slot:
    """Add a place for everyone else after the last rule.

    Raises:
        ConflictError: there is no rule to add it after.
    """
    if not slots:
        message = "the targeting decides nothing, so there is no place for a percentage"
        raise ConflictError(message, field="targeting", next_step="edit the targeting as JSON")
    branches = slots[-1].holder
    branches.append(None)
    return _Slot(branches, len(branches) - 1, everyone=True)


def _ramped(definition: Definition, found: Any, variant: str, percentage: float) -> dict[str, Any]:
    """Return the split that stands in the place of what was found there.

    Raises:
        NoPlaceError: what stands there is no split of set weights.
    """
    match found:
        case None | str():
            key, shares = [], [Share(variant, 0)]
            given = definition.get("defaultVariant") if found is None else found
        case {"fractional": list()} if len(cast("dict[str, Any]", found)) == 1:
            key, shares = _weighed(found["fractional"])
            given = definition.get("defaultVariant")
        case _:
            raise NoPlaceError(found)
    if variant not in [share.variant for share in shares]:
        shares = [Share(variant, 0), *shares]
    if not any(share.weight for share in shares if share.variant != variant):
        shares = _with_rest(definition, shares, variant, given)
    grown = _grown(shares, variant, percentage)
    return {FRACTIONAL: [*key, *([share.variant, share.weight] for share in grown)]}


def _weighed(arms: list[Any]) -> tuple[list[Any], list[Share]]:
    """Return the key of a split, if it names one, and its shares.

    Raises:
        NoPlaceError: a variant or a weight is computed.
    """
    key = arms[:1] if arms and not isinstance(arms[0], list) else []
    shares = [share for arm in arms[len(key) :] if (share := outcomes.read_share(arm))]
    if len(shares) + len(key) < len(arms):
        raise NoPlaceError(arms)
    outcomes.check(outcomes.Split(tuple(shares)))
    return key, shares


def _with_rest(
    definition: Definition, shares: list[Share], variant: str, given: object
) -> list[Share]:
    """Return the shares with one for those who have none of the percentage.

    Raises:
        ConflictError: it is not known which variant they should have.
    """
    named = [share.variant for share in shares if share.variant != variant]
    names = [name for name in definition["variants"] if name != variant]
    default = definition.get("defaultVariant")
    for rest in (*(named if len(named) == 1 else []), given, default):
        if isinstance(rest, str) and rest != variant:
            return [*(it for it in shares if it.variant != rest), Share(rest, 1)]
    if given == variant and len(names) == 1:
        return [*shares, Share(names[0], 1)]
    raise ConflictError(
        f"it is not known which variant those get who are not given {variant}",
        field="targeting",
        next_step="set a default variant, or write the split with all its variants",
    )


def _grown(shares: Sequence[Share], variant: str, percentage: float) -> list[Share]:
    """Return the shares with a percentage for one of them, the others in proportion and order.

    Its place in the split goes on to cover all of what it covered, as long as it grows: what is
    before it and what is after it both shrink. The total is 100, 1,000, ..., as people write it:
    the first that holds all parts exactly, else one that is fine enough.

    Raises:
        ConflictError: it grows by so little that no total tells the old place from the new one.
    """
    scale, (part,) = percentages.weights([percentage])
    at = [share.variant for share in shares].index(variant)
    weights = [share.weight for share in shares]
    totals = [total for total in TOTALS if total >= scale]
    exact = [total for total in totals if _is_exact(weights, at, total, part * (total // scale))]
    for total in (*exact[:1], *(total for total in totals if total >= FINE_TOTAL)):
        own = part * (total // scale)
        left = _left(weights, at, total, own)
        if left is not None:
            before, after = (
                _shared(weights[:at], left),
                _shared(weights[at + 1 :], total - own - left),
            )
            return [
                Share(share.variant, weight)
                for share, weight in zip(shares, [*before, own, *after], strict=True)
            ]
    raise ConflictError(
        f"{percentages.in_words(percentage)} is too near to what {variant} has now",
        field="percentage",
        value=percentage,
        limit=TOTALS[-1],
        next_step="write weights that add up to 100 or 1000 first",
    )


def _is_exact(weights: Sequence[int], at: int, total: int, own: int) -> bool:
    """Whether the rest of a total can be shared in whole numbers as the others share it now."""
    others = sum(weights) - weights[at]
    return all((total - own) * weight % others == 0 for n, weight in enumerate(weights) if n != at)


def _left(weights: Sequence[int], at: int, total: int, own: int) -> int | None:
    """Return how much of a total is for those before the one at `at`, which gets `own`.

    None where, by whole numbers, it could not go on to cover its place, or to lie inside of it.
    """
    old, before, after = sum(weights), sum(weights[:at]), sum(weights[at + 1 :])
    rest = total - own
    ends = sorted([Fraction(before * total, old), rest - Fraction(after * total, old)])
    low, high = ceil(ends[0]), floor(ends[1])
    return max(low, min(high, rest * before // (before + after))) if low <= high else None


def _shared(weights: Sequence[int], total: int) -> list[int]:
    """Return a total in parts of the same proportions."""
    ends = [total * end // max(1, sum(weights)) for end in accumulate(weights, initial=0)]
    return [end - start for start, end in pairwise(ends)]
