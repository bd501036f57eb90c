"""Flags that have done their work, or never had any: what shows it, and what to do next.

A flag that is meant to stay, such as a parameter of the feed, says so in its definition with
`"metadata": {"permanent": true}`. It is then only told that no code names it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeAlias, cast

from msgspec import Struct

from millrace.release.flags import rules
from millrace.release.flags.conditions import Between, Condition
from millrace.release.flags.difference import CODE_DEFAULT, shown
from millrace.release.flags.expressions import DEPENDS, FRACTIONAL, operation
from millrace.release.flags.outcomes import Give, Outcome, Split, read_share
from millrace.release.flags.ramps import Ramp, percentage_at
from millrace.release.flags.rules import Rule
from millrace.release.flags.types import Seen, Usage

DAYS = 30
PERMANENT = "permanent"
NAMES_MAX = 3
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

Definition: TypeAlias = Mapping[str, Any]


class Kind(StrEnum):
    """Why a flag may go."""

    NOT_EVALUATED = "not_evaluated"
    ROLLED_OUT = "rolled_out"
    SWITCHED_OFF = "switched_off"
    UNREFERENCED = "unreferenced"


class Life(Struct, frozen=True, kw_only=True):
    """What is known of a flag.

    usage: as far back as it is kept. references: places in code that was searched now; None where
    it was not. seen: what the newest scans say, where any was sent. dependents: other flags whose targeting asks for this one.
    """

    key: str
    definition: Definition
    owner: str
    created_at: datetime
    changed_at: datetime
    usage: Sequence[Usage] = ()
    references: int | None = None
    seen: Seen | None = None
    dependents: Sequence[str] = ()

    @property
    def places(self) -> int | None:
        """How many places in code name it; None where nobody can tell."""
        if self.references is not None or self.seen is None:
            return self.references
        return self.seen.places if self.seen.places or self.seen.whole else None


class Finding(Struct, frozen=True, kw_only=True):
    """One reason why a flag may go. since: from when on it was so."""

    key: str
    kind: Kind
    owner: str
    since: datetime
    evidence: str
    next_step: str


class Settled(Struct, frozen=True):
    """What everybody is given, and since when its schedule says so; empty for the code's own."""

    variant: str
    since: datetime = LONG_AGO


def findings(life: Life, now: datetime, days: int = DAYS) -> list[Finding]:
    """Return why a flag may go; none for one that works, or that is younger than `days`."""
    return list(_findings(life, now, timedelta(days=days)))


def since_scan(seen: Seen, now: datetime) -> str:
    """Write of which scan something is known, and how old that is; of several, the oldest."""
    oldest = f"since the scan of {seen.repositories[0]} on {seen.at:%Y-%m-%d} ({age(seen.at, now)})"
    more = len(seen.repositories) - 1
    if not more:
        return oldest
    return f"{oldest}, the oldest of those of {more + 1} repositories"


