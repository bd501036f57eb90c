"""`millrace flags diff`, `history`, `revert` and the requests: what was, and what is to be."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace

from millrace.cli.flag_desk import (
    acting,
    ago,
    decoded,
    print_whom,
    reason_of,
    reason_option,
    row,
    show,
    table,
    text_in,
    token_option,
    told,
    waits,
    worked,
)
from millrace.cli.flag_edits import definition_in, text_of
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    json_option,
    pass_frame,
    print_json,
    say,
)
from millrace.kernel.errors import InvalidError
from millrace.release.flags import audience, document
from millrace.release.flags.book import LIST_MAX
from millrace.release.flags.difference import Difference, difference, differences
from millrace.release.flags.difference import shown as words_of
from millrace.release.flags.patch import Op, Patch
from millrace.release.flags.types import (
    OPEN_STATES,
    ChangeRequest,
    Flag,
    FlagChange,
    RequestState,
)
from millrace.wiring import Domain

LINES = 20
LINES_MAX = 1_000


class Compared(Struct, frozen=True):
    """What differs, and, where one side is what stands, whom it would add and drop."""

    differences: list[Difference]
    whom: audience.Difference | None = None


@click.command(
    "diff",
    epilog="\b\nExamples:\n  millrace flags diff new-home\n  millrace flags diff new-home 3 5\n"
    "  millrace flags diff new-home --file new-home.json\n"
    "  millrace flags diff --file flags.json --json\n",
)
@click.argument("key", required=False)
@click.argument("versions", nargs=-1, type=int, metavar="[FROM [TO]]")
@click.option(
    "--file",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Compare with this file: a definition, or flagd's file of many.",
)
@click.option("--quiet", is_flag=True, help="Do not count whom it adds and drops.")
@data_dir_option
@json_option
@pass_frame
def diff(
    frame: Frame, key: str | None, data_dir: str | None, as_json: bool, **options: Any
) -> None:
    """Say what differs between versions of KEY, or a file.

    Between two versions of the flag KEY, or between what stands and a file. Without FROM and TO
    the last change is shown; with FROM alone, what was changed since then. Where what stands is
    one of the two, it also says whom the change adds and drops.
    """
    file, versions = options["file"], options["versions"]
    text = None if file is None else text_in(file)
    _expect_something(key, text, versions)

    async def compare(domain: Domain) -> Compared:
        if text is not None:
            return await _with_file(domain, key, text, count=not options["quiet"])
        assert key is not None, "refused above"
        return await _between(domain, key, versions, count=not options["quiet"])

    found = worked(frame, data_dir, as_json, compare)
    if as_json:
        print_json({"differences": found.differences, "whom": found.whom})
        return
    _print_differences(found)


def _expect_something(key: str | None, text: str | None, versions: tuple[int, ...]) -> None:
    """Refuse a question that is none.

    Raises:
        InvalidError: there are too many versions, or neither a flag nor a file.
    """
    if len(versions) > 2 or (versions and text is not None):
        step = "name FROM and TO, or a file"
        raise InvalidError("too many versions", field="versions", limit=2, next_step=step)
    if key is None and text is None:
        raise InvalidError("nothing to compare", field="key", next_step="name a KEY, or a --file")


async def _between(domain: Domain, key: str, versions: tuple[int, ...], *, count: bool) -> Compared:
    """Return what differs between two versions of a flag; 0 is before it was there."""
    stands = await domain.flags.find(key)
    history = await domain.flags.history(key, 1)
    if not history:
        await domain.flags.get(key)  # there is none, and this says so
    first = versions[0] if versions else history[0].version - 1
    before = await _version(domain, key, first)
    if len(versions) == 2:
        return Compared([difference(key, before, await _version(domain, key, versions[1]))])
    found = difference(key, before, decoded(stands.content) if stands else None)
    if not found.patch or not count or key.startswith("$"):
        return Compared([found])
    await domain.flags.load()
    back = await domain.flags.preview(key, text_of(before) if before else "")
    return Compared([found], _turned(back))


def _turned(back: audience.Difference) -> audience.Difference:
    """Return whom a change reached, from whom its undoing would."""
    turns = [
        replace(
            turn,
            before=turn.after,
            after=turn.before,
            added=turn.dropped,
            dropped=turn.added,
            added_names=turn.dropped_names,
            dropped_names=turn.added_names,
        )
        for turn in back.turns
    ]
    return replace(back, turns=tuple(turns))


async def _version(domain: Domain, key: str, version: int) -> dict[str, Any] | None:
    if version == 0:
        return None
    after = (await domain.flags.change_to(key, version)).after
    return decoded(after) if after else None


async def _with_file(domain: Domain, key: str | None, text: str, *, count: bool) -> Compared:
    """Return what differs between what stands and a file of one flag or of many.

    Raises:
        InvalidError: the file does not hold the flag, or is not a file of many.
    """
    whole = document.read(text)
    if "flags" not in whole.content:
        if key is None:
            raise InvalidError("the file holds one flag", field="key", next_step="name its KEY")
        after: dict[str, Any] = definition_in(text, "the file")
    elif key is None:
        stands: Mapping[str, Any] = {
            flag.key: decoded(flag.content) for flag in await domain.flags.every()
        }
        # What a file does not name, an import leaves alone: it is no difference.
        before = {name: stands[name] for name in whole.flags if name in stands}
        return Compared(differences(before, whole.flags))
    elif key not in whole.flags:
        raise InvalidError(f"the file has no flag {key!r}", field="file", value=key)
    else:
        after = whole.flags[key]
    flag = await domain.flags.find(key)
    found = difference(key, decoded(flag.content) if flag else None, after)
    if not found.patch or not count:
        return Compared([found])
    await domain.flags.load()
    return Compared([found], await domain.flags.preview(key, text_of(after)))


def _print_differences(found: Compared) -> None:
    out = console()
    for each in (each for each in found.differences if each.patch):
        out.print(each.key, style="bold", markup=False)
        for sentence in each.words:
            out.print(f"  {sentence}", markup=False)
        for line in each.patch:
            out.print(f"    {_line(line)}", markup=False, style="dim")
    if not any(each.patch for each in found.differences):
        click.echo("nothing differs")
    if found.whom is not None:
        print_whom(found.whom)


def _line(line: Patch) -> str:
    """Write one line of a patch: `~` for another value, `+` for a new one, `-` for one that goes."""
    match line.op:
        case Op.REPLACE:
            return f"~ {line.path}: {words_of(line.before)} becomes {words_of(line.value)}"
        case Op.ADD:
            return f"+ {line.path or 'all'}: {words_of(line.value)}"
        case Op.REMOVE:
            return f"- {line.path or 'all'}: {words_of(line.before)}"


@click.command(
    "history",
    epilog="\b\nExamples:\n  millrace flags history new-home\n"
    "  millrace flags history new-home --limit 5 --json\n",
)
@click.argument("key")
@click.option("--limit", type=click.IntRange(1, LINES_MAX), default=LINES, show_default=True)
@click.option("--before", type=int, metavar="VERSION", help="Only versions before this one.")
@data_dir_option
@json_option
@pass_frame
def history(
    frame: Frame, key: str, limit: int, before: int | None, data_dir: str | None, as_json: bool
) -> None:
    """Print who changed the flag KEY, when and why.

    The newest change first; also of a flag that is gone.
    """

    async def look(domain: Domain) -> list[FlagChange]:
        found = await domain.flags.history(key, limit, before)
        if not found and before is None:
            await domain.flags.get(key)
        return found

    found = worked(frame, data_dir, as_json, look)
    if as_json:
        print_json({"key": key, "changes": [_plain(change) for change in found]})
        return
    made = table("version", "when", "who", "what", "why", "difference")
    for change in found:
        words = _difference(change).words
        more = f" (and {len(words) - 1} more)" if len(words) > 1 else ""
        row(
            made,
            str(change.version),
            f"{change.at:%Y-%m-%d %H:%M}",
            change.actor,
            change.move,
            change.reason,
            f"{words[0] if words else 'its owner'}{more}",
        )
    show(made)


def _difference(change: FlagChange) -> Difference:
    before = decoded(change.before) if change.before else None
    return difference(change.key, before, decoded(change.after) if change.after else None)


def _plain(change: FlagChange) -> dict[str, Any]:
    found = _difference(change)
    return {
        "version": change.version,
        "at": change.at,
        "actor": change.actor,
        "move": change.move,
        "reason": change.reason,
        "owner": change.owner,
        "request_id": change.request_id,
        "words": found.words,
        "patch": found.patch,
    }


@click.command(
    "revert",
    epilog="\b\nExamples:\n  millrace flags revert new-home 3 --reason 'the new rule was wrong'\n",
)
@click.argument("key")
@click.argument("version", type=int)
@reason_option
@token_option
@data_dir_option
@json_option
@pass_frame
def revert(
    frame: Frame,
    key: str,
    version: int,
    reason: str | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Write the flag KEY as it was in VERSION.

    It is a new version. A flag that is gone comes back.
    """

    async def change(domain: Domain) -> Flag | ChangeRequest:
        stands = await domain.flags.find(key)
        why = reason_of(
            domain.flags, reason, f"reverted to version {version} from the command line"
        )
        return await domain.flags.revert(
            key,
            version,
            version=stands.version if stands else 0,
            actor=await acting(domain),
            reason=why,
        )

    told(worked(frame, data_dir, as_json, change), key, as_json=as_json)


