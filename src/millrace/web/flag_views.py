"""Flags as the pages show them: in words, with what each change did. Pure: no reads, no markup."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import quote

from msgspec import Struct

from millrace.release.flags import rules as room_rules
from millrace.release.flags import stale
from millrace.release.flags.difference import CODE_DEFAULT, difference, shown
from millrace.release.flags.stale import Life
from millrace.release.flags.types import Flag, FlagChange, FlagMove, Seen, Usage
from millrace.web.crowds import CrowdRow, CrowdView, crowd_row, exact, shades_of
from millrace.web.flag_forms import description_of, object_of, pretty
from millrace.web.flag_places import with_places
from millrace.web.when import When, when_of

USAGE_DAYS = 14
WORDS_MAX = 12  # sentences about one change; the JSON beside has all of it
SUMMARY_CHARACTERS_MAX = 140
MOVES = {
    FlagMove.PUT: "Changed",
    FlagMove.RAMP: "Ramped",
    FlagMove.KILL: "Killed",
    FlagMove.REVIVE: "Switched on",
    FlagMove.REVERT: "Reverted",
    FlagMove.REMOVE: "Removed",
    FlagMove.IMPORT: "Imported",
    FlagMove.RULE: "Changed",
}
STALE_LABELS = {
    stale.Kind.NOT_EVALUATED: "not evaluated",
    stale.Kind.ROLLED_OUT: "rolled out",
    stale.Kind.SWITCHED_OFF: "long off",
    stale.Kind.UNREFERENCED: "not in code",
}
HARSH = frozenset({FlagMove.KILL, FlagMove.REMOVE})


class VariantLine(Struct, frozen=True, kw_only=True):
    """A variant, its value in JSON, and its colour."""

    name: str
    value: str
    shade: str


class StaleMark(Struct, frozen=True):
    """Why a flag may not be needed any more: in a word or two, and in a sentence."""

    label: str
    words: str


class FlagLine(Struct, frozen=True, kw_only=True):
    """A flag in the list. `gives`: its rules in a sentence. `crowd`: None while nobody counted."""

    key: str
    address: str
    on: bool
    description: str
    gives: str
    owner: str
    created: When
    changed: When
    evaluated: When | None
    stale: list[StaleMark]
    crowd: CrowdView | None = None


class Killed(Struct, frozen=True):
    """Who switched a flag off, when and why."""

    by: str
    when: When
    reason: str


class FlagHead(Struct, frozen=True, kw_only=True):
    """A flag on its own page.

    rules: its rules in words; None where the targeting is written by hand.
    otherwise: what who meets none of them gets.
    """

    key: str
    address: str
    on: bool
    version: int
    description: str
    owner: str
    created: When
    changed: When
    changed_by: str
    evaluated: When | None
    code: str
    stale: list[StaleMark]
    killed: Killed | None
    variants: list[VariantLine]
    rules: list[str] | None
    otherwise: str
    json: str


class HistoryLine(Struct, frozen=True, kw_only=True):
    """One change: what it did in words, and both definitions."""

    version: int
    what: str
    harsh: bool
    by: str
    when: When
    reason: str
    words: list[str]
    before: str
    after: str
    revertible: bool


class UsageView(Struct, frozen=True, kw_only=True):
    """How often a flag was evaluated, by day, newest first."""

    about: str
    days: list[CrowdRow]


def by_whom(name: str) -> str:
    """Return who did something, for people: `operator olga` of `operator:olga`."""
    return name.replace(":", " ", 1)


def flag_address(key: str) -> str:
    """Return the address of a flag's page."""
    return f"/flags/{quote(key, safe='')}"


def is_on(content: str) -> bool:
    """Whether a definition gives its variants."""
    return is_enabled(object_of(content) or {})


def is_enabled(definition: Mapping[str, Any]) -> bool:
    """Whether a definition gives its variants."""
    return definition.get("state", "ENABLED") != "DISABLED"


