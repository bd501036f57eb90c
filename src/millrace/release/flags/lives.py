"""What is known of flags, put together for those who look which of them may go. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import msgspec

from millrace.release.flags import stale
from millrace.release.flags.expressions import DEPENDS
from millrace.release.flags.stale import Finding, Life
from millrace.release.flags.types import Flag, Seen, Usage


def life_of(
    flag: Flag,
    definition: Mapping[str, Any],
    evaluated: datetime | None,
    needed: Mapping[str, Sequence[str]],
    seen: Seen | None,
) -> Life:
    """Return what is known of a flag.

    Args:
        flag: as it stands.
        definition: of it, read.
        evaluated: when it was last; None for never.
        needed: for each flag, the others that depend on it.
        seen: what the newest scans of code say of it.
    """
    last = evaluated and Usage(
        key=flag.key,
        variant="",
        day=evaluated.date(),
        evaluations=1,
        errors=0,
        last_at=evaluated,
    )
    return Life(
        key=flag.key,
        definition=definition,
        owner=flag.owner,
        created_at=flag.created_at,
        changed_at=flag.changed_at,
        usage=[last] if last else (),
        seen=seen,
        dependents=needed.get(flag.key, ()),
    )


def findings(lives: Sequence[Life], now: datetime, days: int) -> list[Finding]:
    """Return why flags may go, in the order of the flags."""
    return [finding for life in lives for finding in stale.findings(life, now, days)]


def every_life(
    flags: Sequence[Flag], evaluated: Mapping[str, datetime], seen: Mapping[str, Seen]
) -> list[Life]:
    """Return what is known of all flags."""
    definitions = {flag.key: _object(flag.content) for flag in flags}
    needed = stale.dependents(definitions)
    return [
        life_of(flag, definitions[flag.key], evaluated.get(flag.key), needed, seen.get(flag.key))
        for flag in flags
    ]


def dependents(texts: Mapping[str, str]) -> Mapping[str, Sequence[str]]:
    """Return, for each flag that others depend on, which: of definitions as they are stored."""
    asking = {key: _object(text) for key, text in texts.items() if f'"{DEPENDS}"' in text}
    return stale.dependents(asking)


def _object(content: str) -> Mapping[str, Any]:
    """Read a stored definition; an import may have brought something else."""
    try:
        found: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
