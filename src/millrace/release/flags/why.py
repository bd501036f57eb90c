"""Why somebody is given what they are given: rule by rule, down to the place in a split.

The rule is followed by the same compiled operators that decide, one part at a time. It is slow,
for people, and changes nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.release.flags import bucketing, conditions, rules
from millrace.release.flags.bucketing import Bucketing
from millrace.release.flags.coercion import truthy
from millrace.release.flags.difference import CODE_DEFAULT, shown
from millrace.release.flags.expressions import FRACTIONAL, operation
from millrace.release.flags.flagset import FlagSet
from millrace.release.flags.splits import SUM_MAX, weight_of
from millrace.release.flags.types import TARGETING_KEY, Context, Reason, Resolution

REFERENCES_MAX = 8
REFERENCE = "$ref"
PLACES = 1 << 32

Definition: TypeAlias = Mapping[str, Any]


class Test(Struct, frozen=True):
    """One condition of a rule, and whether it holds."""

    __test__ = False  # pytest, this is a noun

    words: str
    holds: bool


class Step(Struct, frozen=True):
    """One rule. holds: None where an earlier rule decided. place: a pointer into the definition."""

    number: int
    words: str
    holds: bool | None
    place: str
    tests: tuple[Test, ...]


class Slice(Struct, frozen=True):
    """A share of a split, and where it lies: from `start` to before `end`, in percent."""

    variant: str
    weight: int
    start: float
    end: float


class Draw(Struct, frozen=True):
    """Where somebody lies in a split.

    hashed: what was hashed. place: from 0 to 2^32 - 1, and as a percentage of them.
    bucket: the place on the scale of the weights, which add up to `total`.
    """

    bucketing: str
    hashed: Any
    place: int
    percent: float
    bucket: int
    total: int
    slices: tuple[Slice, ...]


class Decision(Struct, frozen=True, kw_only=True):
    """What was decided, and why. variant: empty for the caller's own default."""

    resolution: Resolution
    sentence: str
    steps: tuple[Step, ...]
    draw: Draw | None


class _Asked(Struct, frozen=True):
    """One question."""

    flags: FlagSet
    key: str
    context: Context
    now: float

    def value(self, expression: object) -> Any:
        return self.flags.value(self.key, expression, self.context, self.now)

    def holds(self, expression: object) -> bool:
        return truthy(self.value(expression))


def explain(
    flags: FlagSet, key: str, definition: Definition, context: Context, now: float
) -> Decision:
    """Return what a flag gives somebody, and how it came to it.

    Args:
        flags: that hold the flag.
        key: of the flag.
        definition: of the flag, as JSON.
        context: what it may look at; the targeting key says who asks.
        now: seconds since 1970.
    """
    asked = _Asked(flags, key, context, now)
    resolution = flags.evaluate(key, context, now)
    if resolution.reason in {Reason.DISABLED, Reason.ERROR} or not definition.get("targeting"):
        return Decision(resolution=resolution, sentence=_plainly(resolution), steps=(), draw=None)
    steps, outcome = _followed(asked, definition.get("targeting"))
    return Decision(
        resolution=resolution,
        sentence=_sentence(resolution, steps),
        steps=tuple(steps),
        draw=_draw(asked, outcome),
    )


def _followed(asked: _Asked, targeting: object) -> tuple[list[Step], object]:
    """Return the rules, each with whether it holds, and what the one that decided says."""
    known = rules.read(targeting)
    words = None if known is None else [rules.in_words(rule) for rule in known]
    steps: list[Step] = []
    outcome: object = None
    decided = False
    for condition, said, place in _branches(asked, targeting):
        holds = None if decided else asked.holds(condition)
        steps.append(
            Step(
                number=len(steps) + 1,
                words=words[len(steps)] if words and len(steps) < len(words) else _by_hand(place),
                holds=holds,
                place=place,
                tests=() if decided else _tests(asked, condition),
            )
        )
        if holds:
            outcome, decided = said, True
    return steps, _resolved(asked, outcome)


def _branches(asked: _Asked, node: object) -> Iterator[tuple[object, object, str]]:
    """Yield condition, outcome and place of every branch; an `if` in the last place goes on."""
    place = "/targeting"
    for _ in range(rules.RULES_MAX):
        node = _resolved(asked, node)
        match operation(node):
            case "if" | "?:" as name, branches if branches:
                for n in range(0, len(branches) - 1, 2):
                    yield branches[n], branches[n + 1], f"{place}/{name}/{n}"
                if len(branches) % 2 == 0:
                    return
                node, place = branches[-1], f"{place}/{name}/{len(branches) - 1}"
            case _:
                if node is not None:
                    yield True, node, place
                return


