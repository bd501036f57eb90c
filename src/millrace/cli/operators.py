"""`millrace operator`: the people who run the installation."""

import getpass
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TypeVar

import click
from msgspec import Struct
from rich.table import Table

from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    hushed,
    json_option,
    pass_frame,
    print_json,
    run,
)
from millrace.community.identity import Identity
from millrace.community.types import OFFICES, IssuedToken, Role
from millrace.settings import Settings
from millrace.store.queries import load
from millrace.wiring import Say, opened

QUERIES = load("millrace.cli")
T = TypeVar("T")
DAY_SECONDS = 24 * 3600


class Account(Struct, frozen=True):
    """Somebody who runs, or ran, the installation."""

    name: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None
    disabled_by: str | None
    disabled_reason: str | None


@click.group(
    epilog="\b\nExamples:\n  millrace operator create grace\n  millrace operator list\n"
    "  millrace operator disable grace --reason 'left the team'\n"
)
def operator() -> None:
    """Manage who runs the installation."""


@operator.command(
    epilog="\b\nExamples:\n  millrace operator create grace\n"
    "  millrace operator create linus --role release_manager --json\n"
    "  millrace operator create shop --role flag_reader\n"
)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in OFFICES]),
    default=Role.OPERATOR.value,
    show_default=True,
    help="What they may do; a flag reader is a server of yours that decides by flags.",
)
@data_dir_option
@json_option
@pass_frame
def create(frame: Frame, name: str, role: str, data_dir: str | None, as_json: bool) -> None:
    """Make the operator NAME and print a token for the API. It is shown only this once."""
    made = _with_identity(
        frame.settings(store__data_dir=data_dir),
        lambda identity: identity.create_operator(name, Role(role)),
        hushed(as_json=as_json),
    )
    _print_token(name, made, as_json=as_json)


@operator.command(epilog="\b\nExamples:\n  millrace operator token grace --days 7\n")
@click.argument("name")
@click.option("--days", type=click.IntRange(1, 90), default=30, show_default=True)
@data_dir_option
@json_option
@pass_frame
def token(frame: Frame, name: str, days: int, data_dir: str | None, as_json: bool) -> None:
    """Print a new token for the operator NAME; older ones stay valid until they expire."""
    made = _with_identity(
        frame.settings(store__data_dir=data_dir),
        lambda identity: identity.issue(f"operator:{name}", days * DAY_SECONDS),
        hushed(as_json=as_json),
    )
    _print_token(name, made, as_json=as_json)


@operator.command("list", epilog="\b\nExamples:\n  millrace operator list --json\n")
@data_dir_option
@json_option
@pass_frame
def listed(frame: Frame, data_dir: str | None, as_json: bool) -> None:
    """Print every operator with role and state."""
    found = run(_operators(frame.settings(store__data_dir=data_dir), hushed(as_json=as_json)))
    if as_json:
        print_json({"operators": found})
        return
    table = Table("name", "role", "since", "state", box=None, header_style="bold")
    for one in found:
        state = "active"
        if one.disabled_at is not None:
            state = (
                f"disabled {one.disabled_at:%Y-%m-%d} by {one.disabled_by}: {one.disabled_reason}"
            )
        table.add_row(one.name, one.role, f"{one.created_at:%Y-%m-%d}", state)
    console().print(table)


@operator.command(
    epilog="\b\nExamples:\n  millrace operator disable grace --reason 'left the team'\n"
)
@click.argument("name")
@click.option("--reason", required=True, help="For the audit trail.")
@data_dir_option
@json_option
@pass_frame
def disable(frame: Frame, name: str, reason: str, data_dir: str | None, as_json: bool) -> None:
    """Disable the operator NAME: every token of theirs ends at once."""
    by = f"cli:{getpass.getuser()}"
    _with_identity(
        frame.settings(store__data_dir=data_dir),
        lambda identity: identity.disable_operator(name, by=by, reason=reason),
        hushed(as_json=as_json),
    )
    if as_json:
        print_json({"name": name, "disabled": True, "reason": reason})
    else:
        click.echo(f"disabled {name}: {reason}")


async def _operators(settings: Settings, tell: Say) -> list[Account]:
    async with opened(settings, say=tell) as domain, domain.router.read() as session:
        return await session.rows(QUERIES["operators"], Account)


def _with_identity(settings: Settings, work: Callable[[Identity], Awaitable[T]], tell: Say) -> T:
    """Run one verb of the identity on the built program."""

    async def inside() -> T:
        async with opened(settings, say=tell) as domain:
            return await work(domain.identity)

    return run(inside())


def _print_token(name: str, made: IssuedToken, *, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "token": made.token, "expires_at": made.expires_at})
        return
    click.echo(made.token)
    click.echo(f"the token of {name}, valid until {made.expires_at:%Y-%m-%d %H:%M} UTC", err=True)
