"""A ramp by schedule: the share of a variant grows at set times, and nobody is dropped."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.release.flags import moments
from millrace.release.flags import percentages as shares
from millrace.release.flags.expressions import (
    FRACTIONAL,
    TIMESTAMP,
    ByHandError,
    Expression,
    attribute,
    operation,
    variable,
)

STEPS_MAX = 100


class Step(Struct, frozen=True):
    """From a moment on, a percentage has the variant."""

    at: datetime
    percentage: float


class Ramp(Struct, frozen=True, tag_field="kind", tag="ramp"):
    """Who has `variant` grows step by step; everybody else has `otherwise`, and all do before."""

    variant: str
    otherwise: str
    steps: tuple[Step, ...]


def scheduled(start: datetime, every: timedelta, percentages: Sequence[float]) -> tuple[Step, ...]:
    """Return the steps of a ramp that reaches the next percentage after every such time."""
    return tuple(Step(start + n * every, each) for n, each in enumerate(percentages))


def percentage_at(ramp: Ramp, now: datetime) -> float:
    """Return what percentage has the variant now."""
    reached = [step.percentage for step in ramp.steps if step.at <= now]
    return reached[-1] if reached else 0.0


def check(ramp: Ramp) -> None:
    """Refuse a ramp that would ever take the variant from somebody who has it.

    Raises:
        InvalidError: there are no steps or too many, they are not in order of time, or the
            percentage falls; or both variants are the same.
    """
    if not 1 <= len(ramp.steps) <= STEPS_MAX:
        message = f"a ramp has 1 to {STEPS_MAX} steps, not {len(ramp.steps)}"
        raise InvalidError(message, field="steps", value=len(ramp.steps), limit=STEPS_MAX)
    if ramp.variant == ramp.otherwise or not ramp.variant or not ramp.otherwise:
        message = f"a ramp goes from one variant to another, not from {ramp.otherwise!r} to itself"
        raise InvalidError(message, field="otherwise", value=ramp.otherwise)
    for before, after in zip(ramp.steps, ramp.steps[1:], strict=False):
        if moments.seconds(before.at) >= moments.seconds(after.at):
            message = f"the step of {moments.in_words(after.at)} is not after the one before it"
            raise InvalidError(message, field="steps", value=str(after.at), limit=str(before.at))
        if before.percentage > after.percentage:
            raise InvalidError(
                f"a ramp never drops anybody: {shares.in_words(after.percentage)} at "
                f"{moments.in_words(after.at)} is less than {shares.in_words(before.percentage)}",
                field="steps",
                value=after.percentage,
                limit=before.percentage,
                next_step="let it grow, or set a percentage without a schedule",
            )


def write(ramp: Ramp) -> Expression:
    """Return a split whose weights depend on the time."""
    total, parts = shares.weights([step.percentage for step in ramp.steps])
    times = [moments.seconds(step.at) for step in ramp.steps]
    rest = [total - part for part in parts]
    return {
        FRACTIONAL: [
            [ramp.variant, _by_time(times, parts, 0)],
            [ramp.otherwise, _by_time(times, rest, total)],
        ]
    }


def read(arms: Sequence[Expression]) -> Ramp:
    """Return the ramp that the arms of a split with computed weights are.

    Raises:
        ByHandError: they are something else.
    """
    match arms:
        case [[str(variant), growing], [str(otherwise), shrinking]]:
            times, parts = _schedule(growing)
            others, rest = _schedule(shrinking)
        case _:
            raise ByHandError(arms)
    total = rest[0]
    sums = [part + left for part, left in zip(parts, rest, strict=False)]
    if times != others or parts[0] != 0 or set(sums) != {total} or not _is_percent(total):
        raise ByHandError(arms)
    percents = [shares.percentage(part, total) for part in parts[1:]]
    steps = [Step(moments.moment(at), each) for at, each in zip(times, percents, strict=True)]
    return Ramp(variant, otherwise, tuple(steps))


def in_words(ramp: Ramp) -> str:
    """Write who gets what and from when on."""
    steps = [
        f"{shares.in_words(step.percentage)} from {moments.in_words(step.at)}"
        for step in ramp.steps
    ]
    return f"gets {ramp.variant} for {', '.join(steps)}, and {ramp.otherwise} otherwise"


def _by_time(times: Sequence[int], parts: Sequence[int], before: int) -> Expression:
    """Return the weight of the last step that was reached; `before` until the first."""
    chain: list[Any] = []
    for at, part in reversed(list(zip(times, parts, strict=True))):
        chain += [{">=": [variable(TIMESTAMP), at]}, part]
    return {"if": [*chain, before]}


def _schedule(node: Expression) -> tuple[list[int], list[int]]:
    """Return the times of a computed weight and its weights, that before the first time first.

    Raises:
        ByHandError: it does not go by time alone.
    """
    match operation(node):
        case "if", [*chain, before] if len(chain) >= 2 and len(chain) % 2 == 0:
            times = [_reached(each) for each in reversed(chain[::2])]
            return times, [_whole(each) for each in [before, *reversed(chain[1::2])]]
        case _:
            raise ByHandError(node)


def _reached(node: Expression) -> int:
    match operation(node):
        case ">=", [left, at] if attribute(left) == TIMESTAMP:
            return _whole(at)
        case _:
            raise ByHandError(node)


def _whole(node: Expression) -> int:
    if not isinstance(node, int) or isinstance(node, bool):
        raise ByHandError(node)
    return node


def _is_percent(total: int) -> bool:
    return total in {100 * 10**places for places in range(shares.DECIMALS_MAX + 1)}
