"""`millrace town`: a simulated town with known tastes, as a folder and as people who come by."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import click
import msgspec
from msgspec import Struct
from rich.table import Table

from millrace.cli import lock
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    hushed,
    json_option,
    pass_frame,
    print_json,
)
from millrace.cli.imports import watching
from millrace.cli.signals import run_until_signal
from millrace.community.types import Role
from millrace.kernel.clock import SystemClock
from millrace.kernel.errors import ConflictError, InvalidError, NotFoundError
from millrace.settings import Settings
from millrace.wiring import data_dir_of, opened
from millrace.world.loader import silent
from millrace.world.simulator import files
from millrace.world.simulator.filling import FILE_NAME, begun
from millrace.world.simulator.http_door import SIGNED_IN_SECONDS, Desk
from millrace.world.simulator.live import SPEED_MAX, Pace
from millrace.world.simulator.live import live as lived
from millrace.world.simulator.standing import stand
from millrace.world.simulator.town import Town
from millrace.world.simulator.types import LIMITS, TownConfig

STANDARD = TownConfig()
OPERATOR = "town"
"""Who signs the people of a town in, where no operator's token is given."""
F = TypeVar("F", bound=Callable[..., Any])


@click.group(
    "town", epilog="\b\nExamples:\n  millrace town make ./town\n  millrace import dir ./town\n"
)
def group() -> None:
    """Make a simulated town, whose tastes are known, or let it live."""


def _number(name: str, text: str) -> Callable[[F], F]:
    """Return the option of a parameter, with its default and its bounds in the help."""
    default = getattr(STANDARD, name)
    low, high = LIMITS[name]
    kind = float if isinstance(default, float) else int
    bounds = f"{low:g} to {high:g}" if kind is float else f"{low:,} to {high:,}"
    if name == "seed":
        bounds = "0 or more"
    return click.option(
        f"--{name}", type=kind, default=default, show_default=True, help=f"{text}: {bounds}."
    )


@group.command(
    epilog="\b\nExamples:\n  millrace town make ./town\n"
    "  millrace town make ./small --seed 7 --members 200 --posts 1000 --impressions 10000\n"
    "  millrace town make ./hard --overlap 0 --drift 1 --json\n"
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@_number("seed", "Another seed is another town")
@_number("communities", "Communities")
@_number("members", "Members")
@_number("posts", "Posts")
@_number("impressions", "Posts that were shown to members before the end")
@_number("days", "Days of the past")
@_number("overlap", "Words that profiles and posts about one topic share")
@_number("drift", "How fast interests move on")
@_number("noise", "Share of engagement that has nothing to do with taste")
@_number("popularity", "How much early engagement raises later exposure")
@click.option(
    "--start",
    type=click.DateTime(["%Y-%m-%d"]),
    help="First day of the past (UTC), 1975-01-01 to 2500-01-01. Default: times count back from "
    "the first import.",
)
@json_option
def make(folder: Path, start: datetime | None, as_json: bool, **numbers: float) -> None:
    """Make a town and write it to DIR, in the open format of docs/import-format.md.

    The same parameters give the same town, on every machine. The truth stands beside it, where an
    import does not read it: town.json has what the town was made from, truth_members.parquet and
    truth_posts.parquet what its members like and what its posts are about.
    """
    began = perf_counter()
    first = STANDARD.start if start is None else start.replace(tzinfo=UTC)
    config = msgspec.convert(numbers | {"start": first}, TownConfig)
    files.prepare(folder)
    with watching(quiet=as_json) as watch:
        town = files.make(config, watch)
        files.write(town, folder, watch, relative=start is None)
    found = files.about(town) | {
        "folder": str(folder),
        "seconds": round(perf_counter() - began, 2),
    }
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, object]) -> None:
    """Print what was made."""
    out = console()
    table = Table("", "rows", box=None, header_style="bold")
    for noun in ("members", "posts", "comments", "follows", "impressions", "engagements"):
        table.add_row(noun, f"{found[noun]:,}")
    out.print(table)
    out.print(f"{found['version']}, digest {found['digest']}", markup=False)
    out.print(f"written to {found['folder']} in {found['seconds']} s", markup=False)
    out.print(f"next: millrace import dir {found['folder']}", markup=False)


