"""`millrace flags`: decide who gets what, and live with hundreds of such decisions."""

import click

from millrace.cli.flag_answers import explain
from millrace.cli.flag_changes import kill, ramp, remove, revive, set_flag
from millrace.cli.flag_files import exported, imported, references, stale
from millrace.cli.flag_list import listed, shown_flag
from millrace.cli.flag_scans import scans
from millrace.cli.flag_trail import approve, cancel, diff, history, reject, requests, revert


@click.group(
    epilog="\b\nExamples:\n  millrace flags list\n  millrace flags set new-home --boolean\n"
    "  millrace flags set new-home --give on --ring employees\n"
    "  millrace flags ramp new-home on 10\n  millrace flags explain new-home ada\n"
)
def flags() -> None:
    """Decide who gets what, without a deploy.

    A change reaches every process that serves within a second. docs/flags.md is a tour.
    """


for _command in (
    listed,
    shown_flag,
    set_flag,
    ramp,
    kill,
    revive,
    remove,
    explain,
    diff,
    history,
    revert,
    requests,
    approve,
    reject,
    cancel,
    exported,
    imported,
    references,
    scans,
    stale,
):
    flags.add_command(_command)
