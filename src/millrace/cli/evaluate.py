"""`millrace evaluate`: judge quality on data."""

from functools import partial
from pathlib import Path
from typing import cast

import click
import msgspec
from rich.table import Table

from millrace.cli.frame import console, hushed, json_option, print_json, run
from millrace.world.loader import silent
from millrace.world.simulator.types import TownConfig

MOMENTS = 4
MEMBERS = 400
MEMBERS_QUICK = 60
TOWN = "town"
SIZES = {"communities": 1, "members": 1_000, "posts": 5_000, "impressions": 200_000, "days": 10}
SIZES_QUICK = {"communities": 1, "members": 240, "posts": 1_200, "impressions": 30_000, "days": 8}
"""One community, so that a member's candidates are all that is live: some hundreds would let a
hundred guesses find much by chance."""

dial = partial(click.option, type=click.FloatRange(0, 1), show_default=True)


@click.group(epilog="\b\nExamples:\n  millrace evaluate retrieval --data town --quick\n")
def evaluate() -> None:
    """Judge the quality of a part on data, beside baselines."""


@evaluate.command(
    "retrieval",
    epilog="\b\nExamples:\n  millrace evaluate retrieval --data town --overlap 0 --seed 7\n"
    "  millrace evaluate retrieval --data ./deskdrop\n"
    "  millrace evaluate retrieval --data ./quantum --json\n",
)
@click.option("--data", required=True, metavar="town|DIR", help="Or a folder that can be imported.")
@dial("--overlap", default=0.3, help="Of the town: words that profiles and posts share.")
@dial("--drift", default=0.5, help="Of the town: how fast interests move on.")
@dial("--noise", default=0.3, help="Of the town: engagement that has nothing to do with taste.")
@dial("--popularity", default=0.5, help="Of the town: how much engagement raises exposure.")
@click.option("--quick", is_flag=True, help="A small town, or one moment; few members.")
@click.option("--seed", default=1, show_default=True, help="Of the town, members and bootstrap.")
@json_option
def retrieval(data: str, quick: bool, seed: int, as_json: bool, **dials: float) -> None:
    """Find what members liked afterwards, with what was known before.

    Random, newest first, decayed popularity, BM25, retrieval by an untrained encoder, and the
    whole feed rank the same candidates for the same members, on an installation of their own. The
    keys are those of BENCH.md and do not change.
    """
    from millrace.lab import evaluate_retrieval, exams  # numpy and bm25s are loaded only here

    tell = hushed(as_json=as_json)
    if data == TOWN:
        tell("making a town")
        sizes = SIZES_QUICK if quick else SIZES
        config = msgspec.convert({"seed": seed, **sizes, **dials}, TownConfig)
        exam = exams.of_town(config, silent)
    else:
        tell(f"reading {data}")
        folder = Path(data)
        kept = run(exams.collected(folder))
        exam = exams.of_log(folder.absolute().name, kept, 1 if quick else MOMENTS)
    found = evaluate_retrieval.run(exam, seed, MEMBERS_QUICK if quick else MEMBERS, tell)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, object]) -> None:
    """Print one line per system, then the differences."""
    out = console()
    systems = cast("dict[str, dict[str, float | None] | None]", found["systems"])
    names = list(next(one for one in systems.values() if one))
    table = Table("system", *names, box=None, header_style="bold")
    for system, figures in systems.items():
        if figures:
            table.add_row(system, *(_figure(figures[name]) for name in names))
    out.print(table)
    differences = Table("difference", "value", "95 % interval", box=None, header_style="bold")
    for name, one in cast("dict[str, dict[str, object] | None]", found["differences"]).items():
        if one is not None:
            low, high = cast("tuple[float, float]", one["interval"])
            differences.add_row(name, str(one["value"]), f"{low} to {high}")
    out.print(differences)
    out.print(
        f"{found['members']} members, {found['new_members']} of them without a history, "
        f"{found['posts']} posts, cut at {found['split_time']}, {found['seconds']} s",
        markup=False,
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