def variants_of(definition: Mapping[str, Any]) -> dict[str, Any]:
    """Return the variants of a definition by name; empty where it has none."""
    found: Any = definition.get("variants")
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def shades_in(definitions: Iterable[str]) -> dict[str, str]:
    """Return one colour per variant over some definitions, the same whichever is looked at."""
    names: dict[str, None] = {}
    plain = ""
    for text in definitions:
        values = variants_of(object_of(text) or {})
        names |= dict.fromkeys(values)
        plain = plain or next((name for name, value in values.items() if value is False), "")
    return shades_of(list(names), plain)


def flag_line(
    flag: Flag,
    definition: Mapping[str, Any],
    now: datetime,
    evaluated: datetime | None,
    stale: list[StaleMark],
) -> FlagLine:
    """Show a flag, whose definition was read, in the list."""
    return FlagLine(
        key=flag.key,
        address="" if "/" in flag.key else flag_address(flag.key),  # it would be two segments
        on=is_enabled(definition),
        description=description_of(definition),
        gives=summary_of(definition),
        owner=flag.owner,
        created=when_of(flag.created_at, now),
        changed=when_of(flag.changed_at, now),
        evaluated=when_of(evaluated, now) if evaluated else None,
        stale=stale,
    )


def summary_of(definition: Mapping[str, Any]) -> str:
    """Say in a sentence who gets what."""
    if not is_enabled(definition):
        return f"Everyone gets {CODE_DEFAULT}."
    rules = room_rules.read(definition.get("targeting"))
    if rules is None:
        return "Written by hand."
    last = otherwise_of(definition, alone=not rules)
    words = [room_rules.in_words(rule) for rule in rules]
    if not words or rules[-1].conditions:
        words.append(last)
    whole = " ".join(words)
    if len(whole) <= SUMMARY_CHARACTERS_MAX:
        return whole
    more = f" And {len(words) - 1} more." if len(words) > 1 else ""
    first = words[0]
    if len(first) > SUMMARY_CHARACTERS_MAX:
        first = first[:SUMMARY_CHARACTERS_MAX].rsplit(" ", 1)[0].rstrip(",") + " …"
    return first + more


def otherwise_of(definition: Mapping[str, Any], *, alone: bool = False) -> str:
    """Say what those get whom no rule fits; `alone`: there are no rules."""
    default: Any = definition.get("defaultVariant")
    who = "Everyone" if alone else "Everybody else"
    return f"{who} gets {default if isinstance(default, str) else CODE_DEFAULT}."


def flag_head(
    flag: Flag,
    now: datetime,
    *,
    last: FlagChange | None,
    names: Mapping[str, str],
    life: Life,
    days: int,
) -> FlagHead:
    """Show a flag on its page. `last`: the newest line of its trail; `names`: of communities.

    It may be stale when it is older than `days`.
    """
    evaluated = last_evaluated(life.usage)
    definition = object_of(flag.content) or {}
    rules = room_rules.read(definition.get("targeting"))
    shades = shades_in([flag.content])
    on = is_on(flag.content)
    killed = last if last and last.move is FlagMove.KILL and not on else None
    return FlagHead(
        key=flag.key,
        address=flag_address(flag.key),
        on=on,
        version=flag.version,
        description=description_of(definition),
        owner=flag.owner,
        created=when_of(flag.created_at, now),
        changed=when_of(flag.changed_at, now),
        changed_by=by_whom(last.actor) if last else "",
        evaluated=when_of(evaluated, now) if evaluated else None,
        code=code_words(life.seen, now),
        stale=stale_marks(stale.findings(life, now, days)),
        killed=Killed(by_whom(killed.actor), when_of(killed.at, now), killed.reason)
        if killed
        else None,
        variants=[
            VariantLine(name=name, value=shown(value), shade=shades[name])
            for name, value in variants_of(definition).items()
        ],
        rules=None
        if rules is None
        else [with_places(room_rules.in_words(rule), names) for rule in rules],
        otherwise=""
        if rules and not rules[-1].conditions
        else otherwise_of(definition, alone=not rules),
        json=pretty(flag.content),
    )