# ------------------------------------------------- changes that wait


@click.command(
    "requests",
    epilog="\b\nExamples:\n  millrace flags requests\n"
    "  millrace flags requests --state failed --json\n  millrace flags requests --key new-home\n",
)
@click.option(
    "--state",
    type=click.Choice([*[state.value for state in RequestState], "open", "all"]),
    default="open",
    show_default=True,
    help="open: those that wait.",
)
@click.option("--key", metavar="KEY", help="Only of this flag.")
@click.option("--before", type=int, metavar="REQUEST", help="Only those older than this one.")
@data_dir_option
@json_option
@pass_frame
def requests(
    frame: Frame,
    state: str,
    key: str | None,
    before: int | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Print changes that wait, the oldest first.

    For approval, for their time, or for the adoption of a version. All that are open; of the others
    the newest thousand, and with --before those that are older.
    """
    named = {"open": OPEN_STATES, "all": tuple(RequestState)}
    states = named.get(state) or (RequestState(state),)

    async def look(domain: Domain) -> tuple[list[ChangeRequest], dict[str, int], Any]:
        found = await domain.flags.requests(states, key, LIST_MAX, before)
        waiting = {each.key for each in found if each.state in OPEN_STATES}
        stand = {each: await domain.flags.find(each) for each in sorted(waiting)}
        versions = {each: flag.version for each, flag in stand.items() if flag}
        return found[::-1], versions, domain.clock.now()

    found, versions, now = worked(frame, data_dir, as_json, look)
    if len(found) == LIST_MAX and states != OPEN_STATES:
        say(f"there may be older ones: add --before {found[0].id}")
    if as_json:
        print_json({"requests": found})
        return
    made = table("request", "flag", "what", "state", "waits", "by", "asked", "why", "note")
    for each in found:
        row(
            made,
            str(each.id),
            each.key,
            each.move,
            each.state,
            waits(each),
            each.proposed_by,
            f"{ago(each.proposed_at, now)} ago",
            each.reason,
            each.note or _outdated(each, versions.get(each.key, 0)),
        )
    show(made)
    if not found:
        say("nothing waits" if state == "open" else "there are none")


def _outdated(request: ChangeRequest, stands: int) -> str:
    """Say that a change that waits can no longer be made; empty where it can."""
    if request.base_version >= stands:
        return ""
    return f"outdated: of version {request.base_version}, now {stands}"


request_argument = click.argument("request_id", metavar="REQUEST", type=int)
note_option = click.option("--note", default="", metavar="TEXT", help="Why, for who asked.")


def _decided(made: ChangeRequest, *, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        note = f": {made.note}" if made.note else ""
        click.echo(f"request {made.id} for flag {made.key} is {made.state}{note}")


@click.command("approve", epilog="\b\nExamples:\n  millrace flags approve 7131562081095680\n")
@request_argument
@token_option
@data_dir_option
@json_option
@pass_frame
def approve(frame: Frame, request_id: int, data_dir: str | None, as_json: bool) -> None:
    """Let the change REQUEST be made. Whoever asked for it cannot."""

    async def decide(domain: Domain) -> ChangeRequest:
        by = await acting(domain, proven=True)
        return await domain.flags.approve(request_id, by)

    _decided(worked(frame, data_dir, as_json, decide), as_json=as_json)


@click.command(
    "reject",
    epilog="\b\nExamples:\n  millrace flags reject 7131562081095680 --note 'not before the weekend'\n",
)
@request_argument
@token_option
@note_option
@data_dir_option
@json_option
@pass_frame
def reject(frame: Frame, request_id: int, note: str, data_dir: str | None, as_json: bool) -> None:
    """Say no to the change REQUEST."""

    async def decide(domain: Domain) -> ChangeRequest:
        by = await acting(domain)
        return await domain.flags.reject(request_id, by, note)

    _decided(worked(frame, data_dir, as_json, decide), as_json=as_json)


@click.command("cancel", epilog="\b\nExamples:\n  millrace flags cancel 7131562081095680\n")
@request_argument
@token_option
@note_option
@data_dir_option
@json_option
@pass_frame
def cancel(frame: Frame, request_id: int, note: str, data_dir: str | None, as_json: bool) -> None:
    """Take the change REQUEST back, which is not made yet."""

    async def decide(domain: Domain) -> ChangeRequest:
        by = await acting(domain)
        return await domain.flags.cancel(request_id, by, note)

    _decided(worked(frame, data_dir, as_json, decide), as_json=as_json)
