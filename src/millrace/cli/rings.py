"""`millrace rings`: the circles of members that a change reaches one after the other."""

from typing import Any

import click
from msgspec import Struct

from millrace.cli.flag_answers import SIGNS
from millrace.cli.flag_desk import (
    ago,
    reason_of,
    reason_option,
    row,
    show,
    sitting_here,
    table,
    worked,
)
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    json_option,
    pass_frame,
    print_json,
    say,
)
from millrace.kernel.errors import InvalidError, NotFoundError
from millrace.release.flags.book import LIST_MAX
from millrace.release.flags.contexts import TRACK
from millrace.release.flags.rings import TRACKS, Explanation, standing_rule
from millrace.release.flags.types import (
    RINGS,
    Choice,
    Ring,
    RingEntry,
    RingRule,
)
from millrace.wiring import Domain

track_option = click.option(
    "--track", default=TRACK, show_default=True, help="android, ios, desktop or server."
)
ring_argument = click.argument("ring", type=click.Choice([ring.value for ring in Ring]))
members_argument = click.argument("members", metavar="MEMBER...", nargs=-1, required=True)


@click.group(
    epilog="\b\nExamples:\n  millrace rings list\n  millrace rings add employees ada grace\n"
    "  millrace rings explain ada\n"
)
def rings() -> None:
    """Say who is in which ring of a track.

    From the inside out: employees, alpha, beta, one_percent, everyone. Whoever is in one is in all
    that come after it. A flag names rings in its rules.
    """


class Standing(Struct, frozen=True):
    """One ring of a track: its rule, and who is in it by name."""

    track: str
    ring: Ring
    rule: RingRule | None
    listed: int
    opted_in: int
    opted_out: int


@rings.command(
    "list",
    epilog="\b\nExamples:\n  millrace rings list\n  millrace rings list --track ios --json\n",
)
@click.option("--track", help="Only this one. Default: all that are known.")
@data_dir_option
@json_option
@pass_frame
def listed(frame: Frame, track: str | None, data_dir: str | None, as_json: bool) -> None:
    """Print the rings of every track: their rules, and how many are in them by name."""

    async def look(domain: Domain) -> list[Standing]:
        rules = await domain.flags.ring_rules()
        known = dict.fromkeys([TRACK, *TRACKS, *(rule.track for rule in rules)])
        found: list[Standing] = []
        for each in [track] if track else known:
            found += await _standing(domain, each, rules)
        return found

    found = worked(frame, data_dir, as_json, look)
    if as_json:
        print_json({"rings": found})
        return
    made = table("track", "ring", "by a rule", "listed", "opted in", "opted out")
    for each in found:
        counts = [f"{n:,}" for n in (each.listed, each.opted_in, each.opted_out)]
        row(made, each.track, each.ring, _in_words(each), *counts)
    show(made)


async def _standing(domain: Domain, track: str, rules: list[RingRule]) -> list[Standing]:
    counts = await domain.flags.ring_entry_counts(track)
    return [
        Standing(
            track=track,
            ring=ring,
            rule=standing_rule(rules, track, ring),
            listed=counts.get((ring, Choice.LISTED), 0),
            opted_in=counts.get((ring, Choice.OPTED_IN), 0),
            opted_out=counts.get((ring, Choice.OPTED_OUT), 0),
        )
        for ring in RINGS
    ]


async def _entries(domain: Domain, track: str, ring: Ring) -> list[RingEntry]:
    """Return all entries of a ring of a track."""
    found: list[RingEntry] = []
    while True:
        after = found[-1].member if found else None
        page = await domain.flags.ring_entries(track, ring, LIST_MAX, after)
        found += page
        if len(page) < LIST_MAX:
            return found