def changed_words(key: str, before: str, after: str) -> list[str]:
    """Say what differs between two definitions; empty for nothing."""
    was = object_of(before) if before else None
    then = object_of(after) if after else None
    words = difference(key, was, then).words
    if len(words) > WORDS_MAX:
        return [*words[:WORDS_MAX], f"And {len(words) - WORDS_MAX} more."]
    return words


def owner_words(was: str, then: str) -> list[str]:
    """Say that a flag has another owner; empty where it has not."""
    return [] if was == then else [f"Owner: {was or 'none'} becomes {then or 'none'}."]


def history_lines(changes: Sequence[FlagChange], now: datetime, current: int) -> list[HistoryLine]:
    """Show changes, the newest first. `current`: the version that stands.

    The owner is told beside the one of the change before; of the last change nobody knows that.
    """
    owners = [*(one.owner for one in changes[1:]), *(one.owner for one in changes[-1:])]
    return [
        _history_line(one, now, current, owner) for one, owner in zip(changes, owners, strict=True)
    ]


def _history_line(change: FlagChange, now: datetime, current: int, owner: str) -> HistoryLine:
    first = change.move is FlagMove.PUT and not change.before
    owned = owner_words(owner, change.owner) if change.before and change.after else []
    return HistoryLine(
        version=change.version,
        what="Made" if first else MOVES[change.move],
        harsh=change.move in HARSH,
        by=by_whom(change.actor),
        when=when_of(change.at, now),
        reason=change.reason,
        words=[] if first else [*changed_words(change.key, change.before, change.after), *owned],
        before=pretty(change.before),
        after=pretty(change.after),
        revertible=bool(change.after) and change.version != current,
    )


def code_words(seen: Seen | None, now: datetime) -> str:
    """Say what the newest scans of code say of a flag; empty where none looked for it."""
    if seen is None:
        return ""
    if seen.is_unnamed:
        return f"No reference in code {stale.since_scan(seen, now)}"
    ago = stale.age(seen.at, now)
    if not seen.places:
        names = ", ".join(seen.repositories)
        return f"Not named by {names} ({ago}); other repositories have not been searched since"
    noun = "place" if seen.places == 1 else "places"
    return f"In {seen.places:,} {noun} of the code (scanned {ago})"


def stale_marks(found: Iterable[stale.Finding]) -> list[StaleMark]:
    """Return why a flag may go, as marks."""
    return [
        StaleMark(STALE_LABELS[one.kind], _sentence(one.evidence) + " " + _sentence(one.next_step))
        for one in found
    ]


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def last_evaluated(usage: Sequence[Usage]) -> datetime | None:
    """Return when a flag was last evaluated; None for never."""
    return max((one.last_at for one in usage), default=None)


def usage_view(usage: Sequence[Usage], content: str, now: datetime) -> UsageView:
    """Draw the last days, a bar each, as long as the day was busy beside the busiest."""
    shades = shades_in([content])
    first = (now - timedelta(days=USAGE_DAYS - 1)).date()
    recent = [one for one in usage if one.day >= first]
    if not recent:
        words = "Not within two weeks." if usage else "Never yet: nothing has asked for it."
        return UsageView(about=words, days=[])
    days: dict[Any, dict[str, int]] = {}
    for one in recent:
        held = days.setdefault(one.day, {})
        held[one.variant] = held.get(one.variant, 0) + one.evaluations
    busiest = max(sum(held.values()) for held in days.values())
    total, errors = sum(one.evaluations for one in recent), sum(one.errors for one in recent)
    about = f"{exact(total)} times within {USAGE_DAYS} days"
    about += f", {exact(errors)} of them with an error." if errors else "."
    rows = [
        crowd_row(f"{day.day} {day:%b}", held, shades, busiest)
        for day, held in sorted(days.items(), reverse=True)
    ]
    return UsageView(about=f"{about} Counts are a few seconds late.", days=rows)
