"""`millrace settings`: what is set, and where from."""

import click
from rich.table import Table

from millrace.cli.frame import Frame, console, json_option, pass_frame, print_json
from millrace.settings import DEFAULT, listed


@click.command(epilog="\b\nExamples:\n  millrace settings\n  millrace settings --json\n")
@click.option("--changed", is_flag=True, help="Only what differs from the default.")
@json_option
@pass_frame
def settings(frame: Frame, changed: bool, as_json: bool) -> None:
    """Print every setting and its origin.

    Secrets are masked. A value comes from a default, from millrace.toml or from a variable MILLRACE_<ROOM>_<FIELD>.
    """
    lines = [line for line in listed(frame.loaded()) if not changed or line[2] != DEFAULT]
    if as_json:
        print_json({name: {"value": value, "origin": origin} for name, value, origin in lines})
        return
    table = Table("setting", "value", "from", box=None, header_style="bold")
    for name, value, origin in lines:
        table.add_row(name, "" if value == "" else str(value), origin)
    console().print(table)