def _in_words(each: Standing) -> str:
    rule = each.rule
    if each.ring is Ring.EVERYONE:
        return "everyone"
    if rule is None:
        return "-"
    parts = [f"{rule.attribute} is {' or '.join(rule.values)}"] if rule.attribute else []
    parts += [f"{rule.percentage:g} % of all"] if rule.percentage else []
    return ", ".join(parts) or "-"


@rings.command(
    "show",
    epilog="\b\nExamples:\n  millrace rings show beta\n"
    "  millrace rings show employees --track ios --json\n",
)
@ring_argument
@track_option
@data_dir_option
@json_option
@pass_frame
def shown(frame: Frame, ring: str, track: str, data_dir: str | None, as_json: bool) -> None:
    """Print who is in RING by name, or out of it by their own wish, and since when."""

    async def look(domain: Domain) -> tuple[list[Standing], list[RingEntry], Any]:
        stands = await _standing(domain, track, await domain.flags.ring_rules())
        return stands, await _entries(domain, track, Ring(ring)), domain.clock.now()

    stands, found, now = worked(frame, data_dir, as_json, look)
    (here,) = [each for each in stands if each.ring == ring]
    if as_json:
        print_json({"ring": here, "entries": [_plain(entry) for entry in found]})
        return
    console().print(f"{ring} of {track}, by a rule: {_in_words(here)}", style="bold", markup=False)
    made = table("member", "how", "by", "since")
    for entry in found:
        how = entry.choice.replace("_", " ")
        row(made, str(entry.member), how, entry.actor, f"{ago(entry.at, now)} ago")
    show(made)
    if not found:
        say("nobody is in it, or out of it, by name")


def _plain(entry: RingEntry) -> dict[str, Any]:
    return {
        "member_id": str(entry.member),
        "choice": entry.choice,
        "actor": entry.actor,
        "at": entry.at,
    }


@rings.command(
    epilog="\b\nExamples:\n  millrace rings add employees ada grace\n"
    "  millrace rings add beta ada --track ios --reason 'asked for it'\n"
)
@ring_argument
@members_argument
@track_option
@reason_option
@data_dir_option
@json_option
@pass_frame
def add(
    frame: Frame, ring: str, members: tuple[str, ...], data_dir: str | None, **options: Any
) -> None:
    """List each MEMBER in RING: by handle, external id, or id as the API writes it."""

    async def change(domain: Domain) -> list[RingEntry]:
        why = reason_of(domain.flags, options["reason"], "listed from the command line")
        entries = await _named(domain, ring, members, options["track"])
        return [await domain.flags.ring_put(entry, reason=why) for entry in entries]

    found = worked(frame, data_dir, options["as_json"], change)
    if options["as_json"]:
        print_json({"ring": ring, "track": options["track"], "listed": [_plain(e) for e in found]})
        return
    for name, entry in zip(members, found, strict=True):
        click.echo(f"{name} ({entry.member}) is in ring {ring} of {options['track']}")


async def _named(
    domain: Domain, ring: str, members: tuple[str, ...], track: str
) -> list[RingEntry]:
    """Return an entry for each member; all of them are known before anything is written."""
    return [
        RingEntry(
            track=track,
            ring=Ring(ring),
            member=(await domain.members.find(name)).key,
            choice=Choice.LISTED,
            actor=sitting_here().name,
            at=domain.clock.now(),
        )
        for name in members
    ]


@rings.command(epilog="\b\nExamples:\n  millrace rings remove employees ada --reason 'has left'\n")
@ring_argument
@members_argument
@track_option
@reason_option
@data_dir_option
@json_option
@pass_frame
def remove(
    frame: Frame, ring: str, members: tuple[str, ...], data_dir: str | None, **options: Any
) -> None:
    """Take the entry of each MEMBER in RING away, listed or their own wish.

    A rule or a share may still put them there: `millrace rings explain MEMBER` says so.
    """
    track = options["track"]

    async def change(domain: Domain) -> None:
        why = reason_of(domain.flags, options["reason"], "taken off from the command line")
        for name, entry in zip(members, await _named(domain, ring, members, track), strict=True):
            if not await domain.flags.ring_remove(entry, reason=why):
                _refuse_missing(name, ring, track)

    worked(frame, data_dir, options["as_json"], change)
    if options["as_json"]:
        print_json({"ring": ring, "track": track, "removed": list(members)})
        return
    for name in members:
        click.echo(f"{name} is not in ring {ring} of {track} by name any more")


