"""`millrace up` and `millrace serve`: the whole program, and beside it processes that embed and train."""

import asyncio
import gc
from contextlib import AsyncExitStack
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click
from msgspec import Struct
from msgspec.structs import replace

from millrace.cli import lock
from millrace.cli.demo import Demo
from millrace.cli.frame import Frame, data_dir_option, pass_frame, say
from millrace.cli.imports import brought
from millrace.cli.signals import run_until_signal
from millrace.feed.types import Training
from millrace.kernel.errors import MillraceError
from millrace.settings import DEFAULT, Loaded, Settings
from millrace.wiring import Program, build, data_dir_of, trainer_process, without_feed

# New objects until a walk over them, and how many such walks until one over older ones, and over
# all. Caches of members grow while they serve: by default each few hundred entries cost a walk. One
# over all halts every request for a tenth of a second, so it comes some times in an hour, not in a
# minute: what it alone would find, cycles that outlived two walks, is little.
WALKS = (10_000, 20, 1_000)
# The line waits this long for vectors; a larger community, or an import, is embedded behind it.
WARM_SECONDS_MAX = 20.0
PROGRESS_SECONDS = 5.0
EMBED_SECONDS_MAX = 24 * 3600.0  # only so that nothing waits for ever

host_option = click.option("--host", help="Where to listen. Default: door.host, this machine only.")
port_option = click.option("--port", type=int, help="Default: door.port, 8321; 0 takes a free one.")


class Import(Struct, frozen=True):
    """What to bring in first: a kind that `millrace import` knows, and its folder."""

    kind: str
    folder: Path


@click.command(
    epilog="\b\nExamples:\n"
    "  millrace up --demo\n"
    "  millrace up --port 9000 --data-dir ~/feed\n"
    "  millrace up --import stackexchange ../shared/data/stackexchange_quantum\n"
)
@click.option(
    "--import",
    "wanted",
    type=(str, click.Path(path_type=Path)),
    metavar="KIND DIR",
    help="Import a community first, as `millrace import KIND DIR` does.",
)
@click.option(
    "--demo/--no-demo",
    default=None,
    help="Sign in as any member by a click; fill an empty database with a simulated town. "
    "Default: door.demo if it is set, else on where only this machine can reach the page.",
)
@click.option(
    "--live/--no-live",
    default=True,
    show_default=True,
    help="Let the people of the demo's town come by: they read, like, comment and write.",
)
@host_option
@port_option
@data_dir_option
@pass_frame
def up(
    frame: Frame,
    wanted: tuple[str, Path] | None,
    demo: bool | None,
    live: bool,
    **place: Any,
) -> None:
    """Bring up database, feed, API and page.

    One line with the address is printed on standard output when the page is ready. Ctrl-C or
    SIGTERM ends it cleanly; what was written is kept and the next start is quick.
    """
    loaded = frame.loaded(
        store__data_dir=place["data_dir"],
        door__host=place["host"],
        door__port=place["port"],
        door__demo=demo,
    )
    settings = with_demo(loaded)
    bring = None if wanted is None else Import(*wanted)
    run_until_signal(_up(frame, settings, bring, live=live and settings.door.demo))


@click.command(epilog="\b\nExamples:\n  millrace serve\n  millrace serve --host 0.0.0.0\n")
@host_option
@port_option
@data_dir_option
@pass_frame
def serve(frame: Frame, host: str | None, port: int | None, data_dir: str | None) -> None:
    """Serve what is there, for a supervisor.

    No demo unless the settings say so, and no import; otherwise the same as `up`.
    """
    settings = frame.settings(store__data_dir=data_dir, door__host=host, door__port=port)
    run_until_signal(_up(frame, settings, None, live=False))


def with_demo(loaded: Loaded) -> Settings:
    """Decide whether anybody may sign in as anybody: by itself only where nobody else comes by.

    What is on for a demonstration trains by itself too, where nobody said otherwise.
    """
    settings = loaded.settings
    local = _is_local(settings.door.host)
    if loaded.origins["door.demo"] == DEFAULT:
        settings = replace(settings, door=replace(settings.door, demo=local))
    elif settings.door.demo and not local:
        say(f"demo: whoever reaches {settings.door.host} may sign in as any member")
    if settings.door.demo and loaded.origins["feed.training"] == DEFAULT:
        return replace(settings, feed=replace(settings.feed, training=Training.BACKGROUND))
    return settings


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:  # a name
        return host == "localhost"


