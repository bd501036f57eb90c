"""Percentages as people write them, and the whole numbers that a split weighs them with."""

from collections.abc import Sequence
from decimal import Decimal
from math import isfinite

from millrace.kernel.errors import InvalidError

DECIMALS_MAX = 6  # 0.000001 % is one member of a hundred million


def weights(percentages: Sequence[float]) -> tuple[int, tuple[int, ...]]:
    """Return the smallest total of 100, 1000, ... that holds all exactly, and each one's part.

    Bucketing looks at the ratio alone, so another total of the same ratio moves nobody. What is
    below 0, above 100, or has more decimals than a split knows, is an InvalidError.
    """
    exact = [_exact(percentage) for percentage in percentages]
    places = max((_decimals(each) for each in exact), default=0)
    scale = 10**places
    return 100 * scale, tuple(int(each * scale) for each in exact)


def percentage(weight: int, total: int) -> float:
    """Return the percentage that `weight` is of `total`."""
    return 100 * weight / total


def in_words(value: float) -> str:
    """Write a percentage without decimals that say nothing: `1 %`, `0.5 %`."""
    return f"{round(value, DECIMALS_MAX):.{DECIMALS_MAX}f}".rstrip("0").rstrip(".") + " %"


def _exact(value: float) -> Decimal:
    if not isfinite(value) or not 0 <= value <= 100:
        message = f"a percentage is from 0 to 100, not {value:g}"
        raise InvalidError(message, field="percentage", value=value, limit="0 to 100")
    exact = Decimal(repr(float(value)))
    if _decimals(exact) > DECIMALS_MAX:
        raise InvalidError(
            f"percentage {value} has more than {DECIMALS_MAX} decimals",
            field="percentage",
            value=value,
            limit=DECIMALS_MAX,
            next_step="round it",
        )
    return exact


def _decimals(value: Decimal) -> int:
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int), "a finite number has a numeric exponent"
    return max(0, -exponent)
