"""`millrace train`: what an encoder learns from."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from msgspec import Struct
from msgspec.structs import asdict

from millrace.cli.frame import (
    Frame,
    data_dir_option,
    hushed,
    json_option,
    pass_frame,
    print_json,
    run,
)
from millrace.cli.train_background import background, status
from millrace.cli.train_encoder import encoder
from millrace.kernel.clock import SystemClock
from millrace.settings import Settings
from millrace.wiring import Say, opened

if TYPE_CHECKING:
    from millrace.feed.examples.exporting import Exported
    from millrace.feed.examples.types import Progress

LABEL_HOURS = 24.0
TELL_EVERY_SECONDS = 5.0


@click.group(epilog="\b\nExamples:\n  millrace train export ./examples\n")
def train() -> None:
    """Teach the encoder from what members were shown, and what they did."""


train.add_command(encoder)
train.add_command(background)
train.add_command(status)


@train.command(
    epilog="\b\nExamples:\n  millrace train export ./examples\n"
    "  millrace train export ./examples --format parquet --until 2026-11-01T00:00 --json\n"
)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--format",
    "encoding",
    type=click.Choice(["arrow", "parquet"]),
    default="arrow",
    show_default=True,
    help="arrow is mapped into memory when it is read; parquet is smaller, for other programs.",
)
@click.option(
    "--until",
    metavar="TIME",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
    help="Nothing that happened then or later is in it: a day, or 2026-11-01T09:30, of UTC. "
    "Default: now.",
)
@click.option(
    "--label-hours",
    type=click.FloatRange(1, 720),
    default=LABEL_HOURS,
    show_default=True,
    help="So long after a moment an engagement counts as its answer. What was shown later than this "
    "before --until is left out: nobody knows yet what comes of it.",
)
@data_dir_option
@json_option
@pass_frame
def export(frame: Frame, folder: Path, data_dir: str | None, as_json: bool, **asked: Any) -> None:
    """Write what members were shown, and what they did, as examples into DIR.

    Served feeds come with the prompts and features that were logged then; what an import brought is
    replayed by time. Nothing in an example is of later than its moment, which is checked before the
    folder is put into its place. The same history and --until make the same files. Millrace may be
    up meanwhile.
    """
    settings = frame.settings(store__data_dir=data_dir)
    made = run(_exported(settings, folder, Asked(**asked), hushed(as_json=as_json)))
    if as_json:
        print_json({"folder": str(folder), "changed": made.changed, **asdict(made.manifest)})
        return
    found = made.manifest.counts
    click.echo(
        f"{found.moments:,} moments, {found.engaged:,} of {found.shown:,} posts engaged with, "
        f"{found.replayed:,} moments replayed of an import"
    )
    click.echo(
        f"left out: {found.unripe:,} moments without all their answers, {found.unlogged:,} without "
        f"a logged prompt; {found.repeated:,} posts engaged with before, {found.unsaid:,} unknown"
    )
    state = "written" if made.changed else "unchanged"
    click.echo(f"{folder}: {state}, fingerprint {made.manifest.fingerprint}")


class Asked(Struct, frozen=True, kw_only=True):
    """What an export is asked for; `until` is a time of UTC, None for now."""

    encoding: Literal["arrow", "parquet"]
    until: datetime | None
    label_hours: float


async def _exported(settings: Settings, folder: Path, asked: Asked, tell: Say) -> "Exported":
    from millrace.feed.examples.exporting import export as exported  # late: it brings pyarrow
    from millrace.feed.examples.types import ExportPlan

    async with opened(settings, say=tell) as domain:
        now = domain.clock.now()
        until = now if asked.until is None else asked.until.replace(tzinfo=UTC)
        tell("reading what happened")
        return await exported(
            domain.router,
            domain.clock,
            folder,
            ExportPlan(until=until, label_hours=asked.label_hours),
            encoding=asked.encoding,
            watch=Watching(tell),
        )


class Watching:
    """Says how far an export is, at most every few seconds."""

    def __init__(self, tell: Say) -> None:
        self._tell = tell
        self._clock = SystemClock()
        self._said = self._clock.monotonic()

    def __call__(self, progress: "Progress") -> None:
        """Hear how far it is."""
        now = self._clock.monotonic()
        if now - self._said >= TELL_EVERY_SECONDS:
            self._said = now
            self._tell(f"{progress.moments:,} moments, up to {progress.at:%Y-%m-%d %H:%M}")
