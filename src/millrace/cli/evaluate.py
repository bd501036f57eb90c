"""`millrace evaluate`: judge quality on data."""

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click
from rich.table import Table

from millrace.cli.evaluate_ablations import encoder_ablations
from millrace.cli.evaluate_examples import examples
from millrace.cli.exams import MEMBERS, MEMBERS_QUICK, data_option, dial, exam_of
from millrace.cli.frame import console, hushed, json_option, print_json

if TYPE_CHECKING:
    from millrace.lab.exam import Exam
    from millrace.lab.trained import Trained

model_option = click.option(
    "--model",
    type=click.Path(file_okay=False, path_type=Path),
    help="A trained encoder, as `millrace train encoder` leaves it: the system `trained`.",
)
elsewhere_option = click.option(
    "--elsewhere",
    is_flag=True,
    help="The model was taught by other data: its times and these do not compare.",
)


@click.group(epilog="\b\nExamples:\n  millrace evaluate retrieval --data town --quick\n")
def evaluate() -> None:
    """Judge the quality of a part on data, beside baselines."""


evaluate.add_command(encoder_ablations)
evaluate.add_command(examples)


@evaluate.command(
    "retrieval",
    epilog="\b\nExamples:\n  millrace evaluate retrieval --data town --overlap 0 --seed 7\n"
    "  millrace evaluate retrieval --data ./deskdrop\n"
    "  millrace evaluate retrieval --data ./quantum --json\n",
)
@data_option
@model_option
@elsewhere_option
@dial("--overlap", default=0.3, help="Of the town: words that profiles and posts share.")
@dial("--drift", default=0.5, help="Of the town: how fast interests move on.")
@dial("--noise", default=0.3, help="Of the town: engagement that has nothing to do with taste.")
@dial("--popularity", default=0.5, help="Of the town: how much engagement raises exposure.")
@click.option(
    "--history",
    type=click.Choice(["pooled", "prompt"]),
    default="pooled",
    show_default=True,
    help="Of the feed that is asked: the setting feed.history.",
)
@click.option("--quick", is_flag=True, help="A small town, or one moment; few members.")
@click.option("--seed", default=1, show_default=True, help="Of the town, members and bootstrap.")
@json_option
def retrieval(
    data: str,
    model: Path | None,
    quick: bool,
    seed: int,
    as_json: bool,
    **options: float | str,
) -> None:
    """Find what members liked afterwards, with what was known before.

    Random, newest first, decayed popularity, BM25, retrieval by an untrained encoder (a member's
    history in the prompt, and pooled), and the whole feed rank the same candidates for the same
    members, on an installation of their own. The keys are those of BENCH.md and do not change.
    """
    from millrace.feed.types import HistoryForm
    from millrace.lab import evaluate_retrieval  # numpy and bm25s are loaded only here

    tell = hushed(as_json=as_json)
    form, elsewhere = HistoryForm(options.pop("history")), bool(options.pop("elsewhere"))
    exam = exam_of(data, quick, seed, {k: float(v) for k, v in options.items()}, tell)
    asked, taught = MEMBERS_QUICK if quick else MEMBERS, _trained(model, exam, elsewhere)
    found = evaluate_retrieval.run(exam, seed, asked, taught, form, tell)
    if as_json:
        print_json(found)
    else:
        _show(found)


@evaluate.command(
    "five-sources",
    epilog="\b\nExamples:\n  millrace evaluate five-sources --data town --overlap 0 --seed 7\n"
    "  millrace evaluate five-sources --data town --model ./trained --json\n"
    "  millrace evaluate five-sources --data ./deskdrop --quick\n",
)
@data_option
@model_option
@elsewhere_option
@dial("--overlap", default=0.3, help="Of the town: words that profiles and posts share.")
@dial("--drift", default=0.5, help="Of the town: how fast interests move on.")
@dial("--noise", default=0.3, help="Of the town: engagement that has nothing to do with taste.")
@click.option("--members", type=int, help="Of the town. [default: 1000; 240 with --quick]")
@click.option("--posts", type=int, help="Of the town. [default: 5000; 1200 with --quick]")
@click.option("--quick", is_flag=True, help="A small town, or one moment; few members.")
@click.option("--seed", default=1, show_default=True, help="Of the town, members and bootstrap.")
@json_option
def five_sources(
    data: str,
    model: Path | None,
    elsewhere: bool,
    quick: bool,
    seed: int,
    as_json: bool,
    **town: float | None,
) -> None:
    """Let one encoder find posts beside the five sources that it replaces.

    Network chronology, trending, trending by place, collaborative filtering, retrieval by an
    untrained encoder (a member's history in the prompt, and pooled), their union, and a trained
    encoder each give a hundred candidates. The keys are those of BENCH.md and do not change.
    """
    from millrace.lab import five_sources  # numpy is loaded only here

    tell = hushed(as_json=as_json)
    exam = exam_of(data, quick, seed, {k: v for k, v in town.items() if v is not None}, tell)
    asked = MEMBERS_QUICK if quick else MEMBERS
    found = five_sources.run(exam, seed, asked, _trained(model, exam, elsewhere), tell)
    if as_json:
        print_json(found)
    else:
        _show(found)


def _trained(model: Path | None, exam: "Exam", elsewhere: bool) -> "Trained | None":
    from millrace.lab.trained import trained

    first = exam.questions[0].at
    return None if model is None else trained(model, first, elsewhere=elsewhere)


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
