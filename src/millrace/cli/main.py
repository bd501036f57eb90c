"""The command `millrace`: one group, one file per room, one place where errors become words."""

import logging
import sys
from pathlib import Path

import click

from millrace.cli import failures
from millrace.cli.bench import bench
from millrace.cli.doctor import doctor
from millrace.cli.embed import embed
from millrace.cli.evaluate import evaluate
from millrace.cli.feed import feed, why
from millrace.cli.flags import flags
from millrace.cli.frame import Frame
from millrace.cli.imports import group as imports
from millrace.cli.migrations import migrate
from millrace.cli.models import models
from millrace.cli.operators import operator
from millrace.cli.ports import Doors
from millrace.cli.rebuild import rebuild
from millrace.cli.rings import rings
from millrace.cli.river import river
from millrace.cli.settings import settings
from millrace.cli.town import group as town
from millrace.cli.train import train
from millrace.cli.up import serve, up
from millrace.kernel.errors import MillraceError

EPILOG = "\b\nStart here:\n  millrace up --demo\n  millrace doctor\n"


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="millrace", message="millrace %(version)s")
@click.option(
    "--settings",
    "settings_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The settings file. Default: MILLRACE_SETTINGS, else millrace.toml in this folder.",
)
@click.option("--debug", is_flag=True, help="Print the whole traceback of an unexpected error.")
@click.pass_context
def millrace(context: click.Context, settings_file: Path | None, debug: bool) -> None:
    """Run a ranked, explained feed of a community's posts."""
    context.obj = Frame(context.obj, settings_file)


for command in (
    up,
    serve,
    embed,
    imports,
    town,
    feed,
    why,
    flags,
    rings,
    models,
    operator,
    doctor,
    migrate,
    rebuild,
    river,
    settings,
    train,
    bench,
    evaluate,
):
    millrace.add_command(command)


def run(doors: Doors, arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status; every error becomes a message."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # The pool warns at each try to connect again; our own errors say it once.
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
    try:
        status = millrace.main(arguments, prog_name="millrace", standalone_mode=False, obj=doors)
    except click.ClickException as failure:
        failure.show()
        return failure.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("ended by Ctrl-C", err=True)
        return failures.INTERRUPTED
    except MillraceError as failure:
        failures.explain(failure)
        return failures.status_of(failure)
    except BrokenPipeError:  # the reader, such as `head`, has had enough
        sys.stderr.close()
        return failures.DONE
    except Exception as failure:  # noqa: BLE001 - the last resort; a person gets words, not a stack
        failures.confess(failure, debug="--debug" in arguments)
        return failures.UNEXPECTED
    return status if isinstance(status, int) else failures.DONE
