"""The form of a flag: what was typed, and the definition that it stands for. Pure: no reads.

A flag is edited as rules or as JSON. Either way the page carries everything that was typed from
step to step, so a step back, a mistake or somebody else's change loses nothing.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from millrace.kernel.errors import InvalidError, MillraceError
from millrace.release.flags import outcomes
from millrace.release.flags import rules as room_rules
from millrace.release.flags.book import CONTENT_MAX
from millrace.release.flags.editing import with_member
from millrace.release.flags.rings import TRACKS
from millrace.release.flags.types import KEY_MAX, REASON_MAX, RINGS, Flag, Ring, Wait
from millrace.web.asked import Form
from millrace.web.flag_rules import (
    Pair,
    RuleFields,
    fields_of,
    moment_of,
    percentage_of,
    rule_of,
    sent_rule,
)
from millrace.web.forms import field_of, number_of, said

RULES_MAX = 50  # in the form; more are written as JSON
VARIANTS_MAX = 30
LINE_CHARACTERS = 56  # of JSON that is laid out for reading
AS_RULES, AS_JSON = "rules", "json"
RING_LABELS = {
    Ring.EMPLOYEES: "Employees",
    Ring.ALPHA: "Alpha",
    Ring.BETA: "Beta",
    Ring.ONE_PERCENT: "One percent",
    Ring.EVERYONE: "Everyone",
}
BEGINNING = '{\n  "state": "ENABLED"\n}'
Choices = tuple[tuple[str, str], ...]


class LaterFields(Struct, frozen=True, kw_only=True):
    """When a change is to be made: not before a moment, nor before a version is used by a share."""

    due: str = ""
    wait_track: str = TRACKS[0]
    wait_version: str = ""
    wait_share: str = ""
    wait_country: str = ""
    wait_community: str = ""

    @property
    def used(self) -> bool:
        """Whether it is for later at all."""
        return bool(self.due or self.wait_version)


class FlagForm(Struct, frozen=True, kw_only=True):
    """The form of a flag with what was typed, and what is wrong with it.

    key: of a flag that is there, or as it was typed for a new one.
    version: the version that the form was made from; 0 for a new flag.
    mode: whether the rules or the JSON are edited; came: which were, before they were looked at.
    kept: in the mode of rules, the definition that they go into: it may say more than the form.
    content: in the mode of JSON, the definition as it was typed.
    """

    new: bool = False
    key: str = ""
    version: int = 0
    mode: str = AS_RULES
    came: str = AS_RULES
    owner: str = ""
    description: str = ""
    kept: str = BEGINNING
    content: str = ""
    variants: tuple[Pair, ...] = ()
    rules: tuple[RuleFields, ...] = ()
    default: str = ""
    reason: str = ""
    later: LaterFields = LaterFields()
    error: str = ""
    field: str = ""
    rings: Choices = tuple((ring.value, RING_LABELS[ring]) for ring in RINGS)
    tracks: tuple[str, ...] = TRACKS
    key_max: int = KEY_MAX
    reason_max: int = REASON_MAX
    content_max: int = CONTENT_MAX

    @property
    def names(self) -> list[str]:
        """Return the names of the variants, in order; an empty one keeps its place."""
        return [one.name for one in self.variants]


def new_form() -> FlagForm:
    """Return the form of a new flag: an on and an off, and nobody has it yet."""
    rule = RuleFields(weights=("0", "100"), order="on,off")
    variants = (Pair("on", "true"), Pair("off", "false"))
    return FlagForm(new=True, variants=variants, rules=(rule,), default="off")


def written_flag(flag: Flag) -> FlagForm:
    """Return the form of a flag that stands: as rules where they are such, else as JSON."""
    form = FlagForm(key=flag.key, version=flag.version, owner=flag.owner, content=flag.content)
    return as_rules(form) or replace(form, mode=AS_JSON, content=pretty(flag.content))


def shared_form(key: str, flag: Flag | None) -> FlagForm:
    """Return the form of what all flags share, which is JSON; empty where nobody wrote it."""
    return FlagForm(
        key=key,
        version=flag.version if flag else 0,
        mode=AS_JSON,
        came=AS_JSON,
        owner=flag.owner if flag else "",
        content=pretty(flag.content) if flag else "{}",
    )


def as_rules(form: FlagForm) -> FlagForm | None:
    """Return a form of JSON as one of rules; None where it says what the form has no field for."""
    found = object_of(form.content)
    if found is None:
        return None
    variants, default = found.get("variants"), found.get("defaultVariant")
    rules = room_rules.read(found.get("targeting"))
    if rules is None or not isinstance(variants, dict) or not isinstance(default, str | None):
        return None
    values = cast("dict[str, Any]", variants)
    names = list(values)
    unknown = [
        name for rule in rules for name in outcomes.variants(rule.outcome) if name not in names
    ]
    if unknown or len(rules) > RULES_MAX or len(names) > VARIANTS_MAX:
        return None
    return replace(
        form,
        mode=AS_RULES,
        kept=form.content,
        content="",
        description=description_of(found),
        variants=tuple(Pair(name, plain(value)) for name, value in values.items()),
        rules=tuple(fields_of(rule, names) for rule in rules),
        default=default or "",
    )


def object_of(text: str) -> dict[str, Any] | None:
    """Read a JSON object; None where the text is anything else."""
    try:
        found: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def description_of(definition: Mapping[str, Any]) -> str:
    """Return what a definition says of itself in its metadata; empty for nothing."""
    metadata: Any = definition.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    found = cast("dict[str, Any]", metadata).get("description")
    return found if isinstance(found, str) else ""


def sent_flag(form: Form, *, key: str = "") -> FlagForm:
    """Return the form as it was sent. `key`: of a flag that is there.

    Passes on:
        InvalidError: the version is no number, which no page of ours sends.
    """
    fields = form.fields
    version = form.text("version")
    mode = AS_JSON if form.text("mode") == AS_JSON else AS_RULES
    variants, kept = _sent_variants(fields), _lines(form.text("kept"))
    return FlagForm(
        new=not key,
        key=key or form.text("key"),
        version=number_of(version, "version") if version else 0,
        mode=mode,
        came=form.text("came") or mode,
        owner=form.text("owner"),
        description=form.text("description"),
        kept=kept if object_of(kept) is not None else BEGINNING,
        content=_lines(form.text("content")),
        variants=variants,
        rules=_sent_rules(fields, len(variants)),
        default=form.text("default"),
        reason=form.text("reason"),
        later=sent_later(form),
    )


def _lines(text: str) -> str:
    """Return a text with the ends of lines that it had: a browser sends two characters for each."""
    return text.replace("\r\n", "\n")


def sent_later(form: Form) -> LaterFields:
    """Return the fields of when, as they were sent."""
    names = LaterFields.__struct_fields__
    found = {name: form.text(name) for name in names if form.text(name)}
    return LaterFields(**found)


def _sent_variants(fields: Mapping[str, str]) -> tuple[Pair, ...]:
    found: list[Pair] = []
    for n in range(VARIANTS_MAX):
        if f"variant-{n}-name" in fields:
            name, value = fields[f"variant-{n}-name"], fields.get(f"variant-{n}-value", "")
            found.append(Pair(name.strip(), value.strip()))
    return tuple(found)


def _sent_rules(fields: Mapping[str, str], variants: int) -> tuple[RuleFields, ...]:
    present = [n for n in range(RULES_MAX) if f"rule-{n}-countries" in fields]
    return tuple(sent_rule(fields, n, variants) for n in present)


def worked(form: FlagForm, do: str) -> FlagForm:
    """Return the form after one of its own buttons: a rule or a variant more, less, or elsewhere."""
    what, _, place = do.rpartition("-")
    n = int(place) if place.isascii() and place.isdigit() and len(place) < 4 else -1
    rules, variants = list(form.rules), list(form.variants)
    if do == "add" and len(rules) < RULES_MAX:
        rules.append(RuleFields(weights=("",) * len(variants)))
    elif do == "add-variant" and len(variants) < VARIANTS_MAX:
        variants.append(Pair())
    elif what == "drop-variant" and 0 <= n < len(variants):
        del variants[n]
        rules = [replace(one, weights=_without(one.weights, n)) for one in rules]
    elif what == "drop" and 0 <= n < len(rules):
        del rules[n]
    elif what == "up" and 0 < n < len(rules):
        rules[n - 1], rules[n] = rules[n], rules[n - 1]
    elif what == "down" and 0 <= n < len(rules) - 1:
        rules[n + 1], rules[n] = rules[n], rules[n + 1]
    return replace(form, rules=tuple(rules), variants=tuple(variants))


def _without(weights: tuple[str, ...], n: int) -> tuple[str, ...]:
    return (*weights[:n], *weights[n + 1 :])


def definition_of(form: FlagForm) -> str:
    """Return the definition that the form stands for, as JSON text.

    What the form has no field for stays as it was written, and so does what was not changed.

    Passes on:
        InvalidError: a value is no JSON, two variants have one name, or a rule is wrong.
    """
    if form.mode == AS_JSON:
        return form.content
    rules = [rule_of(one, form.names, n) for n, one in enumerate(form.rules, 1)]
    wanted: dict[str, Any] = {
        "variants": _variants(form),
        "defaultVariant": form.default or None,
        "targeting": room_rules.write(rules) or {},
    }
    held = object_of(form.kept) or {}
    if form.description != description_of(held):
        kept: Any = held.get("metadata")
        metadata = cast("dict[str, Any]", kept) if isinstance(kept, dict) else {}
        wanted["metadata"] = {n: v for n, v in metadata.items() if n != "description"}
        wanted["metadata"] |= {"description": form.description} if form.description else {}
    if form.kept == BEGINNING:
        return laid_out({**held, **wanted})
    text = form.kept
    for name, value in wanted.items():
        if _differs(name, held, value, rules):
            text = with_member(text, name, plain(value))
    return text


def _differs(name: str, held: Mapping[str, Any], value: Any, rules: list[room_rules.Rule]) -> bool:
    """Whether a member of the definition says something else now."""
    if name == "targeting":
        return (held.get(name) or {}) != value and room_rules.read(held.get(name)) != rules
    if name == "variants":
        return plain(held.get(name)) != plain(value)  # their order is seen, so it counts
    return held.get(name) != value


def _variants(form: FlagForm) -> dict[str, Any]:
    """Read the variants.

    Raises:
        InvalidError: one has no name, the name of another, or a value that is no JSON.
    """
    found: dict[str, Any] = {}
    for place, one in enumerate(form.variants):
        if not one.name and not one.value:
            continue
        if not one.name or one.name in found:
            raise InvalidError(
                f"variant {place + 1} has no name"
                if not one.name
                else f"two variants are called {one.name!r}",
                field=f"variant-{place}-name",
                value=one.name,
                next_step="give it a name of its own",
            )
        found[one.name] = _value(one, place)
    return found


def _value(one: Pair, place: int) -> Any:
    """Read the value of a variant.

    Raises:
        InvalidError: it is no JSON.
    """
    try:
        return msgspec.json.decode(one.value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        raise InvalidError(
            f"the value of variant {one.name!r} is not JSON: {one.value[:60]!r}",
            field=f"variant-{place}-value",
            value=one.value[:60],
            limit="JSON",
            next_step='write a text between quotation marks, such as "blue"',
        ) from None


def refused(form: FlagForm, error: MillraceError) -> FlagForm:
    """Return the form with what is wrong with it."""
    return replace(form, error=said(error), field=field_of(error))


def wait_of(later: LaterFields) -> Wait | None:
    """Read for the adoption of which version a change waits; None for none.

    Raises:
        InvalidError: a field is missing or no number.
    """
    if not later.wait_version:
        return None
    if later.wait_track not in TRACKS or not later.wait_share:
        raise InvalidError(
            "the change waits for a version, but not for which share",
            field="wait_share",
            limit=f"a track ({', '.join(TRACKS)}) and a share in percent",
            next_step="say how many percent are to use the version",
        )
    community = later.wait_community
    return Wait(
        track=later.wait_track,
        version=later.wait_version,
        share=percentage_of(later.wait_share) / 100,
        country=later.wait_country.upper(),
        community_id=number_of(community, "wait_community") if community else None,
    )


def due_of(later: LaterFields) -> datetime | None:
    """Read when a change is due; None for at once.

    Passes on:
        InvalidError: it is no moment.
    """
    return moment_of(later.due, "due")


def later_pairs(later: LaterFields) -> list[tuple[str, str]]:
    """Return the fields of when, to be carried on."""
    return [(name, getattr(later, name)) for name in LaterFields.__struct_fields__]


def plain(value: Any) -> str:
    """Return a JSON value as one line of text."""
    return json.dumps(value, ensure_ascii=False)


def pretty(content: str) -> str:
    """Return JSON over several lines, as people lay it out; what stands so already, as it is."""
    if "\n" in content:
        return content
    try:
        return laid_out(json.loads(content))
    except (ValueError, RecursionError):
        return content


def laid_out(value: Any, margin: str = "") -> str:
    """Return a JSON value with as much on a line as fits on it."""
    short = plain(value)
    if len(margin) + len(short) <= LINE_CHARACTERS or not value:
        return short
    inner = margin + "  "
    match value:
        case dict():
            members = cast("dict[str, Any]", value).items()
            parts = [f"{plain(name)}: {laid_out(one, inner)}" for name, one in members]
            return "{\n" + ",\n".join(inner + part for part in parts) + f"\n{margin}}}"
        case list():
            parts = [laid_out(one, inner) for one in cast("list[Any]", value)]
            return "[\n" + ",\n".join(inner + part for part in parts) + f"\n{margin}]"
        case _:
            return short
