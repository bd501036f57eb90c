"""Semantic versions, as flagd reads them: `v1.2`, `1`, `1.0.0-rc.1+build`."""

import re
from collections.abc import Callable, Mapping
from operator import eq, ge, gt, le, lt, ne
from typing import Any, TypeAlias

TEXT_MAX = 256

Version: TypeAlias = tuple[int, int, int, tuple[tuple[int, int, str], ...]]
"""Sorts by precedence: major, minor, patch, and what comes before the release."""

# No alternative of it can match the same text in two ways, so it takes one pass.
_FORM = re.compile(
    r"[vV]?(0|[1-9][0-9]*)(?:\.(0|[1-9][0-9]*))?(?:\.(0|[1-9][0-9]*))?"
    r"(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?"
)
_RELEASE = ((2, 0, ""),)  # after every identifier of a pre-release


def parsed(value: Any) -> Version | None:
    """Return the version that a text or a number means, None where it means none.

    Missing parts are zero, a leading v is ignored, and so is what was built from it.
    """
    text = value if type(value) is str else str(value) if type(value) in (int, float) else ""
    found = _FORM.fullmatch(text) if len(text) <= TEXT_MAX else None
    if found is None:
        return None
    major, minor, patch, before = found.groups()
    identifiers = _RELEASE if before is None else _identifiers(before)
    if identifiers is None:
        return None
    return int(major), int(minor or 0), int(patch or 0), identifiers


def _identifiers(text: str) -> tuple[tuple[int, int, str], ...] | None:
    """Return the parts of a pre-release: numbers before words; None for a number like 01."""
    parts: list[tuple[int, int, str]] = []
    for part in text.split("."):
        if not part.isdigit():
            parts.append((1, 0, part))
        elif part[0] == "0" and part != "0":
            return None
        else:
            parts.append((0, int(part), ""))
    return tuple(parts)


def holds(version: Version, operator: str, other: Version) -> bool | None:
    """Return whether a version stands so to another, None for an unknown operator.

    `^` asks for the same major version and `~` for the same minor one, as flagd has them: they
    set no lower bound.
    """
    comparison = _COMPARISONS.get(operator)
    return None if comparison is None else comparison(version, other)


_COMPARISONS: Mapping[str, Callable[[Version, Version], bool]] = {
    "=": eq,
    "!=": ne,
    "<": lt,
    "<=": le,
    ">": gt,
    ">=": ge,
    "^": lambda version, other: version[:1] == other[:1],
    "~": lambda version, other: version[:2] == other[:2],
}
OPERATORS = tuple(_COMPARISONS)
