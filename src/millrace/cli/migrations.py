"""`millrace migrate`: bring the database to this release."""

import click

from millrace.cli.frame import Frame, data_dir_option, json_option, pass_frame, print_json, run, say
from millrace.store import migrate as store
from millrace.wiring import reached


@click.command(epilog="\b\nExamples:\n  millrace migrate\n  millrace migrate --json\n")
@data_dir_option
@json_option
@pass_frame
def migrate(frame: Frame, data_dir: str | None, as_json: bool) -> None:
    """Bring the database to this release.

    Forward only; running it twice changes nothing.
    Every other command does so too when it starts. This one is for a deploy that migrates first.
    """
    ran = run(_migrate(frame, data_dir))
    if as_json:
        print_json({"applied": ran})
    else:
        click.echo(f"applied {', '.join(ran)}" if ran else "nothing to do: the database is current")


async def _migrate(frame: Frame, data_dir: str | None) -> list[str]:
    async with reached(frame.settings(store__data_dir=data_dir), say=say) as ground:
        return await store.migrate(ground.router)
