"""`millrace flags set`, `ramp`, `kill`, `revive`, `remove`: what changes a flag."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import click
from msgspec.structs import replace

from millrace.cli import flag_edits
from millrace.cli.flag_desk import (
    acting,
    decoded,
    plainly,
    print_whom,
    reason_of,
    reason_option,
    text_in,
    token_option,
    told,
    warn,
    worked,
)
from millrace.cli.flag_edits import Definition, Wish
from millrace.cli.frame import Frame, data_dir_option, json_option, pass_frame, print_json, say
from millrace.kernel.errors import InvalidError
from millrace.release.flags.changes import AT_ONCE
from millrace.release.flags.difference import difference
from millrace.release.flags.types import ChangeRequest, Flag, Problem, Ring, Terms
from millrace.wiring import Domain

C = TypeVar("C", bound=Callable[..., object])


def terms_options(command: C) -> C:
    """Add the options that say when a change is made."""
    for option in (
        click.option(
            "--wait-for",
            metavar="TRACK:VERSION:SHARE[:MARKET]",
            help="Not before so many of those who are active use this version or a later one: "
            "ios:4.2.0:80%, or ios:4.2.0:80%:DE for a country or a community's number.",
        ),
        click.option(
            "--at",
            metavar="TIME",
            help="Not before: 2026-12-01T09:00Z, or a time from now: 2h, 3d.",
        ),
    ):
        command = option(command)
    return command


@click.command(
    "set",
    epilog="\b\nExamples:\n"
    "  millrace flags set new-home --boolean --owner feed\n"
    "  millrace flags set new-home --give on --ring employees --ring alpha\n"
    "  millrace flags set new-home --give on --country DE --app-from 4.2.0\n"
    "  millrace flags set new-home --split on=10,off=90 --last\n"
    "  millrace flags set colour --variant blue=#00f --variant red=#f00 --default blue\n"
    "  millrace flags set new-home --file new-home.json --at 2026-12-01T09:00Z\n",
)
@click.argument("key")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="The whole definition in flagd's JSON; - reads standard input.",
)
@click.option("--boolean", is_flag=True, help="A new flag with on and off, off by default.")
@click.option("--variant", "variants", multiple=True, metavar="NAME=VALUE", help="JSON, or a text.")
@click.option("--default", metavar="VARIANT", help="Given where no rule holds.")
@click.option("--no-default", is_flag=True, help="Where no rule holds, the code's own default.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="permanent=true: it stays.")
@click.option("--owner", metavar="NAME", help="Whose it is: a team or a person.")
@click.option("--no-rules", is_flag=True, help="Without the rules that there are.")
@click.option("--give", default="", metavar="VARIANT", help="A new first rule that gives it.")
@click.option("--split", default="", metavar="ON=1,OFF=99", help="A new first rule that splits.")
@click.option("--last", is_flag=True, help="The new rule comes last, not first.")
@click.option("--member", "members", multiple=True, metavar="MEMBER", help="Only they.")
@click.option("--ring", "rings", multiple=True, type=click.Choice([ring.value for ring in Ring]))
@click.option("--country", "countries", multiple=True, metavar="DE", help="ISO 3166 alpha-2.")
@click.option("--community", "communities", multiple=True, metavar="NUMBER", help="Or in this one.")
@click.option("--having", multiple=True, metavar="NAME=VALUE,VALUE", help="Such as platform=ios.")
@click.option("--app-from", default="", metavar="VERSION", help="This app version or a later one.")
@click.option("--app-below", default="", metavar="VERSION", help="App versions before it.")
@click.option("--since", metavar="TIME", help="The rule holds from then on.")
@click.option("--until", metavar="TIME", help="The rule holds until then.")
@click.option("--when", multiple=True, metavar="FLAG=VARIANT", help="Only whom FLAG gives VARIANT.")
@click.option("--version", type=int, help="That it was made from. Default: the one that stands.")
@click.option("--dry-run", is_flag=True, help="Only say what would change, and for whom.")
@terms_options
@reason_option
@token_option
@data_dir_option
@json_option
@pass_frame
def set_flag(frame: Frame, key: str, data_dir: str | None, as_json: bool, **options: Any) -> None:
    """Write the flag KEY, or one more rule of it.

    The whole definition by --file, or options over what stands. The conditions of a rule all
    have to hold; --country and --community are one condition, of whoever is in any of these
    places. The first rule that holds decides; a new one comes first. Whoever changed the flag
    meanwhile is not overwritten: then this command fails.
    """
    file = None if options["file"] is None else text_in(options["file"])

    async def change(domain: Domain) -> None:
        now = domain.clock.now()
        wish = _wish(options, now)
        stands = await domain.flags.find(key)
        stood = stands.content if stands else ""
        before = decoded(stood) if stands else None
        wish = replace(wish, members=await _members(domain, wish.members))
        after, text = _written(file, stood, wish)
        warn(await _warnings(domain, key, text))
        words = difference(key, before, after).words
        if options["dry_run"]:
            await _rehearse(domain, key, text, None if as_json else words)
            return
        version = options["version"]
        made = await domain.flags.put(
            key,
            text,
            version=(stands.version if stands else 0) if version is None else version,
            actor=await acting(domain),
            reason=reason_of(domain.flags, options["reason"], "set from the command line"),
            terms=_terms(options, now),
        )
        for sentence in [] if as_json else words:
            click.echo(sentence)
        told(made, key, as_json=as_json)

    worked(frame, data_dir, as_json, change)


async def _warnings(domain: Domain, key: str, text: str) -> list[Problem]:
    """Return what an editor warns of; refuse what it refuses, also where nothing is written.

    Raises:
        InvalidError: the first grave problem, with its place.
    """
    found = await domain.flags.problems(key, text)
    grave = [problem for problem in found if problem.grave]
    if grave:
        raise InvalidError(
            f"the definition of flag {key!r} is wrong at {grave[0].place or '/'}: "
            f"{grave[0].message}",
            field=grave[0].place or "content",
            next_step="mend that place; nothing was changed",
        )
    return found


def _wish(options: dict[str, Any], now: datetime) -> Wish:
    """Return the options as a wish; moments are read."""
    names = set(Wish.__struct_fields__)
    given: dict[str, Any] = {name: value for name, value in options.items() if name in names}
    for name in ("since", "until"):
        text = given[name]
        given[name] = None if text is None else flag_edits.moment(text, now, name)
    return Wish(**given)


async def _members(domain: Domain, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return members as rules name them; they are given by handle, external id or id."""
    return tuple([str((await domain.members.find(name)).key) for name in names])


