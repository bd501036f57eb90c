"""`millrace river`: what the change stream leaves in the database."""

import click

from millrace.cli.frame import Frame, data_dir_option, json_option, pass_frame, print_json, run
from millrace.store.changes import slots
from millrace.wiring import reached


@click.group(epilog="\b\nExamples:\n  millrace river drop millrace_embedding_16384\n")
def river() -> None:
    """Look after the change stream."""


@river.command(epilog="\b\nExamples:\n  millrace river drop millrace_embedding_16384\n")
@click.argument("name")
@data_dir_option
@json_option
@pass_frame
def drop(frame: Frame, name: str, data_dir: str | None, as_json: bool) -> None:
    """Drop the slot NAME, which no process reads from; `millrace doctor` lists the slots.

    The server then no longer keeps the log for it. If its consumer comes back, it begins anew and
    misses nothing; it only has more to do.
    """
    run(_drop(frame, name, data_dir))
    if as_json:
        print_json({"dropped": name})
    else:
        click.echo(f"dropped {name}")


async def _drop(frame: Frame, name: str, data_dir: str | None) -> None:
    async with reached(frame.settings(store__data_dir=data_dir)) as ground:
        await slots.drop(ground.router, name)
