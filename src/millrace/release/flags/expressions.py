"""JsonLogic as plain JSON: built and taken apart, never evaluated."""

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

from millrace.kernel.errors import InvalidError

Expression: TypeAlias = Any
"""A JSON value; an object with one key is an operation."""

TIMESTAMP = "$flagd.timestamp"
FRACTIONAL = "fractional"
DEPENDS = "millrace_flag"
"""Ours alone: no other evaluator of flagd's JSON knows it."""


class ByHandError(InvalidError):
    """An expression is none of the rules that people think in."""

    def __init__(self, node: object) -> None:
        message = f"this is written by hand: {str(node)[:100]}"
        super().__init__(message, value=node, next_step="edit it as JSON")


def variable(name: str) -> Expression:
    """Return the expression that reads an attribute of the context."""
    return {"var": name}


def operation(node: object) -> tuple[str, list[Any]] | None:
    """Return an operator with its arguments; None where the node is a plain value."""
    if not isinstance(node, dict):
        return None
    pairs = list(cast("dict[str, Any]", node).items())
    if len(pairs) != 1:
        return None
    name, arguments = pairs[0]
    return name, list(cast("list[Any]", arguments)) if isinstance(arguments, list) else [arguments]


def attribute(node: object) -> str | None:
    """Return the name of the attribute that an expression reads; None if it is another one."""
    match operation(node):
        case "var", [str(name)]:
            return name
        case _:
            return None


def texts(node: object) -> tuple[str, ...] | None:
    """Return a list that has only texts in it; None if the node is anything else."""
    if not isinstance(node, list):
        return None
    found = cast("list[Any]", node)
    return tuple(found) if all(isinstance(each, str) for each in found) else None


def any_of(parts: Sequence[Expression]) -> Expression:
    """Return what holds where one of the parts holds."""
    return parts[0] if len(parts) == 1 else {"or": list(parts)}
