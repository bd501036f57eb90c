"""`millrace town`: a simulated town with known tastes, as a folder and as people who come by."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import click
import msgspec
from rich.table import Table

from millrace.cli.frame import console, json_option, print_json
from millrace.cli.imports import watching
from millrace.world.simulator import files
from millrace.world.simulator.types import LIMITS, TownConfig

STANDARD = TownConfig()
F = TypeVar("F", bound=Callable[..., Any])


@click.group(epilog="\b\nExamples:\n  millrace town make ./town\n  millrace import dir ./town\n")
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
    help="First day of the past (UTC). Default: times count back from the first import.",
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
