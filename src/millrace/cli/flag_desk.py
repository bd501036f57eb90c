"""What commands about flags share: the way in, who does it and why, how things are shown."""

import getpass
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar, cast

import click
import msgspec
from rich.table import Table
from rich.text import Text

from millrace.cli.frame import Frame, console, hushed, print_json, run, say
from millrace.community.types import Role
from millrace.kernel.errors import (
    ForbiddenError,
    InvalidError,
    NotFoundError,
    UnauthenticatedError,
)
from millrace.release.flags.audience import Difference
from millrace.release.flags.room import Flags
from millrace.release.flags.types import Actor, Approval, ChangeRequest, Flag, Problem, Wait
from millrace.settings import TOKEN_VARIABLE
from millrace.wiring import Domain, opened

T = TypeVar("T")
Work = Callable[[Domain], Awaitable[T]]

reason_option = click.option(
    "--reason",
    metavar="TEXT",
    help="Why, for the audit trail. Needed where others have to approve changes.",
)

PROOF = "millrace.proof"


def _keep(context: click.Context, _: click.Parameter, file: Path | None) -> None:
    """Remember a token until `acting` asks for it, so that no command has to hand it on."""
    text = os.environ.get(TOKEN_VARIABLE, "") if file is None else text_in(file)
    context.meta[PROOF] = text.strip()


token_option = click.option(
    "--token-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    expose_value=False,
    callback=_keep,
    help="The token of the operator or release manager who does it; - for stdin. Needed where"
    f" others have to approve changes. Default: {TOKEN_VARIABLE}.",
)


def given_token() -> str:
    """Return the token that a command with `token_option` was given, empty for none."""
    return click.get_current_context().meta.get(PROOF, "")


def worked(frame: Frame, data_dir: str | None, as_json: bool, work: Work[T]) -> T:
    """Open the installation, do some work there, and leave."""

    async def inside() -> T:
        settings = frame.settings(store__data_dir=data_dir)
        async with opened(settings, say=hushed(as_json=as_json)) as domain:
            return await work(domain)

    return run(inside())


def sitting_here() -> Actor:
    """Return who sits at this command line, by the name that they have on this machine."""
    return Actor(f"cli:{getpass.getuser()}")


async def acting(domain: Domain, *, proven: bool | None = None) -> Actor:
    """Return who changes something, as the audit trail names them: whom a token names, if any.

    A name on this machine is whatever `LOGNAME` says, and no proof.

    Args:
        domain: knows tokens.
        proven: whether it takes a token; by default, where others have to approve changes.

    Raises:
        UnauthenticatedError: it takes a token, and there is none.
        ForbiddenError: the token is of somebody who changes no flags.
    """
    if token := given_token():
        viewer = await domain.identity.authenticate(token)
        if viewer.role in (Role.OPERATOR, Role.RELEASE_MANAGER):
            return Actor(viewer.name)
        raise ForbiddenError(
            f"{viewer.name} changes no flags",
            field="token",
            value=viewer.role.value,
            limit="an operator or a release manager",
            next_step="`millrace operator create NAME --role release_manager` makes one",
        )
    if domain.flags.config.approval is Approval.REQUIRED if proven is None else proven:
        raise UnauthenticatedError(
            "one person proposes a change and another approves it, and nothing proves who you are",
            field="token",
            limit="the token of an operator or a release manager",
            next_step=f"name a --token-file, or set {TOKEN_VARIABLE}: `millrace operator token NAME`",
        )
    return sitting_here()


def reason_of(flags: Flags, given: str | None, otherwise: str) -> str:
    """Return why a change is made; what the command does, unless somebody has to judge it.

    Raises:
        InvalidError: none was given, and others have to approve the change.
    """
    if given:
        return given
    if flags.config.approval is Approval.REQUIRED:
        raise InvalidError(
            "a change that others approve needs a reason",
            field="reason",
            next_step="add --reason 'why it is made'",
        )
    return otherwise


