"""`millrace evaluate`: judge quality on data."""

from pathlib import Path
from typing import cast

import click
from rich.table import Table

from millrace.cli.frame import console, hushed, json_option, print_json, run

MOMENTS = 4
MEMBERS = 400
MEMBERS_QUICK = 60


@click.group(epilog="\b\nExamples:\n  millrace evaluate retrieval --data ./deskdrop\n")
def evaluate() -> None:
    """Judge the quality of a part on data, beside baselines."""


@evaluate.command(
    "retrieval",
    epilog="\b\nExamples:\n  millrace evaluate retrieval --data ./deskdrop\n"
    "  millrace evaluate retrieval --data ./quantum --json\n",
)
@click.option("--data", required=True, metavar="DIR", help="A folder that can be imported.")
@click.option(
    "--moments",
    default=MOMENTS,
    show_default=True,
    type=click.IntRange(1, 20),
    help="How often the data is cut.",
)
@click.option("--quick", is_flag=True, help="One moment and few members.")
@click.option("--seed", default=1, show_default=True, help="Of the members and the bootstrap.")
@json_option
def retrieval(data: str, moments: int, quick: bool, seed: int, as_json: bool) -> None:
    """Find what members liked afterwards, with what was known before.

    Random, newest first, decayed popularity, BM25, retrieval by an untrained encoder, and the
    whole feed rank the same candidates for the same members, on an installation of their own. The
    keys are those of BENCH.md and do not change.
    """
    from millrace.lab import evaluate_retrieval, exams  # numpy and bm25s are loaded only here

    tell = hushed(as_json=as_json)
    tell(f"reading {data}")
    kept = run(exams.collected(Path(data)))
    exam = exams.of_log(Path(data).absolute().name, kept, 1 if quick else moments)
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