def age(at: datetime, now: datetime) -> str:
    """Write how long ago something was: `3 days ago`, `5 hours ago`, `just now`."""
    hours = int((now - at).total_seconds()) // 3_600
    many, unit = (hours // 24, "day") if hours >= 24 else (hours, "hour")
    return f"{many} {unit}{'' if many == 1 else 's'} ago" if many > 0 else "just now"


def dependents(definitions: Mapping[str, Definition]) -> dict[str, list[str]]:
    """Return, for each flag that others depend on, which."""
    found: dict[str, list[str]] = {}
    for key, definition in definitions.items():
        for needed in dict.fromkeys(_needed(definition.get("targeting"))):
            found.setdefault(needed, []).append(key)
    return found


def settled(definition: Definition, now: datetime) -> Settled | None:
    """Return what everybody is given; None where members differ, or a schedule still runs."""
    default = definition.get("defaultVariant") or ""
    targeting: object = definition.get("targeting")
    known = rules.read(targeting)
    if known is not None:
        return _settled_by_rules(known, str(default), now)
    given = _given(targeting)
    if given is None:
        return None
    variants = {str(default) if variant is None else variant for variant in given}
    return Settled(variants.pop()) if len(variants) == 1 else None


def _findings(life: Life, now: datetime, old: timedelta) -> Iterator[Finding]:
    permanent = _is_permanent(life.definition)
    if life.created_at <= now - old and not permanent:
        yield from _not_evaluated(life, now, old)
    if not permanent:
        yield from _decided(life, now, old)
    if life.places == 0 and life.created_at <= now - old:
        yield _unreferenced(life, now, old)


def _not_evaluated(life: Life, now: datetime, old: timedelta) -> Iterator[Finding]:
    last = _last(life)
    if last is not None and last > now - old:
        return
    since = last or life.created_at
    ever = f"last evaluated {_ago(last, now)}" if last else "never evaluated"
    if life.places:
        step = (
            f"the code names it {life.places} times and nobody asks: "
            f"look there with `millrace flags references DIR`, then {_removal(life)}"
        )
    elif life.places == 0:
        step = f"no code names it either: {_removal(life)}"
    else:
        step = f"look who names it with `millrace flags references DIR`, then {_removal(life)}"
    evidence = f"{ever}, created {_ago(life.created_at, now)}"
    yield _finding(life, Kind.NOT_EVALUATED, since, (evidence, step))


def _decided(life: Life, now: datetime, old: timedelta) -> Iterator[Finding]:
    """Find a flag that gives everybody the same: switched off, or one variant for all."""
    if life.definition.get("state") == "DISABLED":
        if life.changed_at <= now - old:
            evidence = f"switched off {_ago(life.changed_at, now)}: everybody gets {CODE_DEFAULT}"
            step = f"leave only {CODE_DEFAULT} there, then {_removal(life)}"
            yield _finding(life, Kind.SWITCHED_OFF, life.changed_at, (evidence, step))
        return
    found = settled(life.definition, now)
    since = max(life.changed_at, found.since) if found else now
    if found is None or since > now - old:
        return
    given = _shown_variant(life.definition, found.variant)
    evidence = f"everybody is given {given} since {since:%Y-%m-%d}, {(now - since).days} days"
    step = (
        f"write {given} into the code, release it, then {_removal(life)}; "
        f'or, if it is meant to stay, set "metadata": {{"{PERMANENT}": true}}'
    )
    yield _finding(life, Kind.ROLLED_OUT, since, (evidence, step))


def _unreferenced(life: Life, now: datetime, old: timedelta) -> Finding:
    last = _last(life)
    scanned = life.seen if life.references is None else None
    evidence = "no place in the code that was searched names it"
    if scanned is not None:
        evidence = f"no reference in code {since_scan(scanned, now)}"
    if last is None or last <= now - old:
        step = _removal(life)
    else:
        evidence += f", and still it was evaluated {_ago(last, now)}"
        step = (
            f"find who asks (another program, or a key put together from parts), {_removal(life)}"
        )
    since = life.created_at if scanned is None else scanned.at
    return _finding(life, Kind.UNREFERENCED, since, (evidence, step))


def _finding(life: Life, kind: Kind, since: datetime, words: tuple[str, str]) -> Finding:
    return Finding(
        key=life.key,
        kind=kind,
        owner=life.owner,
        since=since,
        evidence=words[0],
        next_step=words[1],
    )


def _removal(life: Life) -> str:
    """Write how it is removed; other flags must let go of it first."""
    command = f"`millrace flags remove {life.key}`"
    if not life.dependents:
        return command
    names = ", ".join(life.dependents[:NAMES_MAX])
    more = len(life.dependents) - NAMES_MAX
    return f"change {names}{f' and {more} more' if more > 0 else ''}, which depend on it, {command}"


def _settled_by_rules(known: Sequence[Rule], default: str, now: datetime) -> Settled | None:
    """Follow the rules until one meets everybody; what is given must be one variant throughout."""
    found: list[Settled] = []
    since = LONG_AGO
    for rule in known:
        state, turned = _timing(rule.conditions, now)
        since = max(since, turned)
        if state is None:
            return None  # it begins, or ends, some day
        if not state:
            continue
        given = _settled_by(rule.outcome, now)
        if given is None:
            return None
        found.append(given)
        if all(isinstance(condition, Between) for condition in rule.conditions):
            break
    else:
        found.append(Settled(default))
    if len({each.variant for each in found}) > 1:
        return None
    return Settled(found[0].variant, max(since, *(each.since for each in found), LONG_AGO))


def _timing(conditions: Sequence[Condition], now: datetime) -> tuple[bool | None, datetime]:
    """Return whether the rule's time is now, for good, and since when; None while that changes."""
    since = LONG_AGO
    for condition in conditions:
        if isinstance(condition, Between):
            if condition.end and condition.end <= now:
                return False, condition.end
            if condition.end or (condition.start and condition.start > now):
                return None, since
            since = condition.start or since
    return True, since


def _settled_by(outcome: Outcome, now: datetime) -> Settled | None:
    """Return what an outcome gives to all whom it reaches; None where they differ."""
    match outcome:
        case Give(variant):
            return Settled(variant)
        case Split(shares):
            given = [share.variant for share in shares if share.weight]
            return Settled(given[0]) if len(given) == 1 else None
        case Ramp(variant, _, steps):
            if percentage_at(outcome, now) < 100:
                return None
            return Settled(variant, min(step.at for step in steps if step.percentage >= 100))


def _given(node: object) -> set[str | None] | None:
    """Return every variant that targeting written by hand may give; None where that is not plain.

    None among the variants is the default.
    """
    if node is None or isinstance(node, str):
        return {node}
    match operation(node):
        case "if", branches if branches:
            ends = [each for n, each in enumerate(branches) if n % 2 or n == len(branches) - 1]
            if len(branches) % 2 == 0:
                ends.append(None)
            return _all_given([_given(each) for each in ends])
        case operator, arms if operator == FRACTIONAL and arms:
            shares = [share for arm in arms if (share := read_share(arm))]
            if len(shares) != len(arms):
                return None
            return {share.variant for share in shares if share.weight}
        case _:
            return None


def _all_given(parts: Sequence[set[str | None] | None]) -> set[str | None] | None:
    known = [part for part in parts if part is not None]
    return set[str | None]().union(*known) if len(known) == len(parts) else None


def _needed(node: object) -> Iterator[str]:
    """Yield the keys of flags that an expression asks for."""
    match operation(node):
        case operator, [str(key), *_] if operator == DEPENDS:
            yield key
        case _:
            if isinstance(node, Mapping):
                for value in cast("Mapping[str, object]", node).values():
                    yield from _needed(value)
            elif isinstance(node, list):
                for value in cast("list[object]", node):
                    yield from _needed(value)


def _shown_variant(definition: Definition, variant: str) -> str:
    """Write a variant with its value: `on (true)`."""
    if not variant:
        return CODE_DEFAULT
    values: object = definition.get("variants")
    if not isinstance(values, Mapping) or variant not in values:
        return variant
    return f"{variant} ({shown(cast('Mapping[str, object]', values)[variant])})"


def _is_permanent(definition: Definition) -> bool:
    metadata: object = definition.get("metadata")
    if not isinstance(metadata, Mapping):
        return False
    return cast("Mapping[str, object]", metadata).get(PERMANENT) is True


def _last(life: Life) -> datetime | None:
    return max((each.last_at for each in life.usage), default=None)


def _ago(at: datetime, now: datetime) -> str:
    days = (now - at).days
    return f"on {at:%Y-%m-%d}, {days} days ago" if days > 1 else f"on {at:%Y-%m-%d}"
