"""What is wrong with a rule that is written in JsonLogic, place by place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

from msgspec import Struct

from millrace.release.flags import semver
from millrace.release.flags.coercion import text_of
from millrace.release.flags.expressions import DEPENDS, FRACTIONAL, operation
from millrace.release.flags.logic import KNOWN, REFERENCE
from millrace.release.flags.pointers import escaped
from millrace.release.flags.splits import SUM_MAX
from millrace.release.flags.types import Problem

PROBLEMS_MAX = 100
SHOWN_MAX = 80
TRUTHS = frozenset(
    {"==", "!=", "===", "!==", "<", "<=", ">", ">=", "!", "!!", "in", "all", "some", "none"}
) | {"sem_ver", "starts_with", "ends_with", DEPENDS}
"""Operators that give true or false."""

ARGUMENTS: Mapping[str, tuple[int, int]] = {
    **dict.fromkeys(
        ("==", "!=", "===", "!==", "in", "map", "filter", "all", "some", "none"), (2, 2)
    ),
    **dict.fromkeys(("<", "<=", ">", ">="), (2, 3)),
    **dict.fromkeys(("starts_with", "ends_with", "missing_some", "/", "%", DEPENDS), (2, 2)),
    **dict.fromkeys(("!", "!!", "log"), (1, 1)),
    **dict.fromkeys(("-", "var"), (1, 2)),
    **dict.fromkeys(("substr",), (2, 3)),
    **dict.fromkeys(("sem_ver", "reduce"), (3, 3)),
    **dict.fromkeys(("and", "or", "if", "?:", FRACTIONAL, "min", "max"), (1, SUM_MAX)),
}
"""How many arguments an operator takes: from, to. Others take any number."""


class Rules(Struct, frozen=True):
    """What a rule may name.

    variants: None where nobody knows, as in a shared evaluator.
    """

    key: str
    variants: frozenset[str] | None
    evaluators: Mapping[str, Any]
    flags: Mapping[str, Any]


def targeting_problems(logic: Any, place: str, rules: Rules) -> list[Problem]:
    """Return what is wrong with an expression whose value is the answer."""
    found: list[Problem] = []
    for problem in _of_answer(logic, place, rules):
        found.append(problem)
        if len(found) == PROBLEMS_MAX:
            break
    return found


def _of_answer(logic: Any, place: str, rules: Rules) -> Iterator[Problem]:
    """Yield what is wrong where the value is the variant that is given."""
    match operation(logic):
        case ("if" | "?:") as name, arguments:
            yield from _of_number(name, arguments, f"{place}/{escaped(name)}")
            for index, one in enumerate(arguments):
                is_answer = index % 2 == 1 or index == len(arguments) - 1
                check = _of_answer if is_answer else _of_expression
                yield from check(one, f"{place}/{escaped(name)}/{index}", rules)
        case "fractional", arguments:
            yield from _of_split(arguments, f"{place}/{FRACTIONAL}", rules, _of_answer)
        case None:
            yield from _of_variant(logic, place, rules)
        case name, _:
            if (
                name in TRUTHS
                and rules.variants is not None
                and not rules.variants & {"true", "false"}
            ):
                message = f"{name!r} gives true or false, which are no variants: put it in an `if`"
                yield Problem(place, message)
            yield from _of_expression(logic, place, rules)


def _of_variant(value: Any, place: str, rules: Rules) -> Iterator[Problem]:
    """Yield what is wrong with a variant that is written out."""
    if value is None or rules.variants is None:
        return
    if isinstance(value, list | dict):
        yield Problem(place, "a list or an object is no variant: name one")
        return
    name = text_of(value)
    if name not in rules.variants:
        step = _nearest(name, rules.variants) or "add it to variants, or name one of those"
        yield Problem(place, f"there is no variant {name[:SHOWN_MAX]!r}: {step}")


def _of_expression(logic: Any, place: str, rules: Rules) -> Iterator[Problem]:
    """Yield what is wrong with an expression."""
    if isinstance(logic, list):
        yield from _of_list(cast("list[Any]", logic), place, rules)
        return
    found = operation(logic)
    if found is None:
        if isinstance(logic, dict) and logic:
            names = ", ".join(repr(name[:SHOWN_MAX]) for name in list(cast("Any", logic))[:3])
            yield Problem(place, f"an operator stands alone in its object, not {names} together")
        return
    name, arguments = found
    inside = f"{place}/{escaped(name)}"
    if name == REFERENCE:
        yield from _of_reference(arguments, inside, rules)
        return
    if name not in KNOWN:
        step = _nearest(name, KNOWN) or "see the list of operators in the README of release"
        yield Problem(inside, f"there is no operator {name[:SHOWN_MAX]!r}: {step}")
        return
    yield from _of_number(name, arguments, inside)
    if name == FRACTIONAL:
        yield from _of_split(arguments, inside, rules, _of_expression)
        return
    special = _SPECIAL.get(name)
    if special is not None:
        yield from special(arguments, inside)
    for index, one in enumerate(arguments):
        yield from _of_expression(one, f"{inside}/{index}", rules)


def _of_list(items: list[Any], place: str, rules: Rules) -> Iterator[Problem]:
    """Yield what is wrong with the items of a list; nothing is with a text or a number."""
    for index, one in enumerate(items):
        if isinstance(one, list | dict):
            yield from _of_expression(one, f"{place}/{index}", rules)


def _of_number(name: str, arguments: Sequence[Any], inside: str) -> Iterator[Problem]:
    """Yield that an operator has too few or too many arguments."""
    least, most = ARGUMENTS.get(name, (0, SUM_MAX))
    if not least <= len(arguments) <= most:
        wanted = str(least) if least == most else f"{least} to {most}" if most < SUM_MAX else "some"
        yield Problem(inside, f"{name!r} has {len(arguments)} arguments: give it {wanted}")


def _of_reference(arguments: Sequence[Any], inside: str, rules: Rules) -> Iterator[Problem]:
    """Yield that a shared evaluator is not there."""
    name = arguments[0] if len(arguments) == 1 else None
    if not isinstance(name, str) or name not in rules.evaluators:
        shown = repr(name[:SHOWN_MAX]) if isinstance(name, str) else "of this kind"
        step = _nearest(str(name), rules.evaluators) or "add it to $evaluators"
        yield Problem(inside, f"there is no evaluator {shown}: {step}")


def _of_split(
    arguments: Sequence[Any],
    inside: str,
    rules: Rules,
    of_variant: Callable[[Any, str, Rules], Iterator[Problem]],
) -> Iterator[Problem]:
    """Yield what is wrong with a split: its key, its shares, and what their weights add up to."""
    keyed = bool(arguments) and not isinstance(arguments[0], list)
    if keyed:
        yield from _of_expression(arguments[0], f"{inside}/0", rules)
        if not isinstance(arguments[0], dict | str):
            yield Problem(f"{inside}/0", "the key of a split is a text or an expression")
    shares = list(enumerate(arguments))[1 if keyed else 0 :]
    if not shares:
        yield Problem(inside, 'a split has no shares: write ["variant", weight] for each')
    for index, share in shares:
        place = f"{inside}/{index}"
        if operation(share) is not None:
            yield from _of_expression(share, place, rules)
        elif not isinstance(share, list) or not 1 <= len(cast("list[Any]", share)) <= 2:
            yield Problem(place, 'a share is a list of a variant and a weight: ["on", 10]')
        else:
            yield from of_variant(share[0], f"{place}/0", rules)
            yield from _of_weight(cast("list[Any]", share), place, rules)
    yield from _of_sum([share for _, share in shares], inside)


def _of_weight(share: list[Any], place: str, rules: Rules) -> Iterator[Problem]:
    """Yield what is wrong with the weight of a share."""
    if len(share) < 2:
        return
    weight = share[1]
    if operation(weight) is not None:
        yield from _of_expression(weight, f"{place}/1", rules)
    elif type(weight) is float and weight.is_integer():
        yield from _of_weight([share[0], int(weight)], place, rules)
    elif type(weight) is not int:
        step = "to split parts of a percent, raise all weights tenfold"
        yield Problem(f"{place}/1", f"a weight is a whole number: {step}")
    elif weight < 0:
        yield Problem(f"{place}/1", f"weight {str(weight)[:SHOWN_MAX]} is below zero: write 0")


def _of_sum(shares: Sequence[Any], inside: str) -> Iterator[Problem]:
    """Yield that constant weights do not add up to a percentage. Equal shares need no weights."""
    written = [cast("list[Any]", share) for share in shares if isinstance(share, list)]
    weights: list[Any] = [share[1] for share in written if len(share) == 2]
    if not weights or any(not _is_weight(weight) for weight in weights):
        return
    total = sum(map(int, weights)) + len(shares) - len(weights)
    if total > SUM_MAX:
        yield Problem(inside, f"the weights add up to more than {SUM_MAX:,}: lower all of them")
    elif total < 100 or str(total).strip("0") != "1":
        step = "make it 100, or 1000, 10000, ... for parts of a percent"
        yield Problem(inside, f"the weights add up to {total}: {step}")


def _is_weight(value: Any) -> bool:
    """Return whether a value can be a weight as it stands; what is wrong with others is told."""
    return (type(value) is int or (type(value) is float and value.is_integer())) and value >= 0


def _of_version(arguments: Sequence[Any], inside: str) -> Iterator[Problem]:
    """Yield what is wrong with a comparison of versions."""
    if len(arguments) != 3:
        return
    _, operator, version = arguments
    if operator not in semver.OPERATORS:
        known = " ".join(semver.OPERATORS)
        yield Problem(f"{inside}/1", f"versions are compared by one of {known}")
    if operation(version) is None and semver.parsed(version) is None:
        yield Problem(f"{inside}/2", "this is no semantic version: write it like 1.2.3")


def _of_path(arguments: Sequence[Any], inside: str) -> Iterator[Problem]:
    """Yield what is wrong with a look at the context."""
    path: Any = arguments[0] if arguments else None
    if operation(path) is None and isinstance(path, bool | list | dict):
        yield Problem(f"{inside}/0", "the path of a `var` is a text: the name of an attribute")


def _of_search(arguments: Sequence[Any], inside: str) -> Iterator[Problem]:
    """Yield that a search looks in what cannot be searched."""
    where = arguments[1] if len(arguments) == 2 else ""
    if not isinstance(where, str | list | dict):
        yield Problem(f"{inside}/1", "`in` looks in a list or a text: write a list")


def _of_affix(arguments: Sequence[Any], inside: str) -> Iterator[Problem]:
    """Yield that a text is compared with what is none."""
    for index, one in enumerate(arguments):
        if operation(one) is None and not isinstance(one, str):
            yield Problem(f"{inside}/{index}", "this compares texts: write a text")


def _of_loop(arguments: Sequence[Any], inside: str) -> Iterator[Problem]:
    """Yield that a loop goes over what is no list."""
    items: Any = arguments[0] if arguments else []
    if not isinstance(items, list) and operation(items) is None:
        yield Problem(f"{inside}/0", "this goes over a list: write a list or a `var`")


def _of_dependence(arguments: Sequence[Any], inside: str) -> Iterator[Problem]:
    """Yield that a dependence does not name a flag and a variant."""
    if not all(isinstance(one, str) for one in arguments):
        yield Problem(inside, f"{DEPENDS} takes two texts: the key of a flag and a variant of it")


def _nearest(name: str, known: Any) -> str:
    """Return a hint at a name that is much like another one."""
    near = get_close_matches(name[:SHOWN_MAX], list(known), n=1) if len(known) <= 1_000 else []
    return f"did you mean {near[0]!r}?" if near else ""


_SPECIAL: Mapping[str, Callable[[Sequence[Any], str], Iterator[Problem]]] = {
    "sem_ver": _of_version,
    "var": _of_path,
    "in": _of_search,
    "starts_with": _of_affix,
    "ends_with": _of_affix,
    DEPENDS: _of_dependence,
    **dict.fromkeys(("map", "filter", "reduce", "all", "some", "none"), _of_loop),
}
