"""Rules as the fields of a form, and back. Pure: nothing is read, and nothing typed is lost."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from msgspec import Struct

from millrace.kernel.errors import InvalidError
from millrace.release.flags import percentages
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
from millrace.release.flags.outcomes import Give, Outcome, Share, Split
from millrace.release.flags.ramps import Ramp, Step
from millrace.release.flags.rules import Rule
from millrace.release.flags.types import RINGS, Ring

PAIRS_MAX = 20  # of attributes or flags that one rule of the form looks at
PERCENT = 100
MOMENT_FORMS = ("%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S")
STEP = re.compile(r"(\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d)?)Z?(?: UTC)?[\s,;:]+([\d.]+)\s*%?")


class Pair(Struct, frozen=True):
    """Two fields that say something together: an attribute and its values, a flag and its variant."""

    name: str = ""
    value: str = ""


class RuleFields(Struct, frozen=True, kw_only=True):
    """One rule as it stands in the form. Lists have commas; moments are in UTC.

    weights: one per variant of the form, in its order; empty where the rule does not name it.
    order: the variants in the order of the split, which is part of who gets what.
    parts: whether the weights are parts of their sum, and not percentages.
    steps: of a ramp, one per line: a moment and a percentage.
    """

    rings: tuple[str, ...] = ()
    countries: str = ""
    communities: str = ""
    members: str = ""
    version_from: str = ""
    version_below: str = ""
    begins: str = ""
    ends: str = ""
    depends: tuple[Pair, ...] = (Pair(),)
    having: tuple[Pair, ...] = (Pair(),)
    weights: tuple[str, ...] = ()
    order: str = ""
    parts: bool = False
    ramp_variant: str = ""
    ramp_rest: str = ""
    ramp_steps: str = ""

    @property
    def has_more(self) -> bool:
        """Whether one of the conditions that are folded away is used."""
        texts = (self.members, self.version_from, self.version_below, self.begins, self.ends)
        return any(texts) or any(one.name or one.value for one in (*self.depends, *self.having))

    @property
    def ramps(self) -> bool:
        """Whether it gives by schedule."""
        return bool(self.ramp_variant or self.ramp_steps)


def fields_of(rule: Rule, variants: Sequence[str]) -> RuleFields:
    """Return a rule as fields of a form whose variants are in this order."""
    held: dict[str, object] = {}
    depends: list[Pair] = []
    having: list[Pair] = []
    for condition in rule.conditions:
        match condition:
            case Depends(flag, variant):
                depends.append(Pair(flag, variant))
            case Having(name, values):
                having.append(Pair(name, ", ".join(values)))
            case _:
                held |= _condition_fields(condition)
    return RuleFields(
        **held,  # pyright: ignore[reportArgumentType]  each name is one of the fields
        **_outcome_fields(rule.outcome, variants),  # pyright: ignore[reportArgumentType]
        depends=(*depends, Pair()),
        having=(*having, Pair()),
    )


def _condition_fields(condition: Condition) -> dict[str, object]:
    found: dict[str, object] = {}
    match condition:
        case Members(members):
            found = {"members": ", ".join(members)}
        case InRings(rings):
            found = {"rings": tuple(ring.value for ring in rings)}
        case Markets(countries, communities):
            found = {"countries": ", ".join(countries), "communities": ", ".join(communities)}
        case AppVersions(at_least, below):
            found = {"version_from": at_least, "version_below": below}
        case Between(start, end):
            found = {"begins": moment_text(start), "ends": moment_text(end)}
        case _:
            pass
    return found


def _outcome_fields(outcome: Outcome, variants: Sequence[str]) -> dict[str, object]:
    match outcome:
        case Give(variant):
            weights = tuple("100" if one == variant else "" for one in variants)
            return {"weights": weights, "order": variant}
        case Split(shares):
            total = sum(share.weight for share in shares)
            percent = _is_percent(total)
            held = {
                share.variant: percentages.in_words(PERCENT * share.weight / total).removesuffix(
                    " %"
                )
                if percent
                else str(share.weight)
                for share in shares
            }
            return {
                "weights": tuple(held.get(one, "") for one in variants),
                "order": ",".join(held),
                "parts": not percent,
            }
        case Ramp(variant, otherwise, steps):
            lines = [
                f"{step.at.astimezone(UTC):%Y-%m-%d %H:%M} "
                f"{percentages.in_words(step.percentage).removesuffix(' %')}"
                for step in steps
            ]
            return {
                "ramp_variant": variant,
                "ramp_rest": otherwise,
                "ramp_steps": "\n".join(lines),
                "weights": ("",) * len(variants),
            }


def _is_percent(total: int) -> bool:
    return total in {PERCENT * 10**places for places in range(percentages.DECIMALS_MAX + 1)}


def moment_text(at: datetime | None) -> str:
    """Return a moment as a field of a form has it, in UTC; empty for none."""
    if at is None:
        return ""
    there = at.astimezone(UTC)
    return there.strftime("%Y-%m-%dT%H:%M:%S" if there.second else "%Y-%m-%dT%H:%M")


def moment_of(text: str, field: str) -> datetime | None:
    """Read a moment in UTC; None where the field is empty.

    Raises:
        InvalidError: it is none; names the field.
    """
    plain = text.strip().removesuffix("Z").removesuffix("UTC").strip()
    if not plain:
        return None
    for form in MOMENT_FORMS:
        try:
            return datetime.strptime(plain, form).replace(tzinfo=UTC)
        except ValueError:
            continue
    raise InvalidError(
        f"{text[:40]!r} is not a time",
        field=field,
        value=text[:40],
        limit="2026-12-01T09:00, in UTC",
        next_step="write it as 2026-12-01T09:00",
    )


def listed(text: str) -> tuple[str, ...]:
    """Return what stands between commas, line ends or semicolons, each once, in its order."""
    parts = (part.strip() for part in re.split(r"[,;\n]", text))
    return tuple(dict.fromkeys(part for part in parts if part))


def sent_rule(fields: Mapping[str, str], n: int, variants: int) -> RuleFields:
    """Read the fields of rule `n` as they were sent."""

    def held(name: str) -> str:
        return fields.get(f"rule-{n}-{name}", "").strip()

    return RuleFields(
        rings=tuple(ring.value for ring in RINGS if held(f"ring-{ring.value}")),
        countries=held("countries"),
        communities=held("communities"),
        members=held("members"),
        version_from=held("version_from"),
        version_below=held("version_below"),
        begins=held("begins"),
        ends=held("ends"),
        depends=_sent_pairs(fields, n, "depends"),
        having=_sent_pairs(fields, n, "having"),
        weights=tuple(held(f"weight-{place}") for place in range(variants)),
        order=held("order"),
        parts=bool(held("parts")),
        ramp_variant=held("ramp_variant"),
        ramp_rest=held("ramp_rest"),
        ramp_steps=held("ramp_steps"),
    )


def _sent_pairs(fields: Mapping[str, str], n: int, kind: str) -> tuple[Pair, ...]:
    """Return the pairs of a kind that say something, and an empty one to write into."""
    found: list[Pair] = []
    for place in range(PAIRS_MAX):
        stem = f"rule-{n}-{kind}-{place}"
        pair = Pair(fields.get(f"{stem}-name", "").strip(), fields.get(f"{stem}-value", "").strip())
        if pair.name or pair.value:
            found.append(pair)
    return (*found, Pair())


def rule_of(held: RuleFields, variants: Sequence[str], number: int) -> Rule:
    """Read a rule; the room checks what it says.

    Raises:
        InvalidError: a time, a weight or a step is none, or percentages do not add up; it says
            which rule it is, from 1.
    """
    try:
        return Rule(tuple(_conditions(held)), _outcome(held, variants))
    except InvalidError as exc:
        raise InvalidError(
            f"rule {number}: {exc.message}",
            field=f"rule-{number - 1}",
            value=exc.value,
            limit=exc.limit,
            next_step=exc.next_step,
        ) from exc


def _conditions(held: RuleFields) -> list[Condition]:
    found: list[Condition] = []
    if held.rings:
        found.append(InRings(tuple(Ring(one) for one in held.rings)))
    if held.countries or held.communities:
        countries = tuple(one.upper() for one in listed(held.countries))
        found.append(Markets(countries, listed(held.communities)))
    if held.members:
        found.append(Members(listed(held.members)))
    if held.version_from or held.version_below:
        found.append(AppVersions(held.version_from, held.version_below))
    if held.begins or held.ends:
        found.append(Between(moment_of(held.begins, "begins"), moment_of(held.ends, "ends")))
    found += [Having(one.name, listed(one.value)) for one in held.having if one.name or one.value]
    found += [Depends(one.name, one.value) for one in held.depends if one.name or one.value]
    return found


def _outcome(held: RuleFields, variants: Sequence[str]) -> Outcome:
    """Read what a rule gives.

    Raises:
        InvalidError: it gives nothing, or both a share and a ramp.
    """
    named = {
        variant: weight
        for variant, weight in zip(variants, held.weights, strict=False)
        if variant and weight
    }
    if held.ramps and named:
        raise InvalidError(
            "it gives shares and grows over time",
            field="weight",
            limit="one of the two",
            next_step="empty the shares, or the ramp",
        )
    if held.ramps:
        return Ramp(held.ramp_variant, held.ramp_rest, _steps(held.ramp_steps))
    if not named:
        raise InvalidError(
            "it gives nothing",
            field="weight",
            limit="100 % in all",
            next_step="say how many percent get each variant",
        )
    order = [one for one in held.order.split(",") if one in named]
    ordered = {one: named[one] for one in (*order, *(one for one in variants if one in named))}
    if held.parts:
        return Split(tuple(Share(one, _whole(weight)) for one, weight in ordered.items()))
    return _by_percent({one: _percent(weight) for one, weight in ordered.items()})


def _by_percent(named: Mapping[str, float]) -> Outcome:
    """Return what percentages give.

    Raises:
        InvalidError: they do not add up to 100; names the sum.
    """
    total, exact = percentages.weights(list(named.values()))
    if sum(exact) != total:
        added = percentages.in_words(PERCENT * sum(exact) / total)
        raise InvalidError(
            f"its shares add up to {added}",
            field="weight",
            value=added,
            limit="100 %",
            next_step="change one of them",
        )
    if len(named) == 1:
        return Give(next(iter(named)))
    return Split(tuple(Share(one, weight) for one, weight in zip(named, exact, strict=True)))


def _percent(text: str) -> float:
    """Read a percentage.

    Raises:
        InvalidError: it is no number.
    """
    plain = text.removesuffix("%").strip().replace(",", ".")
    try:
        return float(plain)
    except ValueError:
        raise InvalidError(
            f"{text[:40]!r} is not a percentage",
            field="percentage",
            value=text[:40],
            limit="0 to 100",
            next_step="write a number such as 25 or 0.5",
        ) from None


def percentage_of(text: str) -> float:
    """Read a percentage from 0 to 100.

    Passes on:
        InvalidError: it is none.
    """
    value = _percent(text)
    percentages.weights([value])
    return value


def _whole(text: str) -> int:
    """Read a weight.

    Raises:
        InvalidError: it is no whole number.
    """
    if text.isascii() and text.isdigit() and len(text) <= 10:
        return int(text)
    raise InvalidError(
        f"{text[:40]!r} is not a whole number",
        field="weight",
        value=text[:40],
        limit="a whole number, since the shares of this rule are parts and not percent",
        next_step="write a number such as 3",
    )


def _steps(text: str) -> tuple[Step, ...]:
    """Read the steps of a ramp, one per line.

    Raises:
        InvalidError: a line is none; names it.
    """
    steps: list[Step] = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        found = STEP.fullmatch(line)
        if found is None:
            raise InvalidError(
                f"{line[:60]!r} is no step of a ramp",
                field="ramp",
                value=line[:60],
                limit="a time in UTC and a percentage",
                next_step="write it as 2026-12-01 09:00 25",
            )
        at = moment_of(found[1], "ramp")
        assert at is not None, "the pattern has a time in it"
        steps.append(Step(at, _percent(found[2])))
    return tuple(steps)
