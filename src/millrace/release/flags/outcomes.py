"""What a rule gives: a variant, a split between variants, or a ramp by schedule."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.release.flags import percentages, ramps
from millrace.release.flags.expressions import (
    FRACTIONAL,
    ByHandError,
    Expression,
    operation,
)
from millrace.release.flags.ramps import Ramp

WEIGHT_SUM_MAX = (1 << 31) - 1  # flagd's limit: bucketing multiplies it by 32 bits


class Give(Struct, frozen=True, tag_field="kind", tag="give"):
    """The same variant for all."""

    variant: str


class Share(Struct, frozen=True):
    """A variant's part of a split; what it is worth depends on the sum of all weights."""

    variant: str
    weight: int


class Split(Struct, frozen=True, tag_field="kind", tag="split"):
    """Each member gets one variant and keeps it; the order of the shares is part of it."""

    shares: tuple[Share, ...]


Outcome: TypeAlias = Give | Split | Ramp


def write(outcome: Outcome) -> Expression:
    """Return the expression that gives the variant."""
    match outcome:
        case Give(variant):
            return variant
        case Split(shares):
            return {FRACTIONAL: [[share.variant, share.weight] for share in shares]}
        case Ramp():
            return ramps.write(outcome)


def read(node: Expression) -> Outcome:
    """Return what an expression gives.

    Raises:
        ByHandError: it is none of the outcomes that people think in.
    """
    if isinstance(node, str):
        return Give(node)
    match operation(node):
        case "fractional", arms if arms:
            shares = [share for arm in arms if (share := read_share(arm))]
            return Split(tuple(shares)) if len(shares) == len(arms) else ramps.read(arms)
        case _:
            raise ByHandError(node)


def read_share(arm: Any) -> Share | None:
    """Return a share of a split; None where its variant or weight is computed."""
    match arm:
        case [str(variant)]:
            return Share(variant, 1)
        case [str(variant), int(weight)] if not isinstance(weight, bool):
            return Share(variant, weight)
        case _:
            return None


def check(outcome: Outcome) -> None:
    """Refuse a variant without a name or twice in a split, weights out of bounds, a falling ramp."""
    match outcome:
        case Give(variant):
            _check_names([variant])
        case Split(shares):
            _check_names([share.variant for share in shares])
            _check_weights([share.weight for share in shares])
        case Ramp():
            ramps.check(outcome)


def variants(outcome: Outcome) -> list[str]:
    """Return the variants that an outcome may give."""
    match outcome:
        case Give(variant):
            return [variant]
        case Split(shares):
            return [share.variant for share in shares]
        case Ramp(variant, otherwise):
            return [variant, otherwise]


def in_words(outcome: Outcome) -> str:
    """Write what somebody gets."""
    match outcome:
        case Give(variant):
            return f"gets {variant}"
        case Split(shares):
            total = sum(share.weight for share in shares)
            parts = [
                f"{share.variant} for {percentages.in_words(100 * share.weight / total)}"
                for share in shares
            ]
            return "gets " + " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
        case Ramp():
            return ramps.in_words(outcome)


def _check_names(names: Sequence[str]) -> None:
    if not names or not all(names):
        step = "name the variant"
        raise InvalidError("a rule gives a variant without a name", field="variant", next_step=step)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidError(
            f"variant {twice[0]} is twice in one split",
            field="variant",
            value=twice[0],
            next_step="add the weights up",
        )


def _check_weights(weights: Sequence[int]) -> None:
    total = sum(weights)
    if min(weights) < 0 or not 0 < total <= WEIGHT_SUM_MAX:
        raise InvalidError(
            f"the weights {list(weights)} of a split are 0 or more and add up to 1 or more, "
            f"at most {WEIGHT_SUM_MAX}",
            field="weight",
            value=list(weights),
            limit=WEIGHT_SUM_MAX,
        )
