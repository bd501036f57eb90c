"""`millrace doctor`: is this installation all right, and if not, what next?"""

import click
from rich.table import Table

from millrace.cli import checks, failures
from millrace.cli.checks import Check, State
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
from millrace.cli.proof import of_contents
from millrace.community.recount import Compared
from millrace.kernel.clock import SystemClock
from millrace.settings import Settings

STYLES = {State.OK: "green", State.WARN: "yellow", State.FAIL: "bold red"}


@click.command(
    epilog="\b\nExamples:\n  millrace doctor\n  millrace doctor --json\n  millrace doctor --deep\n"
)
@click.option(
    "--deep",
    is_flag=True,
    help="Also compare what is derived (counters, percentiles, vectors) with what a rebuild would "
    "make, at one snapshot of the database. Takes a while.",
)
@data_dir_option
@json_option
@pass_frame
def doctor(frame: Frame, data_dir: str | None, deep: bool, as_json: bool) -> int:
    """Check the installation.

    Each line says ok, warn or fail, and the next step.
    The status is 0 where nothing fails and 1 where something does; a warning is no failure.
    It changes nothing, but starts the embedded server for a moment where none is up.
    """
    settings = frame.settings(store__data_dir=data_dir)
    found = run(_checks(frame, settings))
    proof: list[Compared] = []
    if deep and any(check.name == "migrations" and check.state is State.OK for check in found):
        more, proof = run(of_contents(settings, hushed(as_json=as_json)))
        found += more
    failed = any(check.state is State.FAIL for check in found)
    if as_json:
        answer: dict[str, object] = {"ok": not failed, "checks": found}
        print_json(answer | {"compared": proof} if deep else answer)
    else:
        _print(found)
    return failures.NOT_ALL_WELL if failed else failures.DONE


async def _checks(frame: Frame, settings: Settings) -> list[Check]:
    return [
        *checks.of_machine(settings, frame.doors),
        *await checks.of_database(settings, SystemClock()),
    ]


def _print(found: list[Check]) -> None:
    table = Table("", "check", "found", "next step", box=None, header_style="bold")
    for check in found:
        state = f"[{STYLES[check.state]}]{check.state}[/]"
        table.add_row(state, check.name, check.detail, check.next_step)
    console().print(table)