def _refuse_missing(name: str, ring: str, track: str) -> None:
    """Say that there was nothing to take away.

    Raises:
        NotFoundError: always.
    """
    raise NotFoundError(
        f"{name} is not in ring {ring} of {track} by name",
        field="member",
        value=name,
        next_step=f"`millrace rings show {ring} --track {track}` prints who is",
    )


@rings.command(
    epilog="\b\nExamples:\n  millrace rings rule one_percent --percentage 2\n"
    "  millrace rings rule beta --attribute platform --value android --track android\n"
    "  millrace rings rule beta --nobody\n"
)
@ring_argument
@click.option("--attribute", default="", metavar="NAME", help="Of the context: country, platform.")
@click.option("--value", "values", multiple=True, metavar="TEXT", help="One that is meant.")
@click.option("--percentage", type=click.FloatRange(0, 100), default=0.0, help="Of all members.")
@click.option("--nobody", is_flag=True, help="No rule: only who is in it by name.")
@track_option
@reason_option
@data_dir_option
@json_option
@pass_frame
def rule(
    frame: Frame, ring: str, nobody: bool, data_dir: str | None, as_json: bool, **options: Any
) -> None:
    """Write who is in RING by an attribute, or by a share of all that sticks to the member."""
    _expect_one(nobody, bool(options["attribute"] or options["values"] or options["percentage"]))
    track = options["track"]

    async def change(domain: Domain) -> RingRule:
        why = reason_of(domain.flags, options["reason"], "ruled from the command line")
        written = await domain.flags.ring_rules()
        (version,) = [
            each.version for each in written if (each.track, each.ring) == (track, ring)
        ] or [0]
        wanted = RingRule(
            track=track,
            ring=Ring(ring),
            attribute=options["attribute"],
            values=options["values"],
            percentage=options["percentage"],
            version=version,
        )
        return await domain.flags.ring_rule_put(wanted, actor=sitting_here(), reason=why)

    made = worked(frame, data_dir, as_json, change)
    if as_json:
        print_json(made)
    else:
        words = _in_words(Standing(track, Ring(ring), made, 0, 0, 0))
        click.echo(f"ring {ring} of {track}, by a rule: {words if words != '-' else 'nobody'}")


def _expect_one(nobody: bool, somebody: bool) -> None:
    """Refuse a rule of nothing, or of both.

    Raises:
        InvalidError: neither or both were asked for.
    """
    if nobody == somebody:
        raise InvalidError(
            "a rule is for somebody, or for nobody",
            field="rule",
            next_step="name --attribute with --value, or --percentage, or --nobody alone",
        )


@rings.command(
    epilog="\b\nExamples:\n  millrace rings explain ada\n"
    "  millrace rings explain ada --track ios --json\n"
)
@click.argument("member")
@track_option
@data_dir_option
@json_option
@pass_frame
def explain(frame: Frame, member: str, track: str, data_dir: str | None, as_json: bool) -> None:
    """Say in which ring MEMBER is, and what put them there."""

    async def ask(domain: Domain) -> Explanation:
        found = await domain.members.find(member)
        await domain.flags.load()
        return domain.flags.ring_explain(track, found.key)

    found = worked(frame, data_dir, as_json, ask)
    if as_json:
        print_json(found)
        return
    console().print(found.sentence, markup=False)
    made = table("ring", "in it", "because")
    for step in found.steps:
        row(made, step.ring, SIGNS[step.inside], step.because)
    show(made)
