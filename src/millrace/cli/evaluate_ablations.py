"""`millrace evaluate encoder-ablations`: what an encoder learns, and by what."""

from pathlib import Path
from typing import Any, cast

import click
from rich.table import Table

from millrace.cli.exams import MEMBERS, MEMBERS_QUICK, data_option, dial, exam_of
from millrace.cli.frame import console, json_option, print_json, say
from millrace.feed.recipe import EncoderRecipe

FOLDER = "encoder-ablations"
TOWN = {"members": 2_000, "posts": 3_000}
TOWN_QUICK = {"members": 300, "posts": 600}
STEPS, STEPS_QUICK = 200, 4
BATCH_QUICK = 16
TRAININGS, TRAININGS_QUICK = 3, 1


@click.command(
    "encoder-ablations",
    epilog="\b\nExamples:\n  millrace evaluate encoder-ablations --data town --quick\n"
    "  millrace evaluate encoder-ablations --data town --rows hard_1,percentiles --json\n"
    "  millrace evaluate encoder-ablations --data town --to ./found --seeds 1 --steps 100\n",
)
@data_option
@click.option(
    "--to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of what is found; asked again, what is there is not found anew.  "
    f"[default: ./{FOLDER}, with --quick ./{FOLDER}-quick]",
)
@click.option("--rows", default="", metavar="NAMES", help="Some rows, with commas. Default: all.")
@click.option("--seeds", type=int, help="Trainings of each row.  [default: 3; 1 with --quick]")
@click.option("--steps", type=int, help="Of each training.  [default: 200; 4 with --quick]")
@click.option("--batch", type=int, help="Pairs per step.  [default: 32; 16 with --quick]")
@click.option("--learning-rate", type=float, help="The highest one.  [default: that of training]")
@click.option(
    "--model",
    "start",
    type=click.Path(path_type=Path, file_okay=False),
    help="The model that training begins with.  [default: the packaged MiniLM]",
)
@dial("--overlap", default=0.3, help="Of the town: words that profiles and posts share.")
@dial("--drift", default=0.5, help="Of the town: how fast interests move on.")
@dial("--noise", default=0.3, help="Of the town: engagement that has nothing to do with taste.")
@click.option("--members", type=int, help="Of the town.  [default: 2000; 300 with --quick]")
@click.option("--posts", type=int, help="Of the town.  [default: 3000; 600 with --quick]")
@click.option("--keep-models", is_flag=True, help="In DIR/models, 90 MB each; else none is kept.")
@click.option("--threads", default=1, show_default=True, help="That train and read.")
@click.option("--jobs", default=1, show_default=True, help="Trainings at a time; 2 GB each.")
@click.option("--quick", is_flag=True, help="A small town, 4 steps: whether all of it runs.")
@click.option("--seed", default=1, show_default=True, help="Of the town, members and bootstrap.")
@json_option
def encoder_ablations(data: str, quick: bool, seed: int, as_json: bool, **options: Any) -> None:
    """Train an encoder in many ways, and ask each what it finds.

    Each row changes one thing: the loss, hard negatives, how numbers are written, what a history
    shows and where it stands, pooling, the length of vectors. Each is trained with several seeds
    on what lies before the question, reads its last weights, and is compared with the row before
    it over the same members and seeds. What is found is kept in a folder; a run that was killed
    goes on there, in the middle of a training too, and another configuration is refused.

    A training takes about 0.1 seconds of one core for each pair, with the defaults ten minutes;
    all rows are ten of them for each of three seeds, so five hours of a quiet core, and some 4 GB
    of memory. The keys are those of BENCH.md and do not change.
    """
    from millrace.lab import encoder_ablations as lab  # numpy is loaded only here
    from millrace.lab.ablation_rows import chosen

    given = {name: value for name, value in options.items() if value is not None}
    rows = chosen([one.strip() for one in given.pop("rows").split(",") if one.strip()])
    town: dict[str, float] = {**(TOWN_QUICK if quick else TOWN)}
    town |= {one: given.pop(one) for one in (*TOWN, "overlap", "drift", "noise") if one in given}
    plan = lab.Plan(
        to=given.pop("to", None) or Path(f"{FOLDER}-quick" if quick else FOLDER),
        rows=rows,
        recipe=_recipe(quick, given),
        trainings=given.pop("seeds", TRAININGS_QUICK if quick else TRAININGS),
        members_max=MEMBERS_QUICK if quick else MEMBERS,
        seed=seed,
        start=given.pop("start", None),
        threads=given.pop("threads"),
        jobs=given.pop("jobs"),
        keep_models=given.pop("keep_models"),
    )
    found = lab.run(exam_of(data, quick, seed, town, say), plan, say)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _recipe(quick: bool, given: dict[str, Any]) -> EncoderRecipe:
    """Return what all rows change, with what was given of it; one outside its limits is refused."""
    from millrace.feed.recipe import check
    from millrace.lab.ablation_rows import base_recipe

    steps = given.pop("steps", STEPS_QUICK if quick else STEPS)
    changes: dict[str, Any] = {"batch": BATCH_QUICK} if quick else {}
    changes |= {one: given.pop(one) for one in ("batch", "learning_rate") if one in given}
    recipe = base_recipe(steps, **changes)
    check(recipe)
    return recipe


def _show(found: dict[str, object]) -> None:
    """Print one line per row."""
    out = console()
    columns = ("row", "recall@10", "new members", "beside", "difference, 95 %", "relative",
               "LinkedIn's", "popularity", "difference, 95 %", "MiB a sequence", "in a GiB",
               "ms a step")  # fmt: skip
    table = Table(*columns, box=None, header_style="bold")
    for row in cast("list[dict[str, Any]]", found["rows"]):
        table.add_row(
            row["name"],
            _figure(row["recall_10"]),
            _figure(row["recall_10_new_members"]),
            row["previous"] or "-",
            _difference(row["difference_to_previous"]),
            _share(row["relative_to_previous"]),
            _share(row["published_relative"]),
            _figure(row["popularity_correlation"]),
            _difference(row["popularity_correlation_difference"]),
            *(
                "-" if row[one] is None else f"{row[one]:g}"
                for one in ("memory_mib_per_sequence", "sequences_per_batch", "iteration_ms")
            ),
        )
    out.print(table)
    out.print(
        f"{found['members']} members, {found['new_members']} of them without a history, "
        f"{found['posts']} posts, {found['pairs']} pairs, {found['trainings']} trainings of each "
        f"row, cut at {found['split_time']}, {found['seconds']} s",
        markup=False,
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f} %"


def _difference(one: dict[str, Any] | None) -> str:
    if one is None:
        return "-"
    low, high = one["interval"]
    return f"{one['value']:+.4f} ({low:+.4f} to {high:+.4f})"
