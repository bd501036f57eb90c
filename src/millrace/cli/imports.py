"""`millrace import`: a folder of data into the database."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from millrace.cli import lock
from millrace.cli.frame import (
    Frame,
    console,
    data_dir_option,
    hushed,
    json_option,
    pass_frame,
    print_json,
    run,
    say,
)
from millrace.settings import Settings
from millrace.wiring import Say, build, data_dir_of, opened
from millrace.world.importers.kinds import bring
from millrace.world.loader import LEARNING, silent
from millrace.world.ports import Rooms, Watch
from millrace.world.types import EXIT_BROKEN, EXIT_REJECTED, EXIT_TAKEN, ImportReport

STATUSES = (
    f"\b\nExit status:\n"
    f"  {EXIT_TAKEN}  every row was taken, or left out by a documented rule\n"
    f"  {EXIT_BROKEN}  a file could not be read to its end; what stood before is loaded\n"
    f"  {EXIT_REJECTED}  some rows were rejected; the rest is loaded (they are in the rejects file)\n"
    f"  other  the import ended early: the error says why; run it again when that is mended\n"
)
SAFE = (
    "Importing the same folder again changes nothing. An import that was killed is completed by "
    "running it again."
)

folder_argument = click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
rejects_option = click.option(
    "--rejects",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where rejected rows go, as JSON Lines. Default: <DIR's name>.rejects.jsonl, here.",
)


@click.group(
    "import",
    epilog="\b\nExamples:\n  millrace import dir ./town\n  millrace import stackexchange ./quantum\n",
)
def group() -> None:
    """Bring in a community: its members, posts, comments and engagement."""


@group.command(
    "dir",
    epilog=f"{STATUSES}\n\b\nExamples:\n  millrace import dir ./town\n"
    "  millrace import dir ./export --community harbour --json\n",
    help=f"Import DIR in the open format (docs/import-format.md): JSON Lines or Parquet.\n\n{SAFE}",
)
@folder_argument
@click.option(
    "--community",
    metavar="NAME",
    default="",
    help="External id of the community, where DIR has no communities file.",
)
@rejects_option
@data_dir_option
@json_option
@pass_frame
def directory(
    frame: Frame,
    folder: Path,
    community: str,
    rejects: Path | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Import DIR in the open format."""
    settings = frame.settings(store__data_dir=data_dir)
    _import(settings, _Wanted("dir", folder, community, rejects), as_json=as_json)