def _resolved(asked: _Asked, node: object) -> object:
    """Return the node, or what it refers to."""
    for _ in range(REFERENCES_MAX):
        match operation(node):
            case operator, [str(name)] if operator == REFERENCE:
                node = asked.flags.evaluators.get(name)
            case _:
                return node
    return None


def _tests(asked: _Asked, condition: object) -> tuple[Test, ...]:
    if condition is True:
        return ()
    match operation(condition):
        case "and", parts if parts:
            each = parts
        case _:
            each = [condition]
    return tuple(Test(_in_words(part), asked.holds(part)) for part in each)


def _in_words(condition: object) -> str:
    try:
        (found,) = conditions.read([condition])
    except InvalidError:
        return shown(condition)
    return f"whoever {conditions.in_words(found)}"


def _by_hand(place: str) -> str:
    return f"written by hand, at {place}"


def _draw(asked: _Asked, outcome: object) -> Draw | None:
    """Return where somebody lies in a split; None where the outcome is none, or gives nothing."""
    match operation(outcome):
        case operator, arms if operator == FRACTIONAL and arms:
            pass
        case _:
            return None
    metadata = asked.flags.evaluate(asked.key, asked.context, asked.now).metadata
    version = bucketing.named(metadata.get(bucketing.METADATA_KEY, bucketing.DEFAULT))
    if version is None:
        return None
    hashed, place, arms = _hashed(asked, version, arms)
    shares = [share for arm in arms if (share := _share(asked, arm))]
    total = sum(weight for _, weight in shares)
    if place is None or len(shares) < len(arms) or not 0 < total <= SUM_MAX:
        return None
    return Draw(
        bucketing=version.name,
        hashed=hashed,
        place=place,
        percent=100 * place / PLACES,
        bucket=place * total >> 32,
        total=total,
        slices=tuple(_slices(shares, total)),
    )


def _hashed(
    asked: _Asked, version: Bucketing, arms: list[Any]
) -> tuple[object, int | None, list[Any]]:
    """Return what is hashed, its place, and the arms that are shares."""
    if isinstance(arms[0], list):
        who = asked.context.get(TARGETING_KEY)
        if not isinstance(who, str) or not who:
            return None, None, arms
        hashed = asked.key + who if version.name == bucketing.DEFAULT else [asked.key, who]
        return hashed, version.place_of(asked.key)(who), arms
    hashed = asked.value(arms[0])
    return hashed, version.place(hashed), arms[1:]


def _share(asked: _Asked, arm: object) -> tuple[str, int] | None:
    entry: object = cast("object", arm) if isinstance(arm, list) else asked.value(arm)
    if not isinstance(entry, list) or not 1 <= len(cast("list[Any]", entry)) <= 2:
        return None
    variant, *weights = cast("list[Any]", entry)
    weight = weight_of(asked.value(weights[0])) if weights else 1
    return None if weight is None else (str(asked.value(variant)), weight)


def _slices(shares: Sequence[tuple[str, int]], total: int) -> Iterator[Slice]:
    end = 0
    for variant, weight in shares:
        start, end = end, end + weight
        yield Slice(variant, weight, 100 * start / total, 100 * end / total)


def _sentence(resolution: Resolution, steps: Sequence[Step]) -> str:
    decided = next((step for step in steps if step.holds), None)
    given = resolution.variant or CODE_DEFAULT
    if decided is None:
        return f"No rule holds, so the default is given: {given}."
    if resolution.reason is Reason.DEFAULT:
        return f"Rule {decided.number} decides, and leaves it at the default, {given}."
    return f"Rule {decided.number} decides: {decided.words}"


def _plainly(resolution: Resolution) -> str:
    """Write why nothing had to be followed."""
    match resolution.reason:
        case Reason.DISABLED:
            return f"The flag is switched off: everybody gets {CODE_DEFAULT}."
        case Reason.ERROR:
            return f"There is an error, so {CODE_DEFAULT} is given: {resolution.message}."
        case _:
            return f"There are no rules: everybody gets {resolution.variant or CODE_DEFAULT}."
