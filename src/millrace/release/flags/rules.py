"""Rules that people think in, written as flagd's targeting and read back.

The first rule whose conditions all hold decides; where none does, the flag's default variant
holds. What is written is plain flagd JSON that any of its evaluators understands, but for a
dependence on another flag. Targeting of any other form is somebody's own JSON: it works, and is
shown as it is.
"""

from collections.abc import Iterator, Sequence
from typing import Any, cast

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.release.flags import conditions, outcomes
from millrace.release.flags.conditions import Condition
from millrace.release.flags.expressions import Expression, operation
from millrace.release.flags.outcomes import Outcome

RULES_MAX = 200


class Rule(Struct, frozen=True):
    """Who meets all the conditions gets the outcome; without conditions that is everyone."""

    conditions: tuple[Condition, ...]
    outcome: Outcome


def write(rules: Sequence[Rule]) -> dict[str, Any] | None:
    """Return the targeting that decides as the rules do; None where there are none."""
    check(rules)
    if not rules:
        return None
    branches: list[Any] = []
    for rule in rules:
        branches += [_all_of(rule.conditions), outcomes.write(rule.outcome)]
    if rules[-1].conditions:
        return {"if": branches}
    match branches:
        case [_, {**split}]:
            return split  # a targeting is an object: a split can be one, a variant cannot
        case [_, _]:
            return {"if": branches}
        case _:
            return {"if": [*branches[:-2], branches[-1]]}  # what is left over is for everyone else


def read(targeting: Any) -> list[Rule] | None:
    """Return the rules that a targeting stands for; None where it is written by hand."""
    if targeting is None or targeting == {}:
        return []
    if not isinstance(targeting, dict):
        return None
    try:
        rules = list(_rules(cast("dict[str, Any]", targeting)))
        check(rules)
    except InvalidError:
        return None
    return rules


def check(rules: Sequence[Rule]) -> None:
    """Refuse rules that nobody can meet, that give nothing, or that could not be read back.

    Raises:
        InvalidError: the first that is wrong; it says which rule it is.
    """
    if len(rules) > RULES_MAX:
        message = f"a flag has at most {RULES_MAX} rules, not {len(rules)}"
        raise InvalidError(message, field="rules", value=len(rules), limit=RULES_MAX)
    for number, rule in enumerate(rules, 1):
        try:
            conditions.check(rule.conditions)
            outcomes.check(rule.outcome)
        except InvalidError as exc:
            raise InvalidError(
                f"rule {number}: {exc.message}",
                field=exc.field,
                value=exc.value,
                limit=exc.limit,
                next_step=exc.next_step,
            ) from exc


def in_words(rule: Rule) -> str:
    """Write a rule as a sentence."""
    outcome = outcomes.in_words(rule.outcome)
    if not rule.conditions:
        return f"Everyone {outcome}."
    parts = [conditions.in_words(condition) for condition in rule.conditions]
    held = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    return f"Whoever {held} {outcome}."


def _all_of(held: Sequence[Condition]) -> Expression:
    parts = [part for condition in held for part in conditions.write(condition)]
    if not parts:
        return True
    return parts[0] if len(parts) == 1 else {"and": parts}


def _rules(targeting: dict[str, Any]) -> Iterator[Rule]:
    """Follow the branches; an `if` in the place of the last `else` goes on where it stands."""
    node: Expression = targeting
    while True:
        match operation(node):
            case "if", branches if branches:
                for n in range(0, len(branches) - 1, 2):
                    yield Rule(_conditions(branches[n]), outcomes.read(branches[n + 1]))
                if len(branches) % 2 == 0 or branches[-1] is None:
                    return
                node = branches[-1]
            case _:
                yield Rule((), outcomes.read(node))
                return


def _conditions(node: Expression) -> tuple[Condition, ...]:
    if node is True:
        return ()
    match operation(node):
        case "and", parts if parts:
            return conditions.read(parts)
        case _:
            return conditions.read([node])