@group.command(
    "stackexchange",
    epilog=f"{STATUSES}\n\b\nExamples:\n  millrace import stackexchange ./quantum\n"
    "  millrace import stackexchange ./quantum --community quantum --rejects out.jsonl\n",
    help="Import DIR, an unpacked Stack Exchange dump: Users.xml, Posts.xml, and Comments.xml and "
    f"Votes.xml where they are. docs/import-format.md has the map of columns.\n\n{SAFE}",
)
@folder_argument
@click.option(
    "--community", metavar="NAME", default="", help="External id of the community. Default: DIR's."
)
@rejects_option
@data_dir_option
@json_option
@pass_frame
def stackexchange(
    frame: Frame,
    folder: Path,
    community: str,
    rejects: Path | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Import an unpacked Stack Exchange dump."""
    settings = frame.settings(store__data_dir=data_dir)
    _import(settings, _Wanted("stackexchange", folder, community, rejects), as_json=as_json)


@group.command(
    "deskdrop",
    epilog=f"{STATUSES}\n\b\nExamples:\n  millrace import deskdrop ./deskdrop\n"
    "  millrace import deskdrop ./deskdrop --community office --json\n",
    help="Import DIR, the log of an internal news feed (DeskDrop): users_interactions.csv, or that "
    "in a .zip, and shared_articles.csv or articles_*.csv. Articles with a text become posts. "
    f"docs/import-format.md has the map of columns.\n\n{SAFE}",
)
@folder_argument
@click.option(
    "--community", metavar="NAME", default="", help="External id of the community. Default: DIR's."
)
@rejects_option
@data_dir_option
@json_option
@pass_frame
def deskdrop(
    frame: Frame,
    folder: Path,
    community: str,
    rejects: Path | None,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Import the log of an internal news feed."""
    settings = frame.settings(store__data_dir=data_dir)
    _import(settings, _Wanted("deskdrop", folder, community, rejects), as_json=as_json)


class _Wanted(msgspec.Struct, frozen=True):
    """What was asked for."""

    kind: str
    folder: Path
    community: str
    rejects: Path | None


def _import(settings: Settings, wanted: _Wanted, *, as_json: bool) -> None:
    """Import, print what became of it, and leave with its status."""
    report = run(_run(settings, wanted, hushed(as_json=as_json), quiet=as_json))
    if as_json:
        print_json(plain(report))
    else:
        show(report)
    click.get_current_context().exit(report.exit_status)


async def _run(settings: Settings, wanted: _Wanted, tell: Say, *, quiet: bool) -> ImportReport:
    """Import; beside a program that is up, leave the feed to it: else both embed every post."""
    up = None if settings.store.primary else lock.holder(data_dir_of(settings))
    lent = build(settings, say=tell) if up is None else opened(settings, say=tell)
    async with lent as rooms:
        report = await brought(
            rooms,
            wanted.kind,
            wanted.folder,
            community=wanted.community,
            rejects=wanted.rejects,
            quiet=quiet,
        )
    if up is not None:
        report.not_learned = f"Millrace is up at {up.address}, embeds it now and learns by and by"
    return report


async def brought(
    rooms: Rooms,
    kind: str,
    folder: Path,
    *,
    community: str = "",
    rejects: Path | None = None,
    quiet: bool = False,
) -> ImportReport:
    """Import a folder with progress on standard error.

    Args:
        rooms: the program, or its community alone.
        kind: `dir`, `stackexchange` or `deskdrop`.
        folder: what to import.
        community: external id of the community, empty for the default of the kind.
        rejects: where rejected rows go, None for the default place.
        quiet: whether nothing is printed.
    """
    with watching(quiet=quiet) as watch:
        return await bring(rooms, kind, folder, community=community, rejects=rejects, watch=watch)


@contextmanager
def watching(*, quiet: bool) -> Generator[Watch]:
    """Lend a watch: bars on a terminal, a line per file elsewhere, nothing where quiet."""
    if quiet:
        yield silent
    elif sys.stderr.isatty():
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        )
        with bars:
            yield _Bars(bars).watch
    else:
        yield _Lines().watch


class _Bars:
    """One bar per file."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._tasks: dict[str, TaskID] = {}

    def watch(self, file: str, done: int, total: int) -> None:
        """Move the bar of a file."""
        if file not in self._tasks:
            self._tasks[file] = self._bars.add_task(file, total=total or None)
        self._bars.update(self._tasks[file], completed=done, total=total or None)


class _Lines:
    """One line when a file, or the learning, begins."""

    def __init__(self) -> None:
        self._begun: set[str] = set()

    def watch(self, file: str, _done: int, _total: int) -> None:
        """Say what is being done, once."""
        if file not in self._begun:
            self._begun.add(file)
            say(file if file == LEARNING else f"reading {file}")


def plain(report: ImportReport) -> dict[str, object]:
    """Return the report as one JSON object; ids are text, as everywhere on the wire."""
    found: dict[str, object] = msgspec.to_builtins(report)
    found["communities"] = {name: str(one) for name, one in report.communities.items()}
    return found | {"rejected": report.rejected, "exit_status": report.exit_status}


def show(report: ImportReport) -> None:
    """Print what became of an import."""
    out = console()
    table = Table("", "new", "updated", "unchanged", "rejected", box=None, header_style="bold")
    for noun, found in report.nouns.items():
        counts = (found.created, found.updated, found.unchanged, found.rejected)
        table.add_row(noun, *(f"{count:,}" for count in counts))
    out.print(table)
    for name, file in report.files.items():
        for reason, count in file.skipped.items():
            out.print(f"{name}: {count:,} left out: {reason}", markup=False)
        if file.broken:
            out.print(f"{name}: BROKEN: {file.broken}", markup=False, style="bold")
    if report.ignored:
        out.print(f"not read: {', '.join(report.ignored)}", markup=False)
    if report.rejects_file:
        out.print(f"{report.rejected:,} rows rejected, see {report.rejects_file}", markup=False)
    if report.not_learned:
        out.print(f"the feed has not learned from it yet: {report.not_learned}", markup=False)
    out.print(f"imported in {report.seconds:.1f} s", markup=False)