@group.command(
    epilog="\b\nExamples:\n  millrace town live\n  millrace town live --speed 600 --minutes 10\n"
    '  millrace town live --town ./town --url http://127.0.0.1:8321 --token "$TOKEN"\n'
)
@click.option("--url", help="Where the server is. Default: what is up on the data directory.")
@click.option(
    "--town",
    "folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A folder of `town make` that was imported there. Default: the town of the demo.",
)
@click.option(
    "--token",
    help="An operator's. Default: one made here, beside what is up on the data directory.",
)
@click.option(
    "--speed",
    type=click.FloatRange(0, SPEED_MAX, min_open=True),
    default=60.0,
    show_default=True,
    help="How many times as often people come as in the town's past.",
)
@click.option(
    "--members", type=click.IntRange(1), default=40, show_default=True, help="How many people come."
)
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Default: until Ctrl-C.")
@click.option(
    "--rate",
    type=click.FloatRange(0, 1000, min_open=True),
    default=20.0,
    show_default=True,
    help="Requests a second at most.",
)
@click.option("--seed", default=1, show_default=True, help="Of who comes when.")
@data_dir_option
@json_option
@pass_frame
def live(
    frame: Frame,
    url: str | None,
    folder: Path | None,
    token: str | None,
    minutes: float | None,
    **given: Any,
) -> None:
    """Let the people of a town come to a server, over its API, and do as they like.

    They open their feeds, engage by their known tastes, comment and write. They wait when the
    server asks them to, and while it is away. Ctrl-C or SIGTERM ends it at once.
    """
    settings = frame.settings(store__data_dir=given.pop("data_dir"))
    as_json = bool(given.pop("as_json"))
    seconds = None if minutes is None else 60.0 * minutes
    pace = Pace(seconds=seconds, **given)
    wanted = Wanted(url=url, folder=folder, token=token, pace=pace)
    run_until_signal(_live(settings, wanted, as_json=as_json))


class Wanted(Struct, frozen=True, kw_only=True):
    """What was asked for."""

    url: str | None
    folder: Path | None
    token: str | None
    pace: Pace


async def _live(settings: Settings, wanted: Wanted, *, as_json: bool) -> None:
    """Find the server, the town and an operator, and let the town live."""
    say = hushed(as_json=as_json)
    url = wanted.url or _address(settings)
    say("making the town")
    town = await asyncio.to_thread(_town, settings, wanted.folder)
    desk = Desk(url, wanted.token or await _token(settings), clock=SystemClock())
    try:
        standing = stand(town, await desk.grounds())
        say(f"{wanted.pace.members} people of the town come to {url}")
        done = await lived(standing, url, desk.issue, wanted.pace, clock=SystemClock(), say=say)
    finally:
        await desk.close()
    if as_json:
        print_json(done)


def _address(settings: Settings) -> str:
    """Return where the program is that is up on the data directory.

    Raises:
        NotFoundError: none is.
    """
    up = lock.holder(data_dir_of(settings))
    if up is None:
        raise NotFoundError(
            f"nothing is up on {data_dir_of(settings)}",
            field="--url",
            next_step="start it with `millrace up --demo`, or name a server with --url",
        )
    return up.address


def _town(settings: Settings, folder: Path | None) -> Town:
    """Return the town of a folder, or the one of the demo.

    Raises:
        InvalidError: there is no demo.
    """
    if folder is not None:
        return files.read(folder, silent)
    found = begun(data_dir_of(settings) / FILE_NAME)
    if found is None:
        raise InvalidError(
            f"{data_dir_of(settings)} has no town of the demo",
            field="--town",
            next_step="name the folder that was imported with --town",
        )
    return files.make(found.config, silent)


async def _token(settings: Settings) -> str:
    """Return a token of the town's own operator, who is made where there is none."""
    async with opened(settings) as domain:
        try:
            made = await domain.identity.create_operator(OPERATOR, Role.OPERATOR, SIGNED_IN_SECONDS)
        except ConflictError:
            made = await domain.identity.issue(f"operator:{OPERATOR}", SIGNED_IN_SECONDS)
    return made.token
