"""`millrace flags list` and `show`: what stands."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, cast

import click
import msgspec
from msgspec import Struct
from rich.text import Text

from millrace.cli.flag_desk import ago, decoded, row, show, table, waits, worked
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    json_option,
    pass_frame,
    print_json,
    say,
)
from millrace.release.flags import rules
from millrace.release.flags.book import LIST_MAX
from millrace.release.flags.difference import shown
from millrace.release.flags.types import OPEN_STATES, ChangeRequest, Flag, Usage
from millrace.wiring import Domain

WEEK = timedelta(days=7)
DEFAULT_SHOWN = 40


@click.command(
    "list",
    epilog="\b\nExamples:\n  millrace flags list\n  millrace flags list --prefix feed. --json\n",
)
@click.option("--prefix", default="", metavar="TEXT", help="Only keys that begin with it.")
@data_dir_option
@json_option
@pass_frame
def listed(frame: Frame, prefix: str, data_dir: str | None, as_json: bool) -> None:
    """Print every flag.

    What it gives, whose it is, when it was changed and when it was last asked for.
    """

    async def look(domain: Domain) -> tuple[Sequence[Flag], dict[str, datetime], datetime]:
        found = await domain.flags.every(prefix)
        return found, dict(await domain.flags.last_evaluated()), domain.clock.now()

    found, last, now = worked(frame, data_dir, as_json, look)
    rows = [_row(flag, last.get(flag.key)) for flag in found]
    if as_json:
        print_json({"flags": rows})
        return
    made = table("flag", "state", "by default", "rules", "owner", "version", "changed", "asked")
    for flag, line in zip(found, rows, strict=True):
        row(
            made,
            flag.key,
            Text("on") if line["state"] == "ENABLED" else Text(_state(line["state"]), "yellow"),
            str(line["default"])[:DEFAULT_SHOWN],
            str(line["rules"]),
            flag.owner or "-",
            str(flag.version),
            ago(flag.changed_at, now),
            ago(last.get(flag.key), now),
        )
    show(made)
    if not rows:
        say("there are no flags; `millrace flags set KEY --boolean` makes one")


def _row(flag: Flag, last: datetime | None) -> dict[str, object]:
    definition = decoded(flag.content)
    known = rules.read(definition.get("targeting"))
    variants = definition.get("variants")
    default = definition.get("defaultVariant")
    values = cast("dict[str, Any]", variants) if isinstance(variants, dict) else {}
    value = values.get(str(default))
    return {
        "key": flag.key,
        "state": definition.get("state"),
        "variants": variants,
        "default": f"{default} = {shown(value)}" if default else "the code's",
        "rules": "by hand" if known is None else len(known),
        "owner": flag.owner,
        "version": flag.version,
        "created_at": flag.created_at,
        "changed_at": flag.changed_at,
        "last_evaluated_at": last,
    }


def _state(state: object) -> str:
    return "off" if state == "DISABLED" else str(state)


class Sight(Struct, frozen=True):
    """A flag as `show` shows it."""

    flag: Flag
    usage: list[Usage]
    waiting: list[ChangeRequest]
    audience: dict[str, Any] | None
    now: datetime


@click.command(
    "show",
    epilog="\b\nExamples:\n  millrace flags show new-home\n"
    "  millrace flags show new-home --audience --json\n",
)
@click.argument("key")
@click.option("--definition", is_flag=True, help="Also print its JSON.")
@click.option(
    "--audience", is_flag=True, help="Also count who gets it now, by ring and market, exactly."
)
@data_dir_option
@json_option
@pass_frame
def shown_flag(
    frame: Frame,
    key: str,
    definition: bool,
    audience: bool,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Print the flag KEY.

    What it gives, its rules in words, its use, and what waits.
    """

    async def look(domain: Domain) -> Sight:
        flag = await domain.flags.get(key)
        counted = None
        if audience:
            await domain.flags.load()
            counted = msgspec.to_builtins(await domain.flags.audience(key))
        waiting = await domain.flags.requests(OPEN_STATES, key, LIST_MAX)
        usage = await domain.flags.usage(key)
        return Sight(flag, usage, waiting, counted, domain.clock.now())

    sight = worked(frame, data_dir, as_json, look)
    known = rules.read(decoded(sight.flag.content).get("targeting"))
    words = None if known is None else [rules.in_words(rule) for rule in known]
    if as_json:
        print_json(
            {
                **msgspec.structs.asdict(sight.flag),
                "content": msgspec.Raw(sight.flag.content.encode()),
                "rules": words,
                "usage": sight.usage,
                "requests": sight.waiting,
                "audience": sight.audience,
            }
        )
        return
    _print_sight(sight, words, whole=definition)


def _print_sight(sight: Sight, words: list[str] | None, *, whole: bool) -> None:
    flag, out = sight.flag, console()
    content = decoded(flag.content)
    shared = flag.key.startswith("$")  # no flag: what all of them share
    state = (
        "" if shared or content.get("state") == "ENABLED" else f", {_state(content.get('state'))}"
    )
    head = f"{flag.key}, version {flag.version}, of {flag.owner or 'nobody'}{state}"
    out.print(head, style="bold", markup=False)
    dates = f"changed {flag.changed_at:%Y-%m-%d %H:%M} UTC, created {flag.created_at:%Y-%m-%d}"
    out.print(dates if shared else f"{dates}; {_use(sight)}", markup=False)
    made = table("variant", "value", "")
    for name, value in _part(content, "variants").items():
        row(made, name, shown(value), "by default" if name == content.get("defaultVariant") else "")
    show(made)
    for number, sentence in enumerate(words or (), 1):
        out.print(f"{number}. {sentence}", markup=False)
    for name, value in _part(content, "metadata").items():
        out.print(f"metadata {name}: {shown(value)}", markup=False)
    if words is None:
        out.print("Its rules are written by hand:")
    if whole or shared or words is None:
        out.print(msgspec.json.format(flag.content, indent=2), markup=False, soft_wrap=True)
    if sight.audience is not None:
        _print_audience(sight.audience)
    for each in sight.waiting:
        out.print(f"request {each.id} {waits(each)}: {each.reason}", markup=False)


def _part(content: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a part of a definition; empty where an import brought something else."""
    part: object = content.get(name)
    return cast("dict[str, Any]", part) if isinstance(part, dict) else {}


def _use(sight: Sight) -> str:
    last = max((each.last_at for each in sight.usage), default=None)
    if last is None:
        return "never asked for"
    week = sum(each.evaluations for each in sight.usage if each.last_at > sight.now - WEEK)
    return f"asked for {week:,} times on the last days, and {ago(last, sight.now)} ago"


def _print_audience(audience: dict[str, Any]) -> None:
    variants = sorted(audience["variants"])
    made = table("who", "members", *[name or "(code)" for name in variants])
    cuts = [("all", {"": audience["variants"]})]
    cuts += [
        (name, audience[part])
        for name, part in (
            ("ring", "rings"),
            ("country", "countries"),
            ("community", "communities"),
        )
    ]
    for name, cut in cuts:
        for place, counts in cut.items():
            numbers = [f"{counts.get(variant, 0):,}" for variant in variants]
            where = f"{name} {place or 'unknown'}" if name != "all" else name
            row(made, where, f"{sum(counts.values()):,}", *numbers)
    show(made)