def table(*columns: str) -> Table:
    """Return an empty table as all commands print them."""
    return Table(*columns, box=None, header_style="bold")


def text_in(file: Path) -> str:
    """Return what a file holds, or for - what comes in on standard input.

    Raises:
        NotFoundError: there is no such file, or it cannot be read.
    """
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no UTF-8"
        raise NotFoundError(f"{file} cannot be read: {why}", field="file", value=str(file)) from exc


def decoded(content: str) -> dict[str, Any]:
    """Return a stored definition as JSON; an import may have brought something else."""
    found: object = msgspec.json.decode(content)
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}


def row(made: Table, *cells: str | Text) -> None:
    """Add a row of texts as they are; `[on]` in one of them is no style."""
    made.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def counted(many: int, noun: str) -> str:
    """Write how many there are: `1 file`, `1,204 files`."""
    return f"{many:,} {noun}{'' if many == 1 else 's'}"


def show(made: Table) -> None:
    """Print a table where it has rows."""
    if made.row_count:
        console().print(made)


def ago(at: datetime | None, now: datetime) -> str:
    """Write how long ago something was: `3 min`, `5 h`, `12 days`; a dash for never."""
    if at is None:
        return "-"
    seconds = max(0, int((now - at).total_seconds()))
    for size, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            many = seconds // size
            return f"{many} {'day' if name == 'days' and many == 1 else name}"
    return f"{seconds} s"


def warn(problems: list[Problem]) -> None:
    """Tell what does not hinder, on standard error."""
    for problem in problems:
        say(f"warning: {problem.message}{f' (at {problem.place})' if problem.place else ''}")


def told(made: Flag | ChangeRequest | None, key: str, *, as_json: bool) -> None:
    """Print what a change came to: the flag's new version, or the request that waits."""
    if as_json:
        print_json(plainly(made, key))
        return
    match made:
        case None:
            click.echo(f"flag {key} is removed; its history stays")
        case Flag():
            click.echo(f"flag {key} has version {made.version}")
        case ChangeRequest():
            click.echo(f"request {made.id} for flag {key}: {waits(made)}")


def plainly(made: Flag | ChangeRequest | None, key: str) -> dict[str, object]:
    """Return what a change came to, for programs."""
    match made:
        case None:
            return {"key": key, "removed": True}
        case Flag():
            return {"key": key, "version": made.version}
        case ChangeRequest():
            return {"key": key, "request": made.id, "state": made.state, "waits": waits(made)}


def waits(request: ChangeRequest) -> str:
    """Write what a request waits for."""
    held: list[str] = []
    if request.state == "proposed":
        held.append("for somebody else to approve it")
    if request.due_at is not None:
        held.append(f"for {request.due_at:%Y-%m-%d %H:%M} UTC")
    if request.wait is not None:
        held.append(f"until {in_words(request.wait)}")
    if request.state not in {"proposed", "approved"}:
        return request.state
    return f"waits {' and '.join(held)}" if held else "is made now"


def in_words(wait: Wait) -> str:
    """Write what has to be reached."""
    market = f" in {wait.country}" if wait.country else ""
    community = "" if wait.community_id is None else f" in community {wait.community_id}"
    return f"{wait.share:.0%} use {wait.track} {wait.version} or later{market}{community}"


def print_whom(found: Difference) -> None:
    """Print whom a change adds to each variant, and whom it drops."""
    say(f"{found.changed:,} of {found.members:,} members would be given something else")
    if not found.changed:
        return
    made = table("variant", "before", "after", "added", "dropped", "such as")
    for turn in found.turns:
        names = [f"+{name}" for name in turn.added_names] + [f"-{n}" for n in turn.dropped_names]
        row(
            made,
            turn.variant or "(code)",
            f"{turn.before:,}",
            f"{turn.after:,}",
            f"{turn.added:,}",
            f"{turn.dropped:,}",
            " ".join(names[:3]),
        )
    show(made)
