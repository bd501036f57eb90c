"""What every command shares: settings with the options laid over them, and one way to print."""

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from rich.console import Console

from millrace.cli.ports import Doors
from millrace.settings import Loaded, Settings, overlaid, read

T = TypeVar("T")
PIPE_COLUMNS = 180


class Frame:
    """The answers that a command asks for: where settings are, what doors there are."""

    def __init__(self, doors: Doors, settings_file: Path | None) -> None:
        self.doors = doors
        self._settings_file = settings_file

    def loaded(self, **options: object) -> Loaded:
        """Return the settings with `options` over them.

        Args:
            options: dotted names with `__` for the dot; None means not given.
        """
        given = {name.replace("__", "."): value for name, value in options.items()}
        loaded = read(self._settings_file, os.environ)
        return overlaid(loaded, {name: v for name, v in given.items() if v is not None})

    def settings(self, **options: object) -> Settings:
        """Return only the settings; `options` as in `loaded`."""
        return self.loaded(**options).settings


pass_frame = click.make_pass_decorator(Frame)

data_dir_option = click.option(
    "--data-dir",
    metavar="DIR",
    help="Where the data lives. Default: store.data_dir, else your own data folder.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Enter the event loop once; Ctrl-C cancels the work and leaves cleanly."""
    return asyncio.run(work)


def print_json(value: object) -> None:
    """Print one JSON object on standard output and nothing else."""
    click.echo(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode())


def console() -> Console:
    """Return where tables go: standard output, as wide as the terminal, or wide in a pipe."""
    width = None if os.isatty(1) else PIPE_COLUMNS
    return Console(width=width, highlight=False)


def say(text: str) -> None:
    """Print a line of progress to standard error, so that standard output stays a result."""
    click.echo(text, err=True)


def hushed(*, as_json: bool) -> Callable[[str], None]:
    """Return `say`, or silence where the answer is JSON."""
    return (lambda _: None) if as_json else say
