"""`millrace evaluate examples`: what may be learned from before an evaluation asks."""

from pathlib import Path

import click

from millrace.cli.exams import data_option, dial, exam_of
from millrace.cli.frame import hushed, json_option, print_json, say


@click.command(
    "examples",
    epilog="\b\nExamples:\n  millrace evaluate examples ./examples --data town --seed 7101\n"
    "  millrace evaluate examples ./examples --data ./deskdrop --json\n",
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@data_option
@dial("--overlap", default=0.3, help="Of the town: words that profiles and posts share.")
@dial("--drift", default=0.5, help="Of the town: how fast interests move on.")
@dial("--noise", default=0.3, help="Of the town: engagement that has nothing to do with taste.")
@click.option("--members", type=int, help="Of the town. [default: 1000; 240 with --quick]")
@click.option("--posts", type=int, help="Of the town. [default: 5000; 1200 with --quick]")
@click.option("--quick", is_flag=True, help="A small town, or one moment, as evaluations have it.")
@click.option("--seed", default=1, show_default=True, help="Of the town.")
@json_option
def examples(
    folder: Path, data: str, quick: bool, seed: int, as_json: bool, **town: float | None
) -> None:
    """Write into DIR what happened before the first question, as examples for `train encoder`.

    `evaluate five-sources` and `evaluate retrieval`, asked of the same data with the same options,
    take a model that was taught by these: nothing that happened at their first moment or later is
    in them, answers neither.
    """
    from millrace.feed.examples.types import ExportPlan
    from millrace.lab.data_examples import write_examples  # pyarrow is loaded only here

    tell = hushed(as_json=as_json)
    exam = exam_of(data, quick, seed, {k: v for k, v in town.items() if v is not None}, tell)
    plan = ExportPlan(until=exam.questions[0].at)
    tell("writing examples")
    write_examples(exam.data, plan, folder)
    if as_json:
        print_json(
            {
                "data": exam.name,
                "folder": str(folder),
                "cut_at": plan.until.isoformat(),
                "seed": seed,
            }
        )
    else:
        say(f"{folder}: examples of {exam.name} before {plan.until:%Y-%m-%d %H:%M}")
