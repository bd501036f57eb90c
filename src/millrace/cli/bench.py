"""`millrace bench`: measure, always beside a peer in the same run."""

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
from rich.table import Table

from millrace.cli.frame import console, hushed, json_option, print_json, run


@click.group(epilog="\b\nExamples:\n  millrace bench index --quick\n")
def bench() -> None:
    """Measure a part beside a peer."""


@bench.command(
    "index", epilog="\b\nExamples:\n  millrace bench index --quick\n  millrace bench index --json\n"
)
@click.option(
    "--quick", is_flag=True, help="Fewer queries and posts: under 50 seconds on two cores."
)
@click.option("--seed", default=1, show_default=True, help="Of the vectors, queries and filters.")
@click.option(
    "--posts",
    multiple=True,
    type=click.IntRange(min=1_000),
    help="How many posts; may be given again. Without it 100,000 and 1,000,000.",
)
@json_option
def index(quick: bool, seed: int, posts: tuple[int, ...], as_json: bool) -> None:
    """Search 100,000 and 1,000,000 posts, with and without filters, beside faiss flat.

    All run on one thread. The keys are those of BENCH.md, of the exact index at the first size;
    `sizes` has them for each, with the other kinds of index beside. A million posts take 5 GB.
    """
    hushed(as_json=as_json)("measuring the index and faiss in turn; nothing else should run")
    from millrace.lab import bench_index  # numpy and faiss are loaded only here

    found = bench_index.run(quick, seed, posts)
    if as_json:
        print_json(found)
        return
    _print(found)


@bench.command(
    "feed", epilog="\b\nExamples:\n  millrace bench feed --quick\n  millrace bench feed --json\n"
)
@click.option("--quick", is_flag=True, help="A tenth of it: under 50 seconds on two cores.")
@click.option("--seed", default=1, show_default=True, help="Of all that is made up.")
@json_option
def feed(quick: bool, seed: int, as_json: bool) -> None:
    """Ask for feeds over 100,000 posts, over HTTP, while posts and visits arrive.

    One by one, then as many as there can be, then at 60 % of that; beside the newest posts from
    SQL by the same door. The keys are those of BENCH.md and do not change.
    """
    from millrace.lab import bench_feed  # numpy is loaded only here

    found = run(bench_feed.run(quick, seed, hushed(as_json=as_json)))
    if as_json:
        print_json(found)
        return
    _print(found)


@bench.command(
    "freshness",
    epilog="\b\nExamples:\n  millrace bench freshness --quick\n  millrace bench freshness --json\n",
)
@click.option("--quick", is_flag=True, help="A tenth of it: under 50 seconds on two cores.")
@click.option("--seed", default=1, show_default=True, help="Of all that is made up.")
@json_option
def freshness(quick: bool, seed: int, as_json: bool) -> None:
    """Watch how soon others see a post, an edit, a block, and a member's own engagement.

    Under the load of `bench feed`, with the whole encoder. The keys are those of BENCH.md.
    """
    from millrace.lab import bench_freshness  # numpy is loaded only here

    found = run(bench_freshness.run(quick, seed, hushed(as_json=as_json)))
    if as_json:
        print_json(found)
        return
    _print(found)


@bench.command(
    "flags",
    epilog="\b\nExamples:\n  millrace bench flags --quick\n  millrace bench flags --json\n",
)
@click.option("--quick", is_flag=True, help="A tenth of it: under 50 seconds on two cores.")
@click.option("--seed", default=1, show_default=True, help="Of the members who are asked for.")
@click.option(
    "--suite",
    default="../shared/conformance/flagd",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of flagd's public suite; without it its rows are not counted.",
)
@json_option
def flags(quick: bool, seed: int, suite: Path, as_json: bool) -> None:
    """Decide four flags for 100,000 members, beside flagd's own evaluator and GrowthBook's.

    Then ask two servers over HTTP (OFREP), one flag at a time and 200 at once, and kill a flag at
    one of them. Nothing else should run. The keys are those of BENCH.md and do not change.
    """
    from millrace.lab import bench_flag_doors  # the peers are loaded only here

    found = run(bench_flag_doors.run(quick, seed, suite, hushed(as_json=as_json)))
    if as_json:
        print_json(found)
        return
    _print(found)


@bench.command(
    "loader",
    epilog="\b\nExamples:\n  millrace bench loader --quick\n  millrace bench loader --data ./examples --json\n",
)
@click.option("--quick", is_flag=True, help="A smaller town: under 50 seconds on two cores.")
@click.option("--seed", default=1, show_default=True, help="Of the town and of the batches.")
@click.option(
    "--data",
    default=None,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of examples; without it those of a town are made.",
)
@json_option
def loader(quick: bool, seed: int, data: Path | None, as_json: bool) -> None:
    """Make batches for training in a thread, beside torch's DataLoader with a worker per core.

    Both make the same batches of the same folder. How much of a batch is padding is told too. The
    keys are those of BENCH.md and do not change.
    """
    from millrace.lab import bench_loader  # numpy and pyarrow are loaded only here

    found = bench_loader.run(quick, seed, data, hushed(as_json=as_json))
    if as_json:
        print_json(found)
        return
    _print(found)


def _print(found: dict[str, object]) -> None:
    table = Table("key", "value", box=None, header_style="bold")
    for name, value in _rows("", found):
        table.add_row(name, value)
    console().print(table)


def _rows(above: str, value: object) -> Iterator[tuple[str, str]]:
    """Yield every figure with the names that lead to it; things in a list have their number."""
    if isinstance(value, dict):
        named = cast("dict[str, object]", value).items()
    elif isinstance(value, list):
        named = [(str(place), one) for place, one in enumerate(cast("list[object]", value), 1)]
    else:
        yield above, f"{value:.4g}" if isinstance(value, float) else str(value)
        return
    for name, one in named:
        yield from _rows(f"{above}: {name}" if above else name, one)