async def _up(frame: Frame, settings: Settings, bring: Import | None, *, live: bool) -> None:
    """Come up and stay until cancelled."""
    host = settings.door.host
    folder = data_dir_of(settings)
    async with AsyncExitStack() as stack:
        lock.refuse_if_held(folder)  # says who is up, which says more than "the port is in use"
        _, port = frame.doors.free_address(host, settings.door.port)
        address = settings.door.public_url or _shown(host, port)
        stack.enter_context(lock.held(folder, address))
        program = await stack.enter_async_context(build(settings, keep=True, say=say))
        await stack.enter_async_context(frame.doors.serving(program, host, port))
        demo = Demo(program)
        came = await _fill(program, bring, demo)
        warm = asyncio.create_task(_warm(program))
        past = asyncio.create_task(_remember(demo))
        behind = [past, warm]
        if came:
            behind.append(asyncio.create_task(_learn(program, past, warm)))
        if live:
            behind.append(asyncio.create_task(_live(demo, past, _shown(host, port))))
        if settings.feed.training is Training.BACKGROUND:
            behind.append(asyncio.create_task(_train(program, past)))
        stack.push_async_callback(_ended, *behind)
        await asyncio.wait({warm}, timeout=0 if came else WARM_SECONDS_MAX)
        gc.collect()
        gc.freeze()  # what is held by now stays: a walk over all of it would halt every request
        gc.set_threshold(*WALKS)
        click.echo(f"Millrace is ready at {address}")
        await asyncio.Event().wait()


def _shown(host: str, port: int) -> str:
    """Return the address that a browser on this machine opens."""
    near = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    return f"http://[{near}]:{port}" if ":" in near else f"http://{near}:{port}"


async def _fill(program: Program, bring: Import | None, demo: Demo) -> bool:
    """Bring in what was asked for, or the first part of the demo's town where there is none.

    Returns whether something new came in; it is embedded and learned from behind the page, which
    says meanwhile what it does not know yet.
    """
    if bring is not None:
        say(f"importing {bring.folder}; the page answers meanwhile")
        report = await brought(without_feed(program), bring.kind, bring.folder)
        said = (
            f"{report.rejected:,} rows rejected, see {report.rejects_file}; "
            if report.rejected
            else ""
        )
        say(f"{said}imported {bring.folder} in {report.seconds:.1f} s")
        return any(noun.created or noun.updated for noun in report.nouns.values())
    return program.settings.door.demo and await demo.fill()


async def _remember(demo: Demo) -> None:
    """Bring in the history of the demo's town behind the page."""
    try:
        await demo.remember()
    except (MillraceError, TimeoutError) as failure:  # the page stays up without it
        say(
            f"the history of the town is not whole, and is gone on with at the next start: {failure}"
        )


async def _live(demo: Demo, past: asyncio.Task[None], url: str) -> None:
    """Let the town live once its past is in."""
    await asyncio.wait({past})
    await demo.live(url)


async def _train(program: Program, past: asyncio.Task[None]) -> None:
    """Have the encoder trained in a process beside this one, once the past is in."""
    await asyncio.wait({past})
    process = trainer_process(program)
    process.start()
    try:
        await asyncio.Event().wait()
    finally:
        await process.stop()


async def _ended(*tasks: asyncio.Task[None]) -> None:
    """Cancel what is behind the page, and wait until it has let go."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _warm(program: Program) -> None:
    """Say how far the vectors are until every post has one."""
    settled = asyncio.create_task(program.feed.settled(EMBED_SECONDS_MAX))
    told = False
    try:
        while not (await asyncio.wait({settled}, timeout=PROGRESS_SECONDS))[0]:
            done, total = program.feed.freshness.progress()
            say(f"embedding posts: {done:,} of {total:,}")
            told = True
        await settled
        if told:
            say(f"every post is embedded: {program.feed.freshness.progress()[0]:,}")
    except MillraceError as failure:  # the page stays up, and the work is tried again
        say(failure.message)
    finally:
        settled.cancel()


async def _learn(program: Program, *before: asyncio.Task[None]) -> None:
    """Fit the scorer to what came in, once it is whole and embedded."""
    await asyncio.wait(before)
    say("the feed learns from what members did; it serves meanwhile")
    try:
        report = await program.feed.fit()
    except (MillraceError, TimeoutError) as exc:
        say(f"the feed has not learned yet, and tries again later: {exc or type(exc).__name__}")
        return
    say(f"the feed learned in {report.seconds:.1f} s; {report.reason}")