def _written(file: str | None, stood: str, wish: Wish) -> tuple[Definition, str]:
    """Return the definition after a change, and its text: a file's own where nothing is added."""
    if file is not None:
        stood = file
    before = flag_edits.definition_in(stood, "the definition") if stood else {}
    made = flag_edits.edited(before, wish)
    return made, flag_edits.text_of(made, stood)


async def _rehearse(domain: Domain, key: str, text: str, words: list[str] | None) -> None:
    """Say what would change and for whom; as JSON where there are no words. Nothing changes."""
    await domain.flags.load()
    found = await domain.flags.preview(key, text)
    if words is None:
        print_json(found)
        return
    for sentence in words:
        click.echo(sentence)
    print_whom(found)
    say("nothing was changed")


def _terms(options: dict[str, Any], now: datetime) -> Terms:
    at, wait = options["at"], options["wait_for"]
    return Terms(
        owner=options.get("owner"),
        due_at=None if at is None else flag_edits.moment(at, now, "at"),
        wait=None if wait is None else flag_edits.wait_for(wait),
    )


@click.command(
    "ramp",
    epilog="\b\nExamples:\n  millrace flags ramp new-home on 10\n"
    "  millrace flags ramp new-home on 1 10 50 100 --every 1d\n"
    "  millrace flags ramp new-home on 50 --wait-for ios:4.2.0:80%:DE\n",
)
@click.argument("key")
@click.argument("variant")
@click.argument("percentages", nargs=-1, required=True, type=click.FloatRange(0, 100))
@click.option("--every", metavar="TIME", help="From one percentage to the next: 1h, 1d.")
@terms_options
@reason_option
@token_option
@data_dir_option
@json_option
@pass_frame
def ramp(
    frame: Frame, key: str, variant: str, data_dir: str | None, as_json: bool, **options: Any
) -> None:
    """Give PERCENTAGES of everyone VARIANT of KEY.

    At once, or step by step. Whoever has VARIANT keeps it while the percentage grows. Several
    percentages become a chain of changes that wait for their time; one that fails, because somebody
    changed the flag meanwhile, ends the chain. With --wait-for each step also waits for the
    adoption of a version.
    """

    async def change(domain: Domain) -> list[Flag | ChangeRequest]:
        now, percentages = domain.clock.now(), list(options["percentages"])
        stands = await domain.flags.get(key)
        terms = _terms(options, now)
        every_ = options["every"]
        if len(percentages) > 1 and every_ is None:
            raise InvalidError(
                f"{len(percentages)} percentages, and no time from one to the next",
                field="every",
                next_step="add --every 1d",
            )
        if len(percentages) == 1 and every_ is not None:
            raise InvalidError(
                "one percentage, and a time to the next",
                field="every",
                next_step="name them all, as 10 50 100; or put this one off with --at",
            )
        gap = timedelta() if every_ is None else flag_edits.duration(every_, "every")
        reason = reason_of(
            domain.flags, options["reason"], f"ramped {variant} from the command line"
        )
        steps = flag_edits.ramped(decoded(stands.content), variant, percentages)
        made: list[Flag | ChangeRequest] = []
        for number, (percentage, after) in enumerate(steps):
            start = terms.due_at or (now if number else None)
            waits = Terms(due_at=None if start is None else start + number * gap, wait=terms.wait)
            said: dict[str, Any] = {
                "version": stands.version + number,
                "actor": await acting(domain),
                "reason": reason,
            }
            if waits == AT_ONCE:
                made.append(await domain.flags.ramp(key, variant, percentage, **said))
            else:
                text = flag_edits.text_of(after, stands.content)
                made.append(await domain.flags.put(key, text, **said, terms=waits))
        return made

    made = worked(frame, data_dir, as_json, change)
    if as_json:
        print_json({"key": key, "steps": [plainly(each, key) for each in made]})
        return
    for each in made:
        told(each, key, as_json=False)
    if not made:
        click.echo(f"flag {key} gives {variant} to that percentage already")


