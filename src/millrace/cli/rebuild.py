"""`millrace rebuild`: throws away what is derived, and makes it anew from the rows."""

import click
from msgspec import Struct
from msgspec.structs import asdict

from millrace.cli import lock
from millrace.cli.frame import (
    Frame,
    data_dir_option,
    hushed,
    json_option,
    pass_frame,
    print_json,
    run,
)
from millrace.community.recount import Recount
from millrace.feed.rebuild import Rebuild
from millrace.kernel.clock import SystemClock
from millrace.settings import Settings
from millrace.wiring import Domain, Say, data_dir_of, opened, parts_of, serving_encoder

ALL = "all"
PARTS = ("counters", "percentiles", "vectors")
PROGRESS_SECONDS = 2.0


class Report(Struct, kw_only=True):
    """What a rebuild did. None where the part was not asked for.

    counters: rows of counters that were not what the rows say, and now are.
    percentiles: whether the scales were made anew.
    posts, members: vectors that were made anew.
    """

    counters: int | None = None
    percentiles: bool | None = None
    posts: int | None = None
    members: int | None = None
    seconds: float = 0.0


@click.command(
    epilog="\b\nExamples:\n  millrace rebuild\n  millrace rebuild --part counters --json\n"
)
@click.option(
    "--part",
    type=click.Choice([*PARTS, ALL]),
    default=ALL,
    show_default=True,
    help="counters: likes, comments, followers and the like, from the rows; views are never "
    "lowered, because an import may bring some without rows. percentiles: the scales. vectors: of "
    "all posts, and of the members who have one.",
)
@data_dir_option
@json_option
@pass_frame
def rebuild(frame: Frame, part: str, data_dir: str | None, as_json: bool) -> None:
    """Throw derived state away, and make it anew from the rows.

    Nothing is ever missing meanwhile: each stretch is one transaction, so it may run beside
    `millrace up`, whose index and caches hear of every change. Interrupt it when you like, and run
    it again. `millrace doctor --deep` says whether it is needed.
    """
    settings = frame.settings(store__data_dir=data_dir)
    report = run(_rebuilt(settings, part, hushed(as_json=as_json)))
    if as_json:
        print_json({name: value for name, value in asdict(report).items() if value is not None})
        return
    if report.counters is not None:
        click.echo(f"counters: {report.counters:,} were wrong")
    if report.percentiles:
        click.echo("percentiles: made anew")
    if report.posts is not None:
        click.echo(f"vectors: {report.posts:,} of posts, {report.members:,} of members")
    click.echo(f"rebuilt in {report.seconds:.1f} s")


async def _rebuilt(settings: Settings, part: str, tell: Say) -> Report:
    clock, report = SystemClock(), Report()
    began = clock.monotonic()
    parts = PARTS if part == ALL else (part,)
    up = None if settings.store.primary else lock.holder(data_dir_of(settings))
    if up is not None:
        tell(f"Millrace is up at {up.address}, and serves meanwhile")
    async with opened(settings, say=tell) as domain:
        recount = Recount(router=domain.router, percentiles=domain.percentiles)
        if "counters" in parts:
            tell("counting")
            report.counters = await recount.counters()
        if "percentiles" in parts:
            tell("making the scales of percentiles")
            await recount.scales()
            report.percentiles = True
        if "vectors" in parts:
            report.posts, report.members = await _vectors(domain, tell)
    report.seconds = clock.monotonic() - began
    return report


async def _vectors(domain: Domain, tell: Say) -> tuple[int, int]:
    tell("loading the encoder")
    encoder = await serving_encoder(domain)
    return await Rebuild(parts_of(domain, encoder)).vectors(Progress(tell))


class Progress:
    """Says how many are done, at most every few seconds."""

    def __init__(self, tell: Say) -> None:
        self._tell = tell
        self._clock = SystemClock()
        self._said = self._clock.monotonic()

    def __call__(self, what: str, done: int) -> None:
        """Hear how far it is."""
        now = self._clock.monotonic()
        if now - self._said >= PROGRESS_SECONDS:
            self._said = now
            self._tell(f"{what}: {done:,} done")
