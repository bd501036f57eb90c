"""What the options of `millrace flags set` and `ramp` make of a definition. Pure."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.release.flags import edits, jsontext, rules
from millrace.release.flags.conditions import (
    AppVersions,
    Between,
    Condition,
    Depends,
    Having,
    InRings,
    Markets,
    Members,
)
from millrace.release.flags.editing import with_member
from millrace.release.flags.outcomes import Give, Outcome, Share, Split
from millrace.release.flags.parts import RefusedError
from millrace.release.flags.patch import same
from millrace.release.flags.rules import Rule
from millrace.release.flags.types import Ring, Wait

DURATION = re.compile(r"(\d+)\s*(s|min|h|d|w)")
UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}
BOOLEAN: Mapping[str, Any] = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
}

Definition = dict[str, Any]


class Wish(Struct, frozen=True, kw_only=True):
    """The options of `flags set`, as they were written; empty for those that were not."""

    boolean: bool = False
    variants: tuple[str, ...] = ()
    default: str | None = None
    no_default: bool = False
    metadata: tuple[str, ...] = ()
    no_rules: bool = False
    give: str = ""
    split: str = ""
    last: bool = False
    members: tuple[str, ...] = ()
    rings: tuple[str, ...] = ()
    countries: tuple[str, ...] = ()
    communities: tuple[str, ...] = ()
    having: tuple[str, ...] = ()
    app_from: str = ""
    app_below: str = ""
    since: datetime | None = None
    until: datetime | None = None
    when: tuple[str, ...] = ()


def edited(definition: Definition, wish: Wish) -> Definition:
    """Return the definition with what the options ask for; it is new, and the old one stays.

    Raises:
        InvalidError: there is no such flag, and no option says what a new one gives.

    Passes on:
        InvalidError: an option cannot be read, or has no place in the definition.
    """
    made: dict[str, Any] = dict(definition)
    if wish.boolean and not made:
        made = dict(BOOLEAN)
    elif not made and not wish.variants:
        raise InvalidError(
            "there is no such flag yet, and nothing says what a new one gives",
            field="variants",
            next_step="add --boolean, or --variant NAME=VALUE for each; or look at the key again",
        )
    elif not made:
        made = {"state": "ENABLED", "variants": {}, "defaultVariant": None}
    if wish.variants:
        variants = cast("dict[str, Any]", made.get("variants") or {})
        made["variants"] = {**variants, **dict(pair(each, "variant") for each in wish.variants)}
    if wish.default is not None:
        made["defaultVariant"] = wish.default
    elif wish.no_default:
        made["defaultVariant"] = None
    if made.get("defaultVariant", "") is None:
        del made["defaultVariant"]  # absent and null say the same, and absent is shorter
    if wish.metadata:
        known = cast("dict[str, Any]", made.get("metadata") or {})
        made["metadata"] = {**known, **dict(pair(each, "metadata") for each in wish.metadata)}
    return _with_rules(made, wish)


def text_of(definition: Definition, stood: str = "") -> str:
    """Return a definition as text; what did not change stays as it `stood`, to the letter."""
    before = definition_in(stood, "the flag") if stood else {}
    if not stood or before.keys() - definition.keys():
        return jsontext.written(definition)
    for name, value in definition.items():
        if name not in before or not same(before[name], value):
            stood = with_member(stood, name, json.dumps(value, ensure_ascii=False))
    return stood


def definition_in(text: str, where: str) -> Definition:
    """Return the definition that a text holds.

    Raises:
        InvalidError: it is no JSON, no object, or a whole file of flags.
    """
    try:
        found = jsontext.value_of(text)
    except RefusedError as error:
        message = f"{where} cannot be read: {error}"
        raise InvalidError(message, field="file", next_step="mend that place") from error
    if not isinstance(found, dict):
        raise InvalidError(f"{where} holds no JSON object", field="file")
    if "flags" in found and "variants" not in found:
        raise InvalidError(
            f"{where} is a file of several flags",
            field="file",
            next_step="bring it in with `millrace flags import`",
        )
    return cast("Definition", found)


def _with_rules(made: Definition, wish: Wish) -> Definition:
    """Return the definition with a new rule, or with none.

    Raises:
        InvalidError: its rules are written by hand, or there are conditions and nothing is given.
    """
    if wish.no_rules:
        made.pop("targeting", None)
    held, outcome = tuple(_conditions(wish)), _outcome(wish)
    if outcome is None:
        if held:
            raise InvalidError(
                "there are conditions, and nothing that is given where they hold",
                field="give",
                next_step="add --give VARIANT or --split on=10,off=90",
            )
        return made
    known = rules.read(made.get("targeting"))
    if known is None:
        raise InvalidError(
            "the rules of this flag are written by hand",
            field="targeting",
            next_step="write the whole definition with --file, or begin anew with --no-rules",
        )
    added = Rule(held, outcome)
    # A rule for fewer comes before those for more: the first that holds decides.
    return edits.with_rules(made, [*known, added] if wish.last else [added, *known])


def _outcome(wish: Wish) -> Outcome | None:
    """Return what the new rule gives.

    Raises:
        InvalidError: it gives two things.
    """
    if wish.give and wish.split:
        raise InvalidError("a rule gives a variant or a split, not both", field="split")
    if wish.give:
        return Give(wish.give)
    if not wish.split:
        return None
    shares = [_cut(part, "split") for part in wish.split.split(",")]
    return Split(tuple(Share(name, _weight(weight)) for name, weight in shares))


def _conditions(wish: Wish) -> list[Condition]:
    held: list[Condition] = []
    if wish.members:
        held.append(Members(wish.members))
    if wish.rings:
        held.append(InRings(tuple(Ring(ring) for ring in wish.rings)))
    if wish.countries or wish.communities:
        countries = tuple(country.upper() for country in wish.countries)
        held.append(Markets(countries, wish.communities))
    if wish.app_from or wish.app_below:
        held.append(AppVersions(wish.app_from, wish.app_below))
    if wish.since or wish.until:
        held.append(Between(wish.since, wish.until))
    held += [Depends(*_cut(each, "when")) for each in wish.when]
    for each in wish.having:
        name, values = _cut(each, "having")
        held.append(Having(name, tuple(values.split(","))))
    return held


def moment(text: str, now: datetime, field: str) -> datetime:
    """Return the moment that a text names: ISO 8601 with a zone, or a time from now (`2h`, `3d`).

    Raises:
        InvalidError: it names none, or has no zone.
    """
    if DURATION.fullmatch(text):
        return (now + duration(text, field)).replace(microsecond=0)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidError(
            f"{text!r} is no moment",
            field=field,
            value=text,
            next_step="write it as 2026-12-01T09:00Z, or as a time from now: 2h, 3d",
        ) from error
    if found.tzinfo is None:
        message = f"{text!r} has no time zone"
        raise InvalidError(message, field=field, value=text, next_step="add Z or an offset: +01:00")
    return found.astimezone(UTC)


def duration(text: str, field: str) -> timedelta:
    """Return the time that a text names: `90s`, `30min`, `2h`, `3d`, `1w`.

    Raises:
        InvalidError: it names none.
    """
    found = DURATION.fullmatch(text)
    if found is None or len(found[1]) > 6:
        step = "write it as 90s, 30min, 2h, 3d or 1w"
        raise InvalidError(f"{text!r} is no time", field=field, value=text, next_step=step)
    return timedelta(seconds=int(found[1]) * UNITS[found[2]])


def wait_for(text: str) -> Wait:
    """Return what `track:version:share[:market]` waits for; a market is a country or a community.

    Raises:
        InvalidError: it has other parts, or the share is no percentage.
    """
    parts = text.split(":")
    if len(parts) not in {3, 4} or not all(parts):
        raise InvalidError(
            f"{text!r} is no adoption",
            field="wait-for",
            value=text,
            next_step="write track:version:share[:market], as in ios:4.2.0:80% or ios:4.2.0:80%:DE",
        )
    track, version, share, *market = parts
    community = int(market[0]) if market and market[0].isdecimal() else None
    country = market[0].upper() if market and community is None else ""
    return Wait(
        track=track,
        version=version,
        share=_share(share),
        country=country,
        community_id=community,
    )


def _share(text: str) -> float:
    """Return a share from `80%` or `0.8`.

    Raises:
        InvalidError: it is neither.
    """
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1:
        step = "write 80% or 0.8"
        raise InvalidError(f"{text!r} is no share", field="wait-for", value=text, next_step=step)
    return found


def pair(text: str, field: str) -> tuple[str, Any]:
    """Return name and value of `name=value`; what is no JSON is a text."""
    name, value = _cut(text, field)
    try:
        return name, jsontext.value_of(value)
    except RefusedError:
        return name, value


def _cut(text: str, field: str) -> tuple[str, str]:
    """Return both sides of `name=value`.

    Raises:
        InvalidError: one of them is missing.
    """
    name, sign, value = text.partition("=")
    if not name or not sign or not value:
        message = f"--{field} {text!r} is no name=value"
        raise InvalidError(message, field=field, value=text, next_step="as in on=true")
    return name.strip(), value.strip()


def _weight(text: str) -> int:
    """Return a weight of a split.

    Raises:
        InvalidError: it is no whole number.
    """
    if not text.isdecimal() or len(text) > 10:
        step = "weights are whole numbers that add up to 100, 1000 and so on: on=5,off=95"
        raise InvalidError(f"{text!r} is no weight", field="split", value=text, next_step=step)
    return int(text)


def ramped(
    definition: Definition, variant: str, percentages: Sequence[float]
) -> list[tuple[float, Definition]]:
    """Return the definition at every step of a ramp; a step that changes nothing is left out."""
    made: list[tuple[float, Definition]] = []
    for percentage in percentages:
        after = edits.with_ramp(definition, variant, percentage)
        if after != definition:
            made.append((percentage, after))
        definition = after
    return made