@click.command(
    epilog="\b\nExamples:\n  millrace flags kill new-home --reason 'posts are shown twice'\n"
)
@click.argument("key")
@reason_option
@token_option
@data_dir_option
@json_option
@pass_frame
def kill(frame: Frame, key: str, reason: str | None, data_dir: str | None, as_json: bool) -> None:
    """Switch the flag KEY off now.

    Everybody gets the default in the code. Nobody has to approve it.
    """

    async def change(domain: Domain) -> Flag:
        return await domain.flags.kill(
            key,
            actor=await acting(domain, proven=False),
            reason=reason or "killed from the command line",
        )

    told(worked(frame, data_dir, as_json, change), key, as_json=as_json)


@click.command(
    epilog="\b\nExamples:\n  millrace flags revive new-home --reason 'mended in 4.2.1'\n"
)
@click.argument("key")
@reason_option
@token_option
@data_dir_option
@json_option
@pass_frame
def revive(frame: Frame, key: str, reason: str | None, data_dir: str | None, as_json: bool) -> None:
    """Switch the flag KEY on again, as it was."""

    async def change(domain: Domain) -> Flag | ChangeRequest:
        stands = await domain.flags.get(key)
        why = reason_of(domain.flags, reason, "revived from the command line")
        return await domain.flags.revive(
            key, version=stands.version, actor=await acting(domain), reason=why
        )

    told(worked(frame, data_dir, as_json, change), key, as_json=as_json)


@click.command(
    epilog="\b\nExamples:\n  millrace flags remove new-home --reason 'in the code now'\n"
)
@click.argument("key")
@reason_option
@token_option
@data_dir_option
@json_option
@pass_frame
def remove(frame: Frame, key: str, reason: str | None, data_dir: str | None, as_json: bool) -> None:
    """Take the flag KEY away.

    Its history stays, and `revert` brings it back.
    """

    async def change(domain: Domain) -> ChangeRequest | None:
        stands = await domain.flags.get(key)
        why = reason_of(domain.flags, reason, "removed from the command line")
        return await domain.flags.remove(
            key, version=stands.version, actor=await acting(domain), reason=why
        )

    told(worked(frame, data_dir, as_json, change), key, as_json=as_json)
